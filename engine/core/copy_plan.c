/*
 * See copy_plan.h. A large relation is cut by block numbers: the server reads such a range of ctids without touching
 * the rest (since version 14; older ones would read the whole table for every piece, so there nothing is cut).
 */
#include "core/copy_plan.h"

#include "base/mem.h"
#include "core/mirror.h"
#include "core/source_internal.h"
#include "sql.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 64 * 1024 * 1024 };

/* -------------------------------------------------------------------------------------------------------- pieces */

static void add_piece(struct pj_copy_plan *plan, const struct pj_table *table, const char *relation, int64_t first,
                      int64_t end)
{
    plan->pieces = pj_realloc(plan->pieces, (size_t)(plan->count + 1) * sizeof *plan->pieces);
    plan->pieces[plan->count++] = (struct pj_copy_piece){table, pj_strdup(relation), first, end};
}

/* The last piece is open: rows may lie in blocks added since the size was read. */
void pj_copy_plan_cut(struct pj_copy_plan *plan, const struct pj_table *table, const char *relation, int64_t blocks,
                      int64_t least)
{
    int64_t first = 0;
    for (; least > 0 && blocks - first >= 2 * least; first += least)
        add_piece(plan, table, relation, first, first + least);
    add_piece(plan, table, relation, first, -1);
}

void pj_copy_plan_free(struct pj_copy_plan *plan)
{
    for (int i = 0; i < plan->count; i++)
        pj_free(plan->pieces[i].relation);
    pj_free(plan->pieces);
    *plan = (struct pj_copy_plan){0};
}

/* ---------------------------------------------------------------------------------------------------------- plan */

static const struct pj_table *table_of(const struct pj_table *tables, int count, uint32_t oid)
{
    for (int i = 0; i < count; i++)
        if (tables[i].oid == oid)
            return &tables[i];
    return NULL;
}

int pj_copy_plan_make(struct pj_session *write, const struct pj_table *tables, int count, struct pj_copy_plan *plan,
                      struct pj_error *error)
{
    memset(plan, 0, sizeof *plan);
    PGresult *sizes;
    int code = pj_source_query_tables(write, tables, count, pj_sql_copy_sizes, &sizes, error);
    bool by_ranges = PQserverVersion(pj_session_conn(write)) >= 140000;
    for (int row = 0; code == PJ_OK && row < PQntuples(sizes); row++) {
        int64_t blocks = strtoll(pj_field(sizes, row, "blocks"), NULL, 10);
        int64_t rows = strtoll(pj_field(sizes, row, "rows"), NULL, 10);
        int64_t least = by_ranges ? PIECE_BYTES / strtoll(pj_field(sizes, row, "block_size"), NULL, 10) : 0;
        const struct pj_table *table = table_of(tables, count, pj_field_uint(sizes, row, "root"));
        pj_copy_plan_cut(plan, table, pj_field(sizes, row, "sql_name"), blocks, least);
        plan->rows_expected += rows > 0 ? rows : 0;
    }
    PQclear(sizes);
    return code;
}

/* ---------------------------------------------------------------------------------------------------- statements */

static bool starts(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/*
 * Built-in types have the same oids everywhere, but regclass and its like are numbers that mean something else in
 * another database, and aclitem has no binary form. Of the others only enums: their binary form is the label.
 */
bool pj_copy_column_binary(const struct pj_table_column *column)
{
    if (column->type_oid >= 16384)
        return column->output_sql && strcmp(column->output_sql, "pg_catalog.enum_out") == 0;
    return !starts(column->cast_sql, "pg_catalog.reg") && !starts(column->cast_sql, "pg_catalog.aclitem");
}

const char *pj_copy_format(const struct pj_table *table)
{
    for (int i = 0; i < table->ncolumns; i++)
        if (!pj_copy_column_binary(&table->columns[i]))
            return "text";
    return "binary";
}

void pj_copy_piece_out(const struct pj_copy_piece *piece, struct pj_buf *sql)
{
    pj_buf_puts(sql, "COPY (SELECT ");
    pj_mirror_columns(sql, piece->table, NULL);
    pj_buf_printf(sql, " FROM ONLY %s", piece->relation);
    if (piece->first > 0)
        pj_buf_printf(sql, " WHERE ctid >= '(%lld,0)'::pg_catalog.tid", (long long)piece->first);
    if (piece->end >= 0)
        pj_buf_printf(sql, " %s ctid < '(%lld,0)'::pg_catalog.tid", piece->first > 0 ? "AND" : "WHERE",
                      (long long)piece->end);
    pj_buf_printf(sql, ") TO STDOUT (FORMAT %s)", pj_copy_format(piece->table));
}

void pj_copy_piece_in(const struct pj_copy_piece *piece, struct pj_buf *sql)
{
    pj_buf_printf(sql, "COPY %s (", piece->table->mirror_sql);
    pj_mirror_columns(sql, piece->table, NULL);
    pj_buf_printf(sql, ") FROM STDIN (FORMAT %s)", pj_copy_format(piece->table));
}
