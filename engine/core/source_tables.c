/*
 * From the write database's catalog to `struct pj_table`: what the tables are, whether they can be mirrored, and how
 * their columns' values travel.
 *
 * Three queries for all tables together: the tables, their columns, the leaves of partitioned ones. A table is refused
 * for anything that would make the mirror silently wrong later: no immediate primary key, no replica identity (UPDATE
 * and DELETE would be missing from the stream), not logged (nothing is in the stream), row security (the copy would
 * miss rows).
 */
#include "base/mem.h"
#include "core/source_internal.h"
#include "core/textarray.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------------- types */

enum pj_type pj_source_kind(uint32_t type_oid)
{
    switch (type_oid) {
    case 16:
        return PJ_BOOL;
    case 21:
        return PJ_INT2;
    case 23:
        return PJ_INT4;
    case 20:
        return PJ_INT8;
    case 25:   /* text */
    case 1043: /* varchar */
    case 1042: /* bpchar */
        return PJ_TEXT;
    case 17:
        return PJ_BYTEA;
    case 1082:
        return PJ_DATE;
    case 1114:
        return PJ_TIMESTAMP;
    case 1184:
        return PJ_TIMESTAMPTZ;
    case 2950:
        return PJ_UUID;
    default:
        return PJ_ANY;
    }
}

/* Text types travel as text[], what has no form of its own as the text of its output function. */
static const char *array_type(enum pj_type type, const char *base_sql)
{
    return type == PJ_ANY || type == PJ_TEXT ? "pg_catalog.text" : base_sql;
}

static void read_column(const PGresult *result, int row, struct pj_table_column *column)
{
    column->name = pj_strdup(pj_field(result, row, "attname"));
    column->number = (int)pj_field_uint(result, row, "attnum");
    column->type_oid = pj_field_uint(result, row, "type_oid");
    column->type = pj_source_kind(column->type_oid);
    column->type_sql = pj_strdup(pj_field(result, row, "type_sql"));
    column->cast_sql = pj_strdup(pj_field(result, row, "base_sql"));
    column->array_sql = pj_strdup(array_type(column->type, column->cast_sql));
    column->output_sql = column->type == PJ_ANY ? pj_strdup(pj_field(result, row, "output_sql")) : NULL;
    if (*pj_field(result, row, "collation_sql"))
        column->collation_sql = pj_strdup(pj_field(result, row, "collation_sql"));
    column->equal_sql = pj_strdup(*pj_field(result, row, "equal_sql") ? pj_field(result, row, "equal_sql") : "=");
    column->not_null = pj_field_true(result, row, "attnotnull");
    column->toastable = pj_field_true(result, row, "toastable");
}

/* -------------------------------------------------------------------------------------------------------- tables */

static void dotted(const struct pj_wanted_table *wanted, char *name, size_t size)
{
    snprintf(name, size, "%s.%s", wanted->schema, wanted->name);
}

/* The same as SQL has it: what a remedy says can be pasted. The caller frees it. */
static char *quoted(const char *schema, const char *name)
{
    struct pj_buf sql = {0};
    pj_quote_identifier(&sql, schema);
    pj_buf_puts(&sql, ".");
    pj_quote_identifier(&sql, name);
    return pj_buf_take(&sql);
}

/* The words for a relkind that cannot be mirrored, NULL for one that can. */
static const char *unfit_kind(char relkind)
{
    switch (relkind) {
    case 'r':
    case 'p':
        return NULL;
    case 'v':
        return "a view; mirror the tables it reads from";
    case 'm':
        return "a materialized view; mirror the tables it reads from";
    case 'f':
        return "a foreign table, whose changes are not in this server's WAL; follow the server that owns it";
    case 'S':
        return "a sequence; only tables can be mirrored";
    default:
        return "not a table";
    }
}

/* What can be said without looking any closer. Returns whether the table exists and is one. */
static bool check_kind(const PGresult *result, int row, const struct pj_wanted_table *wanted, struct pj_faults *faults)
{
    char name[160];
    dotted(wanted, name, sizeof name);
    if (!*pj_field(result, row, "oid")) {
        pj_fault(faults, "table %s (wanted by %s) does not exist on the write database", name, wanted->wanted_by);
        pj_fault_hint(faults,
                      "create %s, or say in the configuration how it is called here (names are matched exactly, "
                      "case included)",
                      name);
        return false;
    }
    const char *unfit = unfit_kind(*pj_field(result, row, "relkind"));
    if (unfit)
        pj_fault(faults, "%s (wanted by %s) is %s", name, wanted->wanted_by, unfit);
    return !unfit;
}

static void check_persistence(const PGresult *result, int row, const char *name, const char *sql,
                              struct pj_faults *faults)
{
    char persistence = *pj_field(result, row, "relpersistence");
    if (persistence == 'p')
        return;
    pj_fault(faults, "table %s is %s: its changes are not in the WAL", name,
             persistence == 'u' ? "unlogged" : "temporary");
    if (persistence == 'u')
        pj_fault_hint(faults, "ALTER TABLE %s SET LOGGED", sql);
}

