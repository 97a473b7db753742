/*
 * See pipe.h. One uv_poll on libpq's socket; a queue of what is expected, in the order it was sent. libpq gives for
 * each statement its result and then a NULL, for each Sync one PGRES_PIPELINE_SYNC without a NULL.
 *
 *      OPEN --error--> FAILED --close--> CLOSING --(uv: handle closed)--> gone
 *        \--a call fails--> BROKEN --(loop)--^  (closed from any state)
 *
 * A call that fails leaves the pipe BROKEN, and the owner is told by the loop: told within the call, it would close the
 * pipe under its own hands, in the midst of a series of calls.
 *
 * PQflush is called when the loop comes round, not at every statement: what one callback sends leaves in one go.
 */
#include "pg/pipe.h"

#include "base/mem.h"
#include "pg/consume.h"
#include "pg/session.h"

#include <string.h>

enum pipe_state { OPEN, BROKEN, FAILED, CLOSING };

enum { MAX_PARAMS = 1664, BACKLOG_STATEMENTS = 64, BACKLOG_BYTES = 256 * 1024 };

struct expected {
    struct expected *next;
    bool is_sync;
    pj_result_fn result;
    void (*synced)(void *context);
    void *context;
};

struct pj_pipe {
    enum pipe_state state;
    PGconn *conn;
    uv_poll_t poll;
    uv_prepare_t prepare; /* flushes once a turn of the loop */
    int handles;          /* not yet closed */
    bool dirty;           /* something was sent since the last flush */
    bool backlogged;
    int unflushed; /* statements since the socket took everything */
    size_t unflushed_bytes;
    struct expected *first, **last;
    struct pj_error broken; /* why it is BROKEN */
    struct pj_pipe_callbacks callbacks;
    void (*closed)(void *context);
    void *closed_context;
    PGconn **kept; /* where the connection goes; NULL: it is closed */
    bool salvaged; /* it goes there as it is */
};

static void fail(struct pj_pipe *pipe, const struct pj_error *error)
{
    if (pipe->state != OPEN && pipe->state != BROKEN)
        return;
    pipe->state = FAILED;
    uv_poll_stop(&pipe->poll);
    uv_prepare_stop(&pipe->prepare);
    pipe->callbacks.failed(pipe->callbacks.context, error);
}

static void fail_conn(struct pj_pipe *pipe, const PGresult *result)
{
    struct pj_error error;
    pj_pg_error(&error, pipe->conn, result, PJ_READ);
    fail(pipe, &error);
}

/* Within a call: the loop tells the owner. */
static void break_conn(struct pj_pipe *pipe)
{
    pj_pg_error(&pipe->broken, pipe->conn, NULL, PJ_READ);
    pipe->state = BROKEN;
}

static void expect(struct pj_pipe *pipe, struct expected expected)
{
    struct expected *item = pj_alloc(sizeof *item);
    *item = expected;
    *pipe->last = item;
    pipe->last = &item->next;
    pipe->dirty = true;
    if (++pipe->unflushed > BACKLOG_STATEMENTS || pipe->unflushed_bytes > BACKLOG_BYTES)
        pipe->backlogged = true; /* the flush to come clears it */
}

static struct expected take(struct pj_pipe *pipe)
{
    struct expected *item = pipe->first, copy = *item;
    pipe->first = item->next;
    if (!pipe->first)
        pipe->last = &pipe->first;
    pj_free(item);
    return copy;
}

/* -------------------------------------------------------------------------------------------------------- results */

/* Hands one result to whoever expects it. */
static void handle_result(struct pj_pipe *pipe, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (!pipe->first || (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_PIPELINE_SYNC)) {
        fail_conn(pipe, result);
        return;
    }
    struct expected expected = take(pipe);
    if (expected.is_sync) {
        expected.synced(expected.context);
        return;
    }
    struct pj_error error;
    pj_error_clear(&error);
    if (expected.result && expected.result(expected.context, result, &error) != PJ_OK)
        fail(pipe, &error);
}

static void read_results(struct pj_pipe *pipe)
{
    if (!pj_consume(pipe->conn)) {
        fail_conn(pipe, NULL);
        return;
    }
    while (pipe->state == OPEN && pipe->first && !PQisBusy(pipe->conn)) {
        PGresult *result = PQgetResult(pipe->conn);
        if (!result)
            continue; /* the end of one statement's results */
        handle_result(pipe, result);
        PQclear(result);
    }
    if (pipe->state == OPEN && !pipe->first && PQstatus(pipe->conn) == CONNECTION_BAD)
        fail_conn(pipe, NULL);
}

/* --------------------------------------------------------------------------------------------------------- the loop */

static void on_event(uv_poll_t *poll, int status, int events);

static void watch(struct pj_pipe *pipe)
{
    uv_poll_start(&pipe->poll, UV_READABLE | (pipe->backlogged ? UV_WRITABLE : 0), on_event);
}

static void flush_out(struct pj_pipe *pipe)
{
    pipe->dirty = false;
    int rest = PQflush(pipe->conn);
    if (rest < 0) {
        fail_conn(pipe, NULL);
        return;
    }
    bool was_backlogged = pipe->backlogged;
    pipe->backlogged = rest == 1;
    if (!pipe->backlogged)
        pipe->unflushed = 0, pipe->unflushed_bytes = 0;
    watch(pipe);
    if (was_backlogged && !pipe->backlogged)
        pipe->callbacks.writable(pipe->callbacks.context);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct pj_pipe *pipe = poll->data;
    if (status < 0) {
        fail_conn(pipe, NULL);
        return;
    }
    if (events & UV_READABLE)
        read_results(pipe);
    if (pipe->state == OPEN && events & UV_WRITABLE)
        flush_out(pipe);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct pj_pipe *pipe = prepare->data;
    while (pipe->state == OPEN && pipe->dirty)
        flush_out(pipe);
    if (pipe->state == BROKEN)
        fail(pipe, &pipe->broken);
}

