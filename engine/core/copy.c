/*
 * The pump: N pairs of connections, COPY … TO STDOUT on the source's side, COPY … FROM STDIN on the read side, one
 * thread, poll().
 *
 * Each pair (a lane) takes the next piece when it has finished one:
 *
 *     IDLE ──start──▶ COPYING ──source is at its end──▶ ENDING ──mirror has answered──▶ IDLE
 *
 * Back-pressure: while a lane's mirror has not taken what it was given, nothing is read from the lane's source, so
 * libpq's receive buffer fills, and the kernel's, and the server waits. So a lane holds a few hundred kilobytes,
 * whatever the size of the tables. (A single row is held whole; libpq has it no other way.)
 *
 * The pieces are committed one by one; that is no harm, for the mirrors count for nothing until the first start
 * completes.
 */
#include "core/copy.h"

#include "base/buf.h"
#include "base/mem.h"
#include "core/copy_plan.h"
#include "pg/consume.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, ROUND_MS = 200, MOST_JOBS = 16 };

enum lane_state { LANE_IDLE, LANE_COPYING, LANE_ENDING };

struct lane {
    enum lane_state state;
    struct pj_session *from, *to;
    const struct pj_copy_piece *piece;
    struct pj_buf chunk; /* rows on their way: given to libpq as one message */
    bool backlog;        /* libpq has bytes that the mirror's server has not taken */
    int64_t rows_out;    /* what the source said it sent */
};

struct pump {
    const struct pj_copy_options *options;
    struct pj_copy_plan plan;
    int next; /* piece */
    int nlanes;
    struct lane lanes[MOST_JOBS];
    int64_t rows, bytes;
};

/* --------------------------------------------------------------------------------------------------------- lanes */

/* Commits are awaited, though not by standbys: the VACUUM that follows takes a row for visible to all only when its
 * commit, and those of all transactions with neighbouring numbers, are on disk. */
static const char read_settings_sql[] = "SET synchronous_commit = local";

static int open_lane(struct lane *lane, const struct pj_copy_options *options, struct pj_error *error)
{
    struct pj_session_options write = {
        .side = PJ_WRITE, .url = options->write_url, .purpose = "copy", .stop = options->stop};
    struct pj_session_options read = {
        .side = PJ_READ, .url = options->read_url, .purpose = "copy", .stop = options->stop};
    int code = pj_session_open(&lane->from, &write, error);
    if (code == PJ_OK)
        code = pj_session_exec(lane->from, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (code == PJ_OK) /* made by the server: hexadecimal digits and dashes */
        code = pj_session_execf(lane->from, error, "SET TRANSACTION SNAPSHOT '%s'", options->snapshot);
    if (code == PJ_OK)
        code = pj_session_open(&lane->to, &read, error);
    if (code == PJ_OK) {
        pj_session_set_tick(lane->from, ROUND_MS, options->waiting, options->context);
        pj_session_set_tick(lane->to, ROUND_MS, options->waiting, options->context);
    }
    return code == PJ_OK ? pj_session_exec(lane->to, read_settings_sql, error) : code;
}

static int name_table(const struct lane *lane, struct pj_error *error)
{
    return pj_error_wrap(error, "copy %s", lane->piece->relation);
}

static int start_piece(struct pump *pump, struct lane *lane, struct pj_error *error)
{
    lane->piece = &pump->plan.pieces[pump->next++];
    lane->rows_out = -1;
    struct pj_buf sql = {0};
    pj_copy_piece_out(lane->piece, &sql);
    int code = pj_session_exec(lane->from, pj_buf_text(&sql), error);
    if (code == PJ_OK) {
        pj_buf_clear(&sql);
        pj_copy_piece_in(lane->piece, &sql);
        code = pj_session_exec(lane->to, pj_buf_text(&sql), error);
    }
    pj_buf_free(&sql);
    lane->state = LANE_COPYING;
    return code == PJ_OK ? PJ_OK : name_table(lane, error);
}

/* ------------------------------------------------------------------------------------------------ from the source */

/* The reason is in the command's result, once the COPY is over. */
static int failed(PGconn *conn, enum pj_side side, struct pj_error *error)
{
    PGresult *result = PQgetResult(conn);
    if (result && PQresultStatus(result) == PGRES_COPY_IN) { /* still copying: the connection itself is at fault */
        PQclear(result);
        result = NULL;
    }
    int code = pj_pg_error(error, conn, result, side);
    PQclear(result);
    return code;
}

/* The end of the source's data: what does the server say? */
static int end_source(struct lane *lane, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(lane->from);
    int code = PJ_OK;
    PGresult *result;
    while ((result = PQgetResult(conn))) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK)
            lane->rows_out = strtoll(PQcmdTuples(result), NULL, 10);
        else if (code == PJ_OK)
            code = pj_pg_error(error, conn, result, PJ_WRITE);
        PQclear(result);
    }
    return code;
}

