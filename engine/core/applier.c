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
 *      IDLE --apply--> FETCHING --all old rows are there--> WRITING --all is sent--> FINISHING --all is done--> IDLE
 *
 * WRITING sends statements as long as the socket takes them; a cursor says what comes next. (Between two levels of a
 * chain it waits for answers: what was touched upstream.) Any error, anywhere, ends the connection, and with it the
 * transaction: what happens then is the pipeline's business.
 */
#include "core/applier.h"

#include "core/rowcache.h"
#include "core/statements.h"
#include "core/writer.h"
#include "pg/pipe.h"

#include <stdio.h>
#include <string.h>

enum applier_state { IDLE, FETCHING, WRITING, FINISHING };

struct pj_applier {
    enum applier_state state;
    struct pj_setup *setup;
    struct pj_pipe *pipe;
    struct pj_writer *writer;
    struct pj_rowcache *cache; /* of this connection */
    struct pj_batch *batch;
    bool commit; /* the batch ends its transaction */
    bool first;  /* and this one has begun it */
    bool in_transaction;
    bool checkpoint_set;           /* in the open transaction */
    struct pj_checkpoint believed; /* what the checkpoint row holds, as far as we know: lsn, epoch, version */
    int fetches;                   /* results still to come */
    struct pj_applier_callbacks callbacks;
};

/* An old-row request: where its results belong. Lives in the batch's arena. */
struct fetch {
    struct pj_applier *applier;
    struct pj_table_rows *rows;
    struct pj_row **wanted;
};

enum { FETCH_ROWS = 4096 };

static void write_on(struct pj_applier *applier);

/* The socket takes more, or answers that were waited for are there. */
static void on_writable(void *context)
{
    struct pj_applier *applier = context;
    if (applier->state == WRITING)
        write_on(applier);
}

struct pj_applier *pj_applier_new(struct pj_setup *setup, const struct pj_applier_callbacks *callbacks)
{
    struct pj_applier *applier = pj_alloc(sizeof *applier);
    applier->setup = setup;
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
    applier->state = IDLE;
    applier->in_transaction = applier->checkpoint_set = false;
    applier->believed = *checkpoint;
    pj_writer_begin_transaction(applier->writer);
    pj_rowcache_clear(applier->cache);
    struct pj_pipe_callbacks callbacks = {.writable = on_writable, .failed = on_failed, .context = applier};
    return pj_pipe_open(&applier->pipe, loop, conn, &callbacks, error);
}

static struct pj_pipe *forget_pipe(struct pj_applier *applier)
{
    struct pj_pipe *pipe = applier->pipe;
    applier->pipe = NULL;
    applier->batch = NULL;
    applier->state = IDLE;
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
    struct pj_batch *batch = applier->first ? applier->batch : NULL;
    if (!batch)
        return NULL;
    pj_batch_unresolve(batch);
    *commit = applier->commit;
    pj_pipe_salvage(forget_pipe(applier), conn, closed, context);
    return batch;
}

