/* Filling the targets from their definitions, several at a time. */
#ifndef PJ_CORE_SNAPSHOT_BUILD_H
#define PJ_CORE_SNAPSHOT_BUILD_H

#include "core/projection.h"

/* The read side's session for indexes and targets: no statement timeout, more memory, commits not awaited. */
int pj_snapshot_build_open(struct pj_session **session, const char *read_url, const struct pj_stop *stop,
                           struct pj_error *error);

/*
 * Fills the empty targets of all projections that have one (given by level, core/chain.h), on up to `jobs` connections at once. The first error, or a
 * stop, cancels what the others are doing. Returns when all are done.
 */
int pj_snapshot_build_targets(const char *read_url, int jobs, const struct pj_stop *stop,
                              struct pj_projection *projections, int count, struct pj_error *error);

#endif
