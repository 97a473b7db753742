/*
 * See connect.h. The order matters:
 *
 *   1. The read side first: the lock, our former backend ended, the checkpoint row locked. Only then is what it says the
 *      truth, even where an earlier COMMIT's answer was lost.
 *   2. The write side's identity, its timeline's history, the slot, against that checkpoint. After a failover the checkpoint
 *      is entered as the new timeline's before anything is applied: the fork is behind it then, and no longer looked at.
 *   3. START_REPLICATION from the slot's confirmed position, never from the checkpoint: beyond the server's own WAL a
 *      START_REPLICATION is accepted, and what is committed later is skipped in silence.
 *
 * The witness. What is confirmed to the server stays one transaction behind what is applied, so the last applied
 * transaction is sent again after each reconnect. A server that sends something new without it is not the one we left:
 * a restored image, or a standby that never had it. Where confirmed_flush has passed it (over an idle stretch the
 * confirmed position follows the keepalives), nothing can be demanded.
 */
#include "core/connect.h"

#include "base/buf.h"
#include "core/keywork.h"
#include "core/project.h"
#include "core/statements.h"
#include "wire/wal2json.h"

#include <stdlib.h>
#include <string.h>

/* Our former walsender may not have seen yet that we are gone: it is given this long, about, before that is an
 * error. */
enum { SLOT_WAIT_MS = 512 };
#define OBJECT_IN_USE "55006"

static const char remedy[] =
    "what was committed in between cannot be had from the stream any more; the read side goes on "
    "serving what it has. Stop the daemon, run `pgprojector resync` and start it again (or set on_gap = resync)";

static int gap(struct pj_error *error)
{
    error->code = PJ_EGAP;
    error->retryable = false;
    return pj_error_hint(error, "%s", remedy);
}

/* It may be the wrong server that answers, such as a former primary: a resync with that one would take over what it has. */
static int another_server(struct pj_error *error)
{
    gap(error);
    return pj_error_hint(
        error,
        "is it the server that WRITE_DATABASE_URL is meant to lead to, not a former primary? If not, lead "
        "it to the right one and restart the daemon. If so: %s",
        remedy);
}

/* ------------------------------------------------------------------------------------------------------- read side */

/* The epoch is one further than believed, and the backend that raised it was ours. */
static bool raised_by_us(const struct pj_connect_epoch *epoch, const struct pj_checkpoint *checkpoint)
{
    return epoch->attempted_pid && checkpoint->epoch == epoch->believed + 1 &&
           checkpoint->backend_pid == epoch->attempted_pid;
}

static int take_over(struct pj_session *read, struct pj_connect_epoch *epoch, struct pj_checkpoint *checkpoint,
                     struct pj_error *error)
{
    int pid = PQbackendPID(pj_session_conn(read)); /* libpq forgets it with the connection */
    int code = pj_catalog_take_over(read, epoch->believed, checkpoint, error);
    if (code == PJ_ESTALE && raised_by_us(epoch, checkpoint)) {
        epoch->believed = checkpoint->epoch;
        pj_error_clear(error);
        code = pj_catalog_take_over(read, epoch->believed, checkpoint, error);
    }
    epoch->attempted_pid = pid;
    if (code == PJ_OK)
        epoch->believed = checkpoint->epoch;
    return code;
}

static int lock_read_side(struct pj_session *read, const struct pj_connect_options *options,
                          struct pj_checkpoint *checkpoint, struct pj_error *error)
{
    bool mine;
    char *holder = NULL;
    int code = pj_catalog_lock(read, &mine, &holder, error);
    if (code == PJ_OK && !mine) {
        /* our own former session may not have ended yet; taking over ends it, and fails where it was another daemon */
        code = take_over(read, options->epoch, checkpoint, error);
        if (code == PJ_OK)
            code = pj_catalog_lock(read, &mine, NULL, error);
        if (code == PJ_OK && !mine)
            code = pj_error_set(error, PJ_ESTALE, "another daemon holds the lock of this read database: %s",
                                holder ? holder : "unknown");
        pj_free(holder);
        return code;
    }
    pj_free(holder);
    return code == PJ_OK ? take_over(read, options->epoch, checkpoint, error) : code;
}

