/*
 * Resync.
 *
 *     1  write side   the slot of the catalog's name, if there is one, is ours and nobody uses it; the tables are locked
 *                     against being rewritten (ACCESS SHARE, as a dump does)
 *     2  read side    the intent: a resync was begun                                                 (committed)
 *     3  write side   the slot is dropped, and made anew under the same name, with an exported snapshot
 *     4  read side    every mirror made equal to its source in that snapshot, every target to its definition, the
 *                     mirrors entered into the catalog as the tables are now, the new slot still good,
 *                     checkpoint = the consistent point, the intent taken back                       (one transaction)
 *
 * Until 4 commits readers have the former state, whole. No table is replaced: grants, views and long-running readers
 * are untouched. What is written is what differs; what is held here is a number for each bucket of rows. In 4 a thread
 * with sessions of its own, in the same snapshot, finds where the next mirrors differ while one is looked at
 * (core/difference_ahead); it writes nothing.
 *
 * Targets. When all mirrors have been compared, and before the first of them is written, it is known which keys the rows
 * carry that will be mended; these are recomputed afterwards. Beside writing and recomputing another session compares
 * all other rows of each target with its definition, both as they were committed before (core/resync_check; the
 * checkpoint row's lock keeps them so). Rows of a key that was right then, and that no mended row carries, are right
 * now, for a definition's rows of a key depend on the sources' rows of that key only; what was wrong is recomputed, too.
 * So targets end equal to their definitions wholly, also those of a read side that somebody put together from copies of
 * different ages, and no key of a projection that only reads mirrors is computed twice.
 *
 * Killed in between, the same call starts again at 1. What is there then, by the step that was last finished:
 *     1        nothing new; the locks went with the session
 *     2        the intent; the former slot, or none
 *     3        the intent; the new slot, which belongs to no checkpoint. A daemon that finds the intent halts (or, with
 *              on_gap = resync, does this), and never streams from the slot
 *     4        all of it: the intent is gone
 * A COMMIT in 4 whose outcome is not known leaves the slot alone: whoever comes next reads the checkpoint and knows.
 */
#include "core/resync.h"

#include "base/mem.h"
#include "core/difference_ahead.h"
#include "core/keywork.h"
#include "core/mend.h"
#include "core/mend_within.h"
#include "core/mirror.h"
#include "core/pin.h"
#include "core/resync_check.h"
#include "core/snapshot_clean.h"
#include "core/standing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WALSENDER_WAIT_MS = 5000 };

struct resync {
    const struct pj_resync_options *options;
    struct pj_setup *setup;
    int64_t epoch;

    struct pj_session *read;        /* the caller's: holds the daemon's lock, and writes */
    struct pj_session *look;        /* looks things up on the write side */
    struct pj_session *guard;       /* holds the lock on the tables */
    struct pj_session *replication; /* makes the slot */
    struct pj_session *write;       /* in the snapshot */
    struct pj_resync_check *check;  /* of the targets, as they were */

    struct pj_difference_keys *touched; /* of each projection: what depends on mended rows */
    bool *left;                         /* each projection: stays as it is, not live; what it misses is noted */

    struct pj_checkpoint checkpoint; /* as it was before */
    struct pj_source_identity identity;
    pj_lsn consistent_point;
    char exported[64];
    bool created; /* the new slot is there, and is to be dropped on failure */
    struct pj_resynced done;
};

static void report(const struct resync *resync, const char *phase, const char *detail)
{
    struct pj_snapshot_progress progress = {.phase = phase};
    snprintf(progress.detail, sizeof progress.detail, "%s", detail);
    if (resync->options->progress)
        resync->options->progress(resync->options->context, &progress);
}

/* ------------------------------------------------------------------------------------------------------- sessions */

static int open_one(struct resync *resync, struct pj_session **session, const char *purpose, bool replication,
                    struct pj_error *error)
{
    struct pj_session_options options = {
        .side = PJ_WRITE,
        .url = resync->options->write_url,
        .purpose = purpose,
        .replication = replication,
        .stop = resync->options->stop,
    };
    return pj_session_open(session, &options, error);
}

