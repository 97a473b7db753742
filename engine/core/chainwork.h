/*
 * Chains beside the daemon: what a recomputation of an upstream's keys has touched is recomputed downstream, in the
 * same transaction (core/keywork.h), so that readers see both or neither.
 *
 * A downstream that is not live has it noted instead. One whose rows cannot be written does not hold the upstream back:
 * guilty keys are found by halving and parked; where that is no remedy it is paused, with its reason, and what it
 * misses is noted.
 */
#ifndef PJ_CORE_CHAINWORK_H
#define PJ_CORE_CHAINWORK_H

#include "core/projection.h"
#include "pg/session.h"

/* `touched`: what the upstream's recompute statement returned, as text. Nothing is done where nothing is chained on
 * it. */
int pj_chainwork_touched(struct pj_session *read, const struct pj_projection *upstream, const PGresult *touched,
                         struct pj_error *error);

/* All of the upstream's rows may have been touched. */
int pj_chainwork_all(struct pj_session *read, const struct pj_projection *upstream, struct pj_error *error);

#endif