/* After the states: they are of one moment with the number, and a change after it is met by the first transaction. */
static int check_roster(const struct pj_connect_options *options, int64_t roster, struct pj_error *error)
{
    if (roster == options->roster)
        return PJ_OK;
    return pj_error_set(error, PJ_ERELOAD, "which modules keep which tables has changed (roster %lld, ours was %lld)",
                        (long long)roster, (long long)options->roster);
}

static int load_standing(struct pj_session *read, const struct pj_connect_options *options,
                         struct pj_checkpoint *checkpoint, struct pj_error *error)
{
    int64_t roster = 0;
    int code = pj_standing_load(read, options->setup->projections, options->setup->nprojections, &checkpoint->version,
                                &roster, error);
    return code == PJ_OK ? check_roster(options, roster, error) : code;
}

/* Its table is not as it was, so that all of it is looked at when it is resumed. */
static int pause_one(struct pj_session *read, const struct pj_projection *projection, const struct pj_log *log,
                     struct pj_error *error)
{
    pj_lsn lsn;
    const char *name = projection->name;
    int code = pj_keywork_begin(read, &lsn, error);
    if (code == PJ_OK)
        code = pj_standing_note_everything(read, name, error);
    if (code == PJ_OK)
        code = pj_standing_pause(read, projection, &projection->refusal, error);
    code = pj_keywork_end(read, code, error);
    if (code != PJ_OK)
        return code;
    pj_log(log, PJ_LOG_ERROR, "projection %s is paused: %s", name, projection->refusal.message);
    pj_log(log, PJ_LOG_ERROR,
           "HINT: give its table, and what its definition reads, the shape back that they had, then run `pgprojector "
           "resume %s`; or have the table built anew: `pgprojector rebuild %s --fresh`. The others go on",
           name, name);
    return PJ_OK;
}

/* Prepares; one whose statements the server refuses, for somebody has changed its table, say, is nobody else's matter. */
static int prepare(struct pj_session *read, const struct pj_connect_options *options, struct pj_checkpoint *checkpoint,
                   struct pj_error *error)
{
    struct pj_setup *setup = options->setup;
    bool paused = false;
    int code = pj_statements_prepare(read, setup, error);
    for (int i = 0; code == PJ_OK && i < setup->nprojections; i++) {
        const struct pj_projection *projection = &setup->projections[i];
        if (!projection->live || projection->refusal.code == PJ_OK)
            continue;
        if (projection->halt_on_error) {
            *error = projection->refusal;
            return pj_project_halt(projection, error);
        }
        code = pause_one(read, projection, options->log, error);
        paused = true;
    }
    return code == PJ_OK && paused ? load_standing(read, options, checkpoint, error) : code;
}

/* *read: the caller's session, or a new one; NULL where it cannot be had. */
static int open_read_side(const struct pj_connect_options *options, struct pj_session **read,
                          struct pj_connections *connections, struct pj_error *error)
{
    bool installed = false;
    int code = PJ_OK;
    *read = options->read;
    if (*read) {
        pj_session_set_timeout(*read, 30000);
        code = pj_catalog_read(*read, &connections->checkpoint, &installed, error);
        if (code == PJ_OK && connections->checkpoint.epoch != options->epoch->believed)
            code = pj_error_set(error, PJ_ESTALE, "another daemon has taken over");
    } else {
        struct pj_session_options session = {
            .side = PJ_READ, .url = options->deployment->read_url, .purpose = "apply", .stop = options->stop};
        code = pj_session_open(read, &session, error);
        if (code == PJ_OK) {
            pj_session_set_timeout(*read, 30000);
            code = lock_read_side(*read, options, &connections->checkpoint, error);
        }
    }
    if (code == PJ_OK)
        code = load_standing(*read, options, &connections->checkpoint, error);
    if (code == PJ_OK) /* what could not be noted when they were met, or a setup has met while it was opened */
        code = pj_catalog_note_leaves(*read, options->setup->tables, options->setup->ntables, error);
    return code == PJ_OK ? prepare(*read, options, &connections->checkpoint, error) : code;
}