static int open_sessions(struct resync *resync, struct pj_error *error)
{
    int code = open_one(resync, &resync->look, "resync", false, error);
    if (code == PJ_OK)
        code = open_one(resync, &resync->guard, "resync guard", false, error);
    if (code == PJ_OK)
        code = open_one(resync, &resync->replication, "resync slot", true, error);
    if (code == PJ_OK)
        code = open_one(resync, &resync->write, "resync", false, error);
    return code == PJ_OK ? pj_source_identify(resync->replication, &resync->identity, error) : code;
}

static void close_sessions(struct resync *resync)
{
    pj_session_close(resync->write);
    pj_session_close(resync->replication);
    pj_session_close(resync->guard);
    pj_session_close(resync->look);
}

/* --------------------------------------------------------------------------------------------- the former slot (1) */

static int read_checkpoint(struct resync *resync, struct pj_error *error)
{
    bool installed;
    int code = pj_catalog_read(resync->read, &resync->checkpoint, &installed, error);
    if (code == PJ_OK && (!installed || !resync->checkpoint.complete || !*resync->checkpoint.slot))
        code = pj_error_set(error, PJ_EFAIL, "the first start is not complete: there is nothing to resync");
    return code;
}

static int refuse_slot(const struct resync *resync, const char *why, struct pj_error *error)
{
    const char *name = resync->checkpoint.slot;
    pj_error_set(error, PJ_ECONFIG, "slot %s on the write database %s", name, why);
    return pj_error_hint(error, "if nobody needs it: SELECT pg_drop_replication_slot('%s')", name);
}

/*
 * A slot of the catalog's name, for our plugin, in our database, is ours, also one made by hand in the place of the
 * former. One without a confirmed position is still being made, by the walsender of a resync that died: that may be
 * ended. One that has a position is being streamed from, or its walsender is about to notice that nobody listens.
 */
static int check_slot(struct resync *resync, struct pj_error *error)
{
    struct pj_slot slot;
    for (int waited = 0;; waited += 50) {
        int code = pj_slot_read(resync->look, resync->checkpoint.slot, &slot, error);
        if (code != PJ_OK || !slot.exists)
            return code;
        if (strcmp(slot.plugin, resync->options->plugin) != 0 || strcmp(slot.database, resync->identity.database) != 0)
            return refuse_slot(resync, "is of another plugin or database, so it was not made by pgprojector", error);
        if (!slot.active || !slot.confirmed_flush)
            return PJ_OK;
        if (waited >= WALSENDER_WAIT_MS)
            return refuse_slot(resync, "is in use by somebody else", error);
        code = pj_stop_sleep(resync->options->stop, 50, error);
        if (code != PJ_OK)
            return code;
    }
}

static int lock_tables(struct resync *resync, struct pj_error *error)
{
    return pj_pin_sources(resync->guard, resync->setup->tables, resync->setup->ntables, resync->options->slot_wait_ms,
                          error);
}

/* ------------------------------------------------------------------------------------------ intent, new slot (2, 3) */

static int intend(struct resync *resync, struct pj_error *error)
{
    if (strcmp(resync->identity.system_id, resync->checkpoint.system_id) != 0)
        pj_log(
            resync->options->log, PJ_LOG_WARNING,
            "the write database is another cluster than before (system %s, was %s); drop slot %s on the former one, if "
            "that still runs",
            resync->identity.system_id, resync->checkpoint.system_id, resync->checkpoint.slot);
    return pj_catalog_intend_resync(resync->read, resync->epoch, error);
}

static int drop_slot(struct resync *resync, struct pj_error *error)
{
    return pj_slot_drop(resync->look, resync->checkpoint.slot, true, error);
}

static int create_slot(struct resync *resync, struct pj_error *error)
{
    report(resync, "resync: waiting for a consistent point", "");
    int code = pj_slot_create(resync->replication, resync->look, resync->checkpoint.slot, resync->options->plugin,
                              false, resync->options->slot_wait_ms, &resync->consistent_point, resync->exported, error);
    resync->created = code == PJ_OK || code == PJ_ESTOPPED; /* a stop leaves it open whether it was made */
    if (code == PJ_OK)
        pj_log(resync->options->log, PJ_LOG_INFO, "slot %s made anew, consistent point %s", resync->checkpoint.slot,
               PJ_LSN(resync->consistent_point));
    return code;
}

