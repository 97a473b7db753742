/*
 * Rebuilding a projection in place, while all goes on: its definition is compared with its table in a snapshot of its
 * own, and the keys whose rows differ are recomputed (core/mend.h). The table is never missing, empty, or behind; what
 * is done stays done wherever it is interrupted.
 */
#ifndef PJ_CORE_REBUILD_H
#define PJ_CORE_REBUILD_H

#include "core/mend.h"

struct pj_rebuild_result {
    int64_t differing;    /* rows that differed when they were compared */
    int64_t unmended;     /* rows that a second comparison still found; -1: there was none, or none was needed */
    int64_t dead_letters; /* keys parked, now */
    bool new_version;     /* the catalog now has another module version or definition than before */
};

/*
 * mend: its projection described (pj_projection_describe_target), its job without a row. The module may be of another
 * version than the one the table was built by, or its definition another, as long as the shape is the same; then no
 * daemon may run, which the daemon's lock, taken on the job's session, makes sure of. PJ_ECONFIG where the shape
 * differs. With `verify` PJ_EDIFFERENT where rows differ afterwards.
 */
int pj_rebuild(struct pj_mend *mend, bool verify, struct pj_rebuild_result *result, struct pj_error *error);

/*
 * Where the projection's table is not there, or its module has never been built here: creates and fills it from the
 * mirrors and makes it live, in one transaction; *created says so. No daemon may run meanwhile, as above.
 */
int pj_rebuild_create_missing(struct pj_mend *mend, struct pj_projection *projection, bool *created,
                              struct pj_error *error);

/* One comparison and the mending of what it found, within a job that has begun. *differing: rows that differed. */
int pj_rebuild_pass(struct pj_mend *mend, int64_t *differing, struct pj_error *error);

/* Of a projection whose keys are noted: how many rows differ from the definition though nothing has been noted of
 * them. Changes nothing; within a job that has begun. */
int pj_rebuild_count_differing(struct pj_mend *mend, int64_t *differing, struct pj_error *error);

#endif
