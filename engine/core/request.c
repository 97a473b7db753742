/*
 * See request.h. A request's life:
 *
 *      waiting --next--> running --end--> done | failed       put off: it stays running, with a message, and comes
 *         |                 |  ^                              after all others the next time
 *         |              cancelled, noticed by who runs it: cancelled; or the daemon ends: waiting again
 *         +--cancel--> cancelled
 *
 * Everybody is told by NOTIFY pgprojector: the daemon of new and cancelled requests ('request'), the followers of ended
 * ones ('ended'). They look three times a second all the same, for whoever listens may lose its connection.
 */
#include "core/request.h"

#include "base/clock.h"
#include "core/catalog.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    POLL_MS = 300,
    CANCEL_WAIT_US = 30 * 1000 * 1000,
    LOOK_US = 1000 * 1000,     /* between two looks for a daemon */
    GONE_US = 10 * 1000 * 1000 /* a daemon that is restarted is back by then */
};

static const char *const kinds[] = {"build", "rollback", "remove", "reload"};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int failed(struct pj_error *error)
{
    return pj_error_wrap(error, "requests to the daemon");
}

int pj_request_possible(struct pj_session *session, bool *yes, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(session, &result,
                                    "SELECT pg_catalog.to_regclass('pgprojector.request') IS NOT NULL", 0, NULL, error);
    *yes = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- entering */

/* To be freed with free(). */
static char *options_text(const struct pj_request *request)
{
    json_t *json = json_pack("{s:b,s:b,s:b,s:b,s:i,s:i,s:s*}", "fresh", request->fresh, "keepOld", request->keep_old,
                             "verify", request->verify, "dropTable", request->drop_table, "maxRate", request->max_rate,
                             "chunk", request->chunk, "file", request->file);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

static void read_options(struct pj_request *request, struct pj_request_space *space, const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    request->fresh = json_is_true(json_object_get(json, "fresh"));
    request->keep_old = json_is_true(json_object_get(json, "keepOld"));
    request->verify = json_is_true(json_object_get(json, "verify"));
    request->drop_table = json_is_true(json_object_get(json, "dropTable"));
    request->max_rate = (int)json_integer_value(json_object_get(json, "maxRate"));
    request->chunk = (int)json_integer_value(json_object_get(json, "chunk"));
    const char *file = json_string_value(json_object_get(json, "file"));
    if (file) {
        snprintf(space->file, sizeof space->file, "%s", file);
        request->file = space->file;
    }
    json_decref(json);
}

/* The unique index has refused it: who is there? */
static int occupied(struct pj_session *session, const struct pj_request *request, struct pj_error *error)
{
    struct pj_error ignored;
    const char *params[] = {request->name};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "SELECT kind, state FROM pgprojector.request "
                                "WHERE name = $1 AND state IN ('waiting', 'running')",
                                1, params, &ignored);
    bool there = code == PJ_OK && PQntuples(result) == 1;
    pj_error_set(error, PJ_EFAIL, "a request for %s is under way already: %s, %s",
                 *request->name ? request->name : "reloading", there ? PQgetvalue(result, 0, 0) : "unknown",
                 there ? PQgetvalue(result, 0, 1) : "ended just now");
    PQclear(result);
    return pj_error_hint(error,
                         "see `pgprojector status`; wait for it, or give it up with `pgprojector rebuild %s "
                         "--cancel`",
                         request->name);
}

int pj_request_enter(struct pj_session *session, struct pj_request *request, struct pj_error *error)
{
    char *options = options_text(request);
    const char *params[] = {kinds[request->kind], request->name, options};
    PGresult *result;
    int code = pj_session_query_row(session, &result,
                                    "WITH entered AS (INSERT INTO pgprojector.request (kind, name, options) "
                                    "VALUES ($1, $2, $3::jsonb) RETURNING id) "
                                    "SELECT id, pg_catalog.pg_notify('pgprojector', 'request') FROM entered",
                                    3, params, error);
    free(options);
    if (code == PJ_OK)
        request->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (code != PJ_OK && strcmp(error->sqlstate, "23505") == 0)
        return occupied(session, request, error);
    return code == PJ_OK ? PJ_OK : failed(error);
}

/* ------------------------------------------------------------------------------------------------------- following */

static int code_of(const char *name)
{
#define PJ_CODE_COMPARE(code, value, exit_code, text)                                                                  \
    if (strcmp(name, #code) == 0)                                                                                      \
        return code;
    PJ_CODES(PJ_CODE_COMPARE)
#undef PJ_CODE_COMPARE
    return PJ_EFAIL;
}

static int look(struct pj_session *session, int64_t id, PGresult **result, struct pj_error *error)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)id);
    const char *params[] = {number};
    int code = pj_session_query(session, result,
                                "SELECT r.state, r.code, r.message, r.hint, j.kind, j.phase, j.done, "
                                "coalesce(j.total, -1) AS total, coalesce(j.done / nullif(extract(epoch FROM "
                                "j.updated_at - j.phase_at), 0), 0) AS rate FROM pgprojector.request r "
                                "LEFT JOIN pgprojector.job j ON j.name = r.name AND r.state = 'running' "
                                "WHERE r.id = $1::bigint ORDER BY j.id DESC LIMIT 1",
                                1, params, error);
    if (code == PJ_OK && PQntuples(*result) == 0) {
        PQclear(*result);
        *result = NULL;
        return pj_error_set(error, PJ_EFAIL, "request %s is gone", number);
    }
    return code == PJ_OK ? PJ_OK : failed(error);
}

