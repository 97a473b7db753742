/*
 * The life of a batch on the read side, one transaction:
 *
 *      fence         the checkpoint row, if it is as we believe: locked, and already set to the new LSN where the whole
 *                    transaction is in this batch; nobody with an older epoch gets past it
 *      old rows      of what the batch updates or deletes, from the mirrors; then the batch is final
 *      apply()       of every projection, on every pair (old, new): deltas and dirty keys
 *      mirrors       deletes, updates, inserts
 *      merges        the deltas, into targets that are as they were before the batch
 *      recompute     the dirty keys, from mirrors that are as they are after the batch
 *      chains        merges and recomputations of what reads the tables that these have written, level by level
 *      checkpoint    where it was not set at the fence
 *      COMMIT
 *
 * A transaction too large for one batch comes in parts. Its deltas are gathered over the parts and merged with the last
 * one, or before, when they take much memory; its dirty keys are recomputed in the last one only, for a part is a state
 * that never existed, and when there are too many to be kept, the whole projection is recomputed instead.
 *
 *      --apply--> FETCHING --all old rows are there--> WRITING --all is sent--> FINISHING --all is done-->
 *                     ^  ^                                |
 *                     |  +--> SLICING                     |
 *      --apply--> AHEAD <---------------------------------+ of the batch before
 *
 * Of old rows that are too large to be held together, the fetch brings no values. These are worked off first, in
 * slices (core/slices): each is fetched, written and forgotten, a part of the transaction like any other. Nothing is
 * taken ahead meanwhile.
 *
 * WRITING sends statements as long as the socket takes them; a cursor says what comes next. (Between two levels of a
 * chain it waits for answers: what was touched upstream.) Any error, anywhere, ends the connection, and with it the
 * transaction: what happens then is the pipeline's business.
 *
 * Two batches may be under way, so that the server need not wait for us between them. While the first is WRITING, the
 * second is AHEAD: sorted, its old rows looked up in the first batch, in the cache, and (what neither knows, the first
 * has not touched) in the mirrors, by statements between those of the first. When all of the first is sent, the second
 * begins, behind its COMMIT where it ends a transaction; apply() runs while the server still works off what was sent.
 * Should the first fail, the second finds the checkpoint not where it must be, and comes to nothing, too.
 */
#include "core/applier.h"

#include "core/rowcache.h"
#include "core/slices.h"
#include "core/statements.h"
#include "core/writer.h"
#include "pg/pipe.h"

#include <stdio.h>
#include <string.h>

enum flight_state { AHEAD, FETCHING, SLICING, WRITING, FINISHING };

enum { FETCH_ROWS = 4096 };

/* A batch under way. */
struct flight {
    struct pj_applier *applier;
    enum flight_state state;
    struct pj_batch *batch;
    bool begins;                  /* its transaction */
    bool commit;                  /* the batch ends its transaction */
    int fetches;                  /* results still to come */
    bool late;                    /* some of its old rows are too large */
    struct pj_slices *slices;     /* of these; NULL: not begun */
    const struct pj_slice *slice; /* under way; NULL: none */
};

struct pj_applier {
    struct flight flights[2];
    struct flight *first, *second; /* of them, under way; NULL: none */
    struct pj_setup *setup;
    size_t batch_bytes;
    struct pj_pipe *pipe;
    struct pj_writer *writer;
    struct pj_rowcache *cache;     /* of this connection */
    bool in_transaction;           /* what was sent last is a part of one */
    bool checkpoint_set;           /* in the open transaction */
    struct pj_checkpoint believed; /* what the checkpoint row holds, as far as we know: lsn, epoch, version */
    pj_lsn sent;                   /* the lsn it will hold when all transactions that were sent are done */
    struct pj_applier_callbacks callbacks;
};

/* An old-row request: where its results belong. Lives in the batch's arena. */
struct fetch {
    struct flight *flight;
    struct pj_batch *batch; /* the flight's, or its slice's */
    const struct pj_table *table;
    struct pj_row **wanted;
};

static int write_on(struct flight *flight, struct pj_error *error);
static void on_failed(void *context, const struct pj_error *error);

static bool is_writing(const struct flight *flight)
{
    return flight && (flight->state == WRITING || flight->state == SLICING);
}

/* The socket takes more, or answers that were waited for are there. The second writes only when the first has. */
static void on_writable(void *context)
{
    struct pj_applier *applier = context;
    struct flight *flight = is_writing(applier->second) ? applier->second : applier->first;
    struct pj_error error;
    pj_error_clear(&error);
    if (is_writing(flight) && write_on(flight, &error) != PJ_OK)
        on_failed(applier, &error);
}

