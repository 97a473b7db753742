/*
 * See writer.h. A cursor walks over phases, and in each over tables or projections, and there over chunks of rows:
 *
 *      DELETES (tables) -> UPDATES -> INSERTS -> MERGES (projections, streams) -> RECOMPUTE (projections) -> ANSWERS -> END
 *                                                  ^                                                          |
 *                                                  +--------- the next level, where there are chains ---------+
 *
 * A projection that is chained on others (core/chain.h) is of a higher level than they. What their statements touched
 * comes back with the answers and becomes its dirty keys, so in ANSWERS those are waited for; where nothing was sent
 * that anything is chained on, nothing is.
 *
 * Deletes come before updates and inserts, so that rows may swap keys. A row whose identity stays but whose primary key
 * changes (identity by another index) is written as delete and insert for the same reason.
 */
#include "core/writer.h"

#include "core/project.h"
#include "core/touched.h"
#include "pg/array.h"

#include <stdlib.h>
#include <string.h>

enum phase { DELETES, UPDATES, INSERTS, MERGES, RECOMPUTE, ANSWERS, END };

enum {
    CHUNK_ROWS = 4096,
    CHUNK_BYTES = 512 * 1024,
    CARRIED_KEYS = 50000,            /* dirty keys gathered over the parts of one transaction; more: all */
    TOUCHED_KEYS = 4 * CARRIED_KEYS, /* dirty keys that come of touched rows upstream within one batch; more: all */
};

/* Whose rows a statement touches: the context of its answer. */
struct touching {
    struct pj_writer *writer;
    const struct pj_projection *projection;
};

struct pj_writer {
    struct pj_setup *setup;
    struct pj_batch *batch;
    bool last, careful;
    enum phase phase;
    int item;              /* table or projection */
    int stream;            /* MERGES: stream; RECOMPUTE: 0 routing keys, 1 full keys, 2 all */
    size_t at;             /* row within the item */
    struct pj_buf *arrays; /* one for each parameter; reused */
    struct pj_value *params;
    int width;  /* how many of them */
    bool fresh; /* the next batch begins a transaction */

    /* chains */
    int level, levels;         /* MERGES, RECOMPUTE: of the projections at hand; the highest */
    struct touching *touching; /* one for each projection */
    int unanswered;            /* statements whose answers tell what they touched */
    bool waiting;              /* for these */
    void (*answered)(void *context);
    void *context;
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
    writer->fresh = true;
    writer->touching = pj_alloc((size_t)(setup->nprojections + 1) * sizeof *writer->touching);
    for (int i = 0; i < setup->nprojections; i++) {
        writer->touching[i] = (struct touching){writer, &setup->projections[i]};
        if (setup->projections[i].level > writer->levels)
            writer->levels = setup->projections[i].level;
    }
    return writer;
}

void pj_writer_free(struct pj_writer *writer)
{
    if (!writer)
        return;
    for (int i = 0; i < writer->width; i++)
        pj_buf_free(&writer->arrays[i]);
    pj_free(writer->arrays);
    pj_free(writer->params);
    pj_free(writer->touching);
    pj_free(writer);
}

void pj_writer_begin_transaction(struct pj_writer *writer)
{
    writer->fresh = true;
}

/* -------------------------------------------------------------------------------------------------- over the parts */

/* Forgets what earlier batches left behind; of the same transaction's earlier parts, what gathers stays. */
static void make_room(struct pj_writer *writer, int index)
{
    struct pj_projection *projection = &writer->setup->projections[index];
    if (writer->fresh || !projection->live)
        pj_deltas_reset(projection->deltas);
    else
        pj_deltas_next_part(projection->deltas);
}

/*
 * Over the parts of a transaction deltas and dirty keys gather. The deltas are merged with the last part, for within
 * one transaction no version of a row can be pruned, and merging the same rows part after part makes each pass all
 * before it; when they take half as much memory as the part itself, they are merged with it, so that memory stays
 * bounded by the batch's. Dirty keys are recomputed in the last part only, for a part is a state that never existed;
 * when they have become many they become all.
 */
