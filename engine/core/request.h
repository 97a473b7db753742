/*
 * What a command asks of the daemon (pgprojector.request), and how it follows what comes of it. The row is entered and
 * announced by NOTIFY; the daemon's registrar serves requests one after the other and writes how they ended. They
 * survive a restart of either.
 */
#ifndef PJ_CORE_REQUEST_H
#define PJ_CORE_REQUEST_H

#include "core/job.h"
#include "pg/session.h"

enum pj_request_kind {
    PJ_REQUEST_BUILD,    /* a table beside, filled, swapped in: a module added, a new version, rebuild --fresh */
    PJ_REQUEST_ROLLBACK, /* the kept table takes the name again, after it was made right */
    PJ_REQUEST_REMOVE,   /* the module is retired */
    PJ_REQUEST_RELOAD,   /* look at the module directory and the configuration, as SIGHUP does; `name` is "" */
};

struct pj_request {
    int64_t id; /* filled by pj_request_enter */
    bool cancelled,
        committed, /* filled by pj_request_next: asked to be given up; begun before, and its effect stands */
        waited;    /* the same: it was put off before (pj_request_put_off) */
    enum pj_request_kind kind;
    const char *name;      /* the module */
    const char *file;      /* BUILD: what whoever asks takes for its file, resolved; NULL: not said */
    bool fresh;            /* BUILD: also where nothing has changed */
    bool keep_old, verify; /* BUILD, ROLLBACK */
    bool drop_table;       /* REMOVE */
    int max_rate, chunk;   /* as for pj_mend_options */
};

/* Whether the catalog is of a version that has the table. */
int pj_request_possible(struct pj_session *session, bool *yes, struct pj_error *error);

/* Enters it; PJ_EFAIL where one for the same name is under way (named with its state). */
int pj_request_enter(struct pj_session *session, struct pj_request *request, struct pj_error *error);

/* Waits until it has ended, showing the progress of its job through `show`. A stop cancels the request, waits until
 * that has taken effect, and is PJ_ESTOPPED; so `session` must not be one that `stop` ends. An end in failure is the
 * daemon's error: code, message and hint. Where for some ten seconds no daemon has been there to serve it, it is
 * PJ_EUNHEALTHY, and the request stays; with `alone_too` that is only shown (to somebody who can give up). */
int pj_request_follow(struct pj_session *session, const struct pj_request *request,
                      void (*show)(void *context, const struct pj_progress *progress), void *context, bool alone_too,
                      const struct pj_stop *stop, struct pj_error *error);

/* Asks that the request (or the job of a rebuild in place) of that name be given up. *found: whether there was one. */
int pj_request_cancel(struct pj_session *session, const char *name, bool *found, struct pj_error *error);

/* What has failed for that name counts as given up, and is not shown any more. *found: whether there was something. */
int pj_request_forget(struct pj_session *session, const char *name, bool *found, struct pj_error *error);

/*
 * The daemon's side; whoever calls these holds the daemon's lock. *found false: none is waiting. One that was running
 * when the former daemon ended is begun again, and one that was cancelled then, so that what it left is undone.
 * Beginning marks it `running`; name and file live in `space`. Those in `but` (ids with commas between them, or "") are left
 * out; those that were put off come last.
 */
struct pj_request_space {
    char name[64], file[4096];
};
int pj_request_next(struct pj_session *session, const char *but, struct pj_request *request,
                    struct pj_request_space *space, bool *found, struct pj_error *error);
/* It cannot go on now, and others are served before it is tried again: the reason is its row's message meanwhile. NULL:
 * now it goes on. */
int pj_request_put_off(struct pj_session *session, int64_t id, const struct pj_error *reason, struct pj_error *error);
int pj_request_cancelled(struct pj_session *session, int64_t id, bool *yes, struct pj_error *error);
/* PJ_OK: done; PJ_ESTOPPED: cancelled where that was asked for, else waiting again (the daemon ends); else failed. */
int pj_request_end(struct pj_session *session, int64_t id, const struct pj_error *outcome, struct pj_error *error);

#endif
