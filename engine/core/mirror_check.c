/*
 * Are the mirrors still what the stream will write? Asked at each start: somebody may have altered a mirror, or the
 * source may have changed while no daemon was looking (then the catalog's note of it, pgprojector.mirror, tells).
 */
#include "base/mem.h"
#include "core/mirror.h"

#include "core/catalog.h"
#include "core/source_internal.h"
#include "core/textarray.h"
#include "sql.h"

#include <stdlib.h>
#include <string.h>

static const char remedy[] = "put it back as it was, or start anew (README, \"Starting anew\")";

static int find_row(const PGresult *columns, const char *name)
{
    for (int row = 0; row < PQntuples(columns); row++)
        if (strcmp(pj_field(columns, row, "attname"), name) == 0)
            return row;
    return -1;
}

static int check_column(const PGresult *columns, const struct pj_table_column *column, struct pj_error *error)
{
    int row = find_row(columns, column->name);
    if (row < 0)
        return pj_error_set(error, PJ_ESCHEMA, "column %s is missing", column->name);
    if (strcmp(pj_field(columns, row, "type_sql"), column->type_sql) != 0)
        return pj_error_set(error, PJ_ESCHEMA, "column %s has type %s, the source's is %s", column->name,
                            pj_field(columns, row, "type_sql"), column->type_sql);
    if (pj_field_true(columns, row, "generated"))
        return pj_error_set(error, PJ_ESCHEMA, "column %s is generated", column->name);
    return PJ_OK;
}

static int check_key(const PGresult *columns, const struct pj_table *table, struct pj_error *error)
{
    bool fits = (int)pj_field_uint(columns, 0, "key_count") == table->nkey;
    for (int i = 0; fits && i < table->nkey; i++) {
        int row = find_row(columns, table->columns[table->key[i]].name), field = PQfnumber(columns, "key_place");
        fits = row >= 0 && !PQgetisnull(columns, row, field) && atoi(PQgetvalue(columns, row, field)) == i;
    }
    return fits ? PJ_OK : pj_error_set(error, PJ_ESCHEMA, "its primary key is not the source's");
}

/* A column of its own that must be given a value would refuse every row. */
static int check_foreign_columns(const PGresult *columns, const struct pj_table *table, struct pj_error *error)
{
    for (int row = 0; row < PQntuples(columns); row++) {
        const char *name = pj_field(columns, row, "attname");
        if (pj_field_true(columns, row, "demanded") && pj_table_column_index(table, name, strlen(name)) < 0)
            return pj_error_set(error, PJ_ESCHEMA, "column %s is NOT NULL without a default, and the source has none",
                                name);
    }
    return PJ_OK;
}

static int check_columns(const PGresult *columns, const struct pj_table *table, struct pj_error *error)
{
    if (!PQntuples(columns))
        return pj_error_set(error, PJ_ESCHEMA, "the table is gone");
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < table->ncolumns; i++)
        code = check_column(columns, &table->columns[i], error);
    if (code == PJ_OK)
        code = check_key(columns, table, error);
    return code == PJ_OK ? check_foreign_columns(columns, table, error) : code;
}

static int check_table(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    const char *params[] = {table->schema, table->name};
    PGresult *columns;
    int code = pj_session_query(read, &columns, pj_sql_mirror_check, 2, params, error);
    if (code == PJ_OK) {
        code = check_columns(columns, table, error);
        if (code != PJ_OK)
            pj_error_hint(error, "%s", remedy);
    }
    PQclear(columns);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mirror %s", table->mirror_sql);
}

/* ---------------------------------------------------------------------------------------------- the catalog's note */

/*
 * Three times "t" where the source is the one noted: the same oid, no noted partition gone, none attached since. Then a
 * column of a noted name that has another number, if there is one; one of a noted name that the source has no more; one
 * of these that the mirror still has; the former name of a noted partition that has another now; and "t" where the
 * replica identity has the noted columns.
 */
