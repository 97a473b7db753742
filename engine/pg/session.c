/*
 * Sessions: libpq's non-blocking calls under poll(), so that every wait has a deadline and can be stopped.
 *
 * Connecting uses PQconnectStart, whose name look-up blocks; that is why sessions live on threads of their own.
 */
#include "pg/session.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pg/sink.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CANCEL_MS = 1000 };

enum { PJ_SESSION_PARAMS = 1664 }; /* the most columns a result can have */

enum { PJ_SESSION_KEPT = 16 };

struct pj_session {
    PGconn *conn;
    enum pj_side side;
    int timeout_ms;
    const struct pj_stop *stop;
    int tick_ms;
    int (*tick)(void *context, struct pj_error *error);
    void *tick_context;
    struct pj_error given_up; /* why the tick had the statement given up; code PJ_OK: it did not */
    int nkept;
    const char *kept[PJ_SESSION_KEPT]; /* texts of prepared statements; an index is its name */
};

/* -------------------------------------------------------------------------------------------------------- errors */

const char *pj_side_name(enum pj_side side)
{
    return side == PJ_WRITE ? "write database" : "read database";
}

static bool sqlstate_retryable(const char *state)
{
    static const char *const classes[] = {"08", "40", "53", "55", "57"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(state, classes[i], 2) == 0)
            return true;
    return strcmp(state, "25006") == 0; /* read-only: a standby about to be promoted, or a full disk */
}

/* libpq's messages end with a newline and may have several lines; the first says what happened. */
static int first_line(const char *text)
{
    while (strncmp(text, "ERROR:  ", 8) == 0 || strncmp(text, "FATAL:  ", 8) == 0)
        text += 8;
    return (int)strcspn(text, "\n");
}

int pj_pg_error(struct pj_error *error, PGconn *conn, const PGresult *result, enum pj_side side)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
    bool lost = !conn || PQstatus(conn) == CONNECTION_BAD;
    if (state && primary) {
        /* a DETAIL may quote row values; it is shown only for classes that speak of the server or the schema */
        bool harmless = strncmp(state, "22", 2) != 0 && strncmp(state, "23", 2) != 0 && strncmp(state, "P0", 2) != 0;
        pj_error_set(error, lost ? PJ_EUNREACHABLE : PJ_EFAIL, "%s: %s%s%s (SQLSTATE %s)", pj_side_name(side), primary,
                     detail && harmless ? "; " : "", detail && harmless ? detail : "", state);
        snprintf(error->sqlstate, sizeof error->sqlstate, "%s", state);
        error->retryable = lost || sqlstate_retryable(state);
        const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
        if (hint)
            pj_error_hint(error, "%s", hint);
        return error->code;
    }
    const char *text = conn ? PQerrorMessage(conn) : "";
    if (!*text ||
        *text == '\n') { /* neither the server nor libpq has a word: a connection that dies under a pipeline */
        text = "connection lost";
        lost = true;
    }
    pj_error_set(error, lost ? PJ_EUNREACHABLE : PJ_EFAIL, "%s: %.*s", pj_side_name(side), first_line(text), text);
    error->retryable = lost;
    return error->code;
}

/* ------------------------------------------------------------------------------------------------------- waiting */

static int stopped(struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED, "stopped on request");
}

static uint64_t deadline_after(int milliseconds)
{
    return milliseconds > 0 ? pj_clock_monotonic_us() + (uint64_t)milliseconds * 1000 : 0;
}

static int remaining_ms(uint64_t deadline)
{
    if (!deadline)
        return -1;
    uint64_t now = pj_clock_monotonic_us();
    return now >= deadline ? 0 : (int)((deadline - now + 999) / 1000);
}

static void cancel(struct pj_session *session);

/* The next moment at which a wait ends without an answer: the deadline, or a tick. */
static int patience_ms(const struct pj_session *session, uint64_t deadline)
{
    int left = remaining_ms(deadline);
    bool ticks = session->tick && session->given_up.code == PJ_OK;
    return ticks && (left < 0 || left > session->tick_ms) ? session->tick_ms : left;
}

/* Asks once; the server's answer is waited for. */
static void run_tick(struct pj_session *session)
{
    if (session->tick && session->given_up.code == PJ_OK &&
        session->tick(session->tick_context, &session->given_up) != PJ_OK)
        cancel(session);
}