struct pj_applier *pj_applier_new(struct pj_setup *setup, size_t batch_bytes,
                                  const struct pj_applier_callbacks *callbacks)
{
    struct pj_applier *applier = pj_alloc(sizeof *applier);
    applier->setup = setup;
    applier->batch_bytes = batch_bytes;
    applier->callbacks = *callbacks;
    applier->writer = pj_writer_new(setup);
    pj_writer_on_answers(applier->writer, on_writable, applier);
    applier->cache = pj_rowcache_new();
    return applier;
}

void pj_applier_free(struct pj_applier *applier)
{
    if (!applier)
        return;
    pj_writer_free(applier->writer);
    pj_rowcache_free(applier->cache);
    pj_free(applier);
}

/* ------------------------------------------------------------------------------------------------------ connection */

static void on_failed(void *context, const struct pj_error *error)
{
    struct pj_applier *applier = context;
    applier->callbacks.failed(applier->callbacks.context, error);
}

int pj_applier_connect(struct pj_applier *applier, uv_loop_t *loop, PGconn *conn,
                       const struct pj_checkpoint *checkpoint, struct pj_error *error)
{
    applier->first = applier->second = NULL;
    applier->in_transaction = applier->checkpoint_set = false;
    applier->believed = *checkpoint;
    applier->sent = checkpoint->lsn;
    pj_writer_begin_transaction(applier->writer);
    pj_rowcache_clear(applier->cache);
    struct pj_pipe_callbacks callbacks = {.writable = on_writable, .failed = on_failed, .context = applier};
    return pj_pipe_open(&applier->pipe, loop, conn, &callbacks, error);
}

/* No result comes any more. */
static struct pj_pipe *forget_pipe(struct pj_applier *applier)
{
    struct pj_pipe *pipe = applier->pipe;
    applier->pipe = NULL;
    if (applier->first)
        pj_slices_free(applier->first->slices);
    if (applier->second)
        pj_slices_free(applier->second->slices);
    applier->first = applier->second = NULL;
    applier->in_transaction = false;
    return pipe;
}

void pj_applier_disconnect(struct pj_applier *applier, void (*closed)(void *context), void *context)
{
    pj_pipe_close(forget_pipe(applier), closed, context);
}

void pj_applier_release(struct pj_applier *applier, PGconn **kept, void (*closed)(void *context), void *context)
{
    pj_pipe_release(forget_pipe(applier), kept, closed, context);
}

bool pj_applier_connected(const struct pj_applier *applier)
{
    return applier->pipe != NULL;
}

struct pj_batch *pj_applier_take_back(struct pj_applier *applier, bool *commit, PGconn **conn,
                                      void (*closed)(void *context), void *context)
{
    const struct flight *flight = applier->first;
    if (!flight || !flight->begins || flight->slices || applier->second)
        return NULL;
    pj_batch_unresolve(flight->batch);
    *commit = flight->commit;
    pj_pipe_salvage(forget_pipe(applier), conn, closed, context);
    return flight->batch;
}

void pj_applier_believe(struct pj_applier *applier, pj_lsn lsn, int64_t version)
{
    pj_rowcache_clear(applier->cache); /* what was applied the careful way has passed it by */
    applier->believed.lsn = applier->sent = lsn;
    applier->believed.version = version;
}

struct pj_writer *pj_applier_writer(struct pj_applier *applier)
{
    return applier->writer;
}

const struct pj_checkpoint *pj_applier_believed(const struct pj_applier *applier)
{
    return &applier->believed;
}

bool pj_applier_idle(const struct pj_applier *applier)
{
    return !applier->first;
}

bool pj_applier_takes_ahead(const struct pj_applier *applier)
{
    const struct flight *first = applier->first;
    return first && !applier->second && (first->state == WRITING || first->state == FINISHING);
}

bool pj_applier_in_transaction(const struct pj_applier *applier)
{
    return applier->in_transaction;
}

/* -------------------------------------------------------------------------------------------- fence and checkpoint */

static struct pj_value int8_value(uint64_t number, unsigned char space[8])
{
    return pj_make_int64((int64_t)number, space);
}

/* Reconnecting tells: states that a command has changed are read again, a daemon that was overtaken ends. */
static int changed(struct pj_error *error)
{
    pj_error_set(error, PJ_EFAIL, "the catalog has changed; reading it again");
    snprintf(error->sqlstate, sizeof error->sqlstate, "40001"); /* as pgprojector.demand_one says it */
    error->retryable = true;
    return error->code;
}