static const char noted_sql[] =
    "SELECT m.source_oid = $3::oid, m.leaves <@ $4::oid[], $5::oid[] <@ m.leaves, "
    "(SELECT min(name) FROM ROWS FROM (unnest(m.columns), unnest(m.numbers)) b (name, number) "
    "JOIN ROWS FROM (unnest($6::text[]), unnest($7::int[])) n (name, number) USING (name) "
    "WHERE n.number <> b.number), "
    "(SELECT min(name) FROM unnest(m.columns) g (name) WHERE name <> ALL ($6::text[])), "
    "(SELECT min(name) FROM unnest(m.columns) g (name) JOIN pg_catalog.pg_attribute a ON a.attname = g.name "
    "WHERE name <> ALL ($6::text[]) AND a.attnum > 0 AND NOT a.attisdropped "
    "AND a.attrelid = to_regclass(format('%I.%I', m.schema_name, m.table_name))), "
    "(SELECT min(substr(name, strpos(name, ' ') + 1)) FROM unnest(m.leaf_names) n (name) WHERE name <> ALL "
    "($8::text[])), m.identity <@ $9::text[] AND m.identity @> $9::text[] "
    "FROM pgprojector.mirror m WHERE m.schema_name = $1 AND m.table_name = $2";

enum {
    SAME_TABLE,
    NO_LEAF_GONE,
    NO_LEAF_ATTACHED,
    ANOTHER_NUMBER,
    COLUMN_GONE,
    COLUMN_LEFT,
    FORMER_LEAF,
    SAME_IDENTITY
};

/* Its values would never change again, and nobody who reads the mirror could tell. */
static int refuse_gone(const struct pj_table *table, const char *column, struct pj_error *error)
{
    struct pj_buf name = {0};
    pj_quote_identifier(&name, column);
    pj_error_set(error, PJ_ESCHEMA, "column %s of the source is gone (dropped or renamed)", column);
    pj_error_hint(error,
                  "undo the change on the write database; or ALTER TABLE %s DROP COLUMN %s on the read database (where "
                  "the source renamed it: RENAME it there), then run pgprojector resync",
                  table->mirror_sql, pj_buf_text(&name));
    pj_buf_free(&name);
    return PJ_ESCHEMA;
}

static int check_source(const PGresult *noted, const struct pj_table *table, struct pj_error *error)
{
    if (PQgetvalue(noted, 0, SAME_TABLE)[0] != 't') {
        pj_error_set(error, PJ_ESCHEMA,
                     "the source table %s.%s was dropped and created again, or another took its name", table->schema,
                     table->name);
        return pj_error_hint(
            error, "its former changes did not come in the stream; pgprojector resync makes the mirror exact");
    }
    if (PQgetvalue(noted, 0, NO_LEAF_GONE)[0] != 't') {
        pj_error_set(error, PJ_ESCHEMA, "a partition of the source has been dropped or detached");
        return pj_error_hint(error, "its rows are still in the mirror; pgprojector resync makes it exact");
    }
    if (PQgetvalue(noted, 0, NO_LEAF_ATTACHED)[0] != 't') {
        pj_error_set(error, PJ_ESCHEMA, "a table has been attached to the source as a partition");
        return pj_error_hint(error, "rows it had before are not in the mirror; pgprojector resync makes it exact");
    }
    if (!PQgetisnull(noted, 0, FORMER_LEAF)) {
        pj_error_set(error, PJ_ESCHEMA, "partition %s of the source has been renamed, or moved to another schema",
                     PQgetvalue(noted, 0, FORMER_LEAF));
        return pj_error_hint(error, "rows may come in the stream under its former name; give it that back for as long, "
                                    "or run pgprojector resync, which makes the mirror exact");
    }
    if (!PQgetisnull(noted, 0, ANOTHER_NUMBER)) {
        pj_error_set(error, PJ_ESCHEMA, "column %s of the source was dropped and added again",
                     PQgetvalue(noted, 0, ANOTHER_NUMBER));
        return pj_error_hint(error,
                             "the values it has now are not in the stream; pgprojector resync makes the mirror exact");
    }
    return PJ_OK;
}