void pj_applier_believe(struct pj_applier *applier, pj_lsn lsn, int64_t version)
{
    pj_rowcache_clear(applier->cache); /* what was applied the careful way has passed it by */
    applier->believed.lsn = lsn;
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
    return applier->state == IDLE;
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

static void send_checkpoint(struct pj_applier *applier)
{
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    pj_applier_send_checkpoint(&sink, &applier->believed, applier->batch);
    applier->checkpoint_set = true;
}

static void begin_transaction(struct pj_applier *applier)
{
    pj_pipe_query(applier->pipe, "BEGIN", NULL, NULL);
    applier->in_transaction = true;
    applier->checkpoint_set = false;
    pj_writer_begin_transaction(applier->writer);
    if (applier->commit) {
        send_checkpoint(applier);
        return;
    }
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    pj_applier_send_fence(&sink, &applier->believed);
}

/* --------------------------------------------------------------------------------------------------------- old rows */

/* The first field is the ordinal, the rest are the columns. */
static struct pj_value *copy_row(struct pj_arena *arena, const PGresult *result, int row, int ncolumns)
{
    struct pj_value *values = pj_arena_alloc(arena, (size_t)ncolumns * sizeof *values);
    for (int i = 0; i < ncolumns; i++) {
        if (PQgetisnull(result, row, i + 1)) {
            values[i] = pj_make_null();
            continue;
        }
        int32_t length = PQgetlength(result, row, i + 1);
        unsigned char *bytes = pj_arena_alloc(arena, (size_t)length);
        memcpy(bytes, PQgetvalue(result, row, i + 1), (size_t)length);
        values[i] = (struct pj_value){bytes, length};
    }
    return values;
}

void pj_applier_take_old_rows(struct pj_batch *batch, const struct pj_table *table, struct pj_row *const *wanted,
                              const PGresult *result)
{
    for (int row = 0; row < PQntuples(result); row++) {
        struct pj_value ordinal = {(const unsigned char *)PQgetvalue(result, row, 0), 8};
        pj_batch_set_old(wanted[pj_int64(ordinal) - 1], copy_row(&batch->arena, result, row, table->ncolumns));
    }
}

static void begin_writing(struct pj_applier *applier, struct pj_error *error)
{
    if (pj_batch_resolve(applier->batch, error) != PJ_OK ||
        pj_writer_prepare(applier->writer, applier->batch, applier->commit, error) != PJ_OK)
        return;
    applier->state = WRITING;
    write_on(applier);
}

static int on_old_rows(void *context, const PGresult *result, struct pj_error *error)
{
    struct fetch *fetch = context;
    struct pj_applier *applier = fetch->applier;
    const struct pj_table *table = fetch->rows->table;
    pj_applier_take_old_rows(applier->batch, table, fetch->wanted, result);
    if (--applier->fetches == 0)
        begin_writing(applier, error);
    return error->code;
}

static void send_fetch(struct pj_applier *applier, struct pj_table_rows *rows, struct pj_row **wanted, size_t count)
{
    struct fetch *fetch = pj_arena_alloc(&applier->batch->arena, sizeof *fetch);
    *fetch = (struct fetch){applier, rows, wanted};
    applier->fetches++;
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    pj_writer_send_identities(applier->writer, &sink, PJ_FETCH_OLD, rows->table, wanted, count, on_old_rows, fetch);
}

static void fetch_table(struct pj_applier *applier, struct pj_table_rows *rows)
{
    struct pj_row **wanted = pj_arena_alloc(&applier->batch->arena, rows->count * sizeof *wanted);
    size_t count = 0;
    for (size_t i = 0; !rows->table->joining && i < rows->count; i++)
        if (rows->rows[i]->old_state == PJ_OLD_UNKNOWN)
            wanted[count++] = rows->rows[i];
    for (size_t at = 0; at < count; at += FETCH_ROWS)
        send_fetch(applier, rows, wanted + at, count - at < FETCH_ROWS ? count - at : FETCH_ROWS);
}

/* -------------------------------------------------------------------------------------------------- the way through */

static void on_done(void *context)
{
    struct pj_applier *applier = context;
    struct pj_batch *batch = applier->batch;
    applier->batch = NULL;
    applier->state = IDLE;
    pj_rowcache_learn(applier->cache, batch); /* a transaction that fails ends the connection, and with it the cache */
    if (applier->commit) {
        applier->in_transaction = false;
        applier->believed.lsn = batch->end_lsn;
    }
    applier->callbacks.done(applier->callbacks.context, batch, applier->commit);
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

static void finish(struct pj_applier *applier)
{
    applier->state = FINISHING;
    if (!applier->commit) {
        pj_pipe_query(applier->pipe, "SELECT", on_part, applier);
        pj_pipe_flush(applier->pipe);
        return;
    }
    if (!applier->checkpoint_set)
        send_checkpoint(applier);
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    pj_applier_send_commit(&sink);
    pj_pipe_sync(applier->pipe, on_done, applier);
}

static void write_on(struct pj_applier *applier)
{
    const struct pj_sink sink = pj_pipe_sink(applier->pipe);
    enum pj_writer_progress progress = PJ_WRITER_MORE;
    while (progress == PJ_WRITER_MORE && !pj_pipe_backlogged(applier->pipe))
        progress = pj_writer_step(applier->writer, &sink);
    if (progress == PJ_WRITER_WAITS)
        pj_pipe_flush(applier->pipe);
    else if (progress == PJ_WRITER_DONE)
        finish(applier);
}

void pj_applier_apply(struct pj_applier *applier, struct pj_batch *batch, bool commit)
{
    applier->batch = batch;
    applier->commit = commit;
    applier->state = FETCHING;
    applier->fetches = 0;
    pj_batch_sort(batch);
    pj_rowcache_fill(applier->cache, batch);
    applier->first = !applier->in_transaction;
    if (applier->first)
        begin_transaction(applier);
    for (int i = 0; i < batch->ntables; i++)
        fetch_table(applier, &batch->tables[i]);
    if (applier->fetches) {
        pj_pipe_flush(applier->pipe);
        return;
    }
    struct pj_error error;
    pj_error_clear(&error);
    begin_writing(applier, &error);
    if (error.code != PJ_OK)
        on_failed(applier, &error);
}
