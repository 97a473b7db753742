/* One invocation of the program: configuration, log, stop signal, and what the command line said. */
#ifndef PJ_APP_APP_H
#define PJ_APP_APP_H

#include "app/config.h"
#include "core/deployment.h"
#include "core/waker.h"
#include "pg/session.h"

/* Options of single verbs; see options.c for which verb takes which. */
struct pj_verb_options {
    bool help, json, watch;
    bool repair; /* verify */
    int keys;    /* verify: differing keys shown of each table */
    int sample;  /* verify: rows of each compared, about; 0: all */
    pj_lsn lsn;  /* wait: 0: the write database's current one */
    int wait_ms; /* init, resync, mirror, wait: how long */
    bool wait_given;
    bool all;                                /* rebuild, deadletters */
    bool fresh, rollback, drop_kept, cancel; /* rebuild */
    bool no_verify, keep_old;                /* rebuild, module add */
    int chunk, max_rate;                     /* rebuild: keys of a transaction, keys a second; 0: as it sees fit */
    const char *key, *sqlstate;              /* deadletters; NULL: any */
    bool record;                             /* module test */
    const char *dir;                         /* module new: where */
    bool no_wait, drop_table;                /* module add, remove */
    int changes, seconds;                    /* module record: when to end; 0: not given */
};

struct pj_app {
    struct pj_config config;
    struct pj_log log;
    struct pj_stop stop;
    struct pj_waker hup; /* SIGHUP */
    struct pj_verb_options options;
    char **argv; /* the whole command line */
    int noperands;
    char **operands; /* what stands behind the verb: names, for verify */
};

/* A command. `run` returns a code; where it fails the error says why, and the top prints it. */
struct pj_verb {
    const char *name, *summary;
    const char *usage; /* what follows "pgprojector NAME" */
    const char *text;  /* the rest of the help */
    int (*run)(struct pj_app *app, struct pj_error *error);
    bool needs_config; /* pj_app_configure() must have succeeded before it runs */
    int operands;      /* how many it takes at most; -1: any number */
};

extern const struct pj_verb pj_verbs[]; /* ends with a NULL name; help.c */

int pj_run(struct pj_app *app, struct pj_error *error);
int pj_init(struct pj_app *app, struct pj_error *error);
int pj_status(struct pj_app *app, struct pj_error *error);
int pj_resync(struct pj_app *app, struct pj_error *error);
int pj_mirror_command(struct pj_app *app, struct pj_error *error);
int pj_slot_command(struct pj_app *app, struct pj_error *error);
int pj_verify(struct pj_app *app, struct pj_error *error);
int pj_rebuild_command(struct pj_app *app, struct pj_error *error);
int pj_pause_command(struct pj_app *app, struct pj_error *error);
int pj_resume_command(struct pj_app *app, struct pj_error *error);
int pj_deadletters(struct pj_app *app, struct pj_error *error);
int pj_wait(struct pj_app *app, struct pj_error *error);
int pj_doctor(struct pj_app *app, struct pj_error *error);
int pj_module_verb(struct pj_app *app, struct pj_error *error); /* module.h has its sub-commands */
int pj_version(struct pj_app *app, struct pj_error *error);

/* Reads file and environment (flags have been taken already and keep their rank), and resolves. PJ_ECONFIG. */
int pj_app_configure(struct pj_app *app, struct pj_error *error);

/* Opens a session on one side as the configuration says; `timeout_ms` 0: no deadline for its calls. */
int pj_app_connect(const struct pj_app *app, enum pj_side side, const char *purpose, int timeout_ms,
                   struct pj_session **session, struct pj_error *error);

#endif