/* -------------------------------------------------------------------------------------------------------- the calls */

int pj_pipe_open(struct pj_pipe **out, uv_loop_t *loop, PGconn *conn, const struct pj_pipe_callbacks *callbacks,
                 struct pj_error *error)
{
    *out = NULL;
    PQsetnonblocking(conn, 1);
    if (!PQenterPipelineMode(conn)) {
        pj_pg_error(error, conn, NULL, PJ_READ);
        PQfinish(conn);
        return error->code;
    }
    struct pj_pipe *pipe = pj_alloc(sizeof *pipe);
    pipe->conn = conn;
    pipe->callbacks = *callbacks;
    pipe->last = &pipe->first;
    uv_poll_init(loop, &pipe->poll, PQsocket(conn));
    uv_prepare_init(loop, &pipe->prepare);
    pipe->poll.data = pipe->prepare.data = pipe;
    pipe->handles = 2;
    uv_prepare_start(&pipe->prepare, on_prepare);
    watch(pipe);
    *out = pipe;
    return PJ_OK;
}

void pj_pipe_execute(struct pj_pipe *pipe, const char *statement, int count, const struct pj_value *params,
                     pj_result_fn result, void *context)
{
    if (pipe->state != OPEN)
        return;
    const char *values[MAX_PARAMS];
    int lengths[MAX_PARAMS], formats[MAX_PARAMS];
    for (int i = 0; i < count; i++) {
        values[i] = pj_is_null(params[i]) ? NULL : (const char *)params[i].data;
        lengths[i] = pj_is_null(params[i]) ? 0 : params[i].length;
        formats[i] = 1;
        pipe->unflushed_bytes += (size_t)lengths[i];
    }
    if (!PQsendQueryPrepared(pipe->conn, statement, count, values, lengths, formats, 1)) {
        break_conn(pipe);
        return;
    }
    expect(pipe, (struct expected){.result = result, .context = context});
}

void pj_pipe_query(struct pj_pipe *pipe, const char *sql, pj_result_fn result, void *context)
{
    if (pipe->state != OPEN)
        return;
    if (!PQsendQueryParams(pipe->conn, sql, 0, NULL, NULL, NULL, NULL, 1)) {
        break_conn(pipe);
        return;
    }
    expect(pipe, (struct expected){.result = result, .context = context});
}

static void sink_execute(void *self, const char *statement, int count, const struct pj_value *params,
                         pj_result_fn result, void *context)
{
    pj_pipe_execute(self, statement, count, params, result, context);
}

static void sink_query(void *self, const char *sql, pj_result_fn result, void *context)
{
    pj_pipe_query(self, sql, result, context);
}

struct pj_sink pj_pipe_sink(struct pj_pipe *pipe)
{
    return (struct pj_sink){.execute = sink_execute, .query = sink_query, .self = pipe};
}

void pj_pipe_flush(struct pj_pipe *pipe)
{
    if (pipe->state != OPEN)
        return;
    if (!PQsendFlushRequest(pipe->conn))
        break_conn(pipe);
    pipe->dirty = true;
}

void pj_pipe_sync(struct pj_pipe *pipe, void (*synced)(void *context), void *context)
{
    if (pipe->state != OPEN)
        return;
    if (!PQpipelineSync(pipe->conn)) {
        break_conn(pipe);
        return;
    }
    expect(pipe, (struct expected){.is_sync = true, .synced = synced, .context = context});
}

bool pj_pipe_backlogged(const struct pj_pipe *pipe)
{
    return pipe->backlogged;
}

static void on_closed(uv_handle_t *handle)
{
    struct pj_pipe *pipe = handle->data;
    if (--pipe->handles > 0)
        return;
    if (pipe->kept && (pipe->salvaged || (!pipe->first && PQexitPipelineMode(pipe->conn))))
        *pipe->kept = pipe->conn;
    else
        PQfinish(pipe->conn);
    while (pipe->first)
        take(pipe);
    void (*closed)(void *) = pipe->closed;
    void *context = pipe->closed_context;
    pj_free(pipe);
    closed(context);
}

void pj_pipe_close(struct pj_pipe *pipe, void (*closed)(void *context), void *context)
{
    pipe->state = CLOSING;
    pipe->closed = closed;
    pipe->closed_context = context;
    uv_close((uv_handle_t *)&pipe->poll, on_closed);
    uv_close((uv_handle_t *)&pipe->prepare, on_closed);
}

void pj_pipe_release(struct pj_pipe *pipe, PGconn **kept, void (*closed)(void *context), void *context)
{
    *kept = NULL;
    pipe->kept = pipe->state == OPEN ? kept : NULL;
    pj_pipe_close(pipe, closed, context);
}

void pj_pipe_salvage(struct pj_pipe *pipe, PGconn **kept, void (*closed)(void *context), void *context)
{
    *kept = NULL;
    pipe->salvaged = PQstatus(pipe->conn) == CONNECTION_OK;
    pipe->kept = pipe->salvaged ? kept : NULL;
    pj_pipe_close(pipe, closed, context);
}