static void settle(struct pj_writer *writer, int index)
{
    struct pj_deltas *deltas = writer->setup->projections[index].deltas;
    if (!writer->setup->projections[index].live) {
        pj_deltas_finish_as_keys(deltas);
        return;
    }
    if (!writer->last && pj_deltas_key_count(deltas) > CARRIED_KEYS)
        pj_deltas_keys_to_all(deltas);
    if (writer->last || pj_deltas_bytes(deltas) > pj_batch_bytes(writer->batch) / 2)
        pj_deltas_finish(deltas);
    else
        pj_deltas_hold(deltas);
}

void pj_writer_carry(struct pj_writer *writer, int projection)
{
    pj_deltas_finish_as_keys(writer->setup->projections[projection].deltas);
}

int pj_writer_prepare(struct pj_writer *writer, struct pj_batch *batch, bool last, struct pj_error *error)
{
    writer->batch = batch;
    writer->last = last;
    writer->phase = DELETES;
    writer->item = writer->stream = 0;
    writer->at = 0;
    writer->level = writer->unanswered = 0;
    writer->waiting = false;
    for (int i = 0; i < writer->setup->nprojections; i++) {
        struct pj_projection *projection = &writer->setup->projections[i];
        if (!projection->target_sql)
            continue;
        make_room(writer, i);
        int code = pj_project_batch(projection, batch, writer->careful || !projection->live, error);
        if (code != PJ_OK)
            return code;
        settle(writer, i);
    }
    writer->fresh = last;
    return PJ_OK;
}

/* --------------------------------------------------------------------------------------------------------- chains */

void pj_writer_on_answers(struct pj_writer *writer, void (*answered)(void *context), void *context)
{
    writer->answered = answered;
    writer->context = context;
}

static void count_answer(struct pj_writer *writer)
{
    if (--writer->unanswered || !writer->waiting)
        return;
    writer->waiting = false;
    writer->answered(writer->context);
}

static int on_touched(void *context, const PGresult *result, struct pj_error *error)
{
    const struct touching *touching = context;
    (void)error;
    pj_touched_mark(touching->projection, result, touching->writer->last ? TOUCHED_KEYS : CARRIED_KEYS);
    count_answer(touching->writer);
    return PJ_OK;
}

static int on_all_touched(void *context, const PGresult *result, struct pj_error *error)
{
    const struct touching *touching = context;
    (void)result;
    (void)error;
    pj_touched_mark_all(touching->projection);
    count_answer(touching->writer);
    return PJ_OK;
}

/* The context of a projection's next statement, if anybody wants to know what it touches; else NULL. */
static struct touching *touching_of(struct pj_writer *writer, int projection)
{
    if (!writer->setup->projections[projection].nchained)
        return NULL;
    writer->unanswered++;
    return &writer->touching[projection];
}

/* What was touched upstream is among the dirty keys now, which are read with the last part. */
static void settle_touched(struct pj_writer *writer, int index)
{
    const struct pj_projection *projection = &writer->setup->projections[index];
    if (!projection->level || !projection->target_sql)
        return;
    if (!projection->live)
        pj_deltas_finish_as_keys(projection->deltas);
    else if (writer->last)
        pj_deltas_finish(projection->deltas);
}

/* From ANSWERS on; false where answers are missing yet. */
static bool begin_level(struct pj_writer *writer)
{
    if (writer->level == writer->levels) {
        writer->phase = END;
        return true;
    }
    writer->waiting = writer->unanswered > 0;
    if (writer->waiting)
        return false;
    writer->level++;
    writer->phase = MERGES;
    for (int i = 0; i < writer->setup->nprojections; i++)
        if (writer->setup->projections[i].level == writer->level)
            settle_touched(writer, i);
    return true;
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
        writer->params[i] =
            (struct pj_value){(const unsigned char *)writer->arrays[i].data, (int32_t)writer->arrays[i].length};
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
    return pj_error_hint(error, "the mirror no longer equals the source; was it written to by hand? Stop the daemon, "
                                "run `pgprojector resync` and start it again");
}

