/*
 * Mending one mirror, within one transaction of the read side:
 *
 *      scope      the buckets that disagree (difference_find.c), or given keys
 *      fetch      the source's rows of the scope into a temporary table
 *      join       them with the mirror's rows of the scope, in one pass over the mirror: what differs, into a second one
 *      keep       the mirror's rows that differ, and the source's, in two further ones: the projections' keys that depend
 *                 on them are read from these (difference_recompute.c)
 *      write      what differs into the mirror (difference_write.c)
 *
 * All set-based, by the server; what passes through here are the rows of the scope, a few at a time. Rows are compared
 * as record images, never by "=". Up to "keep" the mirror is only looked at, so that what depends on the rows of all
 * mirrors can be known before the first of them is written.
 */
#include "core/difference.h"

#include "base/mem.h"
#include "core/copy.h"
#include "core/difference_internal.h"
#include "core/mirror.h"
#include "core/verify_internal.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------- temporary tables */

void pj_difference_rows_name(struct pj_buf *sql, const struct pj_table *table, enum pj_rows_kept which)
{
    static const char *const names[] = {[PJ_ROWS_SOURCE] = "source",
                                        [PJ_ROWS_GONE] = "gone",
                                        [PJ_ROWS_COME] = "come",
                                        [PJ_ROWS_DIFFERING] = "differing"};
    pj_buf_printf(sql, "pg_temp.pgprojector_%s_%d", names[which], table->index);
}

static char *rows_name(const struct pj_table *table, enum pj_rows_kept which)
{
    struct pj_buf name = {0};
    pj_difference_rows_name(&name, table, which);
    return pj_buf_take(&name);
}

