/*
 * Rows from one session to another, or to a function: COPY … TO STDOUT on the one side, COPY … FROM STDIN on the other,
 * each within its session's transaction. Some 64 kB are held here, whatever there is to carry.
 */
#include "core/difference_internal.h"

#include <poll.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, LOOK_MS = 500 };

/* What the server says of a COPY that went wrong. */
static int failed(struct pj_session *session, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(session);
    PGresult *result = PQgetResult(conn);
    if (result && PQresultStatus(result) == PGRES_COPY_IN) { /* still copying: the connection itself is at fault */
        PQclear(result);
        result = NULL;
    }
    int code = pj_pg_error(error, conn, result, pj_session_side(session));
    PQclear(result);
    return code;
}

/* Waits until the session has sent something more; notices a stop. */
static int await_input(struct pj_session *session, struct pj_error *error)
{
    bool readable;
    return pj_session_wait(session, LOOK_MS, &readable, error);
}

/* Reads off the answers to the command that is over; the first error counts. */
static int end_command(struct pj_session *session, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(session);
    int code = PJ_OK;
    for (;;) {
        while (code == PJ_OK && PQisBusy(conn))
            code = await_input(session, error);
        if (code != PJ_OK && PQisBusy(conn))
            return code;
        PGresult *result = PQgetResult(conn);
        if (!result)
            return code;
        if (code == PJ_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
            code = pj_pg_error(error, conn, result, pj_session_side(session));
        PQclear(result);
    }
}

/* ------------------------------------------------------------------------------------------------------- reading */

int pj_difference_read(struct pj_session *from, pj_row_sink sink, void *context, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(from);
    for (;;) {
        char *row;
        int length = PQgetCopyData(conn, &row, 1), code = PJ_OK;
        if (length == -1)
            return end_command(from, error);
        if (length < 0)
            return failed(from, error);
        if (length == 0) {
            code = await_input(from, error);
        } else {
            sink(context, row, (size_t)length);
            PQfreemem(row);
        }
        if (code != PJ_OK)
            return code;
    }
}

/* Hands out what is here. */
static int read_some(struct pj_session *from, pj_row_sink sink, void *context, bool *over, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(from);
    char *row;
    int length;
    while ((length = PQgetCopyData(conn, &row, 1)) > 0) {
        sink(context, row, (size_t)length);
        PQfreemem(row);
    }
    *over = length == -1;
    return length == -1 ? end_command(from, error) : length < 0 ? failed(from, error) : PJ_OK;
}

/* Waits for one of those that are not over, and takes in what has come; notices a stop. */
static int await_either(struct pj_session *const from[2], const bool over[2], struct pj_error *error)
{
    struct pollfd fds[2];
    bool readable;
    int code = PJ_OK;
    for (int i = 0; i < 2; i++)
        fds[i] = (struct pollfd){.fd = over[i] ? -1 : PQsocket(pj_session_conn(from[i])), .events = POLLIN};
    bool any = poll(fds, 2, LOOK_MS) > 0;
    for (int i = 0; code == PJ_OK && i < 2; i++)
        if (!over[i] && (!any || fds[i].revents))
            code = pj_session_wait(from[i], 0, &readable, error);
    return code;
}

int pj_difference_read_both(struct pj_session *const from[2], const pj_row_sink sinks[2], void *context,
                            struct pj_error *error)
{
    bool over[2] = {false, false};
    int code = PJ_OK;
    for (;;) {
        for (int i = 0; code == PJ_OK && i < 2; i++)
            if (!over[i])
                code = read_some(from[i], sinks[i], context, &over[i], error);
        if (code != PJ_OK || (over[0] && over[1]))
            return code;
        code = await_either(from, over, error);
    }
}

/* ------------------------------------------------------------------------------------------------------- writing */

struct writing {
    struct pj_session *to;
    struct pj_buf chunk;
    struct pj_error *error; /* set by the first chunk that could not be written; what follows is dropped */
};

static int flush(struct pj_session *to, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(to);
    int unsent;
    while ((unsent = PQflush(conn)) > 0) {
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN | POLLOUT};
        bool readable;
        if (poll(&fd, 1, LOOK_MS) > 0 && !(fd.revents & POLLIN))
            continue;
        int code = pj_session_wait(to, 0, &readable, error);
        if (code != PJ_OK)
            return code;
    }
    return unsent < 0 ? failed(to, error) : PJ_OK;
}

static void put_chunk(struct writing *writing)
{
    if (writing->error->code != PJ_OK || !writing->chunk.length)
        return;
    if (PQputCopyData(pj_session_conn(writing->to), writing->chunk.data, (int)writing->chunk.length) != 1)
        failed(writing->to, writing->error);
    else
        flush(writing->to, writing->error);
    pj_buf_clear(&writing->chunk);
}

static void put_row(void *context, const char *row, size_t length)
{
    struct writing *writing = context;
    if (writing->error->code != PJ_OK)
        return;
    pj_buf_put(&writing->chunk, row, length);
    if (writing->chunk.length >= CHUNK_BYTES)
        put_chunk(writing);
}

static int end_writing(struct writing *writing)
{
    put_chunk(writing);
    if (writing->error->code == PJ_OK && PQputCopyEnd(pj_session_conn(writing->to), NULL) != 1)
        failed(writing->to, writing->error);
    if (writing->error->code == PJ_OK)
        flush(writing->to, writing->error);
    return writing->error->code == PJ_OK ? end_command(writing->to, writing->error) : writing->error->code;
}

int pj_difference_copy(struct pj_session *write, const char *out_sql, struct pj_session *read, const char *in_sql,
                       struct pj_error *error)
{
    int code = pj_session_exec(write, out_sql, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, in_sql, error);
    if (code != PJ_OK)
        return code;
    struct pj_error written, source;
    pj_error_clear(&written);
    pj_error_clear(&source);
    struct writing writing = {.to = read, .error = &written};
    code = pj_difference_read(write, put_row, &writing, &source);
    if (code == PJ_OK)
        code = end_writing(&writing);
    pj_buf_free(&writing.chunk);
    if (code != PJ_OK)
        *error = source.code != PJ_OK ? source : written;
    return code;
}
