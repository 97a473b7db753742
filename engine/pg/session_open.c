/*
 * Opening a session. PQconnectStart's name look-up blocks; that is why sessions live on threads of their own.
 */
#include "base/mem.h"
#include "pg/conninfo.h"
#include "pg/session_internal.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static const char pinned_options[] = "-c datestyle=ISO,YMD -c timezone=UTC -c intervalstyle=postgres "
                                     "-c extra_float_digits=1 -c bytea_output=hex -c standard_conforming_strings=on "
                                     "-c search_path= -c lc_monetary=C -c client_min_messages=error "
                                     /* limits for an application's statements; whoever wants one here sets it */
                                     "-c statement_timeout=0 -c lock_timeout=0 "
                                     "-c idle_in_transaction_session_timeout=0";

/*
 * libpq gives no SQLSTATE for a failed connection but in the verbose form of its message, behind the severity
 * ("FATAL:  28P01: …"). What follows is in the server's language, so that nothing may be decided by it.
 */
static const char *find_sqlstate(const char *message)
{
    static const char characters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (const char *at = message; (at = strstr(at, ":  ")); at++)
        if (strspn(at + 3, characters) == 5 && strncmp(at + 8, ": ", 2) == 0)
            return at + 3;
    return NULL;
}

/* What a retry does not mend: a wrong password, role or database, no line in pg_hba.conf, `options` that name a setting
 * which is none (42704), not to be had (22023) or no setting (42601), a missing privilege (which is also what a read-only
 * file system is called, but not by the parts of the server that let one in and set what was asked for). */
static bool lasts(const char *sqlstate, const char *message)
{
    static const char *const states[] = {"28", "3D000", "42704", "22023", "42601"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strncmp(sqlstate, states[i], strlen(states[i])) == 0)
            return true;
    return strncmp(sqlstate, "42501", 5) == 0 && (strstr(message, "postinit.c") || strstr(message, "guc.c"));
}

/* Several hosts, and several ways to reach one, each have a line: one that lasts, or else the first that has one. */
static void read_sqlstate(const char *message, char sqlstate[6])
{
    *sqlstate = 0;
    for (const char *at = message; (at = find_sqlstate(at)); at += 5)
        if (!*sqlstate || (lasts(at, message) && !lasts(sqlstate, message)))
            snprintf(sqlstate, 6, "%.5s", at);
}

/* libpq's own words (it knows no SQLSTATE) and those of poolers (it is 08P01 whatever they mean) are in English. */
static bool lasts_by_the_words(const char *message)
{
    static const char *const marks[] = {"authentication failed", "does not exist", "no password supplied"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(message, marks[i]))
            return strstr(message, "No such file or directory") == NULL;
    return false;
}

static const char *environment_name(enum pj_side side)
{
    return side == PJ_WRITE ? "WRITE_DATABASE_URL" : "READ_DATABASE_URL";
}

/* The first line says what happened; its SQLSTATE is not for people. */
static void say_refused(struct pj_error *error, int code, enum pj_side side, const char *message)
{
    int length = (int)strcspn(message, "\n");
    const char *state = find_sqlstate(message);
    int before = state && state - message < length ? (int)(state - message) : length;
    const char *rest = message + before + (before < length ? (int)strlen("28P01: ") : 0);
    pj_error_set(error, code, "%s: cannot connect: %.*s%.*s", pj_side_name(side), before, message,
                 (int)(message + length - rest), rest);
}