/* gone: there is no daemon, and the job's row, if any, is a former one's. */
static void show_job(const PGresult *result, const struct pj_request *request, bool gone,
                     void (*show)(void *context, const struct pj_progress *progress), void *context)
{
    bool waiting = strcmp(PQgetvalue(result, 0, 0), "waiting") == 0, job = !gone && !PQgetisnull(result, 0, 4);
    char put_off[400];
    snprintf(put_off, sizeof put_off, "waiting: %s", PQgetvalue(result, 0, 2));
    struct pj_progress progress = {.kind = job ? PQgetvalue(result, 0, 4) : kinds[request->kind],
                                   .name = request->name,
                                   .phase = gone                        ? "waiting: no daemon is running"
                                            : job                       ? PQgetvalue(result, 0, 5)
                                            : *PQgetvalue(result, 0, 2) ? put_off
                                            : waiting                   ? "waiting for the daemon"
                                                                        : "preparing",
                                   .done = job ? strtoll(PQgetvalue(result, 0, 6), NULL, 10) : 0,
                                   .total = job ? strtoll(PQgetvalue(result, 0, 7), NULL, 10) : -1,
                                   .remaining_s = -1};
    progress.rate = job ? strtod(PQgetvalue(result, 0, 8), NULL) : 0;
    if (progress.total >= 0 && progress.rate > 0)
        progress.remaining_s = (double)(progress.total - progress.done) / progress.rate;
    if (show)
        show(context, &progress);
}

/* PJ_OK with *ended false: not yet. */
static int outcome(const PGresult *result, bool *ended, struct pj_error *error)
{
    const char *state = PQgetvalue(result, 0, 0);
    *ended = strcmp(state, "waiting") != 0 && strcmp(state, "running") != 0;
    if (!*ended || strcmp(state, "done") == 0)
        return PJ_OK;
    if (strcmp(state, "cancelled") == 0)
        return pj_error_set(error, PJ_ESTOPPED, "the request was cancelled%s%s", *PQgetvalue(result, 0, 2) ? ": " : "",
                            PQgetvalue(result, 0, 2));
    pj_error_set(error, code_of(PQgetvalue(result, 0, 1)), "%s", PQgetvalue(result, 0, 2));
    return *PQgetvalue(result, 0, 3) ? pj_error_hint(error, "%s", PQgetvalue(result, 0, 3)) : error->code;
}

static int cancel_row(struct pj_session *session, const char *where, const char *value, bool *found,
                      struct pj_error *error)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "WITH cancelled AS (UPDATE pgprojector.request SET cancelled = true, "
             "state = CASE state WHEN 'waiting' THEN 'cancelled' ELSE state END, "
             "ended_at = CASE state WHEN 'waiting' THEN pg_catalog.clock_timestamp() END "
             "WHERE %s = $1 AND state IN ('waiting', 'running') RETURNING id) "
             "SELECT pg_catalog.pg_notify('pgprojector', 'request') FROM cancelled",
             where);
    PGresult *result;
    int code = pj_session_query(session, &result, sql, 1, &value, error);
    *found = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}