static int on_fence(void *context, const PGresult *result, struct pj_error *error)
{
    (void)context;
    return PQntuples(result) == 1 ? PJ_OK : changed(error);
}

static int on_checkpoint(void *context, const PGresult *result, struct pj_error *error)
{
    (void)context;
    return strcmp(PQcmdTuples((PGresult *)(uintptr_t)result), "1") == 0 ? PJ_OK : changed(error);
}

void pj_applier_send_checkpoint(const struct pj_sink *sink, const struct pj_checkpoint *believed,
                                const struct pj_batch *batch)
{
    unsigned char space[6][8];
    struct pj_value params[6] = {int8_value(believed->lsn, space[0]),
                                 int8_value((uint64_t)believed->epoch, space[1]),
                                 int8_value((uint64_t)believed->version, space[2]),
                                 int8_value(batch->end_lsn, space[3]),
                                 pj_make_null(),
                                 pj_make_null()};
    if (batch->xid)
        params[4] = int8_value(batch->xid, space[4]);
    if (batch->xid && batch->commit_us)
        params[5] = int8_value((uint64_t)batch->commit_us, space[5]);
    sink->execute(sink->self, PJ_STATEMENT_CHECKPOINT, 6, params, on_checkpoint, NULL);
}

void pj_applier_send_fence(const struct pj_sink *sink, const struct pj_checkpoint *believed)
{
    unsigned char space[3][8];
    struct pj_value params[3] = {int8_value(believed->lsn, space[0]), int8_value((uint64_t)believed->epoch, space[1]),
                                 int8_value((uint64_t)believed->version, space[2])};
    sink->execute(sink->self, PJ_STATEMENT_FENCE, 3, params, on_fence, NULL);
}

/* What the checkpoint row holds when a transaction sent now begins. */
static struct pj_checkpoint expected(const struct pj_applier *applier)
{
    struct pj_checkpoint checkpoint = applier->believed;
    checkpoint.lsn = applier->sent;
    return checkpoint;
}

static void send_checkpoint(struct flight *flight)
{
    struct pj_applier *applier = flight->applier;
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    const struct pj_checkpoint checkpoint = expected(applier);
    pj_applier_send_checkpoint(&sink, &checkpoint, flight->batch);
    applier->checkpoint_set = true;
}

static void begin_transaction(struct flight *flight)
{
    struct pj_applier *applier = flight->applier;
    pj_pipe_query(applier->pipe, "BEGIN", NULL, NULL);
    applier->in_transaction = flight->begins = true;
    applier->checkpoint_set = false;
    pj_writer_begin_transaction(applier->writer);
    if (flight->commit) {
        send_checkpoint(flight);
        return;
    }
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    const struct pj_checkpoint checkpoint = expected(applier);
    pj_applier_send_fence(&sink, &checkpoint);
}

/* --------------------------------------------------------------------------------------------------------- old rows */

enum { ORDINAL, TOO_WIDE, COLUMNS }; /* fields of an old row; TOO_WIDE: NULL, or the bytes of one that is late */

static struct pj_value *copy_row(struct pj_arena *arena, const PGresult *result, int row, int ncolumns)
{
    struct pj_value *values = pj_arena_alloc(arena, (size_t)ncolumns * sizeof *values);
    for (int i = 0; i < ncolumns; i++) {
        if (PQgetisnull(result, row, COLUMNS + i)) {
            values[i] = pj_make_null();
            continue;
        }
        int32_t length = PQgetlength(result, row, COLUMNS + i);
        unsigned char *bytes = pj_arena_alloc(arena, (size_t)length);
        memcpy(bytes, PQgetvalue(result, row, COLUMNS + i), (size_t)length);
        values[i] = (struct pj_value){bytes, length};
    }
    return values;
}

static int64_t int8_field(const PGresult *result, int row, int field)
{
    return pj_int64((struct pj_value){(const unsigned char *)PQgetvalue(result, row, field), 8});
}

size_t pj_applier_take_old_rows(struct pj_batch *batch, const struct pj_table *table, struct pj_row *const *wanted,
                                const PGresult *result)
{
    size_t late = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        struct pj_row *of = wanted[int8_field(result, row, ORDINAL) - 1];
        if (PQgetisnull(result, row, TOO_WIDE)) {
            pj_batch_set_old(of, copy_row(&batch->arena, result, row, table->ncolumns));
        } else {
            pj_batch_set_late(of, (uint64_t)int8_field(result, row, TOO_WIDE));
            late++;
        }
    }
    return late;
}