/* -------------------------------------------------------------------------------------------- the transaction (4) */

/*
 * Comparing and recomputing want hashes of whole tables; of the temporary ones not much must be known. The checkpoint's
 * lock keeps out what works beside a daemon (rebuild, resume, retry): a key that it recomputed from the mirrors as they
 * were, behind our own recomputation, would stay so.
 */
static int begin(struct resync *resync, struct pj_error *error)
{
    int code = pj_session_execf(resync->write, error,
                                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'; "
                                "SET LOCAL row_security = off; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off",
                                resync->exported);
    if (code == PJ_OK)
        code = pj_session_exec(resync->read,
                               "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; "
                               "SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; "
                               "SET LOCAL default_statistics_target = 10; "
                               "SELECT FROM pgprojector.checkpoint FOR UPDATE",
                               error);
    return code;
}

static int look_at_each(struct resync *resync, struct pj_difference_ahead *ahead, struct pj_error *error)
{
    for (;;) {
        const struct pj_table *table;
        struct pj_mended mended;
        int code =
            pj_difference_ahead_look(ahead, resync->write, resync->read, resync->options->stop, &table, &mended, error);
        if (code != PJ_OK || !table)
            return code;
        resync->done.rows += pj_mended_rows(&mended);
        pj_log(resync->options->log, PJ_LOG_INFO, "%s.%s: %lld rows are missing, %lld too many, %lld differ",
               table->schema, table->name, (long long)mended.missing, (long long)mended.extra,
               (long long)mended.changed);
    }
}

static int look_at_mirrors(struct resync *resync, struct pj_error *error)
{
    struct pj_difference_ahead_options options = {
        .write_url = resync->options->write_url,
        .read_url = resync->options->read_url,
        .snapshot = resync->exported,
        .tables = resync->setup->tables,
        .ntables = resync->setup->ntables,
    };
    report(resync, "resync: comparing", "mirrors with their sources");
    struct pj_difference_ahead *ahead = pj_difference_ahead_begin(&options, error);
    int code = ahead ? look_at_each(resync, ahead, error) : error->code;
    pj_difference_ahead_free(ahead);
    return code;
}

static int write_mirrors(struct resync *resync, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < resync->setup->ntables; i++) {
        const struct pj_table *table = &resync->setup->tables[i];
        report(resync, "resync: writing", table->mirror_sql);
        code = pj_difference_write_table(resync->read, table, error);
    }
    return code;
}

/* Rows are found by the replica identity as it is now. */
static int index_mirrors(struct resync *resync, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < resync->setup->ntables; i++)
        code = pj_mirror_index_identity(resync->read, &resync->setup->tables[i], error);
    return code;
}

/* One that is paused or is being built keeps its table as it is. */
static int look_at_projection(struct resync *resync, int index, struct pj_error *error)
{
    struct pj_projection *projection = &resync->setup->projections[index];
    const struct pj_within work = {.read = resync->read, .projection = projection};
    enum pj_within_standing standing;
    int code = pj_within_standing(&work, &standing, error);
    resync->left[index] = code == PJ_OK && standing == PJ_WITHIN_NOTED;
    if (code != PJ_OK || !resync->left[index])
        return code == PJ_OK ? pj_difference_touched(resync->read, projection, &resync->touched[index], error) : code;
    resync->touched[index].all = true; /* so it need not be compared */
    return PJ_OK;
}

/* What depends on rows that will be mended; the rest is compared beside, from now on. */
static int find_touched(struct resync *resync, struct pj_error *error)
{
    int count = resync->setup->nprojections, code = PJ_OK;
    resync->touched = pj_alloc(sizeof *resync->touched * (size_t)(count + 1));
    resync->left = pj_alloc(sizeof *resync->left * (size_t)(count + 1));
    memset(resync->touched, 0, sizeof *resync->touched * (size_t)(count + 1));
    memset(resync->left, 0, sizeof *resync->left * (size_t)(count + 1));
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = look_at_projection(resync, i, error);
    if (code == PJ_OK)
        resync->check = pj_resync_check_begin(resync->options->read_url, resync->setup, resync->touched, error);
    return code == PJ_OK && !resync->check ? error->code : code;
}

