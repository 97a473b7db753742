/*
 * The verifier's side of the fence. One attempt:
 *
 *      all sessions are opened, apply is near the write database's end, and no transaction has been open there for longer
 *      than the slot may take (before anything stands still)
 *      insert the row, NOTIFY; wait for "held"        apply stands still at some commit
 *      temporary slot with exported snapshot -> L     the snapshot holds exactly the commits whose end LSN is <= L
 *      write session: BEGIN, SET TRANSACTION SNAPSHOT, the tables pinned (core/pin.c)
 *      row: target L, "advance"; wait for "reached"   apply stands still at L
 *      read session: BEGIN, look: still "reached", and the checkpoint is the one the daemon stood at; tables pinned
 *      delete the row                                 apply goes on; both snapshots stay
 *
 * The look is the read snapshot's first query and thus its making: what it shows of row and checkpoint is of the very
 * moment that every later query sees. The daemon marks a fence it gives up before it lets go, and a daemon whose
 * session was lost moves the checkpoint with the first batch it applies, so that a look that is satisfied is proof.
 *
 * What can fail is bounded and left as it was found: the row is deleted, the slot goes with its session, and the
 * attempt is made again after a pause. A row that could not be deleted is removed by the daemon a minute later.
 */
#include "core/fence.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/catalog.h"
#include "core/pin.h"
#include "core/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HELD_MS = 2000,     /* the daemon's answer; a batch being applied must end first */
    REACHED_MS = 10000, /* applying what is between; the daemon lets go 15 s after the request */
    ANSWER_MS = 5000,   /* any other statement */
    PAUSE_MS = 300,
    BACKLOG_MS = 5000,
    BACKLOG_BYTES = 256 * 1024,
    BACKLOG_POLL_MS = 10,
    OLD_POLL_MS = 20,
    PIN_MS = 500, /* for whoever has a table locked */
    POLL_MS = 200 /* a NOTIFY normally comes first */
};

struct attempt {
    const struct pj_fence_options *options;
    struct pj_session *control, *read, *write, *replication;
    char id[24]; /* the row's; "" where there is none */
    pj_lsn lsn;
};

/* ----------------------------------------------------------------------------------------------------- the daemon */

static int not_running(struct pj_error *error, const char *what)
{
    pj_error_set(error, PJ_EUNHEALTHY, "%s: mirrors can be compared only while `pgprojector run` is streaming", what);
    return pj_error_hint(error, "start it, or see `pgprojector status`");
}

/* It will not stream before somebody has done what it asks for. */
static int not_streaming(struct pj_error *error, const struct pj_daemon_says *says)
{
    bool words = *says->message;
    pj_error_set(error, PJ_EUNHEALTHY,
                 "mirrors can be compared only while the daemon is streaming; its state is %s%s%s%s", says->state,
                 words ? " (" : "", says->message, words ? ")" : "");
    return pj_error_hint(error, "%s", *says->hint ? says->hint : "see `pgprojector status`");
}

