/*
 * The statements of one item, a table or a projection, chunk by chunk: rows and deltas become arrays, one a column. The
 * cursor over items is in writer.c.
 */
#include "core/writer_internal.h"

#include "core/project.h"
#include "pg/array.h"

#include <stdlib.h>
#include <string.h>

/* A chunk of deltas ends by its rows, but where their texts are large. */
enum { CHUNK_ROWS = 4096, CHUNK_BYTES = 512 * 1024, VALUES_BYTES = 4 << 20 };

static void begin_arrays(struct pj_writer *writer, int count, const enum pj_type *types)
{
    for (int i = 0; i < count; i++)
        pj_array_begin(&writer->arrays[i], types[i]);
}

static void end_arrays(struct pj_writer *writer, int count, size_t rows)
{
    for (int i = 0; i < count; i++) {
        pj_array_end(&writer->arrays[i], rows);
        writer->params[i] =
            (struct pj_value){(const unsigned char *)writer->arrays[i].data, (int32_t)writer->arrays[i].length};
    }
}

/* The parameters of rows that were put into arrays, the last of which is `last`: one alone goes by its values. */
static void end_rows(struct pj_writer *writer, int count, size_t rows, const struct pj_value *last)
{
    if (pj_given(rows) == PJ_MANY)
        end_arrays(writer, count, rows);
    else
        memcpy(writer->params, last, (size_t)count * sizeof *last);
}

/* What an element takes in an array. */
static size_t element_bytes(struct pj_value value)
{
    return sizeof(int32_t) + (value.length > 0 ? (size_t)value.length : 0);
}

/* A written chunk must have met exactly the rows it was meant for. */
struct chunk {
    const struct pj_table *table;
    const char *verb;
    size_t rows;
};

static int on_chunk(void *context, const PGresult *result, struct pj_error *error)
{
    const struct chunk *chunk = context;
    size_t met = strtoull(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10);
    if (met == chunk->rows)
        return PJ_OK;
    pj_error_set(error, PJ_EDATA, "mirror %s.%s: %s met %zu rows, not %zu", chunk->table->schema, chunk->table->name,
                 chunk->verb, met, chunk->rows);
    return pj_error_hint(error, "the mirror no longer equals the source; was it written to by hand? Stop the daemon, "
                                "run `pgprojector resync` and start it again");
}

static struct chunk *make_chunk(struct pj_writer *writer, const struct pj_table *table, const char *verb, size_t rows)
{
    struct chunk *chunk = pj_arena_alloc(&writer->batch->arena, sizeof *chunk);
    *chunk = (struct chunk){table, verb, rows};
    return chunk;
}

static void put_identities(struct pj_writer *writer, const struct pj_table *table, struct pj_row *const *rows,
                           size_t count)
{
    for (int c = 0; c < table->nidentity; c++) {
        pj_array_begin(&writer->arrays[c], table->columns[table->identity[c]].type);
        for (size_t i = 0; i < count; i++)
            pj_array_put(&writer->arrays[c], rows[i]->identity[c]);
    }
    end_rows(writer, table->nidentity, count, rows[count - 1]->identity);
}

void pj_writer_send_fetch(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table *table,
                          struct pj_row *const *rows, size_t count, size_t share, pj_result_fn result, void *context)
{
    unsigned char space[8];
    char name[PJ_STATEMENT_NAME];
    bool wide = pj_table_wide_columns(table) > 0;
    put_identities(writer, table, rows, count);
    writer->params[table->nidentity] = pj_make_int64((int64_t)share, space);
    sink->execute(sink->self, pj_statement_mirror(PJ_FETCH_OLD, table->index, pj_given(count), name),
                  table->nidentity + wide, writer->params, result, context);
}

/*
 * What a row needs in the mirror; a truncated mirror is empty by then. Of a table that is joining every row is
 * "deleted": the statement of that name notes its identity (core/statements.c).
 */
static bool is_deleted(const struct pj_table_rows *rows, const struct pj_row *row)
{
    if (rows->table->joining)
        return true;
    if (rows->truncated || !row->old)
        return false;
    return !row->new_row || !pj_project_same_key(rows->table, row);
}

static bool is_updated(const struct pj_table_rows *rows, const struct pj_row *row)
{
    return !rows->table->joining && row->old && row->new_row && pj_project_same_key(rows->table, row) &&
           pj_row_changed(rows->table, row);
}

static bool is_inserted(const struct pj_table_rows *rows, const struct pj_row *row)
{
    return !rows->table->joining && row->new_row && (!row->old || !pj_project_same_key(rows->table, row));
}

typedef bool (*row_test)(const struct pj_table_rows *rows, const struct pj_row *row);

