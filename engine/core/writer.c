/*
 * See writer.h. A cursor walks over phases, and in each over tables or projections, and there over chunks of rows:
 *
 *      DELETES (tables) -> UPDATES -> INSERTS -> MERGES (projections, streams) -> RECOMPUTE (projections) -> END
 *
 * Deletes come before updates and inserts, so that rows may swap keys. A row whose identity stays but whose primary key
 * changes (identity by another index) is written as delete and insert for the same reason.
 */
#include "core/writer.h"

#include "pg/array.h"

#include <stdlib.h>

enum phase { DELETES, UPDATES, INSERTS, MERGES, RECOMPUTE, END };

enum {
    CHUNK_ROWS = 4096,
    CHUNK_BYTES = 512 * 1024,
    CARRIED_KEYS = 50000 /* dirty keys kept over the parts of one transaction; more: the whole projection */
};

struct pj_writer {
    struct pj_setup *setup;
    struct pj_batch *batch;
    bool last;
    enum phase phase;
    int item;      /* table or projection */
    int stream;    /* MERGES: stream; RECOMPUTE: 0 routing keys, 1 full keys, 2 all */
    size_t at;     /* row within the item */
    struct pj_buf *arrays; /* one for each parameter; reused */
    struct pj_value *params;
    int width;             /* how many of them */
    struct pj_deltas **carried; /* one a projection: dirty keys of the parts so far */
    bool carrying;
};

struct pj_writer *pj_writer_new(struct pj_setup *setup)
{
    struct pj_writer *writer = pj_alloc(sizeof *writer);
    writer->setup = setup;
    writer->width = PJ_MAX_SOURCE_COLUMNS;
    for (int i = 0; i < setup->ntables; i++)
        if (setup->tables[i].ncolumns > writer->width)
            writer->width = setup->tables[i].ncolumns;
    writer->arrays = pj_alloc((size_t)writer->width * sizeof *writer->arrays);
    writer->params = pj_alloc((size_t)writer->width * sizeof *writer->params);
    writer->carried = pj_alloc((size_t)(setup->nprojections + 1) * sizeof *writer->carried);
    for (int i = 0; i < setup->nprojections; i++)
        writer->carried[i] = pj_deltas_new(setup->projections[i].module, setup->projections[i].options);
    return writer;
}

void pj_writer_free(struct pj_writer *writer)
{
    if (!writer)
        return;
    for (int i = 0; i < writer->width; i++)
        pj_buf_free(&writer->arrays[i]);
    for (int i = 0; i < writer->setup->nprojections; i++)
        pj_deltas_free(writer->carried[i]);
    pj_free(writer->arrays);
    pj_free(writer->params);
    pj_free(writer->carried);
    pj_free(writer);
}

void pj_writer_begin_transaction(struct pj_writer *writer)
{
    for (int i = 0; writer->carrying && i < writer->setup->nprojections; i++)
        pj_deltas_reset(writer->carried[i]);
    writer->carrying = false;
}

/* ------------------------------------------------------------------------------------------------ running the modules */

static void pick(const struct pj_projection_source *source, const struct pj_value *row, struct pj_value *out)
{
    for (int i = 0; i < source->width; i++)
        out[i] = row[source->columns[i]];
}

static bool same_key(const struct pj_table *table, const struct pj_row *row)
{
    if (table->identity_is_key)
        return true;
    for (int i = 0; i < table->nkey; i++)
        if (!pj_equal(row->old[table->key[i]], row->new_row[table->key[i]]))
            return false;
    return true;
}

/* Hands one pair to apply(); a side that is NULL is left out. */
static int project_pair(struct pj_projection *projection, int index, const struct pj_value *old,
                        const struct pj_value *new_row, struct pj_error *error)
{
    struct pj_projection_source *source = &projection->sources[index];
    struct pj_value picked_old[PJ_MAX_SOURCE_COLUMNS], picked_new[PJ_MAX_SOURCE_COLUMNS];
    struct pj_change change = {.source = index};
    if (old) {
        pick(source, old, picked_old);
        change.old_row = picked_old;
    }
    if (new_row) {
        pick(source, new_row, picked_new);
        change.new_row = picked_new;
    }
    return pj_deltas_apply(projection->deltas, &change, error);
}

/* Modules are promised that a pair has one primary key; under another replica identity it may have changed. */
static int project_row(struct pj_projection *projection, int index, const struct pj_table *table,
                       const struct pj_row *row, struct pj_error *error)
{
    if (!row->old || !row->new_row || same_key(table, row))
        return project_pair(projection, index, row->old, row->new_row, error);
    int code = project_pair(projection, index, row->old, NULL, error);
    return code == PJ_OK ? project_pair(projection, index, NULL, row->new_row, error) : code;
}

