/*
 * The first start.
 *
 *     1  read side    remove what an unfinished attempt left: our orphan slot, targets, mirrors        (committed)
 *        both         refuse what is in the way: a slot, tables of the names that are to be made
 *     2  read side    types, empty mirrors, empty targets, and their entries in the catalog            (one transaction)
 *     3  read side    the intent to create the slot                                                    (committed)
 *     4  write side   the tables are locked against being rewritten (ACCESS SHARE, as a dump does)
 *     5  write side   the slot, with an exported snapshot: what is committed before its consistent point is in the
 *                     snapshot, what comes after is in the stream
 *     6  both         the tables as the snapshot shows them into the mirrors
 *     7  read side    statistics, keys, indexes; targets from their definitions (core/snapshot_plan)
 *     8  write side   the locks were held all the time, and the tables are still what was read at the start
 *     9  read side    checkpoint = the consistent point                                                (one transaction)
 *
 * Killed in between, the same call starts again at 1. What is there then, by the step that was last finished:
 *     1        nothing
 *     2, 3     mirrors and targets in the catalog, empty
 *     4        the lock went with the session
 *     5 to 8   besides, the slot: ours, for the intent was committed before it was made, and there is no checkpoint
 *     9        all of it, complete: the call is not made again
 * Within 5 the slot is half-made: the server removes it when its walsender ends, which may be waiting for transactions
 * and not yet have noticed that nobody listens; step 1 ends it. A COMMIT in 9 whose outcome is not known leaves the
 * slot alone: the next start reads the checkpoint and knows.
 *
 * A slot counts as ours only by the intent, and the intent is not written where a slot of that name is already there.
 * So a slot that somebody else made is refused, never dropped.
 *
 * On a failure the slot is dropped at once, for a slot that nobody reads makes the write database keep its WAL. That is
 * tried on a connection of its own, under a short time limit; where it fails, step 1 of the next attempt does it.
 */
#include "core/snapshot.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/copy.h"
#include "core/keywork.h"
#include "core/mirror.h"
#include "core/pin.h"
#include "core/snapshot_build.h"
#include "core/snapshot_clean.h"
#include "core/snapshot_room.h"

#include <stdio.h>
#include <string.h>

enum { PROGRESS_EVERY_US = 200000 };

struct snapshot {
    const struct pj_snapshot_options *options;
    const struct pj_table *tables;
    int ntables;
    struct pj_projection *projections;
    int nprojections;
    int64_t epoch;

    struct pj_session *read;        /* the caller's: holds the daemon's lock */
    struct pj_session *write;       /* looks things up */
    struct pj_session *guard;       /* holds the lock on the tables */
    struct pj_session *replication; /* made the slot; keeps the snapshot alive by doing nothing */

    struct pj_source_identity identity;
    char slot[64];
    pj_lsn consistent_point;
    char exported[64];
    bool created; /* the slot is there, and is to be dropped on failure */

    struct pj_snapshot_progress progress;
    uint64_t reported_us;
};

/* ------------------------------------------------------------------------------------------------------ progress */

static void report(struct snapshot *snapshot, bool always)
{
    uint64_t now = pj_clock_monotonic_us();
    if (!snapshot->options->progress || (!always && now - snapshot->reported_us < PROGRESS_EVERY_US))
        return;
    snapshot->reported_us = now;
    snapshot->options->progress(snapshot->options->context, &snapshot->progress);
}

static void enter_phase(struct snapshot *snapshot, const char *phase, const char *detail)
{
    bool begins = !snapshot->progress.phase || strcmp(snapshot->progress.phase, phase) != 0;
    snapshot->progress = (struct pj_snapshot_progress){.phase = phase};
    snprintf(snapshot->progress.detail, sizeof snapshot->progress.detail, "%s", detail);
    report(snapshot, begins);
}

static void copied(void *context, const char *table, int64_t rows, int64_t expected, int64_t bytes)
{
    struct snapshot *snapshot = context;
    snprintf(snapshot->progress.detail, sizeof snapshot->progress.detail, "%s", table);
    snapshot->progress.rows = rows;
    snapshot->progress.rows_expected = expected;
    snapshot->progress.bytes = bytes;
    report(snapshot, false);
}

/* ------------------------------------------------------------------------------------------------------ sessions */

static int open_one(struct snapshot *snapshot, struct pj_session **session, const char *purpose, bool replication,
                    struct pj_error *error)
{
    struct pj_session_options options = {
        .side = PJ_WRITE,
        .url = snapshot->options->write_url,
        .purpose = purpose,
        .replication = replication,
        .stop = snapshot->options->stop,
    };
    return pj_session_open(session, &options, error);
}

