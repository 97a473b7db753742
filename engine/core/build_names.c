/*
 * Names of indexes after a swap: as if the new table had always had its name. An index that the former table has, too,
 * takes over that name (which somebody may have given it by hand); any other that has the name which the server gave
 * it, for the table beside, gets the one that it would have been given. The former table's indexes make way in the same
 * manner. Other names stay: somebody gave them, and wants them back after a rollback.
 */
#include "base/mem.h"
#include "base/text.h"
#include "core/build_internal.h"
#include "sql.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 63, MOST_TURNS = 20 };

/* ------------------------------------------------------------------------------------------------------------ names */

/* As makeObjectName() of PostgreSQL: the longer of the two parts is cut. */
char *pj_build_object_name(const char *table, const char *columns, const char *label)
{
    size_t first = strlen(table), second = columns ? strlen(columns) : 0;
    size_t room = NAME_BYTES - strlen(label) - 1 - (columns != NULL);
    while (first + second > room) {
        if (first > second)
            first--;
        else
            second--;
    }
    first = pj_text_clip(table, first);
    second = columns ? pj_text_clip(columns, second) : 0;
    return pj_sprintf("%.*s%s%.*s_%s", (int)first, table, columns ? "_" : "", (int)second, columns ? columns : "",
                      label);
}

static int is_free(struct pj_session *session, const char *schema, const char *name, bool *yes, struct pj_error *error)
{
    const char *params[] = {schema, name};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                "ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
                                2, params, error);
    *yes = code == PJ_OK && PQntuples(result) == 0;
    PQclear(result);
    return code;
}

/* Like the server: a number behind the label where the name is taken. */
static int find_name(struct pj_session *session, const char *schema, const char *table, const char *columns,
                     const char *label, char **name, struct pj_error *error)
{
    bool found = false;
    int code = PJ_OK;
    *name = NULL;
    for (int turn = 0; code == PJ_OK && !found; turn++) {
        char numbered[32];
        snprintf(numbered, sizeof numbered, "%s%.0d", label, turn);
        pj_free(*name);
        *name = pj_build_object_name(table, columns, numbered);
        code = is_free(session, schema, *name, &found, error);
    }
    return code;
}

/* One kept before may still have the plain name: somebody reads it, or has hung a view on it. */
int pj_build_kept_name(struct pj_session *session, const char *schema, const char *table, char **name,
                       struct pj_error *error)
{
    bool found = false;
    int code = PJ_OK;
    *name = NULL;
    for (int turn = 1; code == PJ_OK && !found; turn++) {
        char suffix[32];
        snprintf(suffix, sizeof suffix, turn > 1 ? PJ_KEPT_TABLE "%d" : PJ_KEPT_TABLE, turn);
        pj_free(*name);
        *name = pj_table_beside(table, suffix);
        code = is_free(session, schema, *name, &found, error);
    }
    return code;
}

/* Whether the server may have given that name to an index of a table of that name. */
static bool is_made(const char *name, const char *table, const char *columns, const char *label)
{
    bool same = false;
    for (int turn = 0; !same && turn < MOST_TURNS; turn++) {
        char numbered[32];
        snprintf(numbered, sizeof numbered, "%s%.0d", label, turn);
        char *made = pj_build_object_name(table, columns, numbered);
        same = strcmp(made, name) == 0;
        pj_free(made);
    }
    return same;
}

/* --------------------------------------------------------------------------------------------------------- renaming */

static int rename_index(struct pj_session *session, const char *schema, const char *from, const char *to,
                        const char *comment, struct pj_error *error)
{
    struct pj_buf sql = {0};
    if (strcmp(from, to) != 0) {
        pj_buf_puts(&sql, "ALTER INDEX ");
        pj_quote_identifier(&sql, schema);
        pj_buf_puts(&sql, ".");
        pj_quote_identifier(&sql, from);
        pj_buf_puts(&sql, " RENAME TO ");
        pj_quote_identifier(&sql, to);
    }
    if (comment) {
        pj_buf_puts(&sql, "; COMMENT ON INDEX ");
        pj_quote_identifier(&sql, schema);
        pj_buf_puts(&sql, ".");
        pj_quote_identifier(&sql, to);
        pj_buf_puts(&sql, " IS ");
        pj_quote_literal(&sql, comment);
    }
    int code = pj_session_exec(session, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code;
}

enum { SIDE, SCHEMA, NAME, LIKE_IT, COMMENT, COLUMNS, LABEL };

static const char *field(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* What an index is called as one of a table that was called `from`, or `or_from`, and is now called `to`. */
static int rename_made(struct pj_session *session, const PGresult *indexes, int row, const char *from,
                       const char *or_from, const char *to, struct pj_error *error)
{
    const char *name = field(indexes, row, NAME), *columns = field(indexes, row, COLUMNS);
    const char *schema = field(indexes, row, SCHEMA), *label = field(indexes, row, LABEL);
    bool make_way = strcmp(PQgetvalue(indexes, row, SIDE), "former") == 0 && field(indexes, row, LIKE_IT);
    char *made = NULL;
    if (!make_way && !is_made(name, from, columns, label) && !is_made(name, or_from, columns, label))
        return PJ_OK;
    int code = find_name(session, schema, to, columns, label, &made, error);
    if (code == PJ_OK)
        code = rename_index(session, schema, name, made, NULL, error);
    pj_free(made);
    return code;
}

static int rename_row(struct pj_session *session, const PGresult *indexes, int row, const struct pj_build_renaming *to,
                      struct pj_error *error)
{
    const char *taken_over = field(indexes, row, LIKE_IT);
    if (strcmp(PQgetvalue(indexes, row, SIDE), "former") == 0)
        return rename_made(session, indexes, row, to->former, to->former, to->kept, error);
    if (taken_over)
        return rename_index(session, field(indexes, row, SCHEMA), field(indexes, row, NAME), taken_over,
                            field(indexes, row, COMMENT), error);
    return rename_made(session, indexes, row, to->beside, to->kept, to->table, error);
}

/* The query gives the former table's first: they make way. */
int pj_build_rename_indexes(struct pj_session *session, const struct pj_build_row *former,
                            const struct pj_build_row *next, const struct pj_build_renaming *to, struct pj_error *error)
{
    const char *params[] = {former->oid, next->oid};
    PGresult *indexes;
    int code = pj_session_query_kept(session, &indexes, pj_sql_build_names, 2, params, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(indexes); row++)
        code = rename_row(session, indexes, row, to, error);
    PQclear(indexes);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "rename indexes");
}