/* Waits for `events` on the connection. Sets *ready, which stays false when the deadline passes. */
static int wait_conn(struct pj_session *session, short events, uint64_t deadline, bool *ready, struct pj_error *error)
{
    struct pollfd fds[2] = {{.fd = PQsocket(session->conn), .events = events},
                            {.fd = session->stop ? session->stop->fd : -1, .events = POLLIN}};
    for (;;) {
        int count = poll(fds, 2, patience_ms(session, deadline));
        if (count > 0 || (count < 0 && errno != EINTR) || (count == 0 && deadline && remaining_ms(deadline) == 0))
            break;
        if (count == 0)
            run_tick(session);
    }
    if (fds[1].revents)
        return stopped(error);
    *ready = fds[0].revents != 0;
    return PJ_OK;
}

/* A request to give up what runs, shared by the one who asks and the thread that sends it: whoever is last frees it. */
struct cancellation {
    PGcancel *request;
    atomic_int users;
    int sent_fd; /* an eventfd */
};

static void leave_cancellation(struct cancellation *cancellation)
{
    if (atomic_fetch_sub(&cancellation->users, 1) > 1)
        return;
    PQfreeCancel(cancellation->request);
    close(cancellation->sent_fd);
    pj_free(cancellation);
}

static void *send_cancellation(void *argument)
{
    struct cancellation *cancellation = argument;
    char ignored[256];
    uint64_t one = 1;
    PQcancel(cancellation->request, ignored, sizeof ignored);
    ssize_t written = write(cancellation->sent_fd, &one, sizeof one);
    (void)written;
    leave_cancellation(cancellation);
    return NULL;
}

/* Asks the server to give up what runs. PQcancel waits for the server to hang up, which a frozen one never does: so
 * it waits on a thread of its own, and we for it no longer than a moment. */
