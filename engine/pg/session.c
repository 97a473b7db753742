/*
 * Sessions: libpq's non-blocking calls, each of which waits for its answer (session_wait.c).
 */
#include "base/mem.h"
#include "pg/consume.h"
#include "pg/session_internal.h"
#include "pg/sink.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARAMS = 1664 }; /* the most columns a result can have */

PGconn *pj_session_conn(struct pj_session *session)
{
    return session->conn;
}

enum pj_side pj_session_side(const struct pj_session *session)
{
    return session->side;
}

/* ---------------------------------------------------------------------------------------------------------- results */

static int flush_out(struct pj_session *session, uint64_t deadline, struct pj_error *error)
{
    int rest;
    while ((rest = PQflush(session->conn)) == 1) {
        int code = pj_session_await_answer(session, POLLIN | POLLOUT, deadline, error);
        if (code != PJ_OK)
            return code;
        if (!pj_consume(session->conn))
            return pj_pg_error(error, session->conn, NULL, session->side);
    }
    return rest < 0 ? pj_pg_error(error, session->conn, NULL, session->side) : PJ_OK;
}

/* The next result of what was sent; NULL when there is no more. */
static int next_result(struct pj_session *session, uint64_t deadline, PGresult **result, struct pj_error *error)
{
    while (PQisBusy(session->conn)) {
        int code = pj_session_await_answer(session, POLLIN, deadline, error);
        if (code != PJ_OK)
            return code;
        if (!pj_consume(session->conn))
            return pj_pg_error(error, session->conn, NULL, session->side);
    }
    *result = PQgetResult(session->conn);
    return PJ_OK;
}

static bool good(const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        return true;
    default:
        return false;
    }
}