static void check_key(const PGresult *result, int row, const char *name, const char *sql, struct pj_faults *faults)
{
    if (!pj_field_true(result, row, "has_key")) {
        pj_fault(faults, "table %s has no primary key", name);
        pj_fault_hint(faults, "ALTER TABLE %s ADD PRIMARY KEY (…)", sql);
    } else if (!pj_field_true(result, row, "key_immediate")) {
        pj_fault(faults,
                 "table %s has a deferrable primary key, with which PostgreSQL leaves UPDATE and DELETE out of the "
                 "stream",
                 name);
        pj_fault_hint(faults, "ALTER TABLE %s DROP CONSTRAINT …, ADD PRIMARY KEY (…) NOT DEFERRABLE", sql);
    }
    char identity = *pj_field(result, row, "relreplident");
    if (identity == 'n' || (identity == 'i' && !pj_field_true(result, row, "has_identity_index"))) {
        pj_fault(faults, "table %s has no replica identity (%s), so UPDATE and DELETE are not in the stream", name,
                 identity == 'n' ? "REPLICA IDENTITY NOTHING" : "its identity index is gone");
        pj_fault_hint(faults, "ALTER TABLE %s REPLICA IDENTITY DEFAULT", sql);
    }
}

static void check_privileges(const PGresult *result, int row, const struct pj_wanted_table *wanted, const char *name,
                             const char *sql, const char *role, struct pj_faults *faults)
{
    if (!pj_field_true(result, row, "schema_usable")) {
        pj_fault(faults, "role \"%s\" may not use schema %s", role, wanted->schema);
        pj_fault_hint(faults, "GRANT USAGE ON SCHEMA \"%s\" TO \"%s\"", wanted->schema, role);
    }
    if (!pj_field_true(result, row, "selectable")) {
        pj_fault(faults, "role \"%s\" may not read table %s", role, name);
        pj_fault_hint(faults, "GRANT SELECT ON %s TO \"%s\"", sql, role);
    }
    if (pj_field_true(result, row, "row_security")) {
        pj_fault(faults, "row security on table %s hides rows from role \"%s\"", name, role);
        pj_fault_hint(faults, "ALTER ROLE \"%s\" BYPASSRLS", role);
    }
}

/* A leaf and its root would claim the same rows. */
static void check_root(const PGresult *result, int row, int count, const char *name, struct pj_faults *faults)
{
    const char *root = pj_field(result, row, "root");
    for (int other = 0; *root && other < count; other++)
        if (other != row && strcmp(pj_field(result, other, "oid"), root) == 0)
            pj_fault(faults, "table %s is a partition of another wanted table; name only one of them", name);
}

static void check_table(const PGresult *result, int row, int count, const struct pj_wanted_table *wanted,
                        const char *role, struct pj_faults *faults)
{
    if (!check_kind(result, row, wanted, faults))
        return;
    char name[160];
    dotted(wanted, name, sizeof name);
    char *sql = quoted(wanted->schema, wanted->name);
    check_persistence(result, row, name, sql, faults);
    check_key(result, row, name, sql, faults);
    if (!faults->streaming)
        check_privileges(result, row, wanted, name, sql, role, faults);
    pj_free(sql);
    check_root(result, row, count, name, faults);
}

static void enter_table(const PGresult *result, int row, const struct pj_wanted_table *wanted, struct pj_table *table)
{
    table->schema = pj_strdup(wanted->schema);
    table->name = pj_strdup(wanted->name);
    table->mirror_sql = quoted(wanted->schema, wanted->name);
    table->oid = pj_field_uint(result, row, "oid");
    table->partitioned = *pj_field(result, row, "relkind") == 'p';
    table->identity_full = *pj_field(result, row, "relreplident") == 'f';
    table->identity_is_key = *pj_field(result, row, "relreplident") != 'i';
    table->index = row;
}

static int query_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count, PGresult **result,
                        struct pj_error *error)
{
    struct pj_buf schemas = {0}, names = {0};
    pj_textarray_begin(&schemas);
    pj_textarray_begin(&names);
    for (int i = 0; i < count; i++) {
        pj_textarray_add(&schemas, wanted[i].schema);
        pj_textarray_add(&names, wanted[i].name);
    }
    pj_textarray_end(&schemas);
    pj_textarray_end(&names);
    const char *params[] = {pj_buf_text(&schemas), pj_buf_text(&names)};
    int code = pj_session_query(write, result, pj_sql_source_tables, 2, params, error);
    pj_buf_free(&schemas);
    pj_buf_free(&names);
    return code;
}