/* The whole table, or the partitions that were truncated by themselves. */
static void send_emptying(const struct pj_sink *sink, const struct pj_table_rows *rows)
{
    char name[PJ_STATEMENT_NAME];
    if (rows->truncated || rows->table->joining)
        sink->execute(sink->self, pj_statement_mirror(PJ_EMPTY, rows->table->index, PJ_MANY, name), 0, NULL, NULL,
                      NULL);
    for (const struct pj_emptied *emptied = rows->emptied; emptied && !rows->table->joining; emptied = emptied->next) {
        struct pj_buf sql = {0};
        pj_buf_printf(&sql, "DELETE FROM %s WHERE %s", rows->table->mirror_sql, emptied->condition);
        sink->query(sink->self, sql.data, NULL, NULL);
        pj_buf_free(&sql);
    }
}

bool pj_writer_send_deletes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows)
{
    struct pj_row *chunk[CHUNK_ROWS];
    size_t count = 0;
    if (writer->stream == 0 && (rows->truncated || rows->emptied)) {
        writer->stream = 1;
        send_emptying(sink, rows);
        return true;
    }
    for (; writer->at < rows->count && count < CHUNK_ROWS; writer->at++)
        if (is_deleted(rows, rows->rows[writer->at]))
            chunk[count++] = rows->rows[writer->at];
    if (!count)
        return false;
    put_identities(writer, rows->table, chunk, count);
    char name[PJ_STATEMENT_NAME];
    sink->execute(sink->self, pj_statement_mirror(PJ_DELETE_ROWS, rows->table->index, pj_given(count), name),
                  rows->table->nidentity, writer->params, on_chunk, make_chunk(writer, rows->table, "DELETE", count));
    return true;
}

static bool send_rows(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows,
                      row_test wanted, enum pj_mirror_statement which, const char *verb)
{
    const struct pj_table *table = rows->table;
    const struct pj_value *last = NULL;
    size_t count = 0, bytes = 0;
    for (int c = 0; c < table->ncolumns; c++)
        pj_array_begin(&writer->arrays[c], table->columns[c].type);
    for (; writer->at < rows->count && count < CHUNK_ROWS && bytes < CHUNK_BYTES; writer->at++) {
        const struct pj_row *row = rows->rows[writer->at];
        if (!wanted(rows, row))
            continue;
        for (int c = 0; c < table->ncolumns; c++) {
            pj_array_put(&writer->arrays[c], row->new_row[c]);
            bytes += element_bytes(row->new_row[c]);
        }
        last = row->new_row;
        count++;
    }
    if (!count)
        return false;
    end_rows(writer, table->ncolumns, count, last);
    char name[PJ_STATEMENT_NAME];
    sink->execute(sink->self, pj_statement_mirror(which, table->index, pj_given(count), name), table->ncolumns,
                  writer->params, on_chunk, make_chunk(writer, table, verb, count));
    return true;
}

bool pj_writer_send_updates(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows)
{
    return send_rows(writer, sink, rows, is_updated, PJ_UPDATE_ROWS, "UPDATE");
}

bool pj_writer_send_inserts(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows)
{
    return send_rows(writer, sink, rows, is_inserted, PJ_INSERT_ROWS, "INSERT");
}

/* Values that become arrays. */
struct rows {
    const struct pj_value *values;
    size_t count;
    int width; /* values a row */
    const enum pj_type *types;
};

/* Puts rows from the cursor on into arrays; returns how many. */
static size_t put_values(struct pj_writer *writer, const struct rows *rows)
{
    size_t count = 0, bytes = 0;
    begin_arrays(writer, rows->width, rows->types);
    for (; writer->at < rows->count && count < CHUNK_ROWS && bytes < VALUES_BYTES; writer->at++, count++)
        for (int c = 0; c < rows->width; c++) {
            const struct pj_value *value = &rows->values[writer->at * (size_t)rows->width + (size_t)c];
            pj_array_put(&writer->arrays[c], *value);
            bytes += element_bytes(*value);
        }
    return count;
}

/* Sends what the parameters hold. `touches`: the projection whose rows it writes, or -1. */
static void send_statement(struct pj_writer *writer, const struct pj_sink *sink, const char *statement, int width,
                           int touches)
{
    struct pj_touching *touching = touches < 0 ? NULL : pj_writer_touching(writer, touches);
    sink->execute(sink->self, statement, width, writer->params, touching ? pj_writer_on_touched : NULL, touching);
}

/* Sends rows from the cursor on, as arrays, to a statement. */
static bool send_values(struct pj_writer *writer, const struct pj_sink *sink, const char *statement,
                        const struct rows *rows, int touches)
{
    if (writer->at >= rows->count)
        return false;
    end_arrays(writer, rows->width, put_values(writer, rows));
    send_statement(writer, sink, statement, rows->width, touches);
    return true;
}