int pj_difference_rows_exist(struct pj_session *read, const struct pj_table *table, enum pj_rows_kept which,
                             bool *exist, struct pj_error *error)
{
    char *name = rows_name(table, which);
    const char *params[] = {name};
    PGresult *result;
    int code = pj_session_query_row(read, &result, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", 1, params, error);
    *exist = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    pj_free(name);
    return code;
}

static int explain_temporary(struct pj_session *read, struct pj_error *error)
{
    if (strcmp(error->sqlstate, "42501") == 0) {
        error->code = PJ_ECONFIG;
        pj_error_hint(error, "GRANT TEMPORARY ON DATABASE %s TO \"%s\"", PQdb(pj_session_conn(read)),
                      PQuser(pj_session_conn(read)));
    }
    return error->code;
}

/* With the mirror's column types, and gone with the transaction. */
static int create_rows(struct pj_session *read, const struct pj_table *table, enum pj_rows_kept which,
                       struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "CREATE TEMPORARY TABLE ");
    char *name = rows_name(table, which);
    pj_buf_printf(&sql, "%s ON COMMIT DROP AS SELECT ", name + strlen("pg_temp."));
    pj_mirror_columns(&sql, table, NULL);
    pj_buf_printf(&sql, " FROM %s WITH NO DATA", table->mirror_sql);
    int code = pj_session_exec(read, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    pj_free(name);
    return code == PJ_OK ? PJ_OK : explain_temporary(read, error);
}

/* A second call for the same table within the transaction adds to what was kept. */
static int prepare_rows(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    bool exist;
    int code = pj_difference_rows_exist(read, table, PJ_ROWS_COME, &exist, error);
    if (code == PJ_OK && exist) {
        char *name = rows_name(table, PJ_ROWS_SOURCE);
        code = pj_session_execf(read, error, "TRUNCATE %s", name);
        pj_free(name);
        return code;
    }
    for (enum pj_rows_kept which = PJ_ROWS_SOURCE; code == PJ_OK && which <= PJ_ROWS_COME; which++)
        code = create_rows(read, table, which, error);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- fetch */

/* The planner takes the rows of a scope for many, and would send none of them through parallel workers. */
static int copy_rows(struct pj_session *write, struct pj_session *read, const char *out_sql, const char *in_sql,
                     struct pj_error *error)
{
    int code = pj_session_exec(write, "SET LOCAL parallel_tuple_cost = 0", error);
    if (code == PJ_OK)
        code = pj_difference_copy(write, out_sql, read, in_sql, error);
    if (code == PJ_OK)
        code = pj_session_exec(write, "SET LOCAL parallel_tuple_cost TO DEFAULT", error);
    return code;
}

static int fetch(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                 const struct pj_scope *scope, struct pj_error *error)
{
    struct pj_buf out = {0}, in = {0};
    char *from = pj_verify_source_from(table), *name = rows_name(table, PJ_ROWS_SOURCE);
    pj_buf_puts(&out, "COPY (SELECT ");
    pj_mirror_columns(&out, table, NULL);
    pj_buf_printf(&out, " FROM %s WHERE %s) TO STDOUT (FORMAT %s)", from, scope->source, pj_copy_format(table));
    pj_buf_printf(&in, "COPY %s FROM STDIN (FORMAT %s)", name, pj_copy_format(table));
    int code = copy_rows(write, read, pj_buf_text(&out), pj_buf_text(&in), error);
    if (code == PJ_OK)
        code = pj_session_execf(read, error, "ANALYZE %s", name);
    pj_buf_free(&out);
    pj_buf_free(&in);
    pj_free(from);
    pj_free(name);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- look */

static void put_same_key(struct pj_buf *sql, const struct pj_table *table, const char *a, const char *b)
{
    for (int i = 0; i < table->nkey; i++) {
        const struct pj_table_column *column = &table->columns[table->key[i]];
        pj_buf_printf(sql, "%s%s.", i ? " AND " : "", a);
        pj_quote_identifier(sql, column->name);
        pj_buf_printf(sql, " %s %s.", column->equal_sql, b);
        pj_quote_identifier(sql, column->name);
    }
}

/* The mirror's rows of the scope beside the source's: of each pair that is not alike, the former's place and row and the
 * latter's values. The planner takes the rows of a scope for many here, too. */
static int join_rows(struct pj_session *read, const struct pj_table *table, const struct pj_scope *scope,
                     struct pj_error *error)
{
    struct pj_buf sql = {0};
    char *differing = rows_name(table, PJ_ROWS_DIFFERING);
    pj_buf_printf(&sql,
                  "CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT m.pgprojector_at, m.pgprojector_was, s.* "
                  "FROM (SELECT m.ctid AS pgprojector_at, m.*::%s AS pgprojector_was, m.* FROM %s AS m WHERE %s) AS m "
                  "FULL JOIN (SELECT true AS pgprojector_here, * FROM ",
                  differing + strlen("pg_temp."), table->mirror_sql, table->mirror_sql, scope->mirror);
    pj_difference_rows_name(&sql, table, PJ_ROWS_SOURCE);
    pj_buf_puts(&sql, ") AS s ON ");
    put_same_key(&sql, table, "s", "m");
    pj_buf_puts(&sql, " WHERE m.pgprojector_at IS NULL OR s.pgprojector_here IS NULL OR ROW(");
    pj_mirror_columns(&sql, table, "s.");
    pj_buf_puts(&sql, ")::record OPERATOR(pg_catalog.*<>) ROW(");
    pj_mirror_columns(&sql, table, "m.");
    pj_buf_puts(&sql, ")::record ORDER BY m.pgprojector_at");
    int code = pj_session_exec(read, "SET LOCAL parallel_tuple_cost = 0", error);
    if (code == PJ_OK)
        code = pj_session_exec(read, pj_buf_text(&sql), error);
    if (code == PJ_OK)
        code = pj_session_execf(read, error, "SET LOCAL parallel_tuple_cost TO DEFAULT; ANALYZE %s", differing);
    pj_buf_free(&sql);
    pj_free(differing);
    return code;
}

int pj_difference_run(struct pj_session *read, const struct pj_table *table, const char *before, const char *after,
                      int64_t *rows, struct pj_error *error)
{
    char *name = rows_name(table, PJ_ROWS_DIFFERING), *sql = pj_sprintf("%s%s%s", before, name, after);
    PGresult *result = NULL;
    int code = pj_session_query(read, &result, sql, 0, NULL, error);
    if (rows)
        *rows = code == PJ_OK ? strtoll(PQcmdTuples(result), NULL, 10) : 0;
    PQclear(result);
    pj_free(sql);
    pj_free(name);
    return code;
}

static int keep(struct pj_session *read, const struct pj_table *table, enum pj_rows_kept which, const char *prefix,
                const char *condition, struct pj_error *error)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "INSERT INTO ");
    pj_difference_rows_name(&sql, table, which);
    pj_buf_puts(&sql, " SELECT ");
    pj_mirror_columns(&sql, table, prefix);
    pj_buf_puts(&sql, " FROM ");
    int code = pj_difference_run(read, table, pj_buf_text(&sql), condition, NULL, error);
    pj_buf_free(&sql);
    return code;
}

/* The mirror's rows that are to go, and the source's that are to come. */
static int keep_rows(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    int code =
        keep(read, table, PJ_ROWS_GONE, "(d.pgprojector_was).", " AS d WHERE d.pgprojector_at IS NOT NULL", error);
    return code == PJ_OK ? keep(read, table, PJ_ROWS_COME, "d.", " AS d WHERE d.pgprojector_here", error) : code;
}

int pj_difference_count(struct pj_session *read, const struct pj_table *table, struct pj_mended *mended,
                        struct pj_error *error)
{
    char *name = rows_name(table, PJ_ROWS_DIFFERING);
    char *sql = pj_sprintf("SELECT pg_catalog.count(*) FILTER (WHERE pgprojector_at IS NULL), "
                           "pg_catalog.count(*) FILTER (WHERE pgprojector_here IS NULL), "
                           "pg_catalog.count(*) FILTER (WHERE pgprojector_at IS NOT NULL AND pgprojector_here) FROM %s",
                           name);
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    if (code == PJ_OK) {
        mended->missing = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        mended->extra = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        mended->changed = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    }
    PQclear(result);
    pj_free(sql);
    pj_free(name);
    return code;
}

int pj_difference_look_at(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                          const struct pj_scope *scope, struct pj_mended *mended, struct pj_error *error)
{
    int code = prepare_rows(read, table, error);
    if (code == PJ_OK)
        code = fetch(write, read, table, scope, error);
    if (code == PJ_OK)
        code = join_rows(read, table, scope, error);
    if (code == PJ_OK)
        code = keep_rows(read, table, error);
    return code == PJ_OK ? pj_difference_count(read, table, mended, error) : code;
}

static int mend_scope(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                      const struct pj_scope *scope, struct pj_mended *mended, struct pj_error *error)
{
    int code = pj_difference_look_at(write, read, table, scope, mended, error);
    return code == PJ_OK ? pj_difference_write_rows(read, table, error) : code;
}

void pj_scope_free(struct pj_scope *scope)
{
    pj_free(scope->source);
    pj_free(scope->mirror);
}

/* --------------------------------------------------------------------------------------------------------- whole */

static int look_at_table(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                         struct pj_mended *mended, struct pj_error *error)
{
    struct pj_scope scope = {0};
    bool agrees;
    *mended = (struct pj_mended){0};
    int code = pj_difference_find(write, read, table, &scope, &agrees, error);
    if (code == PJ_OK && !agrees)
        code = pj_difference_look_at(write, read, table, &scope, mended, error);
    pj_scope_free(&scope);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "compare mirror %s.%s", table->schema, table->name);
}