static int connect_failed(struct pj_session *session, struct pj_error *error)
{
    const char *message = PQerrorMessage(session->conn);
    char sqlstate[6];
    read_sqlstate(message, sqlstate);
    bool words = !*sqlstate || strncmp(sqlstate, "08", 2) == 0;
    bool config = words ? lasts_by_the_words(message) : lasts(sqlstate, message);
    say_refused(error, config ? PJ_ECONFIG : PJ_EUNREACHABLE, session->side, message);
    memcpy(error->sqlstate, sqlstate, sizeof sqlstate);
    error->server = *sqlstate ? pj_side_name(session->side) : NULL;
    error->retryable = !config;
    /* the server never translates the former */
    if (strstr(message, "could not write init file") || strstr(message, "No space left on device") ||
        strcmp(sqlstate, "53100") == 0)
        return pj_error_hint(error, "make room on the disk of the server of %s: it seems to be full",
                             environment_name(session->side));
    return pj_error_hint(error,
                         config ? "check the role, password, database and options in %s, and the server's pg_hba.conf"
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
        int code =
            pj_session_await(session, polling == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, &ready, error);
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
    const char *remedy, *fault = pj_conninfo_fault(options->url, &remedy);
    if (!fault)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s: %s %s", pj_side_name(options->side), environment_name(options->side), fault);
    return pj_error_hint(error, "%s", remedy);
}

/* Whether libpq got as far as to look for a server. Before that it fails for what the string says alone. */
static bool server_was_sought(const char *message)
{
    return strstr(message, "connection to server") || strstr(message, "could not translate host name") ||
           strstr(message, "out of memory");
}

/* "invalid port number: "99999"": what is quoted may be part of a password whose characters were not escaped. */
static int url_unusable(enum pj_side side, const char *message, struct pj_error *error)
{
    int length = (int)strcspn(message, "\n"), before = length;
    const char *rest = message + length;
    if (strncmp(message, "invalid ", 8) == 0) {
        const char *option = strstr(message, " for connection option");
        before = (int)strcspn(message, "\":\n");
        before -= message[before - 1] == ' ';
        rest = option && option < rest ? option : rest;
    }
    pj_error_set(error, PJ_ECONFIG, "%s: cannot connect: %.*s%.*s", pj_side_name(side), before, message,
                 (int)(message + length - rest), rest);
    return pj_error_hint(error, "mend %s, or the environment variable of libpq (PG…) that says so",
                         environment_name(side));
}

/* libpq would print what a server has to remark, which may hold row values (a trigger's RAISE NOTICE), and in between
 * what we log. Nothing is decided by it. Servers are asked for none, which a function may undo. */
static void drop_notice(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

static int connect_start(struct pj_session *session, const struct pj_session_options *options, struct pj_error *error)
{
    int code = check_url(options, error);
    if (code != PJ_OK)
        return code;
    char *name = pj_sprintf("pgprojector%s%s", options->purpose ? " " : "", options->purpose ? options->purpose : "");
    char *settings = pj_conninfo_options(options->url, pinned_options);
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
        options->url, name, "UTF8", settings, "20", "10", "3", "45000", options->replication ? "database" : NULL, NULL};
    session->conn = PQconnectStartParams(keywords, values, 1);
    pj_free(name);
    pj_free(settings);
    if (!session->conn || PQstatus(session->conn) == CONNECTION_BAD) {
        const char *message = PQerrorMessage(session->conn);
        bool sought = !session->conn || server_was_sought(message);
        return sought ? connect_failed(session, error) : url_unusable(session->side, message, error);
    }
    PQsetErrorVerbosity(session->conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(session->conn, drop_notice, NULL);
    int seconds = options->connect_timeout_s ? options->connect_timeout_s : 10;
    return connect_wait(session, pj_session_deadline(seconds * 1000), error);
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
        pj_error_hint(error,
                      "something on the way drops or overrules the options parameter; where that is a pooler, connect "
                      "to the server itself");
    }
    PQclear(result);
    return error->code;
}

/* The limits that not every server knows: one that does not would refuse the connection for them. */
static int lift_limits(struct pj_session *session, struct pj_error *error)
{
    int version = PQserverVersion(session->conn);
    if (version >= 170000)
        return pj_session_exec(session, "SET idle_session_timeout = 0; SET transaction_timeout = 0", error);
    return version >= 140000 ? pj_session_exec(session, "SET idle_session_timeout = 0", error) : PJ_OK;
}

int pj_session_open(struct pj_session **out, const struct pj_session_options *options, struct pj_error *error)
{
    pj_error_clear(error);
    struct pj_session *session = pj_alloc(sizeof *session);
    session->side = options->side;
    session->stop = options->stop;
    int code = connect_start(session, options, error);
    if (code == PJ_OK) {
        PQsetErrorVerbosity(session->conn, PQERRORS_DEFAULT);
        PQsetnonblocking(session->conn, 1);
        session->timeout_ms = 30000;
        code = options->replication ? PJ_OK : assert_settings(session, error);
        if (code == PJ_OK)
            code = lift_limits(session, error);
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
