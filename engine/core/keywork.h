/*
 * Work on single keys of a projection beside the daemon: recomputing them, exactly, while it applies.
 *
 * Why that is safe: every transaction of the daemon begins by locking the checkpoint row. Whoever holds that lock sees
 * the mirrors and the targets at one commit of the write database, and nothing moves until it commits. So a short
 * transaction that locks the row, recomputes some keys from the definition, and commits, is exact, from any process;
 * apply waits meanwhile, for milliseconds if the keys are few. What the daemon holds in memory (projection states,
 * parked keys) has a version number in the checkpoint row; pj_keywork_changed() raises it, and the daemon reads them
 * again before its next transaction.
 */
#ifndef PJ_CORE_KEYWORK_H
#define PJ_CORE_KEYWORK_H

#include "core/projection.h"
#include "core/standing.h"
#include "pg/session.h"

/* What the planner may choose from in such a transaction, and for a statement over whole tables within it. */
#define PJ_KEYWORK_NARROW                                                                                              \
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
#define PJ_KEYWORK_WIDE "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"

/* BEGIN, and the checkpoint row's lock. *lsn: where the read side stands. */
int pj_keywork_begin(struct pj_session *read, pj_lsn *lsn, struct pj_error *error);
/*
 * The same for whoever has had a setup from before: PJ_ERELOAD, and nothing is begun, where another module may keep
 * the table by now, another table may have its name, or somebody be chained on it who is not in the setup. `mark`: as
 * it was before the setup was made; NULL: the caller holds the daemon's lock, and nobody else changes these things.
 */
int pj_keywork_begin_of(struct pj_session *read, const struct pj_mark *mark, pj_lsn *lsn, struct pj_error *error);
/* Within a transaction that has the lock: the same question. */
int pj_keywork_check(struct pj_session *read, const struct pj_mark *mark, struct pj_error *error);
/* Within a transaction that pj_keywork_begin_alone has begun: the lock after all. */
int pj_keywork_lock(struct pj_session *read, pj_lsn *lsn, struct pj_error *error);
/* The same without the lock, for a table that nobody else writes to: the stream notes what it would change in it. */
int pj_keywork_begin_alone(struct pj_session *read, struct pj_error *error);
int pj_keywork_commit(struct pj_session *read, struct pj_error *error);
void pj_keywork_rollback(struct pj_session *read);
/* Commits where `code` is PJ_OK, else rolls back and leaves the error as it is. Returns `code`, or the COMMIT's. */
int pj_keywork_end(struct pj_session *read, int code, struct pj_error *error);

/* Within a transaction: the daemon's memory of states and parked keys is to be read again. */
int pj_keywork_changed(struct pj_session *read, struct pj_error *error);

/* The same, where what the daemon is to run has changed: it stops applying until it has another setup
 * (core/handover.h). */
int pj_keywork_roster_changed(struct pj_session *read, struct pj_error *error);

/*
 * Within a transaction: makes the target's rows of the keys equal to the definition. `keys` is an array literal of
 * routing keys as text ("{…}"), or, with `full`, of full keys, one array literal for each key column in `keys[0 …
 * nkey-1]`. *rows (may be NULL): how many rows were inserted or updated (rows that are deleted are not counted, but
 * where others are chained on the table). What is chained on it is recomputed, too (core/chainwork.h).
 */
int pj_keywork_recompute(struct pj_session *read, const struct pj_projection *projection, bool full,
                         const char *const *keys, int64_t *rows, struct pj_error *error);

#endif
