/*
 * A session on one of the two databases for work that runs step by step: start-up, snapshot, verification, the
 * commands. A call returns when the server has answered; meanwhile it watches a deadline and a stop signal, so that
 * nothing hangs. Never used on the event loop: the daemon runs such work on threads of their own ("jobs").
 */
#ifndef PJ_PG_SESSION_H
#define PJ_PG_SESSION_H

#include "base/error.h"
#include "base/lsn.h"
#include "pg/quote.h"
#include "pg/stop.h"

#include <libpq-fe.h>
#include <stdbool.h>

enum pj_side { PJ_WRITE, PJ_READ };

struct pj_session_options {
    enum pj_side side;          /* names the database in messages: "write database", "read database" */
    const char *url;            /* any libpq connection string */
    const char *purpose;        /* application_name becomes "pgprojector PURPOSE"; NULL: "pgprojector" */
    bool replication;           /* replication=database */
    int connect_timeout_s;      /* 0: 10 */
    const struct pj_stop *stop; /* NULL: cannot be stopped */
};

struct pj_session;

/*
 * Connects and pins the settings on which text output depends (client_encoding UTF8, DateStyle ISO, TimeZone UTC,
 * IntervalStyle postgres, extra_float_digits, bytea_output hex, search_path empty, standard_conforming_strings) and
 * asserts them. Time limits that role, database or server set (statement_timeout, lock_timeout, …) do not hold in it:
 * who wants one sets it, and RESETs it. Its server's notices are dropped. PJ_EUNREACHABLE (retryable) where no server
 * answers; PJ_ECONFIG for a wrong URL, password, role or database. The SQLSTATE is the server's, where one refuses.
 */
int pj_session_open(struct pj_session **session, const struct pj_session_options *options, struct pj_error *error);
void pj_session_close(struct pj_session *session); /* NULL is fine */

/* The deadline of each later call, in milliseconds; 0: none. Starts at none. */
void pj_session_set_timeout(struct pj_session *session, int milliseconds);

/*
 * While a later call waits for the server, `tick` is called every so many milliseconds, on the caller's thread; it must
 * not use this session. Where it does not return PJ_OK the statement is given up and the call fails with the tick's
 * error; the session stays usable. NULL: none any more.
 */
void pj_session_set_tick(struct pj_session *session, int milliseconds,
                         int (*tick)(void *context, struct pj_error *error), void *context);

/* Runs SQL (several statements are allowed) and drops its results. */
int pj_session_exec(struct pj_session *session, const char *sql, struct pj_error *error);
int pj_session_execf(struct pj_session *session, struct pj_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Runs SQL though a stop was asked for, to tidy up, no longer than `milliseconds` (and one second, to have it given up). */
int pj_session_exec_last(struct pj_session *session, const char *sql, int milliseconds, struct pj_error *error);

/*
 * Runs one statement with text parameters ($1 …; a NULL pointer is NULL) and returns its result as text in *result, to
 * be freed with PQclear; *result is NULL on failure. On a replication session `count` must be 0.
 */
int pj_session_query(struct pj_session *session, PGresult **result, const char *sql, int count,
                     const char *const *params, struct pj_error *error);

/* Like pj_session_query, for a statement that is run again: it is prepared at its first run. `sql`: of static storage, which
 * is how it is found again. Not in sessions that are given away (pj_session_detach) or whose statements all are deallocated. */
int pj_session_query_kept(struct pj_session *session, PGresult **result, const char *sql, int count,
                          const char *const *params, struct pj_error *error);

/* Like pj_session_query for a result that must be exactly one row. */
int pj_session_query_row(struct pj_session *session, PGresult **result, const char *sql, int count,
                         const char *const *params, struct pj_error *error);

/*
 * Runs a prepared statement with binary parameters; *result has binary values (PQclear).
 */
struct pj_value;
int pj_session_execute(struct pj_session *session, PGresult **result, const char *statement, int count,
                       const struct pj_value *params, struct pj_error *error);

/*
 * A sink that runs each statement at once. `error` keeps the first failure (code PJ_OK until then), after which nothing
 * more is run until the owner clears it.
 */
struct pj_session_sink {
    struct pj_session *session;
    struct pj_error *error;
};
struct pj_sink;
struct pj_sink pj_session_sink(struct pj_session_sink *state);

/* Waits until the server sends something (a NOTIFY) or the time is over. *readable says which. */
int pj_session_wait(struct pj_session *session, int milliseconds, bool *readable, struct pj_error *error);

/* The connection beneath; still the session's. For COPY and PQescapeIdentifier. */
PGconn *pj_session_conn(struct pj_session *session);
enum pj_side pj_session_side(const struct pj_session *session);
const char *pj_side_name(enum pj_side side); /* "write database", "read database" */

/* Gives the connection away (to the event loop) and frees the session. */
PGconn *pj_session_detach(struct pj_session *session);

/* The other way round: a session again of a connection that was once detached from one. */
struct pj_session *pj_session_attach(PGconn *conn, enum pj_side side, const struct pj_stop *stop);

/* Of a connection that was in the midst of a pipeline (pj_pipe_salvage): reads off what the server still says, leaves the
 * pipeline and rolls back what is open. */
int pj_session_recover(struct pj_session *session, struct pj_error *error);

/* Fills the error from a failed result or a broken connection: SQLSTATE, message, retryability (SQLSTATE classes 08,
 * 40, 53, 55, 57 and 25006, a lost connection, or files that the server cannot write). Returns its code. `result` may be
 * NULL. */
int pj_pg_error(struct pj_error *error, PGconn *conn, const PGresult *result, enum pj_side side);

#endif