/* Who waits for a request to end. */
struct waiting {
    struct pj_session *session;
    const struct pj_request *request;
    void (*show)(void *context, const struct pj_progress *progress);
    void *context;
    const struct pj_stop *stop;
    bool alone_too;       /* goes on where no daemon is there to serve it */
    uint64_t patience_us; /* 0: as long as it takes */
    uint64_t looked_us, alive_us;
};

/* Whether there has been no daemon for so long that none is about to come back. */
static int look_for_daemon(struct waiting *waiting, bool *gone, struct pj_error *error)
{
    uint64_t now = pj_clock_monotonic_us();
    bool alive = false;
    int code = PJ_OK;
    if (!waiting->looked_us || now - waiting->looked_us > LOOK_US) {
        code = pj_catalog_daemon_alive(waiting->session, &alive, error);
        waiting->looked_us = now;
        if (alive || !waiting->alive_us)
            waiting->alive_us = now;
    }
    *gone = now - waiting->alive_us > GONE_US;
    return code == PJ_OK ? PJ_OK : failed(error);
}

static int nobody_serves(const struct pj_request *request, struct pj_error *error)
{
    pj_error_set(error, PJ_EUNHEALTHY,
                 "no daemon is running: what was asked for %s stays asked for, and nobody does it",
                 *request->name ? request->name : "all modules");
    return pj_error_hint(error,
                         "start one with `pgprojector run`, which goes on with it, or give it up with `pgprojector "
                         "rebuild %s --cancel`",
                         request->name);
}

/* One look. */
static int look_once(struct waiting *waiting, bool *ended, struct pj_error *error)
{
    PGresult *result;
    bool gone = false;
    int code = look(waiting->session, waiting->request->id, &result, error);
    if (code == PJ_OK)
        code = outcome(result, ended, error);
    if (code == PJ_OK && !*ended)
        code = look_for_daemon(waiting, &gone, error);
    if (code == PJ_OK && gone && !waiting->alone_too)
        code = nobody_serves(waiting->request, error);
    if (code == PJ_OK && !*ended)
        show_job(result, waiting->request, gone, waiting->show, waiting->context);
    PQclear(result);
    return code;
}

static int wait_for_end(struct waiting *waiting, struct pj_error *error)
{
    uint64_t begun = pj_clock_monotonic_us();
    for (bool ended = false; !ended;) {
        int code = look_once(waiting, &ended, error);
        if (code == PJ_OK && !ended)
            code = pj_stop_sleep(waiting->stop, POLL_MS, error);
        if (code == PJ_OK && !ended && waiting->patience_us && pj_clock_monotonic_us() - begun > waiting->patience_us)
            code =
                pj_error_set(error, PJ_ESTOPPED, "the request is to be cancelled, but that has not taken effect yet");
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

int pj_request_follow(struct pj_session *session, const struct pj_request *request,
                      void (*show)(void *context, const struct pj_progress *progress), void *context, bool alone_too,
                      const struct pj_stop *stop, struct pj_error *error)
{
    struct waiting waiting = {session, request, show, context, .stop = stop, .alone_too = alone_too};
    pj_error_clear(error);
    int code = wait_for_end(&waiting, error);
    if (code != PJ_ESTOPPED || !stop || !pj_stop_asked(stop))
        return code;
    char id[24];
    bool found;
    snprintf(id, sizeof id, "%lld", (long long)request->id);
    pj_error_clear(error);
    code = cancel_row(session, "id::text", id, &found, error);
    waiting.stop = NULL;
    waiting.alone_too = true;
    waiting.patience_us = CANCEL_WAIT_US;
    if (code == PJ_OK)
        code = wait_for_end(&waiting, error);
    return code; /* PJ_OK: it was done before the cancelling reached it */
}

int pj_request_cancel(struct pj_session *session, const char *name, bool *found, struct pj_error *error)
{
    pj_error_clear(error);
    int code = cancel_row(session, "name", name, found, error);
    if (code != PJ_OK)
        return code;
    PGresult *result;
    code = pj_session_query(
        session, &result, "UPDATE pgprojector.job SET cancelled = true WHERE name = $1 RETURNING id", 1, &name, error);
    *found = *found || (code == PJ_OK && PQntuples(result) > 0);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}

int pj_request_forget(struct pj_session *session, const char *name, bool *found, struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query(session, &result,
                         "UPDATE pgprojector.request SET state = 'cancelled' WHERE name = $1 AND state = 'failed' "
                         "RETURNING id",
                         1, &name, error);
    *found = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}

/* ------------------------------------------------------------------------------------------------ the daemon's side */

static enum pj_request_kind kind_of(const char *word)
{
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i], word) == 0)
            return (enum pj_request_kind)i;
    return PJ_REQUEST_RELOAD; /* not in this table: the column is checked */
}

