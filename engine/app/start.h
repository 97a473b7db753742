/*
 * The way from nothing to ready, which `run` and `init` share: the story stands at the head of start.c.
 */
#ifndef PJ_APP_START_H
#define PJ_APP_START_H

#include "app/app.h"
#include "app/backoff.h"
#include "base/causes.h"
#include "core/catalog.h"
#include "core/control.h"
#include "core/handover.h"
#include "core/resync.h"
#include "core/snapshot.h"
#include "host/guard.h"

/* What is to be done before the tables are looked at, once the daemon's lock is held; again, should it fail retryably. */
typedef int (*pj_start_prepare)(void *context, struct pj_session *write, struct pj_session *read,
                                struct pj_error *error);

struct pj_start {
    struct pj_app *app;
    bool daemon;    /* `run`: stands by, waits without end, keeps the daemon's row; `init`: none of these */
    bool keeps_row; /* `run`, and `resync` while it works */
    bool resync;    /* the read side is to be made anew from a snapshot, once, when both databases are there */
    int (*deploy)(void *context, struct pj_deployment *deployment, struct pj_error *error); /* NULL: as configured */
    void *deploy_context;
    pj_start_prepare prepare; /* NULL: nothing */
    void *prepare_context;
    struct pj_outfit *outfit; /* the setup is open once ready; who takes it sets this to NULL */
    struct pj_state *state;
    struct pj_gate *gate;
    struct pj_control *control; /* NULL while we do not hold the lock, and for `init` */
    struct pj_session *read;    /* NULL while there is none; holds the daemon's lock, once that was had */
    struct pj_checkpoint checkpoint;
    bool guilty; /* a module's fault has ended the process before this one: its projection is to be paused */
    struct pj_guilt guilt;
    struct pj_former_images former; /* that process's modules, until they are taken or of no use */

    /* waiting for what is down */
    struct pj_backoff backoff;
    uint64_t deadline_us;    /* monotonic; `init`: when to give up; 0: never */
    struct pj_causes causes; /* what was logged of late, so that each cause is logged once */
    bool waited;             /* something was logged since all was well */

    /* the first start's progress on a terminal */
    bool line_open;
    uint64_t logged_us;
    char phase[160];
};

int pj_start_open(struct pj_start *start, struct pj_app *app, bool daemon, struct pj_error *error);
void pj_start_close(struct pj_start *start);

/*
 * Does it all, waiting and retrying as needed. On PJ_OK the lock is held, the checkpoint complete, the setup checked on
 * both sides. PJ_ESTOPPED where a stop was asked.
 */
int pj_start_make_ready(struct pj_start *start, struct pj_error *error);

/* Where a resync was asked for and there is no complete first start. PJ_EFAIL. */
int pj_start_refuse_resync(struct pj_error *error);
int pj_start_require_complete(struct pj_session *read, struct pj_error *error);

/* `resync`, with something to be done before (NULL: nothing). */
int pj_resync_after(struct pj_app *app, pj_start_prepare prepare, void *context, struct pj_error *error);

/* After the pipeline has returned and consumed the read session: to be made ready once more, with an outfit anew. */
int pj_start_again(struct pj_start *start, struct pj_error *error);

#endif