static struct chunk *make_chunk(struct pj_writer *writer, const struct pj_table *table, const char *verb, size_t rows)
{
    struct chunk *chunk = pj_arena_alloc(&writer->batch->arena, sizeof *chunk);
    *chunk = (struct chunk){table, verb, rows};
    return chunk;
}

void pj_writer_send_identities(struct pj_writer *writer, const struct pj_sink *sink, enum pj_mirror_statement which,
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
    sink->execute(sink->self, pj_statement_mirror(which, table->index, name), table->nidentity, writer->params, result,
                  context);
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
        sink->execute(sink->self, pj_statement_mirror(PJ_EMPTY, rows->table->index, name), 0, NULL, NULL, NULL);
    for (const struct pj_emptied *emptied = rows->emptied; emptied && !rows->table->joining; emptied = emptied->next) {
        struct pj_buf sql = {0};
        pj_buf_printf(&sql, "DELETE FROM %s WHERE %s", rows->table->mirror_sql, emptied->condition);
        sink->query(sink->self, sql.data, NULL, NULL);
        pj_buf_free(&sql);
    }
}

/* Sends the next chunk of deletes of the table under the cursor; false when there is none left. */
static bool send_deletes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows)
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
    pj_writer_send_identities(writer, sink, PJ_DELETE_ROWS, rows->table, chunk, count, on_chunk,
                              make_chunk(writer, rows->table, "DELETE", count));
    return true;
}

static bool send_rows(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_table_rows *rows,
                      row_test wanted, enum pj_mirror_statement which, const char *verb)
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
    sink->execute(sink->self, pj_statement_mirror(which, table->index, name), table->ncolumns, writer->params, on_chunk,
                  make_chunk(writer, table, verb, count));
    return true;
}

/* Values that become arrays. */
struct rows {
    const struct pj_value *values;
    size_t count;
    int width; /* values a row */
    const enum pj_type *types;
};

