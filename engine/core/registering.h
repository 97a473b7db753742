/*
 * Registering: what comes of one request, from looking at the module's file to the new outfit being in use
 * (ARCHITECTURE.md, "Registering while running"). With a daemon, on its registrar's thread (core/registrar.h); without
 * one, by a command that holds the daemon's lock: then there is no pipeline, and nobody to hand anything over to.
 */
#ifndef PJ_CORE_REGISTERING_H
#define PJ_CORE_REGISTERING_H

#include "base/causes.h"
#include "base/log.h"
#include "core/handover.h"
#include "core/request.h"

struct pj_registering {
    struct pj_handover *handover; /* NULL: there is no daemon */
    struct pj_outfit *alone;      /* without a handover: what would be in use; owned */
    /* Configuration and module directory, as they are now. */
    int (*deploy)(void *context, struct pj_deployment *deployment, struct pj_error *error);
    void (*show)(void *context, const struct pj_progress *progress); /* of jobs; may be NULL */
    void *context;                                                   /* of both */
    const struct pj_log *log;
    const struct pj_stop *stop;

    int64_t request; /* the one under way; 0: none that could be cancelled */
    bool untidy,
        unfinished;  /* there may be tables to be dropped; mirrors that were never finished (pj_registering_tidy) */
    bool look_again; /* somebody was in the way of what a survey would have done */
    struct pj_causes put_off;               /* what was said of them of late */
    struct pj_session *look, *work, *write; /* opened here; closed by pj_registering_close */
};

/* Opens the sessions, if they are not open. */
int pj_registering_open(struct pj_registering *r, struct pj_error *error);
/* Closes the sessions and frees the outfits that nobody uses any more. */
void pj_registering_close(struct pj_registering *r);

/* Serves a request other than RELOAD. What failed has changed nothing, or has been undone, or is undone when it is
 * begun again. PJ_ESTOPPED likewise; an error that is retryable is worth trying again with new sessions, one that is
 * `in_use` later, when others have been served. */
int pj_registering_serve(struct pj_registering *r, const struct pj_request *request, struct pj_error *error);

/* Looks at all that is there: takes what has changed and needs no building, enters requests for what does. One module's
 * fault is logged and does not concern the others. What interrupted builds have left is pj_registering_tidy's. */
int pj_registering_survey(struct pj_registering *r, struct pj_error *error);

/* Drops what is left to be dropped, where there may be something (r->untidy, r->unfinished). What somebody has open is left,
 * and r->untidy says so: to be called again. To be called when nothing is under way. */
int pj_registering_tidy(struct pj_registering *r, struct pj_error *error);

/* Whether a projection stands still because its module does not serve. */
int pj_registering_stands_still(struct pj_registering *r, bool *yes, struct pj_error *error);

/* Where the projection stands still: that building its table by the module that is there has failed, and the remedy,
 * becomes its reason. */
int pj_registering_say_why(struct pj_registering *r, const char *name, const struct pj_error *fault,
                           struct pj_error *error);

/* Resumes what is paused because a table that it reads was replaced, or stood still and has its module again.
 * Interrupted, it is to be called again. What is in use has been checked against the read side. */
int pj_registering_catch_up(struct pj_registering *r, struct pj_error *error);

#endif
