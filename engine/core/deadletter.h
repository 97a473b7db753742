/*
 * Dead letters: keys that a projection could not take (pgprojector.dead_letter). The daemon parks them, withholds their
 * deltas meanwhile, and the table shows their last good rows. A retry is a recomputation of the key under the
 * checkpoint row's lock (core/keywork.h): where it succeeds the key is right again, and no longer parked.
 */
#ifndef PJ_CORE_DEADLETTER_H
#define PJ_CORE_DEADLETTER_H

#include "base/log.h"
#include "core/projection.h"
#include "core/setup.h"
#include "core/standing.h"
#include "pg/session.h"

/* NULL: any. */
struct pj_deadletter_filter {
    const char *projection, *key, *sqlstate;
};

/* The columns of pj_deadletter_list's result. */
enum pj_deadletter_column {
    PJ_DEAD_PROJECTION,
    PJ_DEAD_KEY,
    PJ_DEAD_SQLSTATE,
    PJ_DEAD_MESSAGE,
    PJ_DEAD_FIRST_LSN,
    PJ_DEAD_LAST_LSN,
    PJ_DEAD_ATTEMPTS,
    PJ_DEAD_PARKED_AT,   /* ISO 8601, UTC */
    PJ_DEAD_AGE,         /* seconds */
    PJ_DEAD_NEXT_TRY_AT, /* ISO 8601, UTC; NULL: none by itself */
};

/* The oldest first, at most `limit`. The caller clears the result. */
int pj_deadletter_list(struct pj_session *read, const struct pj_deadletter_filter *filter, int limit, PGresult **result,
                       struct pj_error *error);
int pj_deadletter_count(struct pj_session *read, const struct pj_deadletter_filter *filter, int64_t *count,
                        struct pj_error *error);

struct pj_deadletter_tally {
    int64_t healed, failed;
    int64_t skipped; /* of projections that are not live, or not among those given */
};

/* Retries what the filter names, in short transactions on `work`. Keys that fail again stay parked, with one
 * more attempt; that is no error. `mark`, PJ_ERELOAD: as for pj_keywork_begin_of. */
int pj_deadletter_retry(struct pj_session *look, struct pj_session *work, const struct pj_mark *mark,
                        const struct pj_projection *projections, int count, const struct pj_deadletter_filter *filter,
                        struct pj_deadletter_tally *tally, struct pj_error *error);

/* Forgets what the filter names without mending anything: the rows stay as they are, and take deltas again. */
int pj_deadletter_discard(struct pj_session *work, const struct pj_deadletter_filter *filter, int64_t *discarded,
                          struct pj_error *error);

/*
 * Retrying by itself: what is due (next_try_at) is tried again, 10 times at most, at growing intervals. Made of a setup
 * that has been checked, for a roster (checkpoint.roster; with another one it does nothing); keeps copies, so the setup
 * may be used by others meanwhile, or closed. A turn takes some hundred milliseconds at most.
 */
struct pj_retrier;
struct pj_retrier *pj_retrier_new(const struct pj_setup *setup, int64_t roster, const struct pj_log *log);
void pj_retrier_free(struct pj_retrier *retrier);
int pj_retrier_turn(void *retrier, struct pj_session *session, struct pj_error *error);

#endif
