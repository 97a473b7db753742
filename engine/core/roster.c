/* See roster.h: what is decided, and what is read for it. Opening is roster_open.c, standing still roster_still.c. */
#include "core/roster.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------- the role */

static struct pj_roster_role without_file(const struct pj_roster_fact *fact)
{
    bool serves = fact->memory != PJ_MEMORY_NONE, broken = fact->file == PJ_FILE_BROKEN;
    bool registered = fact->row == PJ_ROW_SAME || fact->row == PJ_ROW_OTHER;
    struct pj_roster_role role = {.serve = serves ? PJ_SERVE_MEMORY : PJ_SERVE_NOTHING};
    if (serves)
        role.note = broken ? PJ_NOTE_BROKEN : PJ_NOTE_GONE;
    else if (registered)
        role.note = PJ_NOTE_STANDS_STILL;
    else if (broken)
        role.note = PJ_NOTE_BROKEN_NEW;
    return role;
}

struct pj_roster_role pj_roster_decide(const struct pj_roster_fact *fact)
{
    struct pj_roster_role role = {.serve = PJ_SERVE_NOTHING};
    if (fact->row == PJ_ROW_RETIRED && fact->wish == PJ_WISH_NONE)
        return role;
    if (fact->file != PJ_FILE_THERE)
        return without_file(fact);
    if (!fact->target || fact->row == PJ_ROW_SAME) {
        role.serve = fact->memory == PJ_MEMORY_SAME ? PJ_SERVE_MEMORY : PJ_SERVE_FILE;
        role.build = fact->target && fact->wish == PJ_WISH_FRESH;
        return role;
    }
    role.build = true;
    if (fact->row == PJ_ROW_OTHER && fact->memory != PJ_MEMORY_NONE)
        role.serve = PJ_SERVE_MEMORY;
    return role;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

int pj_roster_row(struct pj_session *read, const struct pj_projection *projection, enum pj_roster_row *row,
                  struct pj_error *error)
{
    static const char sql[] =
        "SELECT state = 'retired', module_version = $2::bigint AND definition = pg_catalog.md5($3) "
        "AND pg_catalog.to_regclass(pg_catalog.quote_ident(target_schema) || '.' || "
        "pg_catalog.quote_ident(target_table)) IS NOT NULL FROM pgprojector.projection WHERE name = $1";
    char version[16];
    snprintf(version, sizeof version, "%u", projection->module->version);
    const char *params[] = {projection->module->name, version, projection->definition_sql};
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 3, params, error);
    *row = PJ_ROW_NONE;
    if (code == PJ_OK && PQntuples(result) == 1)
        *row = PQgetvalue(result, 0, 0)[0] == 't'   ? PJ_ROW_RETIRED
               : PQgetvalue(result, 0, 1)[0] == 't' ? PJ_ROW_SAME
                                                    : PJ_ROW_OTHER;
    PQclear(result);
    return code;
}

int pj_roster_known(struct pj_session *read, const char *name, bool *known, bool *retired, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, "SELECT state = 'retired' FROM pgprojector.projection WHERE name = $1",
                                1, &name, error);
    *known = code == PJ_OK && PQntuples(result) == 1;
    *retired = *known && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

int pj_roster_keeper(struct pj_session *read, const char *schema, const char *table, char **name,
                     struct pj_error *error)
{
    const char *params[] = {schema, table};
    PGresult *result;
    int code =
        pj_session_query(read, &result,
                         "SELECT name FROM pgprojector.projection WHERE target_schema = $1 AND target_table = $2 "
                         "AND pg_catalog.strpos(name, '.') = 0",
                         2, params, error);
    *name = code == PJ_OK && PQntuples(result) ? pj_strdup(PQgetvalue(result, 0, 0)) : NULL;
    PQclear(result);
    return code;
}

static int source_is_there(struct pj_session *write, const char *schema, const char *name, bool *there,
                           struct pj_error *error)
{
    const char *params[] = {schema, name};
    PGresult *result;
    int code = pj_session_query_row(write, &result,
                                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                    "ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)",
                                    2, params, error);
    *there = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

int pj_roster_want_mirrors(struct pj_deployment *deployment, struct pj_session *write, struct pj_session *read,
                           const struct pj_log *log, struct pj_error *error)
{
    PGresult *mirrors;
    int code = pj_session_query(
        read, &mirrors, "SELECT schema_name, table_name FROM pgprojector.mirror WHERE state = 'exact' ORDER BY 1, 2", 0,
        NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(mirrors); i++) {
        const char *schema = PQgetvalue(mirrors, i, 0), *name = PQgetvalue(mirrors, i, 1);
        bool there;
        code = source_is_there(write, schema, name, &there, error);
        if (code == PJ_OK && there)
            pj_deployment_want(deployment, schema, name, "the catalog");
        else if (code == PJ_OK && log)
            pj_log(log, PJ_LOG_WARNING, "mirror %s.%s: its source is gone; it stays as it is unless a module needs it",
                   schema, name);
    }
    PQclear(mirrors);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "the catalog's mirrors");
}
