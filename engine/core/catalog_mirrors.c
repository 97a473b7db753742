/* The catalog's list of mirrors. */
#include "core/catalog.h"

#include "base/mem.h"
#include "core/textarray.h"

#include <stdio.h>

static char *columns_array(const struct pj_table *table, const int *list, int count)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < count; i++)
        pj_textarray_add(&array, table->columns[list ? list[i] : i].name);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *types_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->ncolumns; i++)
        pj_textarray_add(&array, table->columns[i].type_sql);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *numbers_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->ncolumns; i++)
        pj_textarray_add_oid(&array, (uint32_t)table->columns[i].number);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static char *leaves_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; i < table->nleaves; i++)
        pj_textarray_add_oid(&array, table->leaves[i].oid);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

void pj_catalog_put_leaf_names(struct pj_buf *array, const struct pj_table *table)
{
    struct pj_buf name = {0};
    pj_textarray_begin(array);
    for (int i = 0; i < table->nleaves; i++) {
        const struct pj_table_leaf *leaf = &table->leaves[i];
        pj_buf_clear(&name);
        pj_buf_printf(&name, "%u ", leaf->oid);
        pj_quote_identifier(&name, leaf->schema);
        pj_buf_puts(&name, ".");
        pj_quote_identifier(&name, leaf->name);
        pj_textarray_add(array, pj_buf_text(&name));
    }
    pj_textarray_end(array);
    pj_buf_free(&name);
}

static char *leaf_names_array(const struct pj_table *table)
{
    struct pj_buf array = {0};
    pj_catalog_put_leaf_names(&array, table);
    return pj_buf_take(&array);
}

static int enter_mirror(struct pj_session *read, const struct pj_table *table, const char *state,
                        struct pj_error *error)
{
    char oid[16];
    snprintf(oid, sizeof oid, "%u", table->oid);
    char *columns = columns_array(table, NULL, table->ncolumns), *types = types_array(table);
    char *key = columns_array(table, table->key, table->nkey), *leaves = leaves_array(table);
    char *identity = columns_array(table, table->identity, table->nidentity), *numbers = numbers_array(table);
    char *names = leaf_names_array(table);
    const char *params[] = {table->schema, table->name, oid,     columns, types, key,
                            identity,      leaves,      numbers, state,   names};
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "INSERT INTO pgprojector.mirror (schema_name, table_name, source_oid, columns, "
                                "types, key, identity, leaves, numbers, state, leaf_names) "
                                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                                11, params, error);
    PQclear(result);
    pj_free(columns);
    pj_free(types);
    pj_free(key);
    pj_free(identity);
    pj_free(leaves);
    pj_free(numbers);
    pj_free(names);
    return code;
}

int pj_catalog_enter_mirrors(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    int code = pj_session_exec(read,
                               "DELETE FROM pgprojector.mirror WHERE state = 'exact'; "
                               "UPDATE pgprojector.mirror SET source_oid = 0",
                               error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = enter_mirror(read, &tables[i], "exact", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "enter the mirrors into the catalog");
}

int pj_catalog_enter_joining(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    int code = enter_mirror(read, table, "joining", error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "enter mirror %s into the catalog", table->mirror_sql);
}

static int note_leaves(struct pj_session *read, const struct pj_table *table, struct pj_error *error)
{
    static const char sql[] =
        "UPDATE pgprojector.mirror SET leaves = ARRAY(SELECT unnest(leaves) UNION SELECT unnest($3::oid[])), "
        "leaf_names = ARRAY(SELECT unnest(leaf_names) UNION SELECT unnest($4::text[])), "
        "renamed_until = greatest(renamed_until, nullif($5::pg_lsn, '0/0')) "
        "WHERE schema_name = $1 AND table_name = $2 AND ((leaves @> $3::oid[] AND leaf_names @> $4::text[]) IS NOT "
        "TRUE "
        "OR coalesce(renamed_until, '0/0') < $5::pg_lsn)";
    char *leaves = leaves_array(table), *names = leaf_names_array(table);
    const char *params[] = {table->schema, table->name, leaves, names, PJ_LSN(table->renamed_until)};
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 5, params, error);
    PQclear(result);
    pj_free(leaves);
    pj_free(names);
    return code;
}

int pj_catalog_note_leaves(struct pj_session *read, const struct pj_table *tables, int count, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < count; i++)
        if (tables[i].nleaves)
            code = note_leaves(read, &tables[i], error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "note partitions in the catalog");
}
