/*
 * Where the registrar (a thread) hands the pipeline (the event loop) another setup while the daemon runs. Thread-safe;
 * no I/O.
 *
 * An outfit is lent to the pipeline. Offered another, the pipeline stops at the next commit and ends with PJ_ERELOAD;
 * its owner (app/run.c) takes the other one and runs it again. What nobody will run any more is *retired*: the
 * registrar, which may have threads of its own at work on it, frees it when it sees fit.
 *
 *      registrar:  offer ---------------------------> wait_streaming -> free what is retired
 *      pipeline:           (woken) end at a commit -> take -> connect -> streaming
 *
 * Until it has handed them on, the registrar owns the outfits it makes; from then on the handover does, and frees with
 * itself whatever it has not given back as retired.
 */
#ifndef PJ_CORE_HANDOVER_H
#define PJ_CORE_HANDOVER_H

#include "core/setup.h"
#include "pg/stop.h"

/* What a pipeline runs: a setup, with the deployment it was made of. */
struct pj_outfit {
    struct pj_deployment deployment;
    struct pj_setup setup; /* zeroed where it is not open */
    int64_t roster; /* checkpoint.roster that it was made for; with another one the pipeline applies nothing. To be read
                       (pj_standing_roster) before anything else that the setup is made of or checked against */
    struct pj_outfit *next; /* the handover's */
};

/* Closes the setup, then frees all, itself too; NULL is fine. */
void pj_outfit_free(struct pj_outfit *outfit);

struct pj_handover;
struct pj_handover *pj_handover_new(struct pj_outfit *first); /* in use from the beginning */
void pj_handover_free(struct pj_handover *handover);          /* with all outfits that it still has; NULL is fine */

/* Registrar. A second offer before the first was taken replaces it, and the first is retired. */
void pj_handover_offer(struct pj_handover *handover, struct pj_outfit *next);
/*
 * Until the pipeline streams with `outfit`, which was offered: then no other is in use. PJ_ESTOPPED; PJ_EUNREACHABLE
 * after timeout_ms (-1: none), after which it may still be taken; PJ_EFAIL (retryable) where it is retired: another
 * took its place.
 */
int pj_handover_wait_streaming(struct pj_handover *handover, const struct pj_outfit *outfit, int timeout_ms,
                               const struct pj_stop *stop, struct pj_error *error);
const struct pj_outfit *pj_handover_in_use(struct pj_handover *handover);
/* One that nobody runs any more, to be freed by the caller with pj_outfit_free; NULL: none. */
struct pj_outfit *pj_handover_retired(struct pj_handover *handover);

/* Pipeline. `wake` is called from the registrar's thread when something is offered, and at once where something is. */
void pj_handover_on_offer(struct pj_handover *handover, void (*wake)(void *context), void *context);
bool pj_handover_offered(struct pj_handover *handover);
void pj_handover_streaming(struct pj_handover *handover, const struct pj_outfit *outfit);

/* Its owner. Takes what is offered, waiting for an offer up to timeout_ms (-1: without end): it is in use from now on;
 * the former one, which the pipeline still looks at (core/relay.h), is retired when it streams. NULL when the time is
 * over or a stop was asked. */
struct pj_outfit *pj_handover_take(struct pj_handover *handover, int timeout_ms, const struct pj_stop *stop);
/* The owner has made another by itself (after a resync): the same for this one. What is offered stays so. */
void pj_handover_replace(struct pj_handover *handover, struct pj_outfit *outfit);

#endif