/* `lenient`: for a resync, which makes the mirror exact whatever the source was before. */
static int check_answer(const PGresult *noted, const struct pj_table *table, bool lenient, struct pj_error *error)
{
    if (!PQntuples(noted)) {
        pj_error_set(error, PJ_ESCHEMA, "it is not among the mirrors");
        return pj_error_hint(error, "the daemon adds it: `pgprojector module add NAME` for a module's table, SIGHUP "
                                    "for one of [mirrors] tables");
    }
    int gone = lenient ? COLUMN_LEFT : COLUMN_GONE;
    if (!lenient && check_source(noted, table, error) != PJ_OK)
        return error->code;
    if (!PQgetisnull(noted, 0, gone))
        return refuse_gone(table, PQgetvalue(noted, 0, gone), error);
    if (lenient || PQgetvalue(noted, 0, SAME_IDENTITY)[0] == 't')
        return PJ_OK;
    pj_error_set(error, PJ_ESCHEMA, "the source's replica identity has other columns than before");
    return pj_error_hint(error, "changes that are still to come name their rows by the former one, and the mirror may "
                                "lack the index; undo the change, or run pgprojector resync, which makes it");
}

enum which_leaves { ALL_LEAVES, ATTACHED, TOUCHED };

static void put_leaves(struct pj_buf *array, const struct pj_table *table, enum which_leaves which)
{
    pj_textarray_begin(array);
    for (int i = 0; i < table->nleaves; i++)
        if (which == ALL_LEAVES || (which == ATTACHED ? table->leaves[i].attached : table->leaves[i].touched))
            pj_textarray_add_oid(array, table->leaves[i].oid);
    pj_textarray_end(array);
}

static void put_columns(struct pj_buf *names, struct pj_buf *numbers, const struct pj_table *table)
{
    pj_textarray_begin(names);
    pj_textarray_begin(numbers);
    for (int i = 0; i < table->ncolumns; i++) {
        pj_textarray_add(names, table->columns[i].name);
        pj_textarray_add_oid(numbers, (uint32_t)table->columns[i].number);
    }
    pj_textarray_end(names);
    pj_textarray_end(numbers);
}

static int check_noted(struct pj_session *read, const struct pj_table *table, bool lenient, struct pj_error *error)
{
    char *oid = pj_sprintf("%u", table->oid);
    struct pj_buf leaves = {0}, attached = {0}, names = {0}, numbers = {0}, leaf_names = {0}, identity = {0};
    put_leaves(&leaves, table, ALL_LEAVES);
    put_leaves(&attached, table, ATTACHED);
    put_columns(&names, &numbers, table);
    pj_catalog_put_leaf_names(&leaf_names, table);
    pj_mirror_put_identity(&identity, table);
    const char *params[] = {table->schema,
                            table->name,
                            oid,
                            pj_buf_text(&leaves),
                            pj_buf_text(&attached),
                            pj_buf_text(&names),
                            pj_buf_text(&numbers),
                            pj_buf_text(&leaf_names),
                            pj_buf_text(&identity)};
    PGresult *noted;
    int code = pj_session_query(read, &noted, noted_sql, 9, params, error);
    if (code == PJ_OK)
        code = check_answer(noted, table, lenient, error);
    PQclear(noted);
    pj_buf_free(&leaves);
    pj_buf_free(&attached);
    pj_buf_free(&names);
    pj_buf_free(&numbers);
    pj_buf_free(&leaf_names);
    pj_buf_free(&identity);
    pj_free(oid);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "mirror %s", table->mirror_sql);
}