static void forget_touched(struct resync *resync)
{
    for (int i = 0; resync->touched && i < resync->setup->nprojections; i++)
        pj_free(resync->touched[i].keys);
    pj_free(resync->touched);
    pj_free(resync->left);
}

/* As pj_standing_pause says it; what it misses is noted with the others that are not live. */
static int pause_projection(struct resync *resync, int index, struct pj_error *error)
{
    const struct pj_projection *projection = &resync->setup->projections[index];
    struct pj_error cause = *error;
    pj_error_clear(error);
    pj_mend_strip(&cause);
    pj_log(resync->options->log, PJ_LOG_ERROR, "projection %s is paused: %s", projection->name, cause.message);
    resync->left[index] = true;
    return pj_standing_pause(resync->read, projection, &cause, error);
}

/* A constraint that somebody put on the table, say: guilty keys are parked, all others recomputed. */
static int recompute_by_key(struct resync *resync, int index, struct pj_error *error)
{
    struct pj_projection *projection = &resync->setup->projections[index];
    struct pj_within work = {.read = resync->read, .projection = projection, .width = 1};
    struct pj_error cause = *error;
    PGresult *keys = NULL;
    pj_error_clear(error);
    int code = pj_resync_check_list(resync->read, projection, &keys, error);
    if (code == PJ_OK && !keys) {
        *error = cause;
        return pause_projection(resync, index, error);
    }
    if (code == PJ_OK)
        code = pj_within_keys(&work, keys, error);
    PQclear(keys);
    resync->left[index] = work.paused;
    if (code == PJ_OK && work.paused)
        pj_log(resync->options->log, PJ_LOG_ERROR, "projection %s is paused: %s", projection->name, work.fault);
    else if (code == PJ_OK && work.parked)
        pj_log(resync->options->log, PJ_LOG_WARNING, "projection %s: %d key%s parked: %s", projection->name,
               work.parked, work.parked == 1 ? "" : "s", work.fault);
    return code;
}

/* It cannot be written as it should be; the rest goes on. */
static int mend_projection(struct resync *resync, int index, struct pj_error *error)
{
    struct pj_error cause = *error;
    if (error->retryable || !error->sqlstate[0] || PQstatus(pj_session_conn(resync->read)) != CONNECTION_OK)
        return error->code;
    int code = pj_session_exec(resync->read, "ROLLBACK TO SAVEPOINT pgprojector_resync", error);
    if (code != PJ_OK)
        return code;
    *error = cause;
    return pj_mend_is_key_fault(error) ? recompute_by_key(resync, index, error)
                                       : pause_projection(resync, index, error);
}

static int recompute(struct resync *resync, int index, const struct pj_difference_keys *keys, struct pj_error *error)
{
    const struct pj_projection *projection = &resync->setup->projections[index];
    int64_t rows = 0;
    if ((!keys->all && !keys->keys) || resync->left[index])
        return PJ_OK;
    report(resync, "resync: computing", projection->name);
    int code = pj_session_exec(resync->read, "SAVEPOINT pgprojector_resync", error);
    if (code == PJ_OK)
        code = pj_difference_recompute_keys(resync->read, projection, keys, &rows, error);
    if (code == PJ_OK) /* a deferred constraint would only fail at COMMIT, and take all with it */
        code = pj_session_exec(resync->read, "SET CONSTRAINTS ALL IMMEDIATE", error);
    resync->done.target_rows += code == PJ_OK ? rows : 0;
    return code == PJ_OK ? PJ_OK : mend_projection(resync, index, error);
}

static int recompute_touched(struct resync *resync, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < resync->setup->nprojections; i++)
        code = recompute(resync, i, &resync->touched[i], error);
    return code;
}

/* Targets are then equal to their definitions wholly, not only where mirrors differed: who resyncs wants certainty. */
static int recompute_wrong(struct resync *resync, struct pj_error *error)
{
    report(resync, "resync: comparing", "targets with their definitions");
    int code = pj_resync_check_await(resync->check, resync->options->stop, error);
    for (int i = 0; code == PJ_OK && i < resync->setup->nprojections; i++)
        code = recompute(resync, i, pj_resync_check_found(resync->check, i), error);
    return code;
}