static bool word_is(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* PJ_OK where a daemon is alive and in a state that may serve a fence, now or soon. */
static int check_daemon(const struct attempt *attempt, struct pj_error *error)
{
    static const char *const hopeless[] = {"halted", "snapshot", "standby", NULL};
    struct pj_daemon_says says;
    int code = pj_catalog_daemon_says(attempt->control, &says, error);
    if (strcmp(error->sqlstate, "42P01") == 0)
        return not_running(error, "the read database has no catalog of pgprojector yet");
    if (code != PJ_OK)
        return code;
    if (!says.running)
        return not_running(error, "no daemon is running");
    return word_is(says.state, hopeless) ? not_streaming(error, &says) : PJ_OK;
}

/* ---------------------------------------------------------------------------------------------------- the sessions */

static int open_one(const struct attempt *attempt, enum pj_side side, bool replication, struct pj_session **session,
                    struct pj_error *error)
{
    const struct pj_fence_options *options = attempt->options;
    struct pj_session_options wanted = {.side = side,
                                        .url = side == PJ_WRITE ? options->write_url : options->read_url,
                                        .purpose = "verify",
                                        .replication = replication,
                                        .stop = options->stop};
    int code = pj_session_open(session, &wanted, error);
    if (code == PJ_OK && !replication)
        pj_session_set_timeout(*session, ANSWER_MS);
    return code;
}

static int open_sessions(struct attempt *attempt, struct pj_error *error)
{
    int code = open_one(attempt, PJ_READ, false, &attempt->control, error);
    if (code == PJ_OK)
        code = pj_session_exec(attempt->control, "LISTEN pgprojector", error);
    if (code == PJ_OK)
        code = check_daemon(attempt, error);
    if (code == PJ_OK)
        code = open_one(attempt, PJ_READ, false, &attempt->read, error);
    if (code == PJ_OK)
        code = open_one(attempt, PJ_WRITE, false, &attempt->write, error);
    if (code == PJ_OK)
        code = open_one(attempt, PJ_WRITE, true, &attempt->replication, error);
    return code;
}

/*
 * Waits until apply is near the write database's end, before it is made to stand still: what lies between the hold and
 * L is applied one transaction at a time, which a long backlog would take too long for. When it does not come near in
 * time the attempt goes on all the same.
 */
static int await_small_backlog(const struct attempt *attempt, struct pj_error *error)
{
    PGresult *end;
    int code =
        pj_session_query_row(attempt->write, &end, "SELECT pg_catalog.pg_current_wal_insert_lsn()", 0, NULL, error);
    if (code != PJ_OK)
        return code;
    const char *params[] = {PQgetvalue(end, 0, 0)};
    uint64_t deadline = pj_clock_monotonic_us() + (uint64_t)BACKLOG_MS * 1000;
    bool near = false;
    while (code == PJ_OK && !near && pj_clock_monotonic_us() < deadline) {
        PGresult *result;
        code = pj_session_query_row(attempt->control, &result,
                                    "SELECT pg_catalog.pg_wal_lsn_diff($1::pg_lsn, lsn) FROM pgprojector.checkpoint", 1,
                                    params, error);
        if (code == PJ_OK)
            near = strtod(PQgetvalue(result, 0, 0), NULL) <= BACKLOG_BYTES;
        PQclear(result);
        if (code == PJ_OK && !near)
            code = pj_stop_sleep(attempt->options->stop, BACKLOG_POLL_MS, error);
    }
    PQclear(end);
    return code;
}

static int say_old(const char *names, struct pj_error *error)
{
    pj_error_set(error, PJ_EUNREACHABLE, "open transactions keep it from a consistent point; in the way: %s", names);
    pj_error_hint(error, "end the transactions named");
    error->retryable = true;
    return error->code;
}

/*
 * The slot waits for all transactions that are open, and apply for the slot. One that has been open for longer than that
 * may take will hardly end in time: it is waited for while apply goes on, as long as the slot would be.
 */
static int await_no_old(const struct attempt *attempt, struct pj_error *error)
{
    int wait_ms = attempt->options->wait_ms;
    uint64_t deadline = pj_clock_monotonic_us() + (uint64_t)wait_ms * 1000;
    for (;;) {
        struct pj_buf names = {0};
        int code = pj_slot_blockers(attempt->write, 0, wait_ms, &names, error);
        bool old = code == PJ_OK && names.length, over = pj_clock_monotonic_us() >= deadline;
        if (old && over)
            code = say_old(pj_buf_text(&names), error);
        else if (old)
            code = pj_stop_sleep(attempt->options->stop, OLD_POLL_MS, error);
        pj_buf_free(&names);
        if (code != PJ_OK || !old)
            return code;
    }
}

/* ---------------------------------------------------------------------------------------------------------- the row */

static int insert_row(struct attempt *attempt, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(attempt->control, &result,
                                    "INSERT INTO pgprojector.fence DEFAULT VALUES RETURNING id", 0, NULL, error);
    if (code != PJ_OK)
        return code;
    snprintf(attempt->id, sizeof attempt->id, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return pj_session_exec(attempt->control, "NOTIFY pgprojector", error);
}

static int delete_row(struct attempt *attempt, struct pj_error *error)
{
    int code = pj_session_execf(attempt->control, error,
                                "DELETE FROM pgprojector.fence WHERE id = %s; NOTIFY pgprojector", attempt->id);
    if (code == PJ_OK)
        attempt->id[0] = '\0';
    return code;
}

static int set_target(struct attempt *attempt, struct pj_error *error)
{
    return pj_session_execf(attempt->control, error,
                            "UPDATE pgprojector.fence SET state = 'advance', target = '%s' "
                            "WHERE id = %s AND state = 'held'; NOTIFY pgprojector",
                            PJ_LSN(attempt->lsn), attempt->id);
}

static int again(struct pj_error *error)
{
    error->retryable = true;
    return error->code;
}

static int let_go(struct pj_error *error, const char *step)
{
    pj_error_set(error, PJ_EUNHEALTHY, "the daemon let the fence go before \"%s\"", step);
    return again(error);
}

static int too_slow(struct pj_error *error, const char *step, int milliseconds)
{
    pj_error_set(error, PJ_EUNHEALTHY, "the daemon did not answer \"%s\" within %d ms; a large batch may be under way",
                 step, milliseconds);
    return again(error);
}

/* The row's state; "" where the row is gone. */
static int read_state(const struct attempt *attempt, char state[16], struct pj_error *error)
{
    const char *params[] = {attempt->id};
    PGresult *result;
    int code = pj_session_query(attempt->control, &result, "SELECT state FROM pgprojector.fence WHERE id = $1::bigint",
                                1, params, error);
    if (code == PJ_OK)
        snprintf(state, 16, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return code;
}

/* Waits until the daemon has brought the row from one state to another. */
static int wait_state(struct attempt *attempt, const char *from, const char *to, int milliseconds,
                      struct pj_error *error)
{
    uint64_t deadline = pj_clock_monotonic_us() + (uint64_t)milliseconds * 1000;
    PGconn *conn = pj_session_conn(attempt->control);
    for (;;) {
        char state[16];
        int code = read_state(attempt, state, error);
        if (code != PJ_OK || strcmp(state, to) == 0)
            return code;
        if (strcmp(state, from) != 0)
            return let_go(error, to);
        if (pj_clock_monotonic_us() >= deadline)
            return too_slow(error, to, milliseconds);
        bool readable;
        code = pj_session_wait(attempt->control, POLL_MS, &readable, error);
        if (code != PJ_OK)
            return code;
        for (PGnotify *notice; (notice = PQnotifies(conn));)
            PQfreemem(notice);
    }
}

/* --------------------------------------------------------------------------------------------------- the snapshots */

static int export_snapshot(struct attempt *attempt, int number, char snapshot[64], struct pj_error *error)
{
    char name[64];
    snprintf(name, sizeof name, "pgprojector_fence_%s_%d_%d", attempt->id, (int)getpid(), number);
    return pj_slot_create(attempt->replication, attempt->write, name, "wal2json", true, attempt->options->wait_ms,
                          &attempt->lsn, snapshot, error);
}

/* A role under row security would compare what it may see, and find no difference: off means an error instead. */
static const char settings[] = "SET LOCAL row_security = off";

static int begin_write(struct attempt *attempt, const char *snapshot, struct pj_error *error)
{
    const struct pj_fence_options *options = attempt->options;
    int code = pj_session_execf(attempt->write, error,
                                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'; %s",
                                snapshot, settings);
    return code == PJ_OK ? pj_pin(attempt->write, options->write_tables, PIN_MS, options->stop, error) : code;
}

/* For as long as a statement runs apply stands still: 30 s at most, or less, where the role or the database has a limit
 * for all its statements (in general none holds for our sessions). The second one knows of units. */
static const char limit_sql[] =
    "SELECT pg_catalog.set_config('statement_timeout', coalesce((SELECT pg_catalog.split_part(c.setting, '=', 2) "
    "FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c(setting) "
    "WHERE pg_catalog.starts_with(c.setting, 'statement_timeout=') "
    "AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = SESSION_USER)) "
    "AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d "
    "WHERE d.datname = pg_catalog.current_database())) ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1), '0'), "
    "true); "
    "SELECT pg_catalog.set_config('statement_timeout', CASE WHEN setting::integer BETWEEN 1 AND 30000 THEN setting "
    "ELSE '30000' END, true) FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'";

/*
 * For writing there is no snapshot but a lock. Every transaction of the daemon begins with the checkpoint row, so what
 * is read and written while we hold its lock is the read side at that checkpoint, whatever becomes of the fence. The
 * server ends the transaction itself should we be stopped in the middle of it.
 */
static int begin_read_locked(struct attempt *attempt, struct pj_error *error)
{
    static const char sql[] = "SELECT c.lsn = f.target FROM pgprojector.checkpoint c, pgprojector.fence f "
                              "WHERE f.id = $1::bigint AND f.state = 'reached' FOR UPDATE OF c";
    const char *params[] = {attempt->id};
    int code = pj_session_exec(attempt->read,
                               "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; "
                               "SET LOCAL synchronous_commit = on; "
                               "SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL lock_timeout = '5s'",
                               error);
    if (code == PJ_OK)
        code = pj_session_exec(attempt->read, limit_sql, error);
    PGresult *result = NULL;
    if (code == PJ_OK)
        code = pj_session_query(attempt->read, &result, sql, 1, params, error);
    if (code == PJ_OK && (PQntuples(result) != 1 || PQgetvalue(result, 0, 0)[0] != 't'))
        code = let_go(error, "lock");
    PQclear(result);
    return code;
}

static int begin_read(struct attempt *attempt, struct pj_error *error)
{
    static const char sql[] =
        "SELECT coalesce((SELECT state = 'reached' AND target = (SELECT lsn FROM pgprojector.checkpoint) "
        "FROM pgprojector.fence WHERE id = $1::bigint), false)";
    const struct pj_fence_options *options = attempt->options;
    const char *params[] = {attempt->id};
    int code = pj_session_exec(attempt->read, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    PGresult *result = NULL;
    if (code == PJ_OK)
        code = pj_session_query_row(attempt->read, &result, sql, 1, params, error);
    if (code == PJ_OK && PQgetvalue(result, 0, 0)[0] != 't')
        code = let_go(error, "snapshot");
    PQclear(result);
    if (code == PJ_OK)
        code = pj_session_exec(attempt->read, settings, error);
    return code == PJ_OK ? pj_pin(attempt->read, options->read_tables, PIN_MS, options->stop, error) : code;
}

/* ----------------------------------------------------------------------------------------------------- the attempt */

static int try_once(struct attempt *attempt, int number, struct pj_error *error)
{
    char snapshot[64];
    int code = open_sessions(attempt, error);
    if (code == PJ_OK)
        code = await_small_backlog(attempt, error);
    if (code == PJ_OK)
        code = await_no_old(attempt, error);
    if (code == PJ_OK)
        code = insert_row(attempt, error);
    if (code == PJ_OK)
        code = wait_state(attempt, "requested", "held", HELD_MS, error);
    if (code == PJ_OK)
        code = export_snapshot(attempt, number, snapshot, error);
    if (code == PJ_OK)
        code = begin_write(attempt, snapshot, error);
    if (code == PJ_OK)
        code = set_target(attempt, error);
    if (code == PJ_OK)
        code = wait_state(attempt, "advance", "reached", REACHED_MS, error);
    if (code == PJ_OK)
        code = attempt->options->lock ? begin_read_locked(attempt, error) : begin_read(attempt, error);
    return code;
}

/* The row goes even when a stop was asked, on a session that has not heard of it. */
static void delete_row_anyway(struct attempt *attempt)
{
    struct pj_error ignored;
    if (!attempt->id[0] || delete_row(attempt, &ignored) == PJ_OK)
        return;
    struct pj_session_options options = {
        .side = PJ_READ, .url = attempt->options->read_url, .purpose = "verify", .connect_timeout_s = 2};
    pj_session_close(attempt->control);
    attempt->control = NULL;
    if (pj_session_open(&attempt->control, &options, &ignored) != PJ_OK)
        return;
    pj_session_set_timeout(attempt->control, ANSWER_MS);
    delete_row(attempt, &ignored);
}

/* Leaves nothing of the attempt but, after a success, the two snapshots. */
static void finish(struct attempt *attempt, bool success)
{
    delete_row_anyway(attempt);
    pj_session_close(attempt->control);
    pj_session_close(attempt->replication);
    if (success) {
        pj_session_set_timeout(attempt->read, 0);
        pj_session_set_timeout(attempt->write, 0);
        return;
    }
    pj_session_close(attempt->read);
    pj_session_close(attempt->write);
}

static bool worth_another(const struct pj_error *error)
{
    return error->retryable || error->code == PJ_EUNREACHABLE;
}

int pj_fence_open(const struct pj_fence_options *options, struct pj_session **write, struct pj_session **read,
                  pj_lsn *lsn, struct pj_error *error)
{
    *write = *read = NULL;
    pj_error_clear(error);
    int attempts = options->attempts > 0 ? options->attempts : 1;
    for (int number = 1;; number++) {
        struct attempt attempt = {.options = options};
        int code = try_once(&attempt, number, error);
        finish(&attempt, code == PJ_OK);
        if (code == PJ_OK) {
            *write = attempt.write;
            *read = attempt.read;
            *lsn = attempt.lsn;
            return PJ_OK;
        }
        if (number >= attempts || !worth_another(error))
            return number == 1 ? code
                               : pj_error_wrap(error, "no common commit of both databases in %d attempts", number);
        struct pj_error stopped;
        if (pj_stop_sleep(options->stop, PAUSE_MS * (number < 5 ? number : 5), &stopped) != PJ_OK) {
            *error = stopped;
            return error->code;
        }
    }
}