static int open_sessions(struct snapshot *snapshot, struct pj_error *error)
{
    int code = open_one(snapshot, &snapshot->write, "snapshot", false, error);
    if (code == PJ_OK)
        code = open_one(snapshot, &snapshot->guard, "snapshot guard", false, error);
    if (code == PJ_OK)
        code = open_one(snapshot, &snapshot->replication, "snapshot slot", true, error);
    return code == PJ_OK ? pj_source_identify(snapshot->replication, &snapshot->identity, error) : code;
}

static void close_sessions(struct snapshot *snapshot)
{
    pj_session_close(snapshot->replication);
    pj_session_close(snapshot->guard);
    pj_session_close(snapshot->write);
}

/* --------------------------------------------------------------------------------------------- empty tables (2, 3) */

/* The server's own vacuum would come in between, and keep ours from seeing that nobody needs to look at the rows'
 * age. */
static int create_mirror(struct snapshot *snapshot, const struct pj_table *table, struct pj_error *error)
{
    int code = pj_mirror_create(snapshot->read, table, error);
    return code == PJ_OK ? pj_mirror_autovacuum(snapshot->read, table, false, error) : code;
}

static int create_tables(struct snapshot *snapshot, struct pj_error *error)
{
    int code = pj_mirror_create_types(snapshot->write, snapshot->read, snapshot->tables, snapshot->ntables, error);
    for (int i = 0; code == PJ_OK && i < snapshot->ntables; i++)
        code = create_mirror(snapshot, &snapshot->tables[i], error);
    if (code == PJ_OK)
        code = pj_catalog_enter_mirrors(snapshot->read, snapshot->tables, snapshot->ntables, error);
    for (int i = 0; code == PJ_OK && i < snapshot->nprojections; i++)
        if (snapshot->projections[i].target_sql)
            code = pj_projection_create_target(snapshot->read, &snapshot->projections[i], error);
    return code;
}

/* Leaves the transaction, whatever became of it; the error stays. */
static int roll_back(struct pj_session *read, int code)
{
    struct pj_error ignored;
    if (code != PJ_OK && PQstatus(pj_session_conn(read)) == CONNECTION_OK)
        pj_session_exec(read, "ROLLBACK", &ignored);
    return code;
}

static int prepare_read_side(struct snapshot *snapshot, struct pj_error *error)
{
    int code = pj_session_exec(snapshot->read, "BEGIN", error);
    if (code == PJ_OK)
        code = create_tables(snapshot, error);
    if (code == PJ_OK)
        code = pj_session_exec(snapshot->read, "COMMIT", error);
    return roll_back(snapshot->read, code);
}

/* What is in the way is said before anything is made. */
static int check_room(struct snapshot *snapshot, struct pj_error *error)
{
    int code = pj_snapshot_room_for_slot(snapshot->write, snapshot->slot, error);
    return code == PJ_OK ? pj_snapshot_room_for_tables(snapshot->read, true, snapshot->tables, snapshot->ntables,
                                                       snapshot->projections, snapshot->nprojections, error)
                         : code;
}

static int intend_slot(struct snapshot *snapshot, struct pj_error *error)
{
    int code = pj_snapshot_room_for_slot(snapshot->write, snapshot->slot, error);
    return code == PJ_OK ? pj_catalog_intend_slot(snapshot->read, snapshot->slot, &snapshot->identity, error) : code;
}

/* ----------------------------------------------------------------------------------------------------- slot (4, 5) */

static int lock_tables(struct snapshot *snapshot, struct pj_error *error)
{
    return pj_pin_sources(snapshot->guard, snapshot->tables, snapshot->ntables, snapshot->options->slot_wait_ms, error);
}

/* Somebody else made a slot of this name in between: it must not be taken for ours by the next attempt. */
static void withdraw_intent(struct snapshot *snapshot)
{
    struct pj_error ignored;
    pj_session_exec(snapshot->read, "UPDATE pgprojector.checkpoint SET slot = NULL WHERE lsn IS NULL", &ignored);
}

static int create_slot(struct snapshot *snapshot, struct pj_error *error)
{
    enter_phase(snapshot, "waiting for a consistent point", "");
    int code = pj_slot_create(snapshot->replication, snapshot->write, snapshot->slot, snapshot->options->plugin, false,
                              snapshot->options->slot_wait_ms, &snapshot->consistent_point, snapshot->exported, error);
    snapshot->created = code == PJ_OK || code == PJ_ESTOPPED; /* a stop leaves it open whether it was made */
    if (code != PJ_OK && strcmp(error->sqlstate, "42710") == 0)
        withdraw_intent(snapshot);
    if (code == PJ_OK)
        pj_log(snapshot->options->log, PJ_LOG_INFO, "slot %s created, consistent point %s", snapshot->slot,
               PJ_LSN(snapshot->consistent_point));
    return code;
}

/* ------------------------------------------------------------------------------------------------ contents (6, 7) */

