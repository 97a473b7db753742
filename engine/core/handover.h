/*
 * Where the registrar (a thread) hands the pipeline (the event loop) another setup while the daemon runs. Thread-safe; no I/O.
 *
 * The registrar owns all setups. The pipeline is lent one; offered another it stops at the next commit, closes its connections
 * and ends with PJ_ERELOAD; its owner (app/run.c) takes the other one and runs it again. Once that streams, the former one is the
 * registrar's alone again and may be closed.
 *
 *      registrar:  offer ---------------------------> wait_streaming -> close the former
 *      pipeline:           (woken) end at a commit -> take -> connect -> streaming
 */
#ifndef PJ_CORE_HANDOVER_H
#define PJ_CORE_HANDOVER_H

#include "core/setup.h"
#include "pg/stop.h"

/* What a pipeline runs: a setup, with the deployment it was made of. */
struct pj_outfit {
    struct pj_deployment deployment;
    struct pj_setup setup;
    int64_t roster; /* checkpoint.roster that it was made for; with another one the pipeline applies nothing */
};

struct pj_handover;
struct pj_handover *pj_handover_new(struct pj_outfit *first);
void pj_handover_free(struct pj_handover *handover); /* the outfits are not freed */

/* Registrar. A second offer before the first was taken replaces it, and the first is the registrar's again. */
void pj_handover_offer(struct pj_handover *handover, struct pj_outfit *next);
/* Until the pipeline streams with `outfit`: then no other is in use. PJ_ESTOPPED; PJ_EUNREACHABLE after timeout_ms (-1: none),
 * after which it may still be taken. */
int pj_handover_wait_streaming(struct pj_handover *handover, const struct pj_outfit *outfit, int timeout_ms,
                               const struct pj_stop *stop, struct pj_error *error);
const struct pj_outfit *pj_handover_in_use(struct pj_handover *handover);

/* Pipeline. `wake` is called from the registrar's thread when something is offered. */
void pj_handover_on_offer(struct pj_handover *handover, void (*wake)(void *context), void *context);
bool pj_handover_offered(struct pj_handover *handover);
/* Takes what is offered (the one in use, where nothing is), waiting for an offer up to timeout_ms where `roster_moved` says that
 * the one in use is of no use any more; NULL when the time is over or a stop was asked. */
struct pj_outfit *pj_handover_take(struct pj_handover *handover, bool roster_moved, int timeout_ms,
                                   const struct pj_stop *stop);
void pj_handover_streaming(struct pj_handover *handover, const struct pj_outfit *outfit);

#endif
