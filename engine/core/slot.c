/*
 * The replication slot: read, made, dropped.
 *
 * Making one waits, inside the server, for every transaction that was open when it was asked for, in any database of
 * the cluster and prepared ones too. The wait is bounded here: on expiry the command is cancelled, the server removes
 * the half-made slot by itself, and we look that it did; then whoever was in the way is named.
 */
#include "base/mem.h"
#include "core/source_internal.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------------- read */

static pj_lsn lsn_field(const PGresult *result, const char *name)
{
    pj_lsn lsn = 0;
    pj_lsn_parse(pj_field(result, 0, name), &lsn);
    return lsn;
}

static void copy_slot(const PGresult *result, struct pj_slot *slot)
{
    slot->exists = true;
    snprintf(slot->plugin, sizeof slot->plugin, "%s", pj_field(result, 0, "plugin"));
    snprintf(slot->database, sizeof slot->database, "%s", pj_field(result, 0, "database"));
    snprintf(slot->wal_status, sizeof slot->wal_status, "%s", pj_field(result, 0, "wal_status"));
    slot->active = pj_field_true(result, 0, "active");
    slot->active_pid = atoi(pj_field(result, 0, "active_pid"));
    slot->restart = lsn_field(result, "restart_lsn");
    slot->confirmed_flush = lsn_field(result, "confirmed_flush_lsn");
    slot->retained_bytes = strtoll(pj_field(result, 0, "retained"), NULL, 10);
    slot->safe_bytes = strtoll(pj_field(result, 0, "safe"), NULL, 10);
}