/* ------------------------------------------------------------------------------------------------- the write side */

/*
 * Reads one line of a timeline history file, "parent <tab> switch point <tab> reason", and returns the next; NULL at
 * the end.
 */
static const char *history_line(const char *at, uint32_t *parent, pj_lsn *switch_point)
{
    char text[PJ_LSN_TEXT + 1] = "";
    while (*at) {
        const char *next = strchr(at, '\n');
        next = next ? next + 1 : at + strlen(at);
        char *rest;
        *parent = (uint32_t)strtoul(at, &rest, 10);
        size_t length = rest > at && *rest == '\t' ? strcspn(rest + 1, "\t\n") : 0;
        if (length && length < sizeof text) {
            memcpy(text, rest + 1, length);
            text[length] = '\0';
            if (pj_lsn_parse(text, switch_point))
                return next;
        }
        at = next;
    }
    return NULL;
}

/* Whether `lsn` on timeline `ours` is part of the history of the server's timeline. */
static bool in_history(const char *history, uint32_t ours, pj_lsn lsn)
{
    uint32_t parent;
    pj_lsn switch_point;
    while ((history = history_line(history, &parent, &switch_point)))
        if (parent == ours)
            return lsn <= switch_point;
    return false;
}

static int check_timeline(struct pj_session *replication, const struct pj_source_identity *identity,
                          const struct pj_checkpoint *checkpoint, struct pj_error *error)
{
    if (identity->timeline == checkpoint->timeline)
        return PJ_OK;
    if (identity->timeline < checkpoint->timeline) {
        pj_error_set(error, PJ_EGAP, "the write database is on timeline %u, an older one than ours (%u)",
                     identity->timeline, checkpoint->timeline);
        return another_server(error);
    }
    char sql[64];
    snprintf(sql, sizeof sql, "TIMELINE_HISTORY %u", identity->timeline);
    PGresult *result;
    int code = pj_session_query_row(replication, &result, sql, 0, NULL, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "timeline history");
    bool fine = in_history(PQgetvalue(result, 0, 1), checkpoint->timeline, checkpoint->lsn);
    PQclear(result);
    if (fine)
        return PJ_OK;
    pj_error_set(error, PJ_EGAP,
                 "the write database is on timeline %u, which forked from ours (%u) before the checkpoint %s",
                 identity->timeline, checkpoint->timeline, PJ_LSN(checkpoint->lsn));
    return another_server(error);
}

static int check_identity(const struct pj_source_identity *identity, const struct pj_checkpoint *checkpoint,
                          struct pj_error *error)
{
    if (strcmp(identity->system_id, checkpoint->system_id) != 0) {
        pj_error_set(error, PJ_EGAP, "the write database is another cluster (system identifier %s, ours is %s)",
                     identity->system_id, checkpoint->system_id);
        return another_server(error);
    }
    if (strcmp(identity->database, checkpoint->database) != 0) {
        pj_error_set(error, PJ_EGAP, "the write database is \"%s\", the checkpoint is of \"%s\"", identity->database,
                     checkpoint->database);
        return another_server(error);
    }
    if (checkpoint->lsn > identity->wal_flush) {
        pj_error_set(error, PJ_EGAP,
                     "the checkpoint %s is beyond the write database's WAL, which ends at %s: it has lost "
                     "commits that the read side has",
                     PJ_LSN(checkpoint->lsn), PJ_LSN(identity->wal_flush));
        return another_server(error);
    }
    return PJ_OK;
}

static int check_slot(const struct pj_slot *slot, const struct pj_checkpoint *checkpoint,
                      const struct pj_decoder *decoder, struct pj_error *error)
{
    const char *name = checkpoint->slot;
    if (*checkpoint->resync_at)
        pj_error_set(error, PJ_EGAP, "a resync begun at %.19s UTC is not complete", checkpoint->resync_at);
    else if (!slot->exists)
        pj_error_set(error, PJ_EGAP, "replication slot %s is gone", name);
    else if (strcmp(slot->wal_status, "lost") == 0)
        pj_error_set(error, PJ_EGAP, "replication slot %s has lost WAL that it needs", name);
    else if (strcmp(slot->plugin, decoder->plugin) != 0 || strcmp(slot->database, checkpoint->database) != 0)
        pj_error_set(error, PJ_EGAP, "replication slot %s is not ours: plugin %s, database %s", name, slot->plugin,
                     slot->database);
    else if (slot->confirmed_flush > checkpoint->lsn)
        pj_error_set(error, PJ_EGAP, "replication slot %s is confirmed up to %s, the read side stands at %s", name,
                     PJ_LSN(slot->confirmed_flush), PJ_LSN(checkpoint->lsn));
    else
        return PJ_OK;
    return gap(error);
}

