/*
 * The write database's server: who it is, and whether it can be streamed from at all.
 *
 * Both are asked before anything is created anywhere, so that a server that cannot work is refused by name, with every
 * fault in one message, and nothing is left behind.
 */
#include "core/source.h"

#include "base/mem.h"
#include "core/source_internal.h"
#include "sql.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------- faults */

static void add(struct pj_buf *text, const char *separator, const char *format, va_list args)
{
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    pj_buf_printf(text, "%s%s", text->length ? separator : "", line);
}

void pj_fault(struct pj_faults *faults, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(&faults->text, "; ", format, args);
    va_end(args);
    faults->count++;
}

void pj_fault_hint(struct pj_faults *faults, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(&faults->hint, "; ", format, args);
    va_end(args);
}

int pj_faults_report(struct pj_faults *faults, int code, struct pj_error *error)
{
    if (faults->count) {
        pj_error_set(error, code, "%s", pj_buf_text(&faults->text));
        pj_error_hint(error, "%s", pj_buf_text(&faults->hint));
    } else {
        code = PJ_OK;
    }
    pj_buf_free(&faults->text);
    pj_buf_free(&faults->hint);
    *faults = (struct pj_faults){0};
    return code;
}

/* -------------------------------------------------------------------------------------------------------- fields */

const char *pj_field(const PGresult *result, int row, const char *name)
{
    return PQgetvalue(result, row, PQfnumber(result, name));
}

bool pj_field_true(const PGresult *result, int row, const char *name)
{
    return pj_field(result, row, name)[0] == 't';
}

uint32_t pj_field_uint(const PGresult *result, int row, const char *name)
{
    return (uint32_t)strtoul(pj_field(result, row, name), NULL, 10);
}

/* ------------------------------------------------------------------------------------------------------ identity */

static int read_identity(const PGresult *result, struct pj_source_identity *identity, struct pj_error *error)
{
    snprintf(identity->system_id, sizeof identity->system_id, "%s", PQgetvalue(result, 0, 0));
    identity->timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
    snprintf(identity->database, sizeof identity->database, "%s", PQgetvalue(result, 0, 3));
    if (!pj_lsn_parse(PQgetvalue(result, 0, 2), &identity->wal_flush))
        return pj_error_set(error, PJ_EDATA, "write database: IDENTIFY_SYSTEM answered \"%.30s\" for a position",
                            PQgetvalue(result, 0, 2));
    return PJ_OK;
}

/* A standby cannot decode before PostgreSQL 16; that it is one says the connection went to the wrong server. */
static int ask_walsender(struct pj_session *replication, struct pj_source_identity *identity, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(replication, &result,
                                    "SELECT pg_catalog.pg_is_in_recovery(), (SELECT s.setting FROM "
                                    "pg_catalog.pg_settings s WHERE s.name = 'wal_sender_timeout')",
                                    0, NULL, error);
    if (code != PJ_OK)
        return code;
    bool standby = PQgetvalue(result, 0, 0)[0] == 't';
    identity->sender_timeout_ms = atoi(PQgetvalue(result, 0, 1));
    PQclear(result);
    if (!standby || identity->server_version >= 160000)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "write database: this server is a standby (in recovery)");
    return pj_error_hint(error, "point WRITE_DATABASE_URL at the primary; with several hosts in it add "
                                "target_session_attrs=read-write");
}

int pj_source_identify(struct pj_session *replication, struct pj_source_identity *identity, struct pj_error *error)
{
    memset(identity, 0, sizeof *identity);
    identity->server_version = PQserverVersion(pj_session_conn(replication));
    PGresult *result;
    int code = pj_session_query_row(replication, &result, "IDENTIFY_SYSTEM", 0, NULL, error);
    if (code == PJ_OK)
        code = read_identity(result, identity, error);
    PQclear(result);
    if (code == PJ_OK)
        code = ask_walsender(replication, identity, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "identify the write database");
}

/* --------------------------------------------------------------------------------------------------------- check */

static void check_settings(const PGresult *result, struct pj_faults *faults)
{
    if (strcmp(pj_field(result, 0, "wal_level"), "logical") != 0) {
        pj_fault(faults, "write database: wal_level is %s, not logical", pj_field(result, 0, "wal_level"));
        pj_fault_hint(faults, "ALTER SYSTEM SET wal_level = logical, then restart the server");
    }
    if (strcmp(pj_field(result, 0, "encoding"), "UTF8") != 0) {
        pj_fault(faults, "write database: its encoding is %s, not UTF8", pj_field(result, 0, "encoding"));
        pj_fault_hint(faults, "the stream comes in the database's encoding; only UTF8 databases can be followed");
    }
    if (!pj_field_true(result, 0, "may_replicate")) {
        char role[128];
        snprintf(role, sizeof role, "%s", pj_field(result, 0, "role"));
        pj_fault(faults, "write database: role \"%s\" has no REPLICATION attribute", role);
        pj_fault_hint(faults, "ALTER ROLE \"%s\" REPLICATION", role);
    }
}

static void check_room(const PGresult *result, struct pj_faults *faults)
{
    uint32_t max_slots = pj_field_uint(result, 0, "max_slots"), slots = pj_field_uint(result, 0, "slots");
    if (slots >= max_slots) {
        pj_fault(faults, "write database: all %u replication slots are taken by others", max_slots);
        pj_fault_hint(faults, "raise max_replication_slots (needs a restart), or drop a slot that nobody uses "
                              "(SELECT * FROM pg_replication_slots)");
    }
    uint32_t max_senders = pj_field_uint(result, 0, "max_senders"), senders = pj_field_uint(result, 0, "senders");
    if (senders >= max_senders) {
        pj_fault(faults, "write database: all %u walsenders are taken by others", max_senders);
        pj_fault_hint(faults, "raise max_wal_senders (needs a restart)");
    }
}

static void check_plugin(const PGresult *result, struct pj_faults *faults)
{
    int column = PQfnumber(result, "libraries");
    if (PQgetisnull(result, 0, column) || pj_field_true(result, 0, "libraries_fit"))
        return;
    pj_fault(faults, "write database: output_plugin_libraries (%s) does not name wal2json",
             PQgetvalue(result, 0, column));
    pj_fault_hint(faults,
                  "as a superuser: ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json "
                  "(a list without quotes), then SELECT pg_reload_conf()");
}

int pj_source_check(struct pj_session *write, struct pj_error *error)
{
    int version = PQserverVersion(pj_session_conn(write));
    if (version < 120000) {
        pj_error_set(error, PJ_ECONFIG, "write database: PostgreSQL %d is too old", version / 10000);
        return pj_error_hint(error, "PostgreSQL 12 or newer is needed");
    }
    PGresult *result;
    int code = pj_session_query_row(write, &result, pj_sql_source_check, 0, NULL, error);
    if (code != PJ_OK)
        return code;
    struct pj_faults faults = {0};
    check_settings(result, &faults);
    check_room(result, &faults);
    check_plugin(result, &faults);
    PQclear(result);
    return pj_faults_report(&faults, PJ_ECONFIG, error);
}