static int project_table(struct pj_projection *projection, int index, const struct pj_table_rows *rows,
                         struct pj_error *error)
{
    if (rows->truncated || rows->emptied)
        pj_deltas_mark_all(projection->deltas);
    for (size_t i = 0; i < rows->count; i++) {
        if (!pj_row_changed(rows->table, rows->rows[i]))
            continue;
        int code = project_row(projection, index, rows->table, rows->rows[i], error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

static int project(struct pj_projection *projection, const struct pj_batch *batch, struct pj_error *error)
{
    pj_deltas_reset(projection->deltas);
    for (int s = 0; s < projection->nsources; s++) {
        int code = project_table(projection, s, &batch->tables[projection->sources[s].table->index], error);
        if (code != PJ_OK)
            return pj_error_wrap(error, "projection %s", projection->module->name);
    }
    return PJ_OK;
}

/* Adds the dirty keys of `from` to `to`. */
static size_t hand_over(const struct pj_deltas *from, struct pj_deltas *to, int nkey)
{
    size_t nrouting, nfull;
    const struct pj_value *routing = pj_deltas_routing_keys(from, &nrouting);
    const struct pj_value *full = pj_deltas_full_keys(from, &nfull);
    if (pj_deltas_all_dirty(from))
        pj_deltas_mark_all(to);
    for (size_t i = 0; i < nrouting; i++)
        pj_deltas_mark(to, &routing[i], 1);
    for (size_t i = 0; i < nfull; i++)
        pj_deltas_mark(to, &full[i * (size_t)nkey], nkey);
    return nrouting + nfull;
}

/* Between parts the dirty keys are set aside; with the last part they come back. */
static void settle_dirty_keys(struct pj_writer *writer, int index)
{
    struct pj_projection *projection = &writer->setup->projections[index];
    struct pj_deltas *carried = writer->carried[index];
    if (writer->last) {
        if (writer->carrying) {
            pj_deltas_finish(carried);
            hand_over(carried, projection->deltas, projection->nkey);
        }
        pj_deltas_finish(projection->deltas);
        return;
    }
    pj_deltas_finish(projection->deltas);
    hand_over(projection->deltas, carried, projection->nkey);
    pj_deltas_finish(carried);
    size_t nrouting, nfull;
    pj_deltas_routing_keys(carried, &nrouting);
    pj_deltas_full_keys(carried, &nfull);
    if (nrouting + nfull > CARRIED_KEYS) {
        pj_deltas_reset(carried);
        pj_deltas_mark_all(carried);
    }
}

int pj_writer_prepare(struct pj_writer *writer, struct pj_batch *batch, bool last, struct pj_error *error)
{
    writer->batch = batch;
    writer->last = last;
    writer->phase = DELETES;
    writer->item = writer->stream = 0;
    writer->at = 0;
    for (int i = 0; i < writer->setup->nprojections; i++) {
        struct pj_projection *projection = &writer->setup->projections[i];
        if (!projection->target_sql)
            continue;
        int code = project(projection, batch, error);
        if (code != PJ_OK)
            return code;
        settle_dirty_keys(writer, i);
    }
    writer->carrying = !last;
    return PJ_OK;
}

/* -------------------------------------------------------------------------------------------------------- sending */

static void begin_arrays(struct pj_writer *writer, int count, const enum pj_type *types)
{
    for (int i = 0; i < count; i++)
        pj_array_begin(&writer->arrays[i], types[i]);
}

static void end_arrays(struct pj_writer *writer, int count, size_t rows)
{
    for (int i = 0; i < count; i++) {
        pj_array_end(&writer->arrays[i], rows);
        writer->params[i] = (struct pj_value){(const unsigned char *)writer->arrays[i].data,
                                              (int32_t)writer->arrays[i].length};
    }
}

static size_t arrays_bytes(const struct pj_writer *writer, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += writer->arrays[i].length;
    return bytes;
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
    return pj_error_hint(error, "the mirror no longer equals the source; was it written to by hand? `pgprojector verify` "
                                "shows where it differs");
}

static struct chunk *make_chunk(struct pj_writer *writer, const struct pj_table *table, const char *verb, size_t rows)
{
    struct chunk *chunk = pj_arena_alloc(&writer->batch->arena, sizeof *chunk);
    *chunk = (struct chunk){table, verb, rows};
    return chunk;
}

void pj_writer_send_identities(struct pj_writer *writer, struct pj_pipe *pipe, enum pj_mirror_statement which,
                               const struct pj_table *table, struct pj_row *const *rows, size_t count,
                               pj_result_fn result, void *context)
{
    for (int c = 0; c < table->nidentity; c++) {
        pj_array_begin(&writer->arrays[c], table->columns[table->identity[c]].type);
        for (size_t i = 0; i < count; i++)
            pj_array_put(&writer->arrays[c], rows[i]->identity[c]);
    }
    end_arrays(writer, table->nidentity, count);
    char name[PJ_STATEMENT_NAME];
    pj_pipe_execute(pipe, pj_statement_mirror(which, table->index, name), table->nidentity, writer->params, result,
                    context);
}

/* What a row needs in the mirror; a truncated mirror is empty by then. */
static bool is_deleted(const struct pj_table_rows *rows, const struct pj_row *row)
{
    if (rows->truncated || !row->old)
        return false;
    return !row->new_row || !same_key(rows->table, row);
}

static bool is_updated(const struct pj_table_rows *rows, const struct pj_row *row)
{
    return row->old && row->new_row && same_key(rows->table, row) && pj_row_changed(rows->table, row);
}

static bool is_inserted(const struct pj_table_rows *rows, const struct pj_row *row)
{
    return row->new_row && (!row->old || !same_key(rows->table, row));
}

typedef bool (*row_test)(const struct pj_table_rows *rows, const struct pj_row *row);

/* The whole table, or the partitions that were truncated by themselves. */
static void send_emptying(struct pj_pipe *pipe, const struct pj_table_rows *rows)
{
    char name[PJ_STATEMENT_NAME];
    if (rows->truncated)
        pj_pipe_execute(pipe, pj_statement_mirror(PJ_EMPTY, rows->table->index, name), 0, NULL, NULL, NULL);
    for (const struct pj_emptied *emptied = rows->emptied; emptied; emptied = emptied->next) {
        struct pj_buf sql = {0};
        pj_buf_printf(&sql, "DELETE FROM %s WHERE %s", rows->table->mirror_sql, emptied->condition);
        pj_pipe_query(pipe, sql.data, NULL, NULL);
        pj_buf_free(&sql);
    }
}

/* Sends the next chunk of deletes of the table under the cursor; false when there is none left. */
static bool send_deletes(struct pj_writer *writer, struct pj_pipe *pipe, const struct pj_table_rows *rows)
{
    struct pj_row *chunk[CHUNK_ROWS];
    size_t count = 0;
    if (writer->stream == 0 && (rows->truncated || rows->emptied)) {
        writer->stream = 1;
        send_emptying(pipe, rows);
        return true;
    }
    for (; writer->at < rows->count && count < CHUNK_ROWS; writer->at++)
        if (is_deleted(rows, rows->rows[writer->at]))
            chunk[count++] = rows->rows[writer->at];
    if (!count)
        return false;
    pj_writer_send_identities(writer, pipe, PJ_DELETE_ROWS, rows->table, chunk, count, on_chunk,
                              make_chunk(writer, rows->table, "DELETE", count));
    return true;
}

static bool send_rows(struct pj_writer *writer, struct pj_pipe *pipe, const struct pj_table_rows *rows, row_test wanted,
                      enum pj_mirror_statement which, const char *verb)
{
    const struct pj_table *table = rows->table;
    size_t count = 0, bytes = 0;
    for (int c = 0; c < table->ncolumns; c++)
        pj_array_begin(&writer->arrays[c], table->columns[c].type);
    for (; writer->at < rows->count && count < CHUNK_ROWS && bytes < CHUNK_BYTES; writer->at++) {
        const struct pj_row *row = rows->rows[writer->at];
        if (!wanted(rows, row))
            continue;
        for (int c = 0; c < table->ncolumns; c++)
            pj_array_put(&writer->arrays[c], row->new_row[c]);
        if (++count % 64 == 0)
            bytes = arrays_bytes(writer, table->ncolumns);
    }
    if (!count)
        return false;
    end_arrays(writer, table->ncolumns, count);
    char name[PJ_STATEMENT_NAME];
    pj_pipe_execute(pipe, pj_statement_mirror(which, table->index, name), table->ncolumns, writer->params, on_chunk,
                    make_chunk(writer, table, verb, count));
    return true;
}

/* Sends `values`, `width` a row, from the cursor on, as arrays to a statement. */
static bool send_values(struct pj_writer *writer, struct pj_pipe *pipe, const char *statement,
                        const struct pj_value *values, size_t rows, int width, const enum pj_type *types)
{
    if (writer->at >= rows)
        return false;
    size_t count = rows - writer->at < CHUNK_ROWS ? rows - writer->at : CHUNK_ROWS;
    begin_arrays(writer, width, types);
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < width; c++)
            pj_array_put(&writer->arrays[c], values[(writer->at + i) * (size_t)width + (size_t)c]);
    end_arrays(writer, width, count);
    writer->at += count;
    pj_pipe_execute(pipe, statement, width, writer->params, NULL, NULL);
    return true;
}

static bool send_merge(struct pj_writer *writer, struct pj_pipe *pipe, const struct pj_projection *projection)
{
    for (; writer->stream < projection->nstreams; writer->stream++, writer->at = 0) {
        const struct pj_stream *stream = &projection->module->streams[writer->stream];
        int width = pj_stream_column_count(stream);
        enum pj_type types[PJ_MAX_SOURCE_COLUMNS];
        for (int c = 0; c < width; c++)
            types[c] = stream->columns[c].type;
        size_t rows;
        const struct pj_value *values = pj_deltas_rows(projection->deltas, writer->stream, &rows);
        char name[PJ_STATEMENT_NAME];
        if (send_values(writer, pipe, pj_statement_merge(writer->item, writer->stream, name), values, rows, width, types))
            return true;
    }
    return false;
}

/* A recomputation of everything is planned for itself, with the planner's whole choice. */
static bool send_recompute_all(struct pj_writer *writer, struct pj_pipe *pipe, const struct pj_projection *projection)
{
    if (writer->stream > 2)
        return false;
    writer->stream = 3;
    pj_pipe_query(pipe, "SET LOCAL enable_seqscan = on", NULL, NULL);
    pj_pipe_query(pipe, "SET LOCAL enable_hashjoin = on", NULL, NULL);
    pj_pipe_query(pipe, "SET LOCAL enable_mergejoin = on", NULL, NULL);
    pj_pipe_query(pipe, projection->recompute_all_sql, NULL, NULL);
    pj_pipe_query(pipe, "SET LOCAL enable_seqscan = off", NULL, NULL);
    pj_pipe_query(pipe, "SET LOCAL enable_hashjoin = off", NULL, NULL);
    pj_pipe_query(pipe, "SET LOCAL enable_mergejoin = off", NULL, NULL);
    return true;
}

static bool send_recompute(struct pj_writer *writer, struct pj_pipe *pipe, const struct pj_projection *projection)
{
    if (pj_deltas_all_dirty(projection->deltas))
        return send_recompute_all(writer, pipe, projection);
    for (; writer->stream < 2; writer->stream++, writer->at = 0) {
        bool full = writer->stream == 1;
        size_t rows;
        const struct pj_value *keys =
            full ? pj_deltas_full_keys(projection->deltas, &rows) : pj_deltas_routing_keys(projection->deltas, &rows);
        char name[PJ_STATEMENT_NAME];
        if (send_values(writer, pipe, pj_statement_recompute(writer->item, full, name), keys, rows,
                        full ? projection->nkey : 1, projection->key_kinds))
            return true;
    }
    return false;
}

/* Sends the next statement of the item under the cursor; false when the item has none left. */
static bool send_next(struct pj_writer *writer, struct pj_pipe *pipe)
{
    const struct pj_projection *projection = &writer->setup->projections[writer->item];
    const struct pj_table_rows *rows = &writer->batch->tables[writer->item];
    switch (writer->phase) {
    case DELETES:
        return send_deletes(writer, pipe, rows);
    case UPDATES:
        return send_rows(writer, pipe, rows, is_updated, PJ_UPDATE_ROWS, "UPDATE");
    case INSERTS:
        return send_rows(writer, pipe, rows, is_inserted, PJ_INSERT_ROWS, "INSERT");
    case MERGES:
        return projection->target_sql && send_merge(writer, pipe, projection);
    case RECOMPUTE:
        return projection->target_sql && writer->last && send_recompute(writer, pipe, projection);
    case END:
        break;
    }
    return false;
}

bool pj_writer_step(struct pj_writer *writer, struct pj_pipe *pipe)
{
    while (writer->phase != END) {
        int items = writer->phase < MERGES ? writer->batch->ntables : writer->setup->nprojections;
        if (writer->item < items && send_next(writer, pipe))
            return true;
        writer->stream = 0;
        writer->at = 0;
        if (writer->item < items && ++writer->item < items)
            continue;
        writer->item = 0;
        writer->phase++;
    }
    return false;
}
