/*
 * The apply gate: lets another thread have apply stand still at a commit, move on to a given LSN, and go free again.
 * The daemon's side of the fence (core/fence.h). Thread-safe; the pipeline looks at it between batches.
 *
 *      OPEN --hold--> ASKED --(pipeline: nothing buffered)--> HELD --advance(L)--> ADVANCING --(pipeline: at L)--> REACHED
 *        ^                                                                                                        |
 *        +-----------------------------------------release (from any state)---------------------------------------+
 */
#ifndef PJ_CORE_GATE_H
#define PJ_CORE_GATE_H

#include "base/lsn.h"

#include <stdbool.h>

enum pj_gate_state { PJ_GATE_OPEN, PJ_GATE_ASKED, PJ_GATE_HELD, PJ_GATE_ADVANCING, PJ_GATE_REACHED };

struct pj_gate;

struct pj_gate *pj_gate_new(void);
void pj_gate_free(struct pj_gate *gate);

/* Called with every change of state, from the thread that made it, outside the lock; each side sets its own. */
typedef void (*pj_gate_wake_fn)(void *context);
void pj_gate_on_request(struct pj_gate *gate, pj_gate_wake_fn wake, void *context);  /* wakes the pipeline */
void pj_gate_on_progress(struct pj_gate *gate, pj_gate_wake_fn wake, void *context); /* wakes the requester */

/* The requester's side. */
void pj_gate_hold(struct pj_gate *gate);
void pj_gate_advance(struct pj_gate *gate, pj_lsn target);
void pj_gate_release(struct pj_gate *gate);

/* The pipeline's side. */
void pj_gate_held(struct pj_gate *gate);    /* ASKED -> HELD; else nothing */
void pj_gate_reached(struct pj_gate *gate); /* ADVANCING -> REACHED; else nothing */

enum pj_gate_state pj_gate_state(struct pj_gate *gate, pj_lsn *target); /* target may be NULL */

#endif