static const char next_sql[] =
    "WITH next AS (SELECT id, message <> '' AS waited FROM pgprojector.request WHERE state IN ('waiting', 'running') "
    "AND id <> ALL (pg_catalog.string_to_array($1, ',')::bigint[]) ORDER BY message <> '', state = 'waiting', id LIMIT "
    "1) "
    "UPDATE pgprojector.request r SET state = 'running' FROM next WHERE r.id = next.id "
    "RETURNING r.id, kind, name, options, cancelled, committed, waited";

int pj_request_next(struct pj_session *session, const char *but, struct pj_request *request,
                    struct pj_request_space *space, bool *found, struct pj_error *error)
{
    *request = (struct pj_request){.name = space->name};
    *found = false;
    PGresult *result;
    int code = pj_session_exec(
        session, "DELETE FROM pgprojector.request WHERE ended_at < pg_catalog.now() - interval '1 day'", error);
    if (code == PJ_OK)
        code = pj_session_query(session, &result, next_sql, 1, &but, error);
    if (code != PJ_OK)
        return failed(error);
    if (PQntuples(result) == 1) {
        *found = true;
        request->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        request->kind = kind_of(PQgetvalue(result, 0, 1));
        snprintf(space->name, sizeof space->name, "%s", PQgetvalue(result, 0, 2));
        read_options(request, space, PQgetvalue(result, 0, 3));
        request->cancelled = PQgetvalue(result, 0, 4)[0] == 't';
        request->committed = PQgetvalue(result, 0, 5)[0] == 't';
        request->waited = PQgetvalue(result, 0, 6)[0] == 't';
    }
    PQclear(result);
    return PJ_OK;
}

int pj_request_cancelled(struct pj_session *session, int64_t id, bool *yes, struct pj_error *error)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)id);
    const char *params[] = {number};
    PGresult *result;
    int code = pj_session_query(session, &result, "SELECT cancelled FROM pgprojector.request WHERE id = $1::bigint", 1,
                                params, error);
    *yes = code == PJ_OK && PQntuples(result) == 1 && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}

int pj_request_put_off(struct pj_session *session, int64_t id, const struct pj_error *reason, struct pj_error *error)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)id);
    const char *params[] = {number, reason ? pj_code_name(reason->code) : "", reason ? reason->message : "",
                            reason ? reason->hint : ""};
    PGresult *result;
    int code = pj_session_query(
        session, &result, "UPDATE pgprojector.request SET code = $2, message = $3, hint = $4 WHERE id = $1::bigint", 4,
        params, error);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}

int pj_request_end(struct pj_session *session, int64_t id, const struct pj_error *outcome, struct pj_error *error)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)id);
    bool stopped = outcome->code == PJ_ESTOPPED, done = outcome->code == PJ_OK;
    const char *params[] = {number,
                            stopped ? "stopped"
                            : done  ? "done"
                                    : "failed",
                            done ? "" : pj_code_name(outcome->code), done ? "" : outcome->message,
                            done ? "" : outcome->hint};
    PGresult *result;
    int code =
        pj_session_query(session, &result,
                         "WITH ended AS (UPDATE pgprojector.request SET state = CASE WHEN $2 <> 'stopped' THEN $2 "
                         "WHEN cancelled THEN 'cancelled' ELSE 'waiting' END, code = $3, message = $4, "
                         "hint = $5, ended_at = CASE WHEN $2 <> 'stopped' OR cancelled THEN "
                         "pg_catalog.clock_timestamp() END WHERE id = $1::bigint RETURNING id) "
                         "SELECT pg_catalog.pg_notify('pgprojector', 'ended') FROM ended",
                         5, params, error);
    PQclear(result);
    return code == PJ_OK ? PJ_OK : failed(error);
}