static int flush_lane(struct lane *lane, struct pj_error *error)
{
    int unsent = PQflush(pj_session_conn(lane->to));
    lane->backlog = unsent > 0;
    return unsent < 0 ? failed(pj_session_conn(lane->to), PJ_READ, error) : PJ_OK;
}

static int put_chunk(struct lane *lane, struct pj_error *error)
{
    if (!lane->chunk.length)
        return PJ_OK;
    PGconn *conn = pj_session_conn(lane->to);
    if (PQputCopyData(conn, lane->chunk.data, (int)lane->chunk.length) != 1)
        return failed(conn, PJ_READ, error);
    pj_buf_clear(&lane->chunk);
    return flush_lane(lane, error);
}

static int begin_ending(struct lane *lane, struct pj_error *error)
{
    int code = end_source(lane, error);
    if (code == PJ_OK)
        code = put_chunk(lane, error);
    if (code == PJ_OK && PQputCopyEnd(pj_session_conn(lane->to), NULL) != 1)
        code = failed(pj_session_conn(lane->to), PJ_READ, error);
    lane->state = LANE_ENDING;
    return code == PJ_OK ? flush_lane(lane, error) : code;
}

/* Moves the rows that are here already, as far as the mirror takes them. */
static int move_rows(struct pump *pump, struct lane *lane, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(lane->from);
    int code = PJ_OK;
    while (code == PJ_OK && !lane->backlog) {
        char *row;
        int length = PQgetCopyData(conn, &row, 1);
        if (length == 0)
            return put_chunk(lane, error);
        if (length < 0)
            return length == -1 ? begin_ending(lane, error) : failed(conn, PJ_WRITE, error);
        pj_buf_put(&lane->chunk, row, (size_t)length);
        PQfreemem(row);
        pump->rows++;
        pump->bytes += length;
        if (lane->chunk.length >= CHUNK_BYTES)
            code = put_chunk(lane, error);
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------- to the mirror */

/* Takes the mirror's answer when it is there. Both sides must have counted alike. */
static int try_finish(struct lane *lane, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(lane->to);
    int code = PJ_OK;
    while (code == PJ_OK && !PQisBusy(conn)) {
        PGresult *result = PQgetResult(conn);
        if (!result) {
            lane->state = LANE_IDLE;
            return PJ_OK;
        }
        int64_t rows_in = strtoll(PQcmdTuples(result), NULL, 10);
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            code = pj_pg_error(error, conn, result, PJ_READ);
        else if (rows_in != lane->rows_out)
            code = pj_error_set(error, PJ_EDATA, "%lld rows read, %lld written", (long long)lane->rows_out,
                                (long long)rows_in);
        PQclear(result);
    }
    return code;
}

/* --------------------------------------------------------------------------------------------------------- rounds */

static int consume(struct pj_session *session, struct pj_error *error)
{
    PGconn *conn = pj_session_conn(session);
    return pj_consume(conn) ? PJ_OK : failed(conn, pj_session_side(session), error);
}

static int serve_lane(struct pump *pump, struct lane *lane, short from_events, short to_events, struct pj_error *error)
{
    int code = PJ_OK;
    if (to_events & ~POLLOUT)
        code = consume(lane->to, error);
    if (code == PJ_OK && lane->backlog)
        code = flush_lane(lane, error);
    if (code == PJ_OK && from_events && lane->state == LANE_COPYING)
        code = consume(lane->from, error);
    if (code == PJ_OK && lane->state == LANE_COPYING)
        code = move_rows(pump, lane, error);
    if (code == PJ_OK && lane->state == LANE_ENDING && !lane->backlog)
        code = try_finish(lane, error);
    return code == PJ_OK ? PJ_OK : name_table(lane, error);
}

/* A lane's two entries: of the source only where there is room for its rows. */
static void watch_lane(const struct lane *lane, struct pollfd fds[2])
{
    bool busy = lane->state != LANE_IDLE;
    bool wanted = lane->state == LANE_COPYING && !lane->backlog;
    fds[0] = (struct pollfd){.fd = wanted ? PQsocket(pj_session_conn(lane->from)) : -1, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = busy ? PQsocket(pj_session_conn(lane->to)) : -1,
                             .events = (short)(POLLIN | (lane->backlog ? POLLOUT : 0))};
}

static int wait_round(struct pump *pump, struct pollfd *fds, struct pj_error *error)
{
    int last = 2 * pump->nlanes;
    for (int i = 0; i < pump->nlanes; i++)
        watch_lane(&pump->lanes[i], &fds[2 * i]);
    fds[last] = (struct pollfd){.fd = pump->options->stop ? pump->options->stop->fd : -1, .events = POLLIN};
    if (poll(fds, (nfds_t)last + 1, ROUND_MS) < 0 && errno != EINTR)
        return pj_error_set(error, PJ_EFAIL, "poll: %s", strerror(errno));
    return pj_stop_asked(pump->options->stop) ? pj_error_set(error, PJ_ESTOPPED, "stopped on request") : PJ_OK;
}

static int start_idle_lanes(struct pump *pump, bool *busy, struct pj_error *error)
{
    int code = PJ_OK;
    *busy = false;
    for (int i = 0; code == PJ_OK && i < pump->nlanes; i++) {
        struct lane *lane = &pump->lanes[i];
        if (lane->state == LANE_IDLE && pump->next < pump->plan.count)
            code = start_piece(pump, lane, error);
        *busy = *busy || lane->state != LANE_IDLE;
    }
    return code;
}

static int serve_round(struct pump *pump, const struct pollfd *fds, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < pump->nlanes; i++) {
        struct lane *lane = &pump->lanes[i];
        if (lane->state == LANE_IDLE)
            continue;
        code = serve_lane(pump, lane, fds[2 * i].revents, fds[2 * i + 1].revents, error);
        if (pump->options->progress)
            pump->options->progress(pump->options->context, lane->piece->relation, pump->rows, pump->plan.rows_expected,
                                    pump->bytes);
    }
    return code;
}

static int run(struct pump *pump, struct pj_error *error)
{
    struct pollfd fds[2 * MOST_JOBS + 1];
    bool busy = true;
    int code = PJ_OK;
    while (code == PJ_OK) {
        code = start_idle_lanes(pump, &busy, error);
        if (code != PJ_OK || !busy)
            break;
        code = wait_round(pump, fds, error);
        if (code == PJ_OK)
            code = serve_round(pump, fds, error);
    }
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- all */

static int open_lanes(struct pump *pump, struct pj_error *error)
{
    int wanted = pump->options->jobs < 1 ? 1 : pump->options->jobs > MOST_JOBS ? MOST_JOBS : pump->options->jobs;
    int code = PJ_OK;
    if (wanted > pump->plan.count)
        wanted = pump->plan.count;
    while (code == PJ_OK && pump->nlanes < wanted)
        code = open_lane(&pump->lanes[pump->nlanes++], pump->options, error);
    return code;
}

int pj_copy_tables(struct pj_session *write, const struct pj_copy_options *options, const struct pj_table *tables,
                   int count, struct pj_error *error)
{
    struct pump *pump = pj_alloc(sizeof *pump);
    pump->options = options;
    int code = pj_copy_plan_make(write, tables, count, &pump->plan, error);
    if (code == PJ_OK)
        code = open_lanes(pump, error);
    if (code == PJ_OK)
        code = run(pump, error);
    for (int i = 0; i < pump->nlanes; i++) {
        pj_session_close(pump->lanes[i].from);
        pj_session_close(pump->lanes[i].to);
        pj_buf_free(&pump->lanes[i].chunk);
    }
    pj_copy_plan_free(&pump->plan);
    pj_free(pump);
    return code;
}
