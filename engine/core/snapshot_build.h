/* From copied tables to a complete read side: statistics, keys, indexes, targets; several at a time. */
#ifndef PJ_CORE_SNAPSHOT_BUILD_H
#define PJ_CORE_SNAPSHOT_BUILD_H

#include "base/log.h"
#include "core/projection.h"

struct pj_snapshot_build {
    const char *read_url;
    int jobs; /* connections at once */
    const struct pj_stop *stop;
    const struct pj_log *log;
    const struct pj_table *tables; /* their mirrors are copied, and have no index yet */
    int ntables;
    struct pj_projection *projections; /* their targets are there, and empty */
    int nprojections;
    void (*progress)(void *context, const char *text); /* a few times a second, from the calling thread; or NULL */
    void *context;
};

/*
 * Gives the mirrors statistics, keys and indexes, and fills the targets, which get theirs, too (core/snapshot_plan.h).
 * The first error, or a stop, cancels what the others are doing. Returns when all are done.
 */
int pj_snapshot_build_run(const struct pj_snapshot_build *build, struct pj_error *error);

#endif