static bool any_partitioned(const struct pj_setup *setup)
{
    for (int i = 0; i < setup->ntables; i++)
        if (setup->tables[i].partitioned)
            return true;
    return false;
}

static void put_options(struct pj_buf *sql, const struct pj_setup *setup, bool filter_messages)
{
    const char *(*names)[2] = pj_alloc((size_t)(setup->ntables + 1) * sizeof *names);
    int count = 0;
    for (int i = 0; i < setup->ntables; i++) {
        names[count][0] = setup->tables[i].schema;
        names[count++][1] = setup->tables[i].name;
    }
    /* a partition made later, in any schema, would not be among the names: then all is asked for, and filtered here */
    if (any_partitioned(setup))
        count = 0;
    pj_wal2json_options(sql, (const char *const(*)[2])names, count, filter_messages);
    pj_free(names);
}

static int start_with(struct pj_session *replication, const struct pj_connect_options *options,
                      const struct pj_connections *connections, bool filter_messages, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "START_REPLICATION SLOT ");
    pj_quote_identifier(&sql, connections->checkpoint.slot);
    pj_buf_printf(&sql, " LOGICAL %s ", PJ_LSN(connections->confirmed));
    put_options(&sql, options->setup, filter_messages);
    int code = pj_session_exec(replication, sql.data, error);
    for (int pause = 1; code != PJ_OK && strcmp(error->sqlstate, OBJECT_IN_USE) == 0 && pause < SLOT_WAIT_MS;
         pause *= 2) {
        if (pj_stop_sleep(options->stop, pause, error) != PJ_OK)
            break;
        code = pj_session_exec(replication, sql.data, error);
    }
    pj_buf_free(&sql);
    return code;
}

static int start_replication(struct pj_session *replication, const struct pj_connect_options *options,
                             const struct pj_connections *connections, struct pj_error *error)
{
    int code = start_with(replication, options, connections, true, error);
    if (code != PJ_OK && pj_wal2json_knows_no_filter(error))
        code = start_with(replication, options, connections, false, error);
    return code == PJ_OK ? code : pj_error_wrap(error, "START_REPLICATION on slot %s", connections->checkpoint.slot);
}

static int check_write_side(struct pj_session *write, struct pj_session *replication,
                            const struct pj_connect_options *options, struct pj_connections *connections,
                            struct pj_error *error)
{
    const struct pj_checkpoint *checkpoint = &connections->checkpoint;
    struct pj_source_identity identity;
    struct pj_slot slot;
    int code = pj_source_identify(replication, &identity, error);
    if (code == PJ_OK)
        code = check_identity(&identity, checkpoint, error);
    if (code == PJ_OK)
        code = check_timeline(replication, &identity, checkpoint, error);
    if (code == PJ_OK)
        code = pj_slot_read(write, checkpoint->slot, &slot, error);
    if (code == PJ_OK)
        code = check_slot(&slot, checkpoint, options->decoder, error);
    if (code == PJ_OK)
        code = pj_source_compare(write, options->setup->tables, options->setup->ntables, error);
    if (code != PJ_OK)
        return code;
    connections->timeline = identity.timeline;
    connections->sender_timeout_ms = identity.sender_timeout_ms;
    connections->confirmed = slot.confirmed_flush;
    connections->witness_expected = checkpoint->witness_xid && slot.confirmed_flush < checkpoint->witness_lsn;
    return PJ_OK;
}

