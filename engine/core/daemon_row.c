/* See daemon_row.h. */
#include "core/daemon_row.h"

#include "base/clock.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BUSY_MS = 1000, /* between two writes of the row where something has changed */
    IDLE_MS = 2000  /* where nothing has */
};

#define POSTGRES_EPOCH_US INT64_C(946684800000000) /* 2000-01-01, from 1970-01-01 */

void pj_daemon_row_init(struct pj_daemon_row *row, struct pj_state *state)
{
    memset(row, 0, sizeof *row);
    row->state = state;
    if (gethostname(row->host, sizeof row->host - 1) != 0)
        snprintf(row->host, sizeof row->host, "unknown");
    snprintf(row->pid, sizeof row->pid, "%d", (int)getpid());
    int64_t now = pj_clock_wall_us();
    time_t seconds = (time_t)(now / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(row->started_at, sizeof row->started_at, "%Y-%m-%d %H:%M:%S", &utc);
    snprintf(row->started_at + length, sizeof row->started_at - length, ".%06d+00", (int)(now % 1000000));
}

static json_t *json_lsn(pj_lsn lsn)
{
    return lsn ? json_string(PJ_LSN(lsn)) : json_null();
}

static json_t *json_count(uint64_t count)
{
    return json_integer((json_int_t)count);
}

static bool caught_up(const struct pj_daemon_moment *now)
{
    const struct pj_figures *figures = &now->figures;
    return now->phase == PJ_STREAMING && figures->applied >= figures->received && !figures->buffered_bytes;
}

/*
 * How far the read side is behind, in seconds; -1 where it is not known. The age of the last applied commit says too
 * much after an idle hour, so it is bounded by the time since apply was last seen level with what had been received.
 */
static double lag_seconds(struct pj_daemon_row *row, const struct pj_daemon_moment *now)
{
    uint64_t monotonic = pj_clock_monotonic_us();
    if (caught_up(now)) {
        row->caught_up_at_us = monotonic;
        return 0;
    }
    double lag = -1;
    if (row->caught_up_at_us)
        lag = (double)(monotonic - row->caught_up_at_us) / 1e6;
    if (now->figures.applied_commit_us) {
        double age = (double)(pj_clock_wall_us() - POSTGRES_EPOCH_US - now->figures.applied_commit_us) / 1e6;
        age = age > 0 ? age : 0; /* the servers' clocks may differ */
        lag = lag < 0 || age < lag ? age : lag;
    }
    return lag;
}

static json_t *refused_json(const struct pj_figures *figures)
{
    json_t *json = json_object();
    for (int i = 0; i < PJ_REFUSERS && *figures->refused[i].projection; i++)
        json_object_set_new(json, figures->refused[i].projection, json_count(figures->refused[i].rows));
    return json;
}

/* The figures as a JSON text, to be freed with free(). */
static char *figures_json(struct pj_daemon_row *row, const struct pj_daemon_moment *now)
{
    const struct pj_figures *figures = &now->figures;
    json_t *json = json_object();
    json_object_set_new(json, "transactions", json_count(figures->transactions));
    json_object_set_new(json, "changes", json_count(figures->changes));
    json_object_set_new(json, "batches", json_count(figures->batches));
    json_object_set_new(json, "skipped", json_count(figures->skipped));
    json_object_set_new(json, "bytes", json_count(figures->bytes));
    json_object_set_new(json, "reconnects", json_count(figures->reconnects));
    json_object_set_new(json, "received", json_lsn(figures->received));
    json_object_set_new(json, "applied", json_lsn(figures->applied));
    json_object_set_new(json, "confirmed", json_lsn(figures->confirmed));
    json_object_set_new(json, "applied_commit_us", json_integer(figures->applied_commit_us));
    json_object_set_new(json, "apply_us", json_integer(figures->apply_us));
    json_object_set_new(json, "last_batch_transactions", json_count(figures->last_batch_transactions));
    json_object_set_new(json, "buffered_bytes", json_count(figures->buffered_bytes));
    json_object_set_new(json, "refused_rows", refused_json(figures));
    bool behind = figures->received > figures->applied;
    json_object_set_new(json, "lag_bytes", json_count(behind ? figures->received - figures->applied : 0));
    double lag = lag_seconds(row, now);
    json_object_set_new(json, "lag_seconds", lag < 0 ? json_null() : json_real(lag));
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(json);
    return text;
}

/* Whether a daemon in this phase is the one that works on this read database. */
static bool owns_row(enum pj_phase phase)
{
    return phase == PJ_SNAPSHOT || phase == PJ_STREAMING || phase == PJ_HALTED;
}

static const char write_sql[] =
    "INSERT INTO pgprojector.daemon AS daemon "
    "(singleton, pid, host, version, started_at, heartbeat_at, state, message, hint, figures) "
    "VALUES (true, $1::integer, $2, $3, $4::timestamptz, pg_catalog.clock_timestamp(), $5, $6, $7, $8::jsonb) "
    "ON CONFLICT (singleton) DO UPDATE SET pid = excluded.pid, host = excluded.host, version = excluded.version, "
    "started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at, state = excluded.state, "
    "message = excluded.message, hint = excluded.hint, figures = excluded.figures "
    "WHERE $9::boolean OR daemon.state = 'stopped' "
    "OR daemon.heartbeat_at < pg_catalog.clock_timestamp() - interval '5 seconds' "
    "OR (daemon.pid, daemon.host, daemon.started_at) = (excluded.pid, excluded.host, excluded.started_at)";

int pj_daemon_row_write(struct pj_daemon_row *row, struct pj_session *session, const struct pj_daemon_moment *now,
                        struct pj_error *error)
{
    char *figures = figures_json(row, now);
    const char *params[] = {row->pid,
                            row->host,
                            PJ_VERSION,
                            row->started_at,
                            pj_phase_word(now->phase),
                            now->message,
                            now->hint,
                            figures,
                            owns_row(now->phase) ? "true" : "false"};
    PGresult *result;
    int code = pj_session_query(session, &result, write_sql, 9, params, error);
    PQclear(result);
    free(figures);
    if (code != PJ_OK)
        return pj_error_wrap(error, "write pgprojector.daemon");
    row->written = *now;
    row->written_at_us = pj_clock_monotonic_us();
    return PJ_OK;
}

void pj_daemon_row_look(const struct pj_daemon_row *row, struct pj_daemon_moment *now)
{
    memset(now, 0, sizeof *now);
    now->phase = pj_state_get(row->state, now->message, sizeof now->message, now->hint, sizeof now->hint);
    pj_state_get_figures(row->state, &now->figures);
}

bool pj_daemon_row_due(const struct pj_daemon_row *row, const struct pj_daemon_moment *now)
{
    const struct pj_daemon_moment *written = &row->written;
    if (!row->written_at_us || now->phase != written->phase)
        return true;
    bool changed = memcmp(&now->figures, &written->figures, sizeof now->figures) != 0 ||
                   strcmp(now->message, written->message) != 0 || strcmp(now->hint, written->hint) != 0;
    uint64_t interval_us = (uint64_t)(changed ? BUSY_MS : IDLE_MS) * 1000;
    return pj_clock_monotonic_us() - row->written_at_us + 50000 >= interval_us;
}
