/*
 * See reader.h. Three handles: a poll for reading (and for writing while a status update could not leave at once), and
 * a timerfd for naps, because the loop's own timers count in milliseconds and a nap is a fraction of one.
 */
#include "pg/reader.h"

#include "base/clock.h"
#include "base/mem.h"
#include "pg/consume.h"
#include "pg/session.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct pj_reader {
    PGconn *conn;
    char *message; /* libpq's, of the last pull */
    uv_poll_t poll, nap;
    int nap_fd;
    int handles; /* not yet closed */
    enum pj_reading reading;
    int polled; /* events the poll is started with */
    bool unsent;
    pj_readable_fn readable;
    void *context;
    void (*closed)(void *context);
    void *closed_context;
    PGconn **kept; /* where the connection goes; NULL: it is closed */
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct pj_reader *reader)
{
    int events = (reader->reading == PJ_READING_EAGER ? UV_READABLE : 0) | (reader->unsent ? UV_WRITABLE : 0);
    if (events == reader->polled)
        return;
    reader->polled = events;
    if (events)
        uv_poll_start(&reader->poll, events, on_poll);
    else
        uv_poll_stop(&reader->poll);
}

static void flush_out(struct pj_reader *reader)
{
    reader->unsent = PQflush(reader->conn) == 1; /* an error shows at the next pull */
    watch(reader);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pj_reader *reader = poll->data;
    if (events & UV_WRITABLE)
        flush_out(reader);
    if (status < 0 || events & UV_READABLE)
        reader->readable(reader->context);
}

static void on_nap(uv_poll_t *poll, int status, int events)
{
    struct pj_reader *reader = poll->data;
    (void)status;
    (void)events;
    uint64_t expirations;
    ssize_t got = read(reader->nap_fd, &expirations, sizeof expirations);
    if (got > 0 && reader->reading == PJ_READING_NAP)
        reader->readable(reader->context);
}

int pj_reader_open(struct pj_reader **out, uv_loop_t *loop, PGconn *conn, pj_readable_fn readable, void *context,
                   struct pj_error *error)
{
    *out = NULL;
    int nap_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (nap_fd < 0) {
        PQfinish(conn);
        return pj_error_set(error, PJ_EFAIL, "timerfd: %s", strerror(errno));
    }
    PQsetnonblocking(conn, 1);
    struct pj_reader *reader = pj_alloc(sizeof *reader);
    reader->conn = conn;
    reader->nap_fd = nap_fd;
    reader->readable = readable;
    reader->context = context;
    uv_poll_init(loop, &reader->poll, PQsocket(conn));
    uv_poll_init(loop, &reader->nap, nap_fd);
    reader->poll.data = reader->nap.data = reader;
    reader->handles = 2;
    uv_poll_start(&reader->nap, UV_READABLE, on_nap);
    *out = reader;
    return PJ_OK;
}

/* The end of the stream: an orderly one (the server shuts down) or an error. Either is worth another try. */
static int stream_ended(struct pj_reader *reader, int length, struct pj_error *error)
{
    if (length == -1) {
        PGresult *result = PQgetResult(reader->conn);
        if (PQresultStatus(result) == PGRES_FATAL_ERROR)
            pj_pg_error(error, reader->conn, result, PJ_WRITE);
        else
            pj_error_set(error, PJ_EUNREACHABLE, "%s: the server has ended the stream", pj_side_name(PJ_WRITE));
        PQclear(result);
    } else {
        pj_pg_error(error, reader->conn, NULL, PJ_WRITE);
    }
    if (!error->sqlstate[0])
        error->retryable = true;
    return pj_error_wrap(error, "replication stream");
}

int pj_reader_next(struct pj_reader *reader, struct pj_copydata *message, bool *got, struct pj_error *error)
{
    PQfreemem(reader->message);
    reader->message = NULL;
    int length = PQgetCopyData(reader->conn, &reader->message, 1);
    if (length == 0) {
        /* libpq has no whole message; what the socket holds may complete one */
        if (!pj_consume(reader->conn))
            return stream_ended(reader, -2, error);
        length = PQgetCopyData(reader->conn, &reader->message, 1);
    }
    *got = length > 0;
    if (length < 0)
        return stream_ended(reader, length, error);
    return *got ? pj_copydata_parse(reader->message, (size_t)length, message, error) : PJ_OK;
}

void pj_reader_watch(struct pj_reader *reader, enum pj_reading how, int nap_us)
{
    reader->reading = how;
    struct itimerspec when = {0};
    if (how == PJ_READING_NAP)
        when.it_value.tv_nsec = nap_us * 1000L;
    if (how == PJ_READING_NAP)
        timerfd_settime(reader->nap_fd, 0, &when, NULL);
    watch(reader);
}

int pj_reader_status(struct pj_reader *reader, pj_lsn written, pj_lsn flushed, bool reply_wanted,
                     struct pj_error *error)
{
    char status[PJ_STATUS_BYTES];
    pj_copydata_status(status, written, flushed, pj_clock_wall_us(), reply_wanted);
    if (PQputCopyData(reader->conn, status, sizeof status) < 0)
        return stream_ended(reader, -2, error);
    flush_out(reader);
    return PJ_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct pj_reader *reader = handle->data;
    if (--reader->handles > 0)
        return;
    PQfreemem(reader->message);
    if (reader->kept)
        *reader->kept = reader->conn;
    else
        PQfinish(reader->conn);
    close(reader->nap_fd);
    void (*closed)(void *) = reader->closed;
    void *context = reader->closed_context;
    pj_free(reader);
    closed(context);
}

void pj_reader_close(struct pj_reader *reader, void (*closed)(void *context), void *context)
{
    reader->closed = closed;
    reader->closed_context = context;
    uv_close((uv_handle_t *)&reader->poll, on_closed);
    uv_close((uv_handle_t *)&reader->nap, on_closed);
}

void pj_reader_release(struct pj_reader *reader, PGconn **conn, void (*closed)(void *context), void *context)
{
    *conn = NULL;
    reader->kept = conn;
    pj_reader_close(reader, closed, context);
}