static int open_write_side(const struct pj_connect_options *options, struct pj_connections *connections,
                           struct pj_error *error)
{
    struct pj_session *write = NULL, *replication = NULL;
    struct pj_session_options session = {
        .side = PJ_WRITE, .url = options->deployment->write_url, .purpose = "check", .stop = options->stop};
    int code = pj_session_open(&write, &session, error);
    if (code == PJ_OK) {
        session.replication = true;
        session.purpose = "stream";
        code = pj_session_open(&replication, &session, error);
    }
    if (code == PJ_OK) {
        pj_session_set_timeout(write, 30000);
        pj_session_set_timeout(replication, 60000);
        code = check_write_side(write, replication, options, connections, error);
    }
    if (code == PJ_OK)
        code = start_replication(replication, options, connections, error);
    pj_session_close(write);
    if (code == PJ_OK)
        connections->stream = pj_session_detach(replication);
    else
        pj_session_close(replication);
    return code;
}

/*
 * The checkpoint is part of the new timeline's history: from here on it is the new timeline's, for once it has passed
 * the point where that forked, it is no part of the former one any more.
 */
static int follow_timeline(struct pj_session *read, struct pj_connections *connections, struct pj_error *error)
{
    if (connections->timeline == connections->checkpoint.timeline)
        return PJ_OK;
    int code = pj_catalog_follow_timeline(read, &connections->checkpoint, connections->timeline, error);
    if (code == PJ_OK)
        connections->checkpoint.timeline = connections->timeline;
    return code;
}

static int checkpoint_moved(pj_lsn now, pj_lsn ours, struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "the checkpoint has moved to %s, ours was %s", PJ_LSN(now), PJ_LSN(ours));
    error->retryable = true;
    return error->code;
}

/* Gives the session to the connections, or closes it. */
static int settle(int code, struct pj_session *read, struct pj_connections *connections)
{
    if (code == PJ_OK || code == PJ_ERELOAD) {
        connections->apply = pj_session_detach(read);
        return code;
    }
    pj_session_close(read);
    pj_connect_close(connections);
    return code;
}

int pj_connect_read_side(const struct pj_connect_options *options, pj_lsn applied, struct pj_connections *connections,
                         struct pj_error *error)
{
    memset(connections, 0, sizeof *connections);
    pj_error_clear(error);
    struct pj_session *read;
    int code = open_read_side(options, &read, connections, error);
    const struct pj_checkpoint *checkpoint = &connections->checkpoint;
    if (code == PJ_OK && (checkpoint->lsn != applied || *checkpoint->resync_at))
        code = checkpoint_moved(checkpoint->lsn, applied, error);
    return settle(code, read, connections);
}

int pj_connect_open(const struct pj_connect_options *options, struct pj_connections *connections,
                    struct pj_error *error)
{
    memset(connections, 0, sizeof *connections);
    pj_error_clear(error);
    struct pj_session *read;
    int code = open_read_side(options, &read, connections, error);
    if (code == PJ_OK)
        code = open_write_side(options, connections, error);
    if (code == PJ_OK)
        code = follow_timeline(read, connections, error);
    return settle(code, read, connections);
}

int pj_connect_reread(const struct pj_connect_options *options, struct pj_checkpoint *believed, struct pj_error *error)
{
    struct pj_checkpoint now;
    bool installed;
    int code = pj_catalog_read(options->read, &now, &installed, error);
    if (code != PJ_OK)
        return code;
    if (now.epoch != options->epoch->believed)
        return pj_error_set(error, PJ_ESTALE, "another daemon has taken over");
    if (now.lsn != believed->lsn || *now.resync_at)
        return checkpoint_moved(now.lsn, believed->lsn, error);
    code = load_standing(options->read, options, believed, error);
    for (int i = 0; code == PJ_OK && i < options->setup->nprojections; i++) {
        const struct pj_projection *projection = &options->setup->projections[i];
        if (projection->live && projection->refusal.code != PJ_OK) /* it was resumed */
            return prepare(options->read, options, believed, error);
    }
    return code;
}

void pj_connect_close(struct pj_connections *connections)
{
    PQfinish(connections->apply);
    PQfinish(connections->stream);
    connections->apply = connections->stream = NULL;
}