static int next_slice(struct flight *flight, struct pj_error *error);

/* The batch without what is late, or a slice of that. */
static int begin_writing(struct flight *flight, struct pj_error *error)
{
    struct pj_batch *batch = flight->slice ? flight->slice->batch : flight->batch;
    if (flight->late && !flight->slices)
        return next_slice(flight, error);
    if (pj_batch_resolve(batch, error) != PJ_OK ||
        pj_writer_prepare(flight->applier->writer, batch, flight->commit && !flight->slice, error) != PJ_OK)
        return error->code;
    flight->state = flight->slice ? SLICING : WRITING;
    return write_on(flight, error);
}

static int on_old_rows(void *context, const PGresult *result, struct pj_error *error)
{
    const struct fetch *fetch = context;
    struct flight *flight = fetch->flight;
    if (pj_applier_take_old_rows(fetch->batch, fetch->table, fetch->wanted, result))
        flight->late = true;
    return --flight->fetches == 0 && flight->state == FETCHING ? begin_writing(flight, error) : PJ_OK;
}

/* With the batch each row may be as wide as its share; one of a slice as wide as it is. */
static void send_fetch(struct flight *flight, struct fetch of, size_t count, size_t share)
{
    struct fetch *fetch = pj_arena_alloc(&flight->batch->arena, sizeof *fetch);
    *fetch = of;
    flight->fetches++;
    const struct pj_sink sink = pj_pipe_sink(flight->applier->pipe);
    pj_writer_send_fetch(flight->applier->writer, &sink, of.table, of.wanted, count, share, on_old_rows, fetch);
}

