/*
 * What goes along with a table's name when another table takes it: storage parameters, indexes, constraints, owner,
 * grants, comments. The statements are made by the server, from its own catalog (sql/build_*.sql); those of settings
 * and indexes are made of what the new table lacks, so that running them again does nothing. What cannot go along is
 * refused by name: silently losing a trigger, or leaving a foreign key behind on the former table, would be worse than
 * no swap.
 */
#include "core/build_internal.h"
#include "core/keywork.h"

#include "sql.h"

#include <string.h>

static bool has_table(const struct pj_build_row *row)
{
    return strcmp(row->oid, "0") != 0;
}

/* A module of the same definition gives the same columns and settings: what differs was done by hand. */
static const char *same_definition(const struct pj_build_row *former, const struct pj_build_row *next)
{
    return strcmp(former->digest, next->digest) == 0 && strcmp(former->version, next->version) == 0 ? "true" : "false";
}

/* ------------------------------------------------------------------------------------------------------- obstacles */

static int refuse(const struct pj_build_row *former, const PGresult *obstacles, struct pj_error *error)
{
    struct pj_buf list = {0};
    for (int row = 0; row < PQntuples(obstacles); row++)
        pj_buf_printf(&list, "%s%s", row ? "; " : "", PQgetvalue(obstacles, row, 0));
    pj_error_set(error, PJ_ECONFIG, "what hangs on %s.%s cannot go along with its name: %s", former->schema,
                 former->table, pj_buf_text(&list));
    pj_buf_free(&list);
    return pj_error_hint(error, "do what is said behind it; else drop or change it first, and put it back afterwards; "
                                "nothing has been swapped");
}

int pj_build_check_obstacles(struct pj_session *session, const struct pj_build_row *former,
                             const struct pj_build_row *next, struct pj_error *error)
{
    const char *params[] = {former->oid, next->oid, same_definition(former, next)};
    PGresult *obstacles;
    if (!has_table(former))
        return PJ_OK;
    int code = pj_session_query_kept(session, &obstacles, pj_sql_build_obstacles, 3, params, error);
    if (code == PJ_OK && PQntuples(obstacles))
        code = refuse(former, obstacles, error);
    PQclear(obstacles);
    return code;
}

/* ----------------------------------------------------------------------------------------------- settings, identity */

int pj_build_carry_settings(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error)
{
    const char *params[] = {former->oid, next->oid, same_definition(former, next)};
    if (!has_table(former))
        return PJ_OK;
    int code = pj_build_run_made(session, pj_sql_build_settings, 3, params, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "settings of %s.%s", former->schema, former->table);
}

int pj_build_carry_identity(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, struct pj_error *error)
{
    const char *params[] = {former->oid, next->oid};
    if (!has_table(former))
        return PJ_OK;
    int code = pj_build_run_made(session, pj_sql_build_identity, 2, params, error);
    return code == PJ_OK ? PJ_OK
                         : pj_error_wrap(error, "owner, grants and comments of %s.%s", former->schema, former->table);
}

/* --------------------------------------------------------------------------------------------------------- indexes */

static int lacking(struct pj_session *session, const struct pj_build_row *former, const struct pj_build_row *next,
                   PGresult **result, struct pj_error *error)
{
    const char *params[] = {former->oid, next->oid};
    return pj_session_query_kept(session, result, pj_sql_build_indexes, 2, params, error);
}

static int carry_index(struct pj_session *session, const struct pj_build_row *former, const PGresult *rows, int row,
                       const struct pj_log *log, int *made, struct pj_error *error)
{
    const char *what = PQgetvalue(rows, row, 0);
    if (PQgetisnull(rows, row, 1)) {
        if (log)
            pj_log(log, PJ_LOG_WARNING, "%s is not carried over: a column that it needs is gone, or of another type",
                   what);
        return PJ_OK;
    }
    (*made)++;
    int code = pj_session_exec(session, PQgetvalue(rows, row, 1), error);
    if (code != PJ_OK && strncmp(error->sqlstate, "23", 2) == 0)
        pj_error_hint(error,
                      "a row of the new table violates it; in the former one its key is parked, and shows what it was "
                      "before: drop it from %s.%s, or mend the row on the write database",
                      former->schema, former->table);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "carry over %s", what);
}

int pj_build_carry_indexes(struct pj_session *session, const struct pj_build_row *former,
                           const struct pj_build_row *next, const struct pj_log *log, int *made, struct pj_error *error)
{
    PGresult *rows;
    *made = 0;
    if (!has_table(former))
        return PJ_OK;
    int code = lacking(session, former, next, &rows, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(rows); row++)
        code = carry_index(session, former, rows, row, log, made, error);
    PQclear(rows);
    return code;
}

int pj_build_indexes_carried(struct pj_session *session, const struct pj_build_row *former,
                             const struct pj_build_row *next, bool *yes, struct pj_error *error)
{
    PGresult *rows;
    *yes = true;
    if (!has_table(former))
        return PJ_OK;
    int code = lacking(session, former, next, &rows, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(rows); row++)
        *yes = *yes && PQgetisnull(rows, row, 1);
    PQclear(rows);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- planning */

int pj_build_plan_carrying(struct pj_session *session, const struct pj_build_row *former,
                           const struct pj_build_row *next, struct pj_error *error)
{
    static const struct {
        const char *sql;
        int count;
    } queries[] = {{pj_sql_build_views, 1},    {pj_sql_build_indexes, 2},  {pj_sql_build_obstacles, 3},
                   {pj_sql_build_settings, 3}, {pj_sql_build_identity, 2}, {pj_sql_build_names, 2}};
    const char *params[] = {former->oid, next->oid, same_definition(former, next)};
    int code = pj_keywork_begin_alone(session, error);
    for (size_t i = 0; code == PJ_OK && i < sizeof queries / sizeof *queries; i++) {
        PGresult *result;
        code = pj_session_query_kept(session, &result, queries[i].sql, queries[i].count, params, error);
        PQclear(result);
    }
    pj_keywork_rollback(session);
    return code;
}
