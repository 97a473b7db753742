/*
 * See snapshot_clean.h and the story at the head of snapshot.c.
 *
 * The order matters: the slot first, while the intent that proves it ours is still there; the intent last.
 */
#include "core/snapshot_clean.h"

#include "base/buf.h"
#include "base/mem.h"
#include "core/mirror.h"

#include <string.h>

enum { DROP_TIMEOUT_MS = 3000, WALSENDER_WAIT_MS = 5000 };

/* ---------------------------------------------------------------------------------------------------------- slot */

static int refuse_slot(const char *name, const char *why, struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "slot %s on the write database %s", name, why);
    return pj_error_hint(error, "give another slot name, or, if nobody needs it, SELECT pg_drop_replication_slot('%s')",
                         name);
}

/*
 * In use by whom? A slot without a confirmed position is still being made, by the walsender of the daemon that died:
 * that may be ended. One that has a position is being streamed from, or that walsender is about to notice.
 */
static int wait_inactive(struct pj_session *write, const char *name, struct pj_slot *slot, struct pj_error *error)
{
    int code = PJ_OK;
    for (int waited = 0; code == PJ_OK && slot->exists && slot->active && slot->confirmed_flush; waited += 50) {
        if (waited >= WALSENDER_WAIT_MS)
            return refuse_slot(name, "is in use, though this read database has no checkpoint for it", error);
        code = pj_stop_sleep(NULL, 50, error);
        if (code == PJ_OK)
            code = pj_slot_read(write, name, slot, error);
    }
    return code;
}

static int drop_orphan(struct pj_session *write, const struct pj_checkpoint *checkpoint,
                       const struct pj_source_identity *identity, const char *plugin, const struct pj_log *log,
                       struct pj_error *error)
{
    if (!*checkpoint->slot)
        return PJ_OK;
    if (strcmp(checkpoint->system_id, identity->system_id) != 0) {
        pj_log(log, PJ_LOG_WARNING,
               "an earlier attempt may have left slot %s on another write database (system %s); drop "
               "it there if it exists",
               checkpoint->slot, checkpoint->system_id);
        return PJ_OK;
    }
    struct pj_slot slot;
    int code = pj_slot_read(write, checkpoint->slot, &slot, error);
    if (code != PJ_OK || !slot.exists)
        return code;
    if (strcmp(slot.plugin, plugin) != 0 || strcmp(slot.database, checkpoint->database) != 0)
        return refuse_slot(checkpoint->slot, "is of another plugin or database, so it was not made by pgprojector",
                           error);
    code = wait_inactive(write, checkpoint->slot, &slot, error);
    if (code == PJ_OK)
        code = pj_slot_drop(write, checkpoint->slot, true, error);
    if (code == PJ_OK)
        pj_log(log, PJ_LOG_INFO, "dropped slot %s of an unfinished first start", checkpoint->slot);
    return code;
}

void pj_snapshot_drop_slot(const char *write_url, const char *slot, const struct pj_log *log)
{
    struct pj_error error;
    struct pj_session *write;
    struct pj_session_options options = {
        .side = PJ_WRITE, .url = write_url, .purpose = "snapshot", .connect_timeout_s = 3};
    int code = pj_session_open(&write, &options, &error);
    if (code == PJ_OK) {
        pj_session_set_timeout(write, DROP_TIMEOUT_MS);
        code = pj_slot_drop(write, slot, true, &error);
    }
    pj_session_close(write);
    if (code != PJ_OK)
        pj_log(log, PJ_LOG_WARNING, "slot %s could not be dropped now (%s); the next attempt drops it", slot,
               error.message);
    else
        pj_log(log, PJ_LOG_INFO, "dropped slot %s", slot);
}

/* -------------------------------------------------------------------------------------------------------- tables */

static int drop_target(struct pj_session *read, const char *schema, const char *table, struct pj_error *error)
{
    struct pj_buf name = {0};
    pj_quote_identifier(&name, schema);
    pj_buf_puts(&name, ".");
    pj_quote_identifier(&name, table);
    int code = pj_session_execf(read, error, "DROP TABLE IF EXISTS %s", pj_buf_text(&name));
    if (code != PJ_OK)
        pj_error_wrap(error, "drop the unfinished target %s", pj_buf_text(&name));
    pj_buf_free(&name);
    return code;
}

static int drop_targets(struct pj_session *read, struct pj_error *error)
{
    PGresult *list;
    int code =
        pj_session_query(read, &list, "SELECT target_schema, target_table FROM pgprojector.projection", 0, NULL, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(list); row++)
        code = drop_target(read, PQgetvalue(list, row, 0), PQgetvalue(list, row, 1), error);
    PQclear(list);
    return code == PJ_OK ? pj_session_exec(read, "DELETE FROM pgprojector.projection", error) : code;
}

/*
 * The dead daemon's backends that copy or build do not notice that they work for nobody, and would keep us from
 * dropping the tables. We hold the daemon's lock, and have not yet opened sessions of these names.
 */
static const char end_workers_sql[] =
    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
    "WHERE a.datname = pg_catalog.current_database() AND a.usename = current_user "
    "AND a.application_name IN ('pgprojector copy', 'pgprojector snapshot build')";

/* All under the checkpoint's row lock, so that nobody completes a first start meanwhile. */
static int drop_tables(struct pj_session *read, struct pj_error *error)
{
    int code = pj_session_exec(read, end_workers_sql, error);
    if (code == PJ_OK)
        code = pj_session_exec(read,
                               "SET LOCAL client_min_messages = warning; "
                               "SELECT FROM pgprojector.checkpoint FOR UPDATE",
                               error);
    if (code == PJ_OK)
        code = drop_targets(read, error);
    if (code == PJ_OK)
        code = pj_mirror_drop_all(read, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "UPDATE pgprojector.checkpoint SET slot = NULL WHERE lsn IS NULL", error);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

int pj_snapshot_clean(struct pj_session *read, struct pj_session *write, const struct pj_source_identity *identity,
                      const char *plugin, const struct pj_log *log, struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    int code = pj_catalog_read(read, &checkpoint, &installed, error);
    if (code == PJ_OK && (!installed || checkpoint.complete))
        return pj_error_set(error, PJ_EFAIL, installed ? "the first start is already complete" : "there is no catalog");
    if (code == PJ_OK)
        code = drop_orphan(write, &checkpoint, identity, plugin, log, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "BEGIN", error);
    if (code != PJ_OK)
        return code;
    code = drop_tables(read, error);
    if (code == PJ_OK)
        return pj_session_exec(read, "COMMIT", error);
    struct pj_error ignored;
    if (PQstatus(pj_session_conn(read)) == CONNECTION_OK)
        pj_session_exec(read, "ROLLBACK", &ignored);
    return code;
}