int pj_difference_write_table(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    bool differs;
    int code = pj_difference_rows_exist(read, table, PJ_ROWS_DIFFERING, &differs, error);
    if (code == PJ_OK && differs)
        code = pj_difference_write_rows(read, table, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mend mirror %s.%s", table->schema, table->name);
}

int pj_difference_mend_table(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                             struct pj_mended *mended, struct pj_error *error)
{
    int code = look_at_table(write, read, table, mended, error);
    return code == PJ_OK ? pj_difference_write_table(read, table, error) : code;
}

/* ---------------------------------------------------------------------------------------------------------- keys */

int pj_difference_mend_keys(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                            const char *const *keys, struct pj_mended *mended, struct pj_error *error)
{
    *mended = (struct pj_mended){0};
    struct pj_scope scope = {.source = pj_mirror_key_condition(table, table->key, table->nkey, keys, ""),
                             .mirror = pj_mirror_key_condition(table, table->key, table->nkey, keys, "m.")};
    int code = mend_scope(write, read, table, &scope, mended, error);
    pj_scope_free(&scope);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mend mirror %s.%s", table->schema, table->name);
}

/* A row that has a key which in the mirror is still another row's: that one gives way, too. */
static char *or_same_key(const struct pj_table *table, char *condition)
{
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "(%s OR EXISTS (SELECT FROM ", condition);
    pj_difference_rows_name(&sql, table, PJ_ROWS_SOURCE);
    pj_buf_puts(&sql, " AS s WHERE ");
    put_same_key(&sql, table, "s", "m");
    pj_buf_puts(&sql, "))");
    pj_free(condition);
    return pj_buf_take(&sql);
}

int pj_difference_mend_identities(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                                  const char *const *keys, struct pj_mended *mended, struct pj_error *error)
{
    *mended = (struct pj_mended){0};
    struct pj_scope scope = {.source = pj_mirror_key_condition(table, table->identity, table->nidentity, keys, ""),
                             .mirror = pj_mirror_key_condition(table, table->identity, table->nidentity, keys, "m.")};
    if (!table->identity_is_key)
        scope.mirror = or_same_key(table, scope.mirror);
    int code = mend_scope(write, read, table, &scope, mended, error);
    pj_scope_free(&scope);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mend mirror %s.%s", table->schema, table->name);
}
