/* `wait`: until the read database shows what the write database had committed when the command was given. */
#include "app/app.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/catalog.h"
#include "core/stall.h"
#include "wire/wal2json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_MS = 30000, ANSWER_MS = 10000 };

static int query_lsn(struct pj_session *session, const char *sql, pj_lsn *lsn, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(session, &result, sql, 0, NULL, error);
    *lsn = 0;
    if (code == PJ_OK && !PQgetisnull(result, 0, 0))
        pj_lsn_parse(PQgetvalue(result, 0, 0), lsn);
    PQclear(result);
    return code;
}

/*
 * What has not been flushed is not sent. Records that belong to no commit (pages pruned by a query of a transaction
 * that was rolled back, say) are flushed with the next commit, which on an idle database may be 15 seconds away: then
 * one of our own does it. A transaction without a record of its own would not, so it has a logical message, which
 * concerns nobody. Where it is not permitted we wait longer.
 */
static void have_flushed(struct pj_session *write, pj_lsn lsn)
{
    struct pj_error ignored;
    pj_lsn flushed;
    if (query_lsn(write, "SELECT pg_catalog.pg_current_wal_flush_lsn()", &flushed, &ignored) == PJ_OK && flushed < lsn)
        pj_session_exec(write,
                        "BEGIN; SET LOCAL synchronous_commit = local; "
                        "SELECT pg_catalog.pg_logical_emit_message(true, '" PJ_WAL2JSON_PREFIX "', 'wait'); COMMIT",
                        &ignored);
}

/* The insert position, not the flushed one: an asynchronous commit that returned may not have been written yet. */
static int current_lsn(const struct pj_app *app, pj_lsn *lsn, struct pj_error *error)
{
    struct pj_session *write;
    int code = pj_app_connect(app, PJ_WRITE, "wait", ANSWER_MS, &write, error);
    if (code == PJ_OK)
        code = query_lsn(write, "SELECT pg_catalog.pg_current_wal_insert_lsn()", lsn, error);
    if (code == PJ_OK)
        have_flushed(write, *lsn);
    pj_session_close(write);
    return code;
}

static int no_catalog(struct pj_error *error)
{
    if (strcmp(error->sqlstate, "3F000") != 0 && strcmp(error->sqlstate, "42883") != 0)
        return error->code;
    pj_error_set(error, PJ_EUNHEALTHY, "the read database has no catalog of pgprojector: nothing has been started yet");
    return pj_error_hint(error, "start the daemon: pgprojector run");
}

static int poll_applied(struct pj_app *app, struct pj_session *read, pj_lsn target, uint64_t deadline, pj_lsn *applied,
                        struct pj_error *error)
{
    for (int pause_ms = 1;; pause_ms = pause_ms < 50 ? pause_ms * 2 : 50) {
        if (query_lsn(read, "SELECT pgprojector.applied_lsn()", applied, error) != PJ_OK)
            return no_catalog(error);
        if (*applied >= target)
            return PJ_OK;
        if (pj_clock_monotonic_us() >= deadline)
            return PJ_EUNHEALTHY;
        if (pj_stop_sleep(&app->stop, pause_ms, error) != PJ_OK)
            return error->code;
    }
}

static void print_json(pj_lsn target, pj_lsn applied, uint64_t waited_us)
{
    json_t *json =
        json_pack("{s:b,s:s,s:o,s:f}", "reached", applied >= target, "targetLsn", PJ_LSN(target), "appliedLsn",
                  applied ? json_string(PJ_LSN(applied)) : json_null(), "waitedSeconds", (double)waited_us / 1e6);
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
}

/* With what the daemon stands still for, else what it says of itself, where that is why. */
static int say_late(struct pj_session *read, pj_lsn target, pj_lsn applied, int wait_ms, struct pj_error *error)
{
    struct pj_daemon_says says;
    struct pj_stall stall;
    struct pj_error ignored;
    char why[1024] = "";
    bool known = pj_catalog_daemon_says(read, &says, &ignored) == PJ_OK;
    bool stalls = pj_stall_look(read, PJ_STALL_TOLD_S, &stall, &ignored) == PJ_OK && stall.seconds > 0;
    if (stalls)
        snprintf(why, sizeof why, ": %s", stall.message);
    else if (known && !says.running)
        snprintf(why, sizeof why, ": no daemon is running");
    else if (known)
        snprintf(why, sizeof why, ": the daemon is %s%s%.500s", says.state, *says.message ? ": " : "", says.message);
    pj_error_set(error, PJ_EUNHEALTHY, "the read database is at %s, not yet at %s, after %d ms%s",
                 applied ? PJ_LSN(applied) : "no position", PJ_LSN(target), wait_ms, why);
    const char *hint = stalls ? stall.hint : says.hint;
    return pj_error_hint(error, "%s", *hint ? hint : "see `pgprojector status`");
}

int pj_wait(struct pj_app *app, struct pj_error *error)
{
    uint64_t begun = pj_clock_monotonic_us();
    int wait_ms = app->options.wait_given ? app->options.wait_ms : DEFAULT_MS;
    pj_lsn target = app->options.lsn, applied = 0;
    int code = target ? PJ_OK : current_lsn(app, &target, error);
    if (code != PJ_OK)
        return code;
    struct pj_session *read;
    code = pj_app_connect(app, PJ_READ, "wait", ANSWER_MS, &read, error);
    if (code == PJ_OK)
        code = poll_applied(app, read, target, begun + (uint64_t)wait_ms * 1000, &applied, error);
    if (code == PJ_EUNHEALTHY && error->code == PJ_OK)
        say_late(read, target, applied, wait_ms, error);
    pj_session_close(read);
    if (app->options.json && (code == PJ_OK || code == PJ_EUNHEALTHY))
        print_json(target, applied, pj_clock_monotonic_us() - begun);
    return code;
}
