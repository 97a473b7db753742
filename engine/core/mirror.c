/*
 * The mirrors' tables on the read database.
 *
 * A mirror has the source's columns and nothing of its rules: no defaults, no checks, no generated columns, no foreign
 * keys; the source has checked. It carries the primary key, and an index on the replica identity where that is another
 * one. The latter is not unique: within one batch two rows may swap their identities, and the rows are written one by
 * one.
 */
#include "core/mirror.h"

#include "base/mem.h"
#include "core/source_internal.h"
#include "core/textarray.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pj_mirror_columns(struct pj_buf *sql, const struct pj_table *table, const char *prefix)
{
    for (int i = 0; i < table->ncolumns; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        pj_buf_puts(sql, prefix ? prefix : "");
        pj_quote_identifier(sql, table->columns[i].name);
    }
}

static void column_list(struct pj_buf *sql, const struct pj_table *table, const int *list, int count)
{
    for (int i = 0; i < count; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        pj_quote_identifier(sql, table->columns[list[i]].name);
    }
}

/* -------------------------------------------------------------------------------------------------------- create */

static bool among(const int *list, int count, int column)
{
    for (int i = 0; i < count; i++)
        if (list[i] == column)
            return true;
    return false;
}

static void column_definition(struct pj_buf *sql, const struct pj_table *table, int i)
{
    const struct pj_table_column *column = &table->columns[i];
    pj_buf_puts(sql, i ? ",\n    " : "\n    ");
    pj_quote_identifier(sql, column->name);
    pj_buf_printf(sql, " %s", column->type_sql);
    if (column->collation_sql)
        pj_buf_printf(sql, " COLLATE %s", column->collation_sql);
    bool identifies =
        among(table->key, table->nkey, i) || (!table->identity_full && among(table->identity, table->nidentity, i));
    if (identifies && column->not_null)
        pj_buf_puts(sql, " NOT NULL");
}