static int read_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count,
                       struct pj_table *tables, struct pj_faults *faults, struct pj_error *error)
{
    const char *role = PQuser(pj_session_conn(write));
    PGresult *result;
    int code = query_tables(write, wanted, count, &result, error);
    for (int row = 0; code == PJ_OK && row < count; row++) {
        check_table(result, row, count, &wanted[row], role, faults);
        enter_table(result, row, &wanted[row], &tables[row]);
    }
    PQclear(result);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- columns */

/* Fills one of the two lists of column indexes from the rows [first, end), whose places count from 0. */
static void read_places(const PGresult *result, int first, int end, const char *place, int count, int *list)
{
    int field = PQfnumber(result, place);
    for (int row = first; row < end; row++) {
        int at = PQgetisnull(result, row, field) ? count : atoi(PQgetvalue(result, row, field));
        if (at < count)
            list[at] = row - first;
    }
}

static bool same_columns(const struct pj_table *table)
{
    for (int i = 0; i < table->nidentity; i++)
        if (table->nidentity != table->nkey || table->identity[i] != table->key[i])
            return false;
    return true;
}

static void read_keys(const PGresult *result, int first, int end, struct pj_table *table)
{
    table->nkey = (int)pj_field_uint(result, first, "key_count");
    table->key = pj_alloc((size_t)table->nkey * sizeof *table->key);
    read_places(result, first, end, "key_place", table->nkey, table->key);
    bool by_key = table->identity_is_key;
    table->nidentity = by_key ? table->nkey : (int)pj_field_uint(result, first, "identity_count");
    table->identity = pj_alloc((size_t)table->nidentity * sizeof *table->identity);
    read_places(result, first, end, by_key ? "key_place" : "identity_place", table->nidentity, table->identity);
    table->identity_is_key = same_columns(table);
}

/* The rows of one table stand together. */
static void read_table_columns(const PGresult *result, struct pj_table *table)
{
    int first = 0, end, rows = PQntuples(result);
    while (first < rows && pj_field_uint(result, first, "attrelid") != table->oid)
        first++;
    for (end = first; end < rows && pj_field_uint(result, end, "attrelid") == table->oid; end++)
        ;
    table->ncolumns = end - first;
    table->columns = pj_alloc((size_t)table->ncolumns * sizeof *table->columns);
    for (int row = first; row < end; row++)
        read_column(result, row, &table->columns[row - first]);
    if (table->ncolumns)
        read_keys(result, first, end, table);
}

int pj_source_query_tables(struct pj_session *write, const struct pj_table *tables, int count, const char *sql,
                           PGresult **result, struct pj_error *error)
{
    struct pj_buf oids = {0};
    pj_textarray_begin(&oids);
    for (int i = 0; i < count; i++)
        pj_textarray_add_oid(&oids, tables[i].oid);
    pj_textarray_end(&oids);
    const char *params[] = {pj_buf_text(&oids)};
    int code = pj_session_query(write, result, sql, 1, params, error);
    pj_buf_free(&oids);
    return code;
}

static int read_columns(struct pj_session *write, struct pj_table *tables, int count, struct pj_error *error)
{
    PGresult *result;
    int code = pj_source_query_tables(write, tables, count, pj_sql_source_columns, &result, error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        read_table_columns(result, &tables[i]);
    PQclear(result);
    return code;
}

/* Between the queries a table may have gone. */
static int check_columns(const struct pj_table *tables, int count, struct pj_error *error)
{
    for (int i = 0; i < count; i++)
        if (!tables[i].nkey || !tables[i].nidentity)
            return pj_error_set(error, PJ_ESCHEMA, "table %s.%s changed while it was looked at", tables[i].schema,
                                tables[i].name);
    return PJ_OK;
}

/* ----------------------------------------------------------------------------------------------------------- all */

int pj_source_read_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count, bool streaming,
                          struct pj_table **out, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_faults faults = {.streaming = streaming};
    struct pj_table *tables = pj_alloc((size_t)count * sizeof *tables);
    int code = read_tables(write, wanted, count, tables, &faults, error);
    if (code == PJ_OK && !faults.count)
        code = read_columns(write, tables, count, error);
    if (code == PJ_OK && !faults.count)
        code = check_columns(tables, count, error);
    if (code == PJ_OK && !faults.count)
        code = pj_source_read_leaves(write, tables, count, &faults, error);
    struct pj_error ignored;
    int faulty = pj_faults_report(&faults, PJ_ECONFIG, code == PJ_OK ? error : &ignored);
    if (code == PJ_OK)
        code = faulty;
    if (code != PJ_OK) {
        pj_source_tables_free(tables, count);
        tables = NULL;
    }
    *out = tables;
    return code;
}

void pj_wanted_table_free(struct pj_wanted_table *table)
{
    pj_free(table->schema);
    pj_free(table->name);
    pj_free(table->wanted_by);
}

int pj_source_tables(struct pj_session *write, const struct pj_wanted_table *wanted, int count,
                     struct pj_table **tables, struct pj_error *error)
{
    return pj_source_read_tables(write, wanted, count, false, tables, error);
}

void pj_source_tables_free(struct pj_table *tables, int count)
{
    for (int i = 0; tables && i < count; i++) {
        for (int leaf = 0; leaf < tables[i].nleaves; leaf++) {
            pj_free(tables[i].leaves[leaf].schema);
            pj_free(tables[i].leaves[leaf].name);
        }
        pj_free(tables[i].leaves);
        tables[i].leaves = NULL;
        tables[i].nleaves = 0;
        pj_table_free(&tables[i]);
    }
    pj_free(tables);
}