/* The dirty keys of a projection: single rows where `full`, else routing keys. */
static struct rows dirty_rows(const struct pj_projection *projection, bool full)
{
    struct rows rows = {.width = full ? projection->nkey : 1, .types = projection->key_kinds};
    rows.values = full ? pj_deltas_full_keys(projection->deltas, &rows.count)
                       : pj_deltas_routing_keys(projection->deltas, &rows.count);
    return rows;
}

bool pj_writer_send_merge(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection)
{
    for (; writer->stream < projection->nstreams; writer->stream++, writer->at = 0) {
        const struct pj_stream *stream = &projection->module->streams[writer->stream];
        enum pj_type types[PJ_MAX_SOURCE_COLUMNS];
        struct rows rows = {.width = pj_stream_column_count(stream), .types = types};
        for (int c = 0; c < rows.width; c++)
            types[c] = stream->columns[c].type;
        rows.values = pj_deltas_rows(projection->deltas, writer->stream, &rows.count);
        if (writer->at >= rows.count)
            continue;
        size_t count = put_values(writer, &rows);
        end_rows(writer, rows.width, count, &rows.values[(writer->at - 1) * (size_t)rows.width]);
        char name[PJ_STATEMENT_NAME];
        pj_statement_merge(writer->item, writer->stream, pj_given(count), name);
        send_statement(writer, sink, name, rows.width, writer->item);
        return true;
    }
    return false;
}

/* A recomputation of everything is planned for itself, with the planner's whole choice. */
static bool send_recompute_all(struct pj_writer *writer, const struct pj_sink *sink,
                               const struct pj_projection *projection)
{
    if (writer->stream > 2)
        return false;
    writer->stream = 3;
    sink->query(sink->self, "SET LOCAL enable_seqscan = on", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_hashjoin = on", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_mergejoin = on", NULL, NULL);
    struct pj_touching *touching = pj_writer_touching(writer, writer->item);
    sink->query(sink->self, projection->recompute_all_sql, touching ? pj_writer_on_all_touched : NULL, touching);
    sink->query(sink->self, "SET LOCAL enable_seqscan = off", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_hashjoin = off", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_mergejoin = off", NULL, NULL);
    return true;
}

bool pj_writer_send_recompute(struct pj_writer *writer, const struct pj_sink *sink,
                              const struct pj_projection *projection)
{
    if (pj_deltas_all_dirty(projection->deltas))
        return send_recompute_all(writer, sink, projection);
    for (; writer->stream < 2; writer->stream++, writer->at = 0) {
        bool full = writer->stream == 1;
        const struct rows rows = dirty_rows(projection, full);
        char name[PJ_STATEMENT_NAME];
        if (send_values(writer, sink, pj_statement_recompute(writer->item, full, name), &rows, writer->item))
            return true;
    }
    return false;
}

bool pj_writer_send_notes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection)
{
    char name[PJ_STATEMENT_NAME];
    if (pj_deltas_all_dirty(projection->deltas)) {
        if (writer->stream > 2)
            return false;
        writer->stream = 3;
        sink->execute(sink->self, pj_statement_note(writer->item, PJ_NOTE_ALL, name), 0, NULL, NULL, NULL);
        return true;
    }
    for (; writer->stream < 2; writer->stream++, writer->at = 0) {
        bool full = writer->stream == 1;
        const struct rows rows = dirty_rows(projection, full);
        pj_statement_note(writer->item, full ? PJ_NOTE_FULL : PJ_NOTE_ROUTING, name);
        if (send_values(writer, sink, name, &rows, -1))
            return true;
    }
    return false;
}

void pj_writer_recompute(struct pj_writer *writer, const struct pj_sink *sink, int projection,
                         const struct pj_value *keys, size_t count)
{
    char name[PJ_STATEMENT_NAME];
    const struct rows rows = {keys, count, 1, writer->setup->projections[projection].key_kinds};
    writer->at = 0;
    while (send_values(writer, sink, pj_statement_recompute(projection, false, name), &rows, projection))
        ;
}

static struct pj_value text_value(const char *text)
{
    return (struct pj_value){(const unsigned char *)text, (int32_t)strlen(text)};
}

void pj_writer_park(struct pj_writer *writer, const struct pj_sink *sink, int projection, const struct pj_value *key,
                    const struct pj_error *failure, pj_lsn lsn)
{
    char name[PJ_STATEMENT_NAME];
    unsigned char space[8];
    pj_array_begin(&writer->arrays[0], writer->setup->projections[projection].key_kinds[0]);
    pj_array_put(&writer->arrays[0], *key);
    end_arrays(writer, 1, 1);
    struct pj_value params[4] = {writer->params[0], text_value(failure->sqlstate), text_value(failure->message),
                                 pj_make_int64((int64_t)lsn, space)};
    sink->execute(sink->self, pj_statement_park(projection, name), 4, params, NULL, NULL);
}