/* CREATE TABLE would say so, too, but not what to do about it; and it would not know a view for what it is. */
static int refuse_existing(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    const char *params[] = {table->mirror_sql};
    PGresult *result;
    int code = pj_session_query_row(read, &result, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", 1, params, error);
    if (code != PJ_OK)
        return code;
    if (PQgetvalue(result, 0, 0)[0] == 't') {
        pj_error_set(error, PJ_ECONFIG, "read database: %s exists already and was not made by pgprojector",
                     table->mirror_sql);
        code =
            pj_error_hint(error, "drop or rename it, or give another database as READ_DATABASE_URL (the write database "
                                 "itself cannot be the read database)");
    }
    PQclear(result);
    return code;
}

static void explain_create(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    const char *role = PQuser(pj_session_conn(read));
    if (strcmp(error->sqlstate, "42501") == 0) {
        struct pj_buf grant = {0};
        pj_buf_puts(&grant, "GRANT CREATE, USAGE ON SCHEMA ");
        pj_quote_identifier(&grant, table->schema);
        pj_buf_puts(&grant, " TO ");
        pj_quote_identifier(&grant, role);
        error->code = PJ_ECONFIG;
        pj_error_hint(error, "%s on the read database", pj_buf_text(&grant));
        pj_buf_free(&grant);
    } else if (strcmp(error->sqlstate, "42704") == 0) { /* undefined object: a collation, a type */
        error->code = PJ_ECONFIG;
        pj_error_hint(error, "create it on the read database as it is on the write database");
    }
}

int pj_mirror_create(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    int code = refuse_existing(read, table, error);
    if (code != PJ_OK)
        return code;
    struct pj_buf sql = {0};
    pj_buf_printf(&sql, "CREATE TABLE %s (", table->mirror_sql);
    for (int i = 0; i < table->ncolumns; i++)
        column_definition(&sql, table, i);
    pj_buf_puts(&sql, "\n) WITH (fillfactor = 85)");
    code = pj_session_exec(read, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    if (code == PJ_OK)
        return pj_session_execf(read, error, "COMMENT ON TABLE %s IS 'Mirror kept by pgprojector; do not write here'",
                                table->mirror_sql);
    explain_create(read, table, error);
    return pj_error_wrap(error, "create mirror %s", table->mirror_sql);
}

bool pj_mirror_index(struct pj_buf *sql, const struct pj_table *table, enum pj_mirror_index which)
{
    bool key = which == PJ_INDEX_KEY;
    if (!key && (table->identity_is_key || table->identity_full))
        return false;
    pj_buf_printf(sql, "CREATE %sINDEX ON %s (", key ? "UNIQUE " : "", table->mirror_sql);
    if (key)
        column_list(sql, table, table->key, table->nkey);
    else
        column_list(sql, table, table->identity, table->nidentity);
    pj_buf_puts(sql, ")");
    return true;
}

void pj_mirror_put_identity(struct pj_buf *array, const struct pj_table *table)
{
    pj_textarray_begin(array);
    for (int i = 0; i < table->nidentity; i++)
        pj_textarray_add(array, table->columns[table->identity[i]].name);
    pj_textarray_end(array);
}

/* Whether an index begins with the columns $2, in whatever order. */
static const char indexed_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i CROSS JOIN LATERAL (SELECT array_agg(a.attname::text) AS names "
    "FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) JOIN pg_catalog.pg_attribute a "
    "ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.place <= cardinality($2::text[])) AS its "
    "WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL "
    "AND i.indnkeyatts >= cardinality($2::text[]) AND its.names @> $2::text[] AND its.names <@ $2::text[])";

static int is_indexed(struct pj_session *read, const struct pj_table *table, bool *indexed, struct pj_error *error)
{
    struct pj_buf names = {0};
    pj_mirror_put_identity(&names, table);
    const char *params[] = {table->mirror_sql, pj_buf_text(&names)};
    PGresult *result;
    int code = pj_session_query_row(read, &result, indexed_sql, 2, params, error);
    *indexed = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    pj_buf_free(&names);
    return code;
}

int pj_mirror_index_identity(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    struct pj_buf sql = {0};
    bool indexed = true;
    int code = PJ_OK;
    if (pj_mirror_index(&sql, table, PJ_INDEX_IDENTITY))
        code = is_indexed(read, table, &indexed, error);
    if (code == PJ_OK && !indexed)
        code = pj_session_exec(read, pj_buf_text(&sql), error);
    pj_buf_free(&sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "index mirror %s", table->mirror_sql);
}

int pj_mirror_attach_key(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    const char *params[] = {table->mirror_sql};
    PGresult *result;
    int code = pj_session_query_row(read, &result, pj_sql_mirror_attach_key, 1, params, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, PQgetvalue(result, 0, 0), error);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "primary key of mirror %s", table->mirror_sql);
}

int pj_mirror_add_keys(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    int code = PJ_OK;
    for (enum pj_mirror_index which = PJ_INDEX_KEY; code == PJ_OK && which <= PJ_INDEX_IDENTITY; which++) {
        struct pj_buf sql = {0};
        if (pj_mirror_index(&sql, table, which))
            code = pj_session_exec(read, pj_buf_text(&sql), error);
        pj_buf_free(&sql);
    }
    if (code != PJ_OK)
        return pj_error_wrap(error, "index mirror %s", table->mirror_sql);
    return pj_mirror_attach_key(read, table, error);
}

int pj_mirror_autovacuum(struct pj_session *read, const struct pj_table *table, bool on, struct pj_error *error)
{
    char *sql = pj_sprintf("ALTER TABLE %s %s", table->mirror_sql,
                           on ? "RESET (autovacuum_enabled)" : "SET (autovacuum_enabled = off)");
    int code = pj_session_exec(read, sql, error);
    pj_free(sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mirror %s", table->mirror_sql);
}

/* ---------------------------------------------------------------------------------------------------------- drop */

/* -------------------------------------------------------------------------------------------------------- order */

/* By column, how many indexes begin with it; the identity's first column ($3) wins a tie. */
static const char leading_sql[] =
    "SELECT a.attname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid "
    "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] "
    "WHERE n.nspname = $1 AND c.relname = $2 GROUP BY a.attname "
    "ORDER BY count(*) DESC, a.attname = $3 DESC, a.attname LIMIT 1";

/* A batch is sorted by the first eight bytes, which of a text may say nothing. */
static bool has_fixed_width(enum pj_type type)
{
    return type != PJ_ANY && type != PJ_TEXT && type != PJ_BYTEA;
}

static int learn_order(struct pj_session *read, struct pj_table *table, struct pj_error *error)
{
    const char *identity = table->columns[table->identity[0]].name;
    const char *params[] = {table->schema, table->name, identity};
    PGresult *leading;
    int code = pj_session_query(read, &leading, leading_sql, 3, params, error);
    const char *name = code == PJ_OK && PQntuples(leading) ? PQgetvalue(leading, 0, 0) : identity;
    int column = strcmp(name, identity) == 0 ? -1 : pj_table_column_index(table, name, strlen(name));
    table->insert_order = column >= 0 && has_fixed_width(table->columns[column].type) ? column + 1 : 0;
    PQclear(leading);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mirror %s", table->mirror_sql);
}

int pj_mirror_learn_order(struct pj_session *read, struct pj_table *tables, int count, struct pj_error *error)
{
    for (int i = 0; i < count; i++)
        if (learn_order(read, &tables[i], error) != PJ_OK)
            return error->code;
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- drop */

static int drop_listed(struct pj_session *read, const PGresult *list, struct pj_error *error)
{
    int code = PJ_OK;
    for (int row = 0; code == PJ_OK && row < PQntuples(list); row++) {
        struct pj_buf name = {0};
        pj_quote_identifier(&name, PQgetvalue(list, row, 0));
        pj_buf_puts(&name, ".");
        pj_quote_identifier(&name, PQgetvalue(list, row, 1));
        code = pj_session_execf(read, error, "SET LOCAL client_min_messages = warning; DROP TABLE IF EXISTS %s",
                                pj_buf_text(&name));
        if (code != PJ_OK)
            pj_error_wrap(error, "drop the unfinished mirror %s", pj_buf_text(&name));
        pj_buf_free(&name);
    }
    return code;
}

int pj_mirror_drop_all(struct pj_session *read, struct pj_error *error)
{
    PGresult *list;
    int code = pj_session_query(read, &list,
                                "SELECT schema_name, table_name FROM pgprojector.mirror WHERE "
                                "(SELECT lsn FROM pgprojector.checkpoint) IS NULL",
                                0, NULL, error);
    if (code == PJ_OK)
        code = drop_listed(read, list, error);
    PQclear(list);
    if (code == PJ_OK)
        code = pj_session_exec(
            read, "DELETE FROM pgprojector.mirror WHERE (SELECT lsn FROM pgprojector.checkpoint) IS NULL", error);
    return code;
}

/* "ROWS FROM (unnest('{…}'::text[]), …) AS u(pgprojector_0, …)": names that no column has. */
static void put_given(struct pj_buf *sql, int count, const char *const *keys)
{
    pj_buf_puts(sql, "ROWS FROM (");
    for (int i = 0; i < count; i++) {
        pj_buf_puts(sql, i ? ", pg_catalog.unnest(" : "pg_catalog.unnest(");
        pj_quote_literal(sql, keys[i]);
        pj_buf_puts(sql, "::pg_catalog.text[])");
    }
    pj_buf_puts(sql, ") AS u(");
    for (int i = 0; i < count; i++)
        pj_buf_printf(sql, "%spgprojector_%d", i ? ", " : "", i);
    pj_buf_puts(sql, ")");
}

/* "(a, b) IN (SELECT …)", for which each "=" is looked up. */
static void put_among(struct pj_buf *sql, const struct pj_table *table, const int *columns, int count,
                      const char *const *keys, const char *prefix)
{
    pj_buf_puts(sql, "(");
    for (int i = 0; i < count; i++) {
        pj_buf_printf(sql, "%s%s", i ? ", " : "", prefix);
        pj_quote_identifier(sql, table->columns[columns[i]].name);
    }
    pj_buf_puts(sql, ") IN (SELECT ");
    for (int i = 0; i < count; i++)
        pj_buf_printf(sql, "%sCAST(u.pgprojector_%d AS %s)", i ? ", " : "", i, table->columns[columns[i]].cast_sql);
    pj_buf_puts(sql, " FROM ");
    put_given(sql, count, keys);
    pj_buf_puts(sql, ")");
}

/* The same where an operator has to be named: IN takes none, and a row's is one for all columns. */
static void put_among_by_name(struct pj_buf *sql, const struct pj_table *table, const int *columns, int count,
                              const char *const *keys, const char *prefix)
{
    pj_buf_puts(sql, "EXISTS (SELECT FROM ");
    put_given(sql, count, keys);
    for (int i = 0; i < count; i++) {
        const struct pj_table_column *column = &table->columns[columns[i]];
        pj_buf_printf(sql, "%s%s", i ? " AND " : " WHERE ", prefix);
        pj_quote_identifier(sql, column->name);
        pj_buf_printf(sql, " %s CAST(u.pgprojector_%d AS %s)", column->equal_sql, i, column->cast_sql);
    }
    pj_buf_puts(sql, ")");
}

char *pj_mirror_key_condition(const struct pj_table *table, const int *columns, int count, const char *const *keys,
                              const char *prefix)
{
    struct pj_buf sql = {0};
    bool plain = true;
    for (int i = 0; i < count; i++)
        plain = plain && strcmp(table->columns[columns[i]].equal_sql, "=") == 0;
    if (plain)
        put_among(&sql, table, columns, count, keys, prefix);
    else
        put_among_by_name(&sql, table, columns, count, keys, prefix);
    return pj_buf_take(&sql);
}
