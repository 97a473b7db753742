/* See table_lock.h. */
#include "core/table_lock.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/keywork.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAUSE_MS = 60 };

int pj_table_lock_timeout(struct pj_session *session, int *milliseconds, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(session, &result,
                                    "SELECT greatest(1, least(20, setting::integer / 2)) "
                                    "FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'",
                                    0, NULL, error);
    *milliseconds = code == PJ_OK ? atoi(PQgetvalue(result, 0, 0)) : 0;
    PQclear(result);
    return code;
}

bool pj_table_lock_in_the_way(const struct pj_error *error)
{
    return strcmp(error->sqlstate, "55P03") == 0 || strcmp(error->sqlstate, "40P01") == 0;
}

/* schema.table, each quoted. To be freed. */
static char *qualified(const char *schema, const char *table)
{
    struct pj_buf name = {0};
    pj_quote_identifier(&name, schema);
    pj_buf_puts(&name, ".");
    pj_quote_identifier(&name, table);
    return pj_buf_take(&name);
}

int pj_table_lock_end_orphans(struct pj_session *session, const char *schema, const char *table, struct pj_error *error)
{
    char *name = qualified(schema, table);
    const char *params[] = {name};
    PGresult *result;
    int code = pj_session_query(
        session, &result,
        "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_locks l "
        "JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE l.locktype = 'relation' "
        "AND l.relation = pg_catalog.to_regclass($1)::oid AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d "
        "WHERE d.datname = pg_catalog.current_database()) AND a.pid <> pg_catalog.pg_backend_pid() "
        "AND a.usename = CURRENT_USER AND pg_catalog.starts_with(a.application_name, 'pgprojector')",
        1, params, error);
    PQclear(result);
    pj_free(name);
    return code;
}

/* "{}" where it is not there: an array of oids, for sql/build_blockers.sql. */
static int find_table(struct pj_session *session, const char *name, char oids[16], struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(session, &result,
                                    "SELECT pg_catalog.array_remove(ARRAY[pg_catalog.to_regclass($1)::oid], NULL)", 1,
                                    &name, error);
    snprintf(oids, 16, "%s", code == PJ_OK ? PQgetvalue(result, 0, 0) : "{}");
    PQclear(result);
    return code;
}

static int lock(struct pj_session *session, const char *name, struct pj_error *error)
{
    int milliseconds, code = pj_table_lock_timeout(session, &milliseconds, error);
    if (code == PJ_OK)
        code = pj_session_execf(session, error, "SET LOCAL lock_timeout = %d; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE",
                                milliseconds, name);
    return code == PJ_OK ? pj_session_exec(session, "SET LOCAL lock_timeout TO DEFAULT", error) : code;
}

/* *taken false without an error: somebody has it; nothing is begun. */
static int attempt(struct pj_session *session, const char *name, bool *taken, struct pj_error *error)
{
    char oids[16];
    int code = pj_keywork_begin_alone(session, error);
    if (code == PJ_OK)
        code = find_table(session, name, oids, error);
    if (code == PJ_OK && strcmp(oids, "{}") != 0)
        code = lock(session, name, error);
    *taken = code == PJ_OK;
    if (code == PJ_OK)
        return PJ_OK;
    pj_keywork_rollback(session);
    return pj_table_lock_in_the_way(error) ? PJ_OK : code;
}

static int name_blocker(struct pj_session *session, const char *name, struct pj_error *error)
{
    char oids[16];
    PGresult *result = NULL;
    int code = find_table(session, name, oids, error);
    const char *params[] = {oids, "0"};
    if (code == PJ_OK)
        code = pj_session_query(session, &result, pj_sql_build_blockers, 2, params, error);
    if (code == PJ_OK) {
        pj_error_set(error, PJ_EFAIL, "%s has %s open", PQntuples(result) ? PQgetvalue(result, 0, 0) : "somebody",
                     name);
        error->retryable = error->in_use = true;
        pj_error_hint(error, "end that transaction, or wait for its end");
    }
    PQclear(result);
    return error->code;
}

static int pause_between(struct pj_session *session, const struct pj_patience *patience, struct pj_error *error)
{
    bool readable;
    int code = pj_session_wait(session, PAUSE_MS, &readable, error);
    return code == PJ_OK && patience->between ? patience->between(patience->context, error) : code;
}

int pj_table_lock_begin(struct pj_session *session, const char *schema, const char *table,
                        const struct pj_patience *patience, struct pj_error *error)
{
    char *name = qualified(schema, table);
    uint64_t begun_us = pj_clock_monotonic_us(), patience_us = (uint64_t)patience->milliseconds * 1000;
    bool taken = false;
    int code = attempt(session, name, &taken, error);
    while (code == PJ_OK && !taken) {
        if (patience_us && pj_clock_monotonic_us() - begun_us > patience_us)
            code = name_blocker(session, name, error);
        else
            code = pause_between(session, patience, error);
        if (code == PJ_OK)
            code = attempt(session, name, &taken, error);
    }
    pj_free(name);
    return code;
}