/* Servers before 13 know neither wal_status nor safe_wal_size: to_jsonb gives NULL for what is not there. */
int pj_slot_read(struct pj_session *write, const char *name, struct pj_slot *slot, struct pj_error *error)
{
    static const char sql[] =
        "SELECT s.plugin, s.database, s.active, s.active_pid, s.restart_lsn, s.confirmed_flush_lsn, "
        "to_jsonb(s) ->> 'wal_status' AS wal_status, coalesce(to_jsonb(s) ->> 'safe_wal_size', '-1') AS safe, "
        "coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
        "pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn), 0)::bigint "
        "AS retained FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1";
    memset(slot, 0, sizeof *slot);
    slot->safe_bytes = -1;
    const char *params[] = {name};
    PGresult *result;
    int code = pj_session_query(write, &result, sql, 1, params, error);
    if (code == PJ_OK && PQntuples(result))
        copy_slot(result, slot);
    PQclear(result);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- create */

int pj_slot_blockers(struct pj_session *write, int walsender, int older_ms, struct pj_buf *names,
                     struct pj_error *error)
{
    char pid[16], older[16];
    snprintf(pid, sizeof pid, "%d", walsender);
    snprintf(older, sizeof older, "%d", older_ms);
    const char *params[] = {pid, older};
    PGresult *result;
    int code = pj_session_query(write, &result, pj_sql_slot_blockers, 2, params, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++)
        pj_buf_printf(names, "%s%s", row ? "; " : "", PQgetvalue(result, row, 0));
    PQclear(result);
    return code;
}

static void append_blockers(struct pj_session *write, int walsender, struct pj_error *error)
{
    struct pj_error ignored;
    struct pj_buf names = {0};
    pj_slot_blockers(write, walsender, 0, &names, &ignored);
    if (names.length) {
        char message[sizeof error->message];
        snprintf(message, sizeof message, "%s", error->message);
        pj_error_set(error, PJ_EUNREACHABLE, "%s; in the way: %s", message, pj_buf_text(&names));
    }
    pj_buf_free(&names);
}

/* After a cancel the server removes the half-made slot. It may take a moment. */
static int await_gone(struct pj_session *write, const char *name, struct pj_error *error)
{
    struct pj_slot slot = {.exists = true};
    for (int tries = 0; tries < 100; tries++) {
        int code = pj_slot_read(write, name, &slot, error);
        if (code != PJ_OK || !slot.exists)
            return code;
        if (!slot.active && tries > 5)
            return pj_slot_drop(write, name, false, error);
        code = pj_stop_sleep(NULL, 50, error);
        if (code != PJ_OK)
            return code;
    }
    return pj_slot_drop(write, name, true, error);
}

/* Reads off what the cancelled command still answers, so that the session can be used again. */
static void drain(struct pj_session *replication)
{
    PGconn *conn = pj_session_conn(replication);
    struct pj_error ignored;
    bool readable;
    for (int waits = 0; waits < 20; waits++) {
        while (!PQisBusy(conn)) {
            PGresult *result = PQgetResult(conn);
            if (!result)
                return;
            PQclear(result);
        }
        if (pj_session_wait(replication, 100, &readable, &ignored) != PJ_OK)
            return;
    }
}

static int expired(struct pj_session *write, const char *name, int walsender, int wait_ms, struct pj_error *error)
{
    pj_error_set(error, PJ_EUNREACHABLE, "slot %s: no consistent point within %d ms, for open transactions", name,
                 wait_ms);
    append_blockers(write, walsender, error);
    struct pj_error leftover;
    if (await_gone(write, name, &leftover) != PJ_OK)
        pj_error_hint(error, "the slot may have been left behind: %s", leftover.message);
    else
        pj_error_hint(error, "end the transactions named, or allow a longer wait");
    error->retryable = true;
    return PJ_EUNREACHABLE;
}

static void explain_refused(const char *plugin, int version, struct pj_error *error)
{
    bool privilege = strcmp(error->sqlstate, "42501") == 0;
    if (privilege && strstr(error->message, "output_plugin_libraries")) { /* the DETAIL names it in any language */
        pj_error_hint(error,
                      "as a superuser: ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, %s "
                      "(a list without quotes), then SELECT pg_reload_conf()",
                      plugin);
        error->code = PJ_ECONFIG;
    } else if (strcmp(error->sqlstate, "58P01") == 0) {
        pj_error_hint(error,
                      "the output plugin is not installed on the write database's server: "
                      "apt install postgresql-%d-%s (Debian, PGDG)",
                      version / 10000, plugin);
        error->code = PJ_ECONFIG;
    } else if (strcmp(error->sqlstate, "53400") == 0) {
        pj_error_hint(error, "raise max_replication_slots (needs a restart), or drop a slot that nobody uses "
                             "(SELECT * FROM pg_replication_slots)");
        error->code = PJ_ECONFIG;
        error->retryable = false;
    } else if (strcmp(error->sqlstate, "42710") == 0) {
        pj_error_hint(error, "another daemon may be using it; name another slot, or drop that one if nobody needs it");
        error->code = PJ_ECONFIG;
    } else if (privilege) {
        pj_error_hint(error, "ALTER ROLE … REPLICATION");
        error->code = PJ_ECONFIG;
    }
}

/* A name only of [a-z0-9_]: the server would refuse others, but the words are ours. */
static int check_name(const char *name, struct pj_error *error)
{
    size_t length = strlen(name);
    if (length && length < 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "\"%.80s\" cannot be a slot's name", name);
    return pj_error_hint(error, "1 to 63 of a-z, 0-9 and _");
}

/* The two spellings of the command: options in parentheses since 15, when the old form became deprecated. */
static void create_command(struct pj_buf *sql, const char *name, const char *plugin, bool temporary)
{
    pj_buf_puts(sql, "CREATE_REPLICATION_SLOT ");
    pj_quote_identifier(sql, name);
    pj_buf_puts(sql, temporary ? " TEMPORARY LOGICAL " : " LOGICAL ");
    pj_quote_identifier(sql, plugin);
    pj_buf_puts(sql, " EXPORT_SNAPSHOT");
}

static int take_created(const PGresult *result, pj_lsn *consistent_point, char snapshot[64], struct pj_error *error)
{
    snprintf(snapshot, 64, "%s", PQgetvalue(result, 0, 2));
    if (PQntuples(result) == 1 && pj_lsn_parse(PQgetvalue(result, 0, 1), consistent_point) && *snapshot)
        return PJ_OK;
    return pj_error_set(error, PJ_EDATA,
                        "write database: CREATE_REPLICATION_SLOT gave no consistent point or snapshot");
}

int pj_slot_create(struct pj_session *replication, struct pj_session *write, const char *name, const char *plugin,
                   bool temporary, int wait_ms, pj_lsn *consistent_point, char snapshot[64], struct pj_error *error)
{
    int code = check_name(name, error);
    if (code != PJ_OK)
        return code;
    PGconn *conn = pj_session_conn(replication);
    int walsender = PQbackendPID(conn), version = PQserverVersion(conn);
    struct pj_buf sql = {0};
    create_command(&sql, name, plugin, temporary);
    pj_session_set_timeout(replication, wait_ms);
    PGresult *result;
    code = pj_session_query(replication, &result, pj_buf_text(&sql), 0, NULL, error);
    pj_session_set_timeout(replication, 0);
    pj_buf_free(&sql);
    if (code == PJ_OK) {
        code = take_created(result, consistent_point, snapshot, error);
        PQclear(result);
        return code;
    }
    if (code == PJ_EUNREACHABLE && PQstatus(conn) == CONNECTION_OK) {
        drain(replication);
        return expired(write, name, walsender, wait_ms, error);
    }
    if (code == PJ_ESTOPPED)
        return code;
    explain_refused(plugin, version, error);
    return pj_error_wrap(error, "create slot %s", name);
}

/* ---------------------------------------------------------------------------------------------------------- drop */

/* Terminating needs the same role, or a superuser; the slot becomes free when its walsender has gone. */
static int end_walsender(struct pj_session *write, const char *name, struct pj_error *error)
{
    for (int tries = 0; tries < 200; tries++) {
        struct pj_slot slot;
        int code = pj_slot_read(write, name, &slot, error);
        if (code != PJ_OK || !slot.exists || !slot.active)
            return code;
        char pid[16];
        snprintf(pid, sizeof pid, "%d", slot.active_pid);
        const char *params[] = {pid};
        PGresult *result;
        code = pj_session_query(write, &result, "SELECT pg_catalog.pg_terminate_backend($1::int)", 1, params, error);
        PQclear(result);
        if (code == PJ_OK)
            code = pj_stop_sleep(NULL, 50, error);
        if (code != PJ_OK)
            return code;
    }
    return pj_error_set(error, PJ_EFAIL, "slot %s: its walsender did not end within 10 s", name);
}

int pj_slot_drop(struct pj_session *write, const char *name, bool terminate, struct pj_error *error)
{
    struct pj_slot slot;
    int code = pj_slot_read(write, name, &slot, error);
    if (code == PJ_OK && slot.exists && slot.active) {
        if (!terminate) {
            pj_error_set(error, PJ_EFAIL, "slot %s is in use by pid %d of the write database", name, slot.active_pid);
            return pj_error_hint(error, "is another daemon running?");
        }
        code = end_walsender(write, name, error);
    }
    if (code != PJ_OK || !slot.exists)
        return code;
    const char *params[] = {name};
    PGresult *result;
    code = pj_session_query(write, &result,
                            "SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) "
                            "FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1",
                            1, params, error);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "drop slot %s", name);
}