/* A table's rows whose old is not known here. */
static size_t list_unknown(struct pj_batch *batch, const struct pj_table_rows *rows, struct pj_row ***wanted)
{
    size_t count = 0;
    *wanted = pj_arena_alloc(&batch->arena, rows->count * sizeof **wanted);
    for (size_t i = 0; !rows->table->joining && i < rows->count; i++)
        if (rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
            (*wanted)[count++] = rows->rows[i];
    return count;
}

/* Asks for the old rows that are not known here. */
static void fetch_rows(struct flight *flight)
{
    struct pj_batch *batch = flight->batch;
    struct pj_row ***wanted = pj_arena_alloc(&batch->arena, (size_t)batch->ntables * sizeof *wanted);
    size_t *counts = pj_arena_alloc(&batch->arena, (size_t)batch->ntables * sizeof *counts), total = 0;
    pj_rowcache_fill(flight->applier->cache, batch);
    for (int i = 0; i < batch->ntables; i++)
        total += counts[i] = list_unknown(batch, &batch->tables[i], &wanted[i]);
    size_t share = pj_slices_share(flight->applier->batch_bytes, total);
    for (int i = 0; i < batch->ntables; i++)
        for (size_t at = 0; at < counts[i]; at += FETCH_ROWS)
            send_fetch(flight, (struct fetch){flight, batch, batch->tables[i].table, wanted[i] + at},
                       counts[i] - at < FETCH_ROWS ? counts[i] - at : FETCH_ROWS, share);
    if (flight->fetches)
        pj_pipe_flush(flight->applier->pipe);
}

static void fetch_slice(struct flight *flight)
{
    const struct pj_slice *slice = flight->slice;
    for (size_t at = 0, count; at < slice->nwanted; at += count) {
        count = pj_slices_chunk(slice, at);
        send_fetch(flight, (struct fetch){flight, slice->batch, slice->table, slice->wanted + at}, count, SIZE_MAX / 2);
    }
    if (flight->fetches)
        pj_pipe_flush(flight->applier->pipe);
}

/* The first slice, or the one after that which is written; behind the last one the rest of the batch. */
static int next_slice(struct flight *flight, struct pj_error *error)
{
    if (!flight->slices)
        flight->slices = pj_slices_new(flight->batch, flight->applier->batch_bytes);
    flight->slice = pj_slices_next(flight->slices);
    flight->state = FETCHING;
    if (flight->slice)
        fetch_slice(flight);
    return flight->fetches ? PJ_OK : begin_writing(flight, error);
}

/* -------------------------------------------------------------------------------------------------- the way through */

/* All old rows were asked for; what is to be written goes as soon as they are there. */
static int go_on(struct flight *flight, struct pj_error *error)
{
    flight->state = FETCHING;
    return flight->fetches ? PJ_OK : begin_writing(flight, error);
}

/* The server has done it: what is under way behind it becomes the first. */
static void on_done(void *context)
{
    struct flight *flight = context;
    struct pj_applier *applier = flight->applier;
    applier->first = applier->second;
    applier->second = NULL;
    pj_slices_free(flight->slices);
    flight->slices = NULL;
    if (flight->commit)
        applier->believed.lsn = flight->batch->end_lsn;
    applier->callbacks.done(applier->callbacks.context, flight->batch, flight->commit);
}

/* COMMIT of a transaction that has failed is answered, without an error, by ROLLBACK. */
static int on_commit(void *context, const PGresult *result, struct pj_error *error)
{
    (void)context;
    const char *tag = PQcmdStatus((PGresult *)(uintptr_t)result);
    if (strcmp(tag, "COMMIT") == 0)
        return PJ_OK;
    return pj_error_set(error, PJ_EFAIL, "read database: COMMIT was answered by %s", tag);
}

void pj_applier_send_commit(const struct pj_sink *sink)
{
    sink->query(sink->self, "COMMIT", on_commit, NULL);
}

static int on_part(void *context, const PGresult *result, struct pj_error *error)
{
    (void)result;
    (void)error;
    on_done(context);
    return PJ_OK;
}

static void end_transaction(struct flight *flight)
{
    struct pj_applier *applier = flight->applier;
    if (!applier->checkpoint_set)
        send_checkpoint(flight);
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    pj_applier_send_commit(&sink);
    pj_pipe_sync(applier->pipe, on_done, flight);
    applier->in_transaction = false;
    applier->sent = flight->batch->end_lsn;
}

/* All of it is sent. A transaction that fails ends the connection, and with it the cache that has learned of it. */
static int finish(struct flight *flight, struct pj_error *error)
{
    struct pj_applier *applier = flight->applier;
    if (flight->slice) {
        pj_rowcache_learn(applier->cache, flight->slice->batch);
        return next_slice(flight, error);
    }
    flight->state = FINISHING;
    pj_rowcache_learn(applier->cache, flight->batch);
    if (flight->commit) {
        end_transaction(flight);
    } else {
        pj_pipe_query(applier->pipe, "SELECT", on_part, flight);
        pj_pipe_flush(applier->pipe);
    }
    struct flight *behind = flight == applier->first ? applier->second : NULL;
    if (!behind)
        return PJ_OK;
    if (!applier->in_transaction)
        begin_transaction(behind);
    return go_on(behind, error);
}

static int write_on(struct flight *flight, struct pj_error *error)
{
    struct pj_pipe *pipe = flight->applier->pipe;
    const struct pj_sink sink = pj_pipe_sink(pipe);
    enum pj_writer_progress progress = PJ_WRITER_MORE;
    while (progress == PJ_WRITER_MORE && !pj_pipe_backlogged(pipe))
        progress = pj_writer_step(flight->applier->writer, &sink);
    if (progress == PJ_WRITER_WAITS)
        pj_pipe_flush(pipe);
    return progress == PJ_WRITER_DONE ? finish(flight, error) : PJ_OK;
}

/* Behind one that is WRITING: what it does not know itself is looked up meanwhile. */
static void look_ahead(struct flight *flight, const struct flight *before)
{
    flight->state = AHEAD;
    flight->late = pj_batch_follow(flight->batch, before->batch, flight->applier->batch_bytes) > 0;
    fetch_rows(flight);
}

static struct flight *new_flight(struct pj_applier *applier, struct pj_batch *batch, bool commit)
{
    struct flight *flight = &applier->flights[applier->first == &applier->flights[0]];
    *flight = (struct flight){.applier = applier, .batch = batch, .commit = commit};
    if (applier->first)
        applier->second = flight;
    else
        applier->first = flight;
    return flight;
}

void pj_applier_apply(struct pj_applier *applier, struct pj_batch *batch, bool commit)
{
    const struct flight *before = applier->first;
    struct flight *flight = new_flight(applier, batch, commit);
    pj_batch_sort(batch);
    if (before && before->state == WRITING) {
        look_ahead(flight, before);
        return;
    }
    struct pj_error error;
    pj_error_clear(&error);
    if (!applier->in_transaction)
        begin_transaction(flight);
    fetch_rows(flight);
    if (go_on(flight, &error) != PJ_OK)
        on_failed(applier, &error);
}