static int check_all(struct pj_session *read, const struct pj_table *tables, int count, bool lenient,
                     struct pj_error *error)
{
    pj_error_clear(error);
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < count; i++) {
        if (tables[i].joining)
            continue;
        code = check_noted(read, &tables[i], lenient, error);
        if (code == PJ_OK)
            code = check_table(read, &tables[i], error);
    }
    return code;
}

int pj_mirror_check(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    return check_all(read, tables, count, false, error);
}

int pj_mirror_check_shape(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    return check_all(read, tables, count, true, error);
}

/* --------------------------------------------------------------------------------------- columns that came later */

static bool in_keys(const struct pj_table *table, int column)
{
    for (int i = 0; i < table->nkey; i++)
        if (table->key[i] == column)
            return true;
    for (int i = 0; i < table->nidentity; i++)
        if (table->identity[i] == column)
            return true;
    return false;
}

static bool among(const PGresult *columns, const char *name)
{
    for (int row = 0; row < PQntuples(columns); row++)
        if (strcmp(PQgetvalue(columns, row, 0), name) == 0)
            return true;
    return false;
}

static int limit_table(struct pj_session *read, struct pj_table *table, bool adopt, struct pj_error *error)
{
    static const char sql[] =
        "SELECT unnest(columns), state FROM pgprojector.mirror WHERE schema_name = $1 AND table_name = $2 "
        "UNION SELECT a.attname, m.state FROM pgprojector.mirror m JOIN pg_catalog.pg_attribute a "
        "ON a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) "
        "WHERE $3::boolean AND m.schema_name = $1 AND m.table_name = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    const char *params[] = {table->schema, table->name, adopt ? "t" : "f"};
    PGresult *columns;
    int code = pj_session_query(read, &columns, sql, 3, params, error);
    for (int i = table->ncolumns - 1; code == PJ_OK && PQntuples(columns) && i >= 0; i--)
        if (!among(columns, table->columns[i].name) && !in_keys(table, i))
            pj_table_remove_column(table, i);
    table->joining = code == PJ_OK && PQntuples(columns) && strcmp(PQgetvalue(columns, 0, 1), "joining") == 0;
    PQclear(columns);
    return code;
}

/*
 * A partition that is met for the first time may have been renamed before, and rows of it come, or may still come, under the
 * name that it had. Not after the position at which it was seen under its own: whoever renamed it had committed by then, and
 * before him whoever wrote to it. What was noted of partitions met before stays until the stream has passed it.
 */
static int learn_renames(struct pj_session *read, struct pj_table *table, struct pj_error *error)
{
    static const char sql[] = "SELECT coalesce(pg_catalog.to_jsonb(m) ->> 'renamed_until', '0/0'), $3::oid[] <@ leaves "
                              "FROM pgprojector.mirror m WHERE schema_name = $1 AND table_name = $2";
    struct pj_buf touched = {0};
    put_leaves(&touched, table, TOUCHED);
    const char *params[] = {table->schema, table->name, pj_buf_text(&touched)};
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 3, params, error);
    table->renamed_until = 0;
    if (code == PJ_OK && PQntuples(result)) {
        pj_lsn_parse(PQgetvalue(result, 0, 0), &table->renamed_until);
        if (PQgetvalue(result, 0, 1)[0] != 't')
            table->renamed_until = table->leaves_as_of;
    }
    PQclear(result);
    pj_buf_free(&touched);
    return code;
}

int pj_mirror_limit(struct pj_session *read, struct pj_table *tables, int count, bool adopt, struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    int code = pj_catalog_read(read, &checkpoint, &installed, error);
    if (code != PJ_OK || !installed || !checkpoint.complete)
        return code;
    for (int i = 0; code == PJ_OK && i < count; i++) {
        code = limit_table(read, &tables[i], adopt, error);
        if (code == PJ_OK && tables[i].partitioned)
            code = learn_renames(read, &tables[i], error);
    }
    return code;
}