static bool begins_copy(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Reads all results; keeps the last one, or the first that failed. A COPY ends it: the data is the caller's. */
static int collect(struct pj_session *session, uint64_t deadline, PGresult **last, struct pj_error *error)
{
    *last = NULL;
    pj_error_clear(&session->given_up);
    int code = flush_out(session, deadline, error);
    while (code == PJ_OK) {
        PGresult *result = NULL;
        code = next_result(session, deadline, &result, error);
        if (code != PJ_OK || !result)
            break;
        if (*last && !good(*last)) {
            PQclear(result);
            continue;
        }
        PQclear(*last);
        *last = result;
        if (begins_copy(result))
            break;
    }
    if (code == PJ_OK && (!*last || !good(*last)))
        code = pj_pg_error(error, session->conn, *last, session->side);
    if (code != PJ_OK && session->given_up.code != PJ_OK && code != PJ_ESTOPPED) {
        *error = session->given_up;
        code = error->code;
    }
    if (code != PJ_OK) {
        PQclear(*last);
        *last = NULL;
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------------- statements */

int pj_session_query(struct pj_session *session, PGresult **result, const char *sql, int count,
                     const char *const *params, struct pj_error *error)
{
    pj_error_clear(error);
    *result = NULL;
    int sent = count ? PQsendQueryParams(session->conn, sql, count, NULL, params, NULL, NULL, 0)
                     : PQsendQuery(session->conn, sql);
    if (!sent)
        return pj_pg_error(error, session->conn, NULL, session->side);
    return collect(session, pj_session_deadline(session->timeout_ms), result, error);
}

/* *number: under which it is prepared; PJ_SESSION_KEPT: there are too many. */
static int keep(struct pj_session *session, const char *sql, int *number, struct pj_error *error)
{
    PGresult *result;
    char name[24];
    for (*number = 0; *number < session->nkept; ++*number)
        if (session->kept[*number] == sql)
            return PJ_OK;
    if (*number == PJ_SESSION_KEPT)
        return PJ_OK;
    snprintf(name, sizeof name, "kept%d", *number);
    if (!PQsendPrepare(session->conn, name, sql, 0, NULL))
        return pj_pg_error(error, session->conn, NULL, session->side);
    int code = collect(session, pj_session_deadline(session->timeout_ms), &result, error);
    PQclear(result);
    if (code == PJ_OK)
        session->kept[session->nkept++] = sql;
    return code;
}

int pj_session_query_kept(struct pj_session *session, PGresult **result, const char *sql, int count,
                          const char *const *params, struct pj_error *error)
{
    int number;
    char name[24];
    pj_error_clear(error);
    *result = NULL;
    int code = keep(session, sql, &number, error);
    if (code != PJ_OK)
        return code;
    if (number == PJ_SESSION_KEPT)
        return pj_session_query(session, result, sql, count, params, error);
    snprintf(name, sizeof name, "kept%d", number);
    if (!PQsendQueryPrepared(session->conn, name, count, params, NULL, NULL, 0))
        return pj_pg_error(error, session->conn, NULL, session->side);
    return collect(session, pj_session_deadline(session->timeout_ms), result, error);
}

int pj_session_query_row(struct pj_session *session, PGresult **result, const char *sql, int count,
                         const char *const *params, struct pj_error *error)
{
    int code = pj_session_query(session, result, sql, count, params, error);
    if (code == PJ_OK && PQntuples(*result) != 1) {
        int rows = PQntuples(*result);
        PQclear(*result);
        *result = NULL;
        code = pj_error_set(error, PJ_EFAIL, "%s: %d rows where one was expected: %.80s", pj_side_name(session->side),
                            rows, sql);
    }
    return code;
}

int pj_session_exec(struct pj_session *session, const char *sql, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(session, &result, sql, 0, NULL, error);
    PQclear(result);
    return code;
}

int pj_session_exec_last(struct pj_session *session, const char *sql, int milliseconds, struct pj_error *error)
{
    const struct pj_session before = *session;
    session->stop = NULL;
    session->tick = NULL;
    session->timeout_ms = milliseconds;
    int code = pj_session_exec(session, sql, error);
    session->stop = before.stop;
    session->tick = before.tick;
    session->timeout_ms = before.timeout_ms;
    return code;
}

int pj_session_execf(struct pj_session *session, struct pj_error *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *sql = NULL;
    if (vasprintf(&sql, format, args) < 0)
        abort();
    va_end(args);
    int code = pj_session_exec(session, sql, error);
    free(sql);
    return code;
}

int pj_session_execute(struct pj_session *session, PGresult **result, const char *statement, int count,
                       const struct pj_value *params, struct pj_error *error)
{
    const char *values[PARAMS];
    int lengths[PARAMS], formats[PARAMS];
    pj_error_clear(error);
    *result = NULL;
    for (int i = 0; i < count; i++) {
        values[i] = pj_is_null(params[i]) ? NULL : (const char *)params[i].data;
        lengths[i] = pj_is_null(params[i]) ? 0 : params[i].length;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(session->conn, statement, count, values, lengths, formats, 1))
        return pj_pg_error(error, session->conn, NULL, session->side);
    return collect(session, pj_session_deadline(session->timeout_ms), result, error);
}

/* ----------------------------------------------------------------------------------------------------------- a sink */

static void hand_to(const struct pj_session_sink *state, PGresult *result, pj_result_fn fn, void *context)
{
    struct pj_error error;
    pj_error_clear(&error);
    if (fn && fn(context, result, &error) != PJ_OK)
        *state->error = error;
}

static void sink_execute(void *self, const char *statement, int count, const struct pj_value *params, pj_result_fn fn,
                         void *context)
{
    const struct pj_session_sink *state = self;
    PGresult *result;
    if (state->error->code != PJ_OK)
        return;
    if (pj_session_execute(state->session, &result, statement, count, params, state->error) == PJ_OK)
        hand_to(state, result, fn, context);
    PQclear(result);
}

static void sink_query(void *self, const char *sql, pj_result_fn fn, void *context)
{
    const struct pj_session_sink *state = self;
    PGresult *result;
    if (state->error->code != PJ_OK)
        return;
    if (pj_session_query(state->session, &result, sql, 0, NULL, state->error) == PJ_OK)
        hand_to(state, result, fn, context);
    PQclear(result);
}

struct pj_sink pj_session_sink(struct pj_session_sink *state)
{
    return (struct pj_sink){.execute = sink_execute, .query = sink_query, .self = state};
}

/* ------------------------------------------------------------------------------------------------ out of a pipeline */

/* What was sent before the Sync is answered, or said to be given up, and then the Sync itself; the pipe may have sent
 * one, too: the last of them is the one after which libpq lets the pipeline be left. */
static int leave_pipeline(struct pj_session *session, uint64_t deadline, struct pj_error *error)
{
    for (bool left = false; !left;) {
        PGresult *result = NULL;
        int code = next_result(session, deadline, &result, error);
        if (code == PJ_OK && PQstatus(session->conn) == CONNECTION_BAD)
            code = pj_pg_error(error, session->conn, result, session->side);
        left = code == PJ_OK && PQresultStatus(result) == PGRES_PIPELINE_SYNC && PQexitPipelineMode(session->conn);
        PQclear(result);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

int pj_session_recover(struct pj_session *session, struct pj_error *error)
{
    uint64_t deadline = pj_session_deadline(session->timeout_ms);
    pj_error_clear(error);
    if (!PQpipelineSync(session->conn))
        return pj_pg_error(error, session->conn, NULL, session->side);
    int code = flush_out(session, deadline, error);
    if (code == PJ_OK)
        code = leave_pipeline(session, deadline, error);
    bool open = code == PJ_OK && PQtransactionStatus(session->conn) != PQTRANS_IDLE;
    return open ? pj_session_exec(session, "ROLLBACK", error) : code;
}