static void cancel(struct pj_session *session)
{
    PGcancel *request = PQgetCancel(session->conn);
    if (!request)
        return;
    struct cancellation *cancellation = pj_alloc(sizeof *cancellation);
    *cancellation = (struct cancellation){.request = request, .users = 2, .sent_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_t thread;
    if (cancellation->sent_fd < 0 || pthread_create(&thread, NULL, send_cancellation, cancellation) != 0) {
        atomic_store(&cancellation->users, 1);
    } else {
        pthread_detach(thread);
        struct pollfd sent = {.fd = cancellation->sent_fd, .events = POLLIN};
        poll(&sent, 1, CANCEL_MS);
    }
    leave_cancellation(cancellation);
}

static int timed_out(struct pj_session *session, struct pj_error *error)
{
    cancel(session);
    pj_error_set(error, PJ_EUNREACHABLE, "%s: no answer within %d ms", pj_side_name(session->side),
                 session->timeout_ms);
    error->retryable = true;
    return error->code;
}

static int wait_or_give_up(struct pj_session *session, short events, uint64_t deadline, struct pj_error *error)
{
    bool ready;
    int code = wait_conn(session, events, deadline, &ready, error);
    if (code == PJ_ESTOPPED)
        cancel(session);
    if (code != PJ_OK)
        return code;
    return ready ? PJ_OK : timed_out(session, error);
}

/* ---------------------------------------------------------------------------------------------------- connecting */

static const char pinned_options[] = "-c datestyle=ISO,YMD -c timezone=UTC -c intervalstyle=postgres "
                                     "-c extra_float_digits=1 -c bytea_output=hex -c standard_conforming_strings=on "
                                     "-c search_path= -c lc_monetary=C";

/* 28xxx, 3D000: what a retry does not mend. libpq gives no SQLSTATE for a failed connection, so the words must do. */
static bool refused_for_good(const char *message)
{
    static const char *const marks[] = {"authentication failed",   "does not exist",
                                        "no pg_hba.conf entry",    "no password supplied",
                                        "not permitted to log in", "must be superuser or replication role"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(message, marks[i]))
            return strstr(message, "No such file or directory") == NULL;
    return false;
}

static const char *environment_name(enum pj_side side)
{
    return side == PJ_WRITE ? "WRITE_DATABASE_URL" : "READ_DATABASE_URL";
}

static int connect_failed(struct pj_session *session, struct pj_error *error)
{
    const char *message = PQerrorMessage(session->conn);
    bool config = refused_for_good(message);
    pj_error_set(error, config ? PJ_ECONFIG : PJ_EUNREACHABLE, "%s: cannot connect: %.*s", pj_side_name(session->side),
                 (int)strcspn(message, "\n"), message);
    error->retryable = !config;
    return pj_error_hint(error,
                         config ? "check the role, password and database in %s, and the server's pg_hba.conf"
                                : "is the server of %s up and reachable from here?",
                         environment_name(session->side));
}

static int connect_wait(struct pj_session *session, uint64_t deadline, struct pj_error *error)
{
    PostgresPollingStatusType polling = PGRES_POLLING_WRITING;
    while (polling != PGRES_POLLING_OK) {
        if (polling == PGRES_POLLING_FAILED)
            return connect_failed(session, error);
        bool ready;
        int code = wait_conn(session, polling == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, &ready, error);
        if (code != PJ_OK)
            return code;
        if (!ready) {
            pj_error_set(error, PJ_EUNREACHABLE, "%s: no answer to the connection attempt",
                         pj_side_name(session->side));
            error->retryable = true;
            return pj_error_hint(error, "is the server of %s up and reachable from here?",
                                 environment_name(session->side));
        }
        polling = PQconnectPoll(session->conn);
    }
    return PJ_OK;
}

static int check_url(const struct pj_session_options *options, struct pj_error *error)
{
    char *complaint = NULL;
    PQconninfoOption *parsed = PQconninfoParse(options->url, &complaint);
    if (parsed) {
        PQconninfoFree(parsed);
        return PJ_OK;
    }
    /* libpq's complaint may quote the string, and with it a password */
    PQfreemem(complaint);
    pj_error_set(error, PJ_ECONFIG, "%s is not a connection string that libpq understands",
                 environment_name(options->side));
    return pj_error_hint(error, "give it as postgresql://user@host:5432/database or as host=… dbname=… user=…");
}

static int connect_start(struct pj_session *session, const struct pj_session_options *options, struct pj_error *error)
{
    int code = check_url(options, error);
    if (code != PJ_OK)
        return code;
    char *name = pj_sprintf("pgprojector%s%s", options->purpose ? " " : "", options->purpose ? options->purpose : "");
    /* later keywords override what the connection string (dbname, expanded) says */
    const char *keywords[] = {"dbname",
                              "application_name",
                              "client_encoding",
                              "options",
                              "keepalives_idle",
                              "keepalives_interval",
                              "keepalives_count",
                              "tcp_user_timeout",
                              options->replication ? "replication" : NULL,
                              NULL};
    const char *values[] = {
        options->url, name, "UTF8", pinned_options, "20", "10", "3", "45000", options->replication ? "database" : NULL,
        NULL};
    session->conn = PQconnectStartParams(keywords, values, 1);
    pj_free(name);
    if (!session->conn || PQstatus(session->conn) == CONNECTION_BAD)
        return connect_failed(session, error);
    int seconds = options->connect_timeout_s ? options->connect_timeout_s : 10;
    return connect_wait(session, deadline_after(seconds * 1000), error);
}

/* A role's or database's own setting cannot override the connection's options, but a pooler may swallow them. */
static int assert_settings(struct pj_session *session, struct pj_error *error)
{
    static const char sql[] = "SELECT current_setting('DateStyle') || '|' || current_setting('TimeZone') || '|' || "
                              "current_setting('bytea_output') || '|' || current_setting('IntervalStyle') || '|' || "
                              "current_setting('client_encoding')";
    static const char wanted[] = "ISO, YMD|UTC|hex|postgres|UTF8";
    PGresult *result;
    int code = pj_session_query_row(session, &result, sql, 0, NULL, error);
    if (code != PJ_OK)
        return code;
    if (strcmp(PQgetvalue(result, 0, 0), wanted) != 0) {
        pj_error_set(error, PJ_ECONFIG, "%s: the session's settings are %s, not %s", pj_side_name(session->side),
                     PQgetvalue(result, 0, 0), wanted);
        pj_error_hint(error, "connect to the server itself, not through a pooler that drops the options parameter");
    }
    PQclear(result);
    return error->code;
}

int pj_session_open(struct pj_session **out, const struct pj_session_options *options, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_session *session = pj_alloc(sizeof *session);
    session->side = options->side;
    session->stop = options->stop;
    int code = connect_start(session, options, error);
    if (code == PJ_OK) {
        PQsetnonblocking(session->conn, 1);
        session->timeout_ms = 30000;
        if (!options->replication)
            code = assert_settings(session, error);
        session->timeout_ms = 0;
    }
    if (code != PJ_OK) {
        pj_session_close(session);
        session = NULL;
    }
    *out = session;
    return code;
}

void pj_session_close(struct pj_session *session)
{
    if (!session)
        return;
    PQfinish(session->conn);
    pj_free(session);
}

PGconn *pj_session_detach(struct pj_session *session)
{
    PGconn *conn = session->conn;
    pj_free(session);
    return conn;
}

struct pj_session *pj_session_attach(PGconn *conn, enum pj_side side, const struct pj_stop *stop)
{
    struct pj_session *session = pj_alloc(sizeof *session);
    *session = (struct pj_session){.conn = conn, .side = side, .stop = stop};
    return session;
}

void pj_session_set_timeout(struct pj_session *session, int milliseconds)
{
    session->timeout_ms = milliseconds;
}

void pj_session_set_tick(struct pj_session *session, int milliseconds,
                         int (*tick)(void *context, struct pj_error *error), void *context)
{
    session->tick_ms = milliseconds;
    session->tick = tick;
    session->tick_context = context;
}

PGconn *pj_session_conn(struct pj_session *session)
{
    return session->conn;
}

enum pj_side pj_session_side(const struct pj_session *session)
{
    return session->side;
}

/* ------------------------------------------------------------------------------------------------------- queries */

static int flush_out(struct pj_session *session, uint64_t deadline, struct pj_error *error)
{
    int rest;
    while ((rest = PQflush(session->conn)) == 1) {
        int code = wait_or_give_up(session, POLLIN | POLLOUT, deadline, error);
        if (code != PJ_OK)
            return code;
        if (!PQconsumeInput(session->conn))
            return pj_pg_error(error, session->conn, NULL, session->side);
    }
    return rest < 0 ? pj_pg_error(error, session->conn, NULL, session->side) : PJ_OK;
}

/* The next result of what was sent; NULL when there is no more. */
static int next_result(struct pj_session *session, uint64_t deadline, PGresult **result, struct pj_error *error)
{
    while (PQisBusy(session->conn)) {
        int code = wait_or_give_up(session, POLLIN, deadline, error);
        if (code != PJ_OK)
            return code;
        if (!PQconsumeInput(session->conn))
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

int pj_session_query(struct pj_session *session, PGresult **result, const char *sql, int count,
                     const char *const *params, struct pj_error *error)
{
    pj_error_clear(error);
    *result = NULL;
    int sent = count ? PQsendQueryParams(session->conn, sql, count, NULL, params, NULL, NULL, 0)
                     : PQsendQuery(session->conn, sql);
    if (!sent)
        return pj_pg_error(error, session->conn, NULL, session->side);
    return collect(session, deadline_after(session->timeout_ms), result, error);
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
    int code = collect(session, deadline_after(session->timeout_ms), &result, error);
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
    return collect(session, deadline_after(session->timeout_ms), result, error);
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
    const char *values[PJ_SESSION_PARAMS];
    int lengths[PJ_SESSION_PARAMS], formats[PJ_SESSION_PARAMS];
    pj_error_clear(error);
    *result = NULL;
    for (int i = 0; i < count; i++) {
        values[i] = pj_is_null(params[i]) ? NULL : (const char *)params[i].data;
        lengths[i] = pj_is_null(params[i]) ? 0 : params[i].length;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(session->conn, statement, count, values, lengths, formats, 1))
        return pj_pg_error(error, session->conn, NULL, session->side);
    return collect(session, deadline_after(session->timeout_ms), result, error);
}

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
    uint64_t deadline = deadline_after(session->timeout_ms);
    pj_error_clear(error);
    if (!PQpipelineSync(session->conn))
        return pj_pg_error(error, session->conn, NULL, session->side);
    int code = flush_out(session, deadline, error);
    if (code == PJ_OK)
        code = leave_pipeline(session, deadline, error);
    bool open = code == PJ_OK && PQtransactionStatus(session->conn) != PQTRANS_IDLE;
    return open ? pj_session_exec(session, "ROLLBACK", error) : code;
}

int pj_session_wait(struct pj_session *session, int milliseconds, bool *readable, struct pj_error *error)
{
    pj_error_clear(error);
    int code = wait_conn(session, POLLIN, deadline_after(milliseconds > 0 ? milliseconds : 1), readable, error);
    if (code == PJ_OK && *readable && !PQconsumeInput(session->conn))
        code = pj_pg_error(error, session->conn, NULL, session->side);
    return code;
}