static int copy_tables(struct snapshot *snapshot, struct pj_error *error)
{
    enter_phase(snapshot, "copying", "");
    struct pj_copy_options options = {
        .write_url = snapshot->options->write_url,
        .read_url = snapshot->options->read_url,
        .snapshot = snapshot->exported,
        .jobs = snapshot->options->jobs,
        .stop = snapshot->options->stop,
        .progress = copied,
        .context = snapshot,
    };
    return pj_copy_tables(snapshot->write, &options, snapshot->tables, snapshot->ntables, error);
}

static void built(void *context, const char *text)
{
    struct snapshot *snapshot = context;
    snprintf(snapshot->progress.detail, sizeof snapshot->progress.detail, "%s", text);
    report(snapshot, false);
}

static int build(struct snapshot *snapshot, struct pj_error *error)
{
    enter_phase(snapshot, "building", "");
    struct pj_snapshot_build build = {
        .read_url = snapshot->options->read_url,
        .jobs = snapshot->options->jobs,
        .stop = snapshot->options->stop,
        .log = snapshot->options->log,
        .tables = snapshot->tables,
        .ntables = snapshot->ntables,
        .projections = snapshot->projections,
        .nprojections = snapshot->nprojections,
        .progress = built,
        .context = snapshot,
    };
    return pj_snapshot_build_run(&build, error);
}

/* --------------------------------------------------------------------------------------------------- the end (8, 9) */

/* An answer lost in COMMIT leaves it open whether there is a checkpoint now: then the slot must stay. */
static int complete(struct snapshot *snapshot, struct pj_error *error)
{
    int code = pj_session_exec(snapshot->read, "BEGIN; SET LOCAL synchronous_commit = on", error);
    if (code == PJ_OK)
        code = pj_catalog_complete(snapshot->read, snapshot->consistent_point, &snapshot->identity, snapshot->epoch,
                                   error);
    if (code != PJ_OK)
        return roll_back(snapshot->read, code);
    code = pj_keywork_commit(snapshot->read, error);
    bool answered = PQstatus(pj_session_conn(snapshot->read)) == CONNECTION_OK && code != PJ_ESTOPPED;
    if (code == PJ_OK || !answered)
        snapshot->created = false;
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

static int clean(struct snapshot *snapshot, struct pj_error *error)
{
    return pj_snapshot_clean(snapshot->read, snapshot->write, &snapshot->identity, snapshot->options->plugin,
                             snapshot->options->log, error);
}

/* Locks that were lost with their session have not kept anybody from emptying a table before it was read. */
static int look_again(struct snapshot *snapshot, struct pj_error *error)
{
    if (pj_session_exec(snapshot->guard, "SELECT", error) != PJ_OK)
        return pj_error_wrap(error, "hold the tables' locks");
    return pj_source_compare(snapshot->write, snapshot->tables, snapshot->ntables, error);
}

static int run(struct snapshot *snapshot, struct pj_error *error)
{
    static int (*const steps[])(struct snapshot *, struct pj_error *) = {
        open_sessions, clean,       check_room, prepare_read_side, intend_slot, lock_tables,
        create_slot,   copy_tables, build,      look_again,        complete,
    };
    int code = PJ_OK;
    for (size_t i = 0; code == PJ_OK && i < sizeof steps / sizeof *steps; i++)
        code = steps[i](snapshot, error);
    return code;
}

/* The epoch is checked where it counts, in the transaction that completes the first start. */
static int choose_slot(struct snapshot *snapshot, struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    int code = pj_catalog_read(snapshot->read, &checkpoint, &installed, error);
    if (code != PJ_OK)
        return code;
    const char *name = snapshot->options->slot;
    char ours[sizeof snapshot->slot];
    snprintf(ours, sizeof ours, "pgprojector_%s", checkpoint.instance);
    snprintf(snapshot->slot, sizeof snapshot->slot, "%s", name && *name ? name : ours);
    return PJ_OK;
}

int pj_snapshot_run(struct pj_session *read, int64_t epoch, const struct pj_snapshot_options *options,
                    const struct pj_table *tables, int ntables, struct pj_projection *projections, int nprojections,
                    struct pj_error *error)
{
    struct snapshot snapshot = {.options = options,
                                .tables = tables,
                                .ntables = ntables,
                                .projections = projections,
                                .nprojections = nprojections,
                                .epoch = epoch,
                                .read = read};
    pj_error_clear(error);
    int code = choose_slot(&snapshot, error);
    if (code == PJ_OK)
        code = run(&snapshot, error);
    close_sessions(&snapshot);
    if (code != PJ_OK && snapshot.created)
        pj_snapshot_drop_slot(options->write_url, snapshot.slot, options->log);
    if (code == PJ_OK)
        enter_phase(&snapshot, "done", "");
    return code;
}