/* Sends rows from the cursor on, as arrays, to a statement. `touches`: the projection whose rows it writes, or -1. */
static bool send_values(struct pj_writer *writer, const struct pj_sink *sink, const char *statement,
                        const struct rows *rows, int touches)
{
    if (writer->at >= rows->count)
        return false;
    size_t count = rows->count - writer->at < CHUNK_ROWS ? rows->count - writer->at : CHUNK_ROWS;
    const struct pj_value *values = rows->values + writer->at * (size_t)rows->width;
    begin_arrays(writer, rows->width, rows->types);
    for (size_t i = 0; i < count; i++)
        for (int c = 0; c < rows->width; c++)
            pj_array_put(&writer->arrays[c], values[i * (size_t)rows->width + (size_t)c]);
    end_arrays(writer, rows->width, count);
    writer->at += count;
    struct touching *touching = touches < 0 ? NULL : touching_of(writer, touches);
    sink->execute(sink->self, statement, rows->width, writer->params, touching ? on_touched : NULL, touching);
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

static bool send_merge(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection)
{
    for (; writer->stream < projection->nstreams; writer->stream++, writer->at = 0) {
        const struct pj_stream *stream = &projection->module->streams[writer->stream];
        enum pj_type types[PJ_MAX_SOURCE_COLUMNS];
        struct rows rows = {.width = pj_stream_column_count(stream), .types = types};
        for (int c = 0; c < rows.width; c++)
            types[c] = stream->columns[c].type;
        rows.values = pj_deltas_rows(projection->deltas, writer->stream, &rows.count);
        char name[PJ_STATEMENT_NAME];
        if (send_values(writer, sink, pj_statement_merge(writer->item, writer->stream, name), &rows, writer->item))
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
    struct touching *touching = touching_of(writer, writer->item);
    sink->query(sink->self, projection->recompute_all_sql, touching ? on_all_touched : NULL, touching);
    sink->query(sink->self, "SET LOCAL enable_seqscan = off", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_hashjoin = off", NULL, NULL);
    sink->query(sink->self, "SET LOCAL enable_mergejoin = off", NULL, NULL);
    return true;
}

static bool send_recompute(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection)
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

/* A projection that is not live only has its dirty keys noted. */
static bool send_notes(struct pj_writer *writer, const struct pj_sink *sink, const struct pj_projection *projection)
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

/* Sends the next statement of the item under the cursor; false when the item has none left. */
static bool send_next(struct pj_writer *writer, const struct pj_sink *sink)
{
    const struct pj_projection *projection = &writer->setup->projections[writer->item];
    const struct pj_table_rows *rows = &writer->batch->tables[writer->item];
    switch (writer->phase) {
    case DELETES:
        return send_deletes(writer, sink, rows);
    case UPDATES:
        return send_rows(writer, sink, rows, is_updated, PJ_UPDATE_ROWS, "UPDATE");
    case INSERTS:
        return send_rows(writer, sink, rows, is_inserted, PJ_INSERT_ROWS, "INSERT");
    case MERGES:
        return projection->target_sql && projection->live && send_merge(writer, sink, projection);
    case RECOMPUTE:
        if (projection->target_sql && !projection->live)
            return send_notes(writer, sink, projection);
        return projection->target_sql && writer->last && send_recompute(writer, sink, projection);
    case ANSWERS:
    case END:
        break;
    }
    return false;
}

/* Whether it is the turn of the item under the cursor: projections come level by level. */
static bool has_turn(const struct pj_writer *writer)
{
    return writer->phase < MERGES || writer->setup->projections[writer->item].level == writer->level;
}

/* Sends the next statement of the phases before `end`; false where there is none, or none before answers are there. */
static bool step_until(struct pj_writer *writer, const struct pj_sink *sink, enum phase end)
{
    while (writer->phase < end) {
        if (writer->phase == ANSWERS) {
            if (!begin_level(writer))
                return false;
            continue;
        }
        int items = writer->phase < MERGES ? writer->batch->ntables : writer->setup->nprojections;
        if (writer->item < items && has_turn(writer) && send_next(writer, sink))
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

enum pj_writer_progress pj_writer_step(struct pj_writer *writer, const struct pj_sink *sink)
{
    if (step_until(writer, sink, END))
        return PJ_WRITER_MORE;
    return writer->phase == END ? PJ_WRITER_DONE : PJ_WRITER_WAITS;
}

/* -------------------------------------------------------------------------------------------------- the careful way */

void pj_writer_careful(struct pj_writer *writer, bool careful)
{
    writer->careful = careful;
}

void pj_writer_mirrors(struct pj_writer *writer, const struct pj_sink *sink)
{
    while (step_until(writer, sink, MERGES))
        ;
}

/* Runs one phase of one item to its end. */
static void run_phase(struct pj_writer *writer, const struct pj_sink *sink, enum phase phase, int item)
{
    writer->phase = phase;
    writer->item = item;
    writer->stream = 0;
    writer->at = 0;
    while (send_next(writer, sink))
        ;
}

void pj_writer_projection(struct pj_writer *writer, const struct pj_sink *sink, int projection)
{
    settle_touched(writer, projection);
    run_phase(writer, sink, MERGES, projection);
    run_phase(writer, sink, RECOMPUTE, projection);
}

void pj_writer_note(struct pj_writer *writer, const struct pj_sink *sink, int projection)
{
    struct pj_projection *noted = &writer->setup->projections[projection];
    bool live = noted->live;
    noted->live = false;
    run_phase(writer, sink, RECOMPUTE, projection);
    noted->live = live;
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