/* What is not live notes what it has to catch up with: everything. */
static int note_others(struct resync *resync, struct pj_error *error)
{
    return pj_session_exec(resync->read,
                           "INSERT INTO pgprojector.dirty_key (projection, key) SELECT name, NULL "
                           "FROM pgprojector.projection WHERE state NOT IN ('live', 'failing', 'retired'); "
                           "UPDATE pgprojector.checkpoint SET version = version + 1",
                           error);
}

/*
 * Reading tables may prune their pages, which is WAL that nobody flushes until the next commit; up to there an idle
 * server's position cannot be waited for. A transaction with a number, and nothing else, ends that.
 */
static int flush_source(struct resync *resync, struct pj_error *error)
{
    return pj_session_exec(resync->look, "SELECT pg_catalog.txid_current()", error);
}

/* Were the locks held all the time (a table emptied before it was read would have been found empty), are the tables
 * still what was read at the start, and has the new slot still all the WAL it needs? */
static int look_again(struct resync *resync, struct pj_error *error)
{
    struct pj_slot slot;
    int code = pj_session_exec(resync->guard, "SELECT", error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "hold the tables' locks");
    code = pj_source_compare(resync->look, resync->setup->tables, resync->setup->ntables, error);
    if (code == PJ_OK)
        code = pj_slot_read(resync->look, resync->checkpoint.slot, &slot, error);
    if (code != PJ_OK || (slot.exists && strcmp(slot.wal_status, "lost") != 0))
        return code;
    pj_error_set(error, PJ_EFAIL, "the new slot %s has lost WAL that it needs while the read side was compared",
                 resync->checkpoint.slot);
    return pj_error_hint(error, "raise max_slot_wal_keep_size on the write database, and begin again");
}

static int fill(struct resync *resync, struct pj_error *error)
{
    static int (*const steps[])(struct resync *, struct pj_error *) = {
        look_at_mirrors, find_touched, write_mirrors, index_mirrors, recompute_touched,
        recompute_wrong, note_others,  flush_source,  look_again,
    };
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof steps / sizeof *steps; i++)
        code = steps[i](resync, error);
    if (code == PJ_OK)
        code = pj_catalog_enter_mirrors(resync->read, resync->setup->tables, resync->setup->ntables, error);
    if (code == PJ_OK)
        code =
            pj_catalog_complete_resync(resync->read, resync->consistent_point, &resync->identity, resync->epoch, error);
    return code;
}

/* An answer lost leaves it open whether there is a new checkpoint: then the slot must stay. */
static int commit(struct resync *resync, struct pj_error *error)
{
    report(resync, "resync: committing", "");
    int code = pj_keywork_commit(resync->read, error);
    if (code == PJ_OK || code == PJ_ESTOPPED || PQstatus(pj_session_conn(resync->read)) != CONNECTION_OK)
        resync->created = false;
    return code;
}

static int replace(struct resync *resync, struct pj_error *error)
{
    int code = begin(resync, error);
    if (code == PJ_OK)
        code = fill(resync, error);
    pj_resync_check_free(resync->check);
    forget_touched(resync);
    if (code == PJ_OK)
        return commit(resync, error);
    pj_keywork_rollback(resync->read);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

int pj_resync_run(struct pj_session *read, int64_t epoch, const struct pj_resync_options *options,
                  struct pj_setup *setup, struct pj_resynced *resynced, struct pj_error *error)
{
    static int (*const steps[])(struct resync *, struct pj_error *) = {
        read_checkpoint, open_sessions, check_slot, lock_tables, intend, drop_slot, create_slot, replace,
    };
    struct resync resync = {.options = options, .setup = setup, .epoch = epoch, .read = read};
    pj_error_clear(error);
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof steps / sizeof *steps; i++)
        code = steps[i](&resync, error);
    close_sessions(&resync);
    if (code != PJ_OK && resync.created)
        pj_snapshot_drop_slot(options->write_url, resync.checkpoint.slot, options->log);
    resync.done.lsn = resync.consistent_point;
    *resynced = resync.done;
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "resync");
}
