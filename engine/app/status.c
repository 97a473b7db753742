/*
 * See status.h. The lag in seconds, from one row of the catalog:
 *
 *   - the write database has no WAL beyond the checkpoint: 0;
 *   - the checkpoint stands at the last applied transaction (its witness): the age of that commit, by the clock of the
 *     write database, which stamped it;
 *   - the checkpoint is ahead of the witness: a keepalive carried it there, when everything before was applied; so the
 *     source was caught up with when the checkpoint was written: its age, by the clock of the read database, which
 *     stamped it.
 *
 * No two clocks are compared, and it grows when the daemon is dead, as it should.
 */
#include "app/status.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "core/build.h"
#include "sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 5000, CONNECT_S = 5, SLOT_TRIES = 10, SLOT_PAUSE_MS = 50 };

#define STALE_HEARTBEAT_S 10.0
#define HEALTHY_LAG_S 5.0

/* A server that answers, if only by a refusal, is reachable: waiting for it mends nothing. */
static void remember(struct pj_status_side *side, bool opened, int code, const struct pj_error *error)
{
    side->code = code;
    side->reachable = code == PJ_OK || (opened && code != PJ_EUNREACHABLE && !error->retryable);
    snprintf(side->error, sizeof side->error, "%s", code == PJ_OK ? "" : error->message);
    snprintf(side->hint, sizeof side->hint, "%.511s", code == PJ_OK ? "" : error->hint);
}

static int open_side(const struct pj_app *app, enum pj_side side, struct pj_session **session, struct pj_error *error)
{
    struct pj_session_options options = {
        .side = side,
        .url = pj_config_get(&app->config, side == PJ_WRITE ? PJ_SET_WRITE_URL : PJ_SET_READ_URL),
        .purpose = "status",
        .connect_timeout_s = CONNECT_S,
        .stop = &app->stop,
    };
    int code = pj_session_open(session, &options, error);
    if (code == PJ_OK)
        pj_session_set_timeout(*session, ANSWER_MS);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ read side */

static void copy_text(char *to, size_t size, const PGresult *result, const char *column)
{
    const char *text = PQgetvalue(result, 0, PQfnumber(result, column));
    snprintf(to, size, "%.*s", (int)pj_text_clip(text, size - 1), text);
}

static void copy_daemon(struct pj_status *status, const PGresult *result)
{
    status->daemon_known = true;
    status->pid = atoi(PQgetvalue(result, 0, PQfnumber(result, "pid")));
    status->heartbeat_age_s = strtod(PQgetvalue(result, 0, PQfnumber(result, "age")), NULL);
    copy_text(status->state, sizeof status->state, result, "state");
    copy_text(status->message, sizeof status->message, result, "message");
    copy_text(status->hint, sizeof status->hint, result, "hint");
    copy_text(status->host, sizeof status->host, result, "host");
    copy_text(status->version, sizeof status->version, result, "version");
    copy_text(status->started_at, sizeof status->started_at, result, "started");
    status->connected = *PQgetvalue(result, 0, PQfnumber(result, "connected")) == 't';
    status->figures = json_loads(PQgetvalue(result, 0, PQfnumber(result, "figures")), 0, NULL);
}

static int ask_daemon(struct pj_session *read, struct pj_status *status, struct pj_error *error)
{
    static const char sql[] = "SELECT pid, host, version, state, message, hint, figures, "
                              "pg_catalog.to_char(started_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS started, "
                              "extract(epoch FROM pg_catalog.clock_timestamp() - heartbeat_at) AS age, "
                              "EXISTS (SELECT FROM pg_catalog.pg_stat_activity "
                              "WHERE datname = pg_catalog.current_database() "
                              "AND application_name = 'pgprojector control') AS connected "
                              "FROM pgprojector.daemon";
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 0, NULL, error);
    if (code == PJ_OK && PQntuples(result) == 1)
        copy_daemon(status, result);
    PQclear(result);
    return code;
}

/* One JSON text from the server; none where the catalog is of an earlier version, until the daemon is started again. */
static int ask_json(struct pj_session *read, const char *sql, json_t **json, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    if (code == PJ_OK)
        *json = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    PQclear(result);
    return strcmp(error->sqlstate, "42P01") == 0 ? PJ_OK : code;
}

static int ask_lists(struct pj_session *read, struct pj_status *status, struct pj_error *error)
{
    static const char mirrors[] =
        "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('schema', schema_name, 'table', table_name, "
        "'columns', pg_catalog.cardinality(columns), 'key', key) ORDER BY schema_name, table_name), '[]') "
        "FROM pgprojector.mirror";
    static const char unfit[] =
        "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('schema', schema_name, 'table', table_name, "
        "'reason', reason, 'hint', hint) ORDER BY schema_name, table_name), '[]') FROM pgprojector.unfit_mirror";
    int code = ask_json(read, pj_sql_status_projections, &status->projections, error);
    if (code == PJ_OK)
        code = ask_json(read, mirrors, &status->mirrors, error);
    if (code == PJ_OK)
        code = ask_json(read, pj_sql_status_jobs, &status->jobs, error);
    if (code == PJ_OK)
        code = ask_json(read, pj_sql_status_requests, &status->requests, error);
    if (code == PJ_OK)
        code = ask_json(read, unfit, &status->unfit, error);
    return code;
}

static void add_up(struct pj_status *status)
{
    size_t i;
    json_t *projection;
    json_array_foreach(status->projections, i, projection) status->dead_letters +=
        json_integer_value(json_object_get(projection, "deadLetters"));
}

static int ask_age(struct pj_session *read, struct pj_status *status, struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query_row(read, &result,
                             "SELECT coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - applied_at), -1) "
                             "FROM pgprojector.checkpoint",
                             0, NULL, error);
    if (code == PJ_OK)
        status->applied_age_s = strtod(PQgetvalue(result, 0, 0), NULL);
    PQclear(result);
    return code;
}

static int ask_read(struct pj_session *read, struct pj_status *status, struct pj_error *error)
{
    int code = pj_catalog_read(read, &status->checkpoint, &status->installed, error);
    if (code != PJ_OK || !status->installed)
        return code;
    code = ask_age(read, status, error);
    if (code == PJ_OK)
        code = ask_daemon(read, status, error);
    if (code == PJ_OK)
        code = pj_stall_look(read, PJ_STALL_TOLD_S, &status->stall, error);
    if (code == PJ_OK)
        code = ask_lists(read, status, error);
    add_up(status);
    return code;
}

static void gather_read(const struct pj_app *app, struct pj_status *status)
{
    struct pj_error error;
    struct pj_session *read;
    int code = open_side(app, PJ_READ, &read, &error);
    bool opened = code == PJ_OK;
    if (code == PJ_OK)
        code = ask_read(read, status, &error);
    pj_session_close(read);
    remember(&status->read, opened, code, &error);
}

/* ----------------------------------------------------------------------------------------------------- write side */

/* The witness's commit time comes from this server's clock, so its age is this server's to say. */
static int ask_position(struct pj_session *write, struct pj_status *status, struct pj_error *error)
{
    static const char sql[] =
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() "
        "ELSE pg_catalog.pg_current_wal_lsn() END, extract(epoch FROM pg_catalog.clock_timestamp() - "
        "(timestamptz '2000-01-01 00:00:00+00' + $1::bigint * interval '1 microsecond'))";
    char *witness = pj_sprintf("%lld", (long long)status->checkpoint.witness_time_us);
    const char *params[] = {witness};
    PGresult *result;
    int code = pj_session_query_row(write, &result, sql, 1, params, error);
    if (code == PJ_OK) {
        pj_lsn_parse(PQgetvalue(result, 0, 0), &status->current_lsn);
        status->commit_age_s = status->checkpoint.witness_time_us ? strtod(PQgetvalue(result, 0, 1), NULL) : -1;
    }
    PQclear(result);
    pj_free(witness);
    return code;
}

/*
 * A daemon that says that it streams, and a slot that nobody has: it is opening its stream anew (a mirror was added, a
 * connection lost), which takes some 100 ms and is not worth an alarm. So it is looked at again, for a while.
 */
static int read_slot(const struct pj_app *app, struct pj_session *write, struct pj_status *status,
                     struct pj_error *error)
{
    int code = pj_slot_read(write, status->slot_name, &status->slot, error);
    for (int tries = 0; code == PJ_OK && tries < SLOT_TRIES; tries++) {
        if (!status->slot.exists || status->slot.active || strcmp(status->state, "streaming") != 0)
            break;
        code = pj_stop_sleep(&app->stop, SLOT_PAUSE_MS, error);
        if (code == PJ_OK)
            code = pj_slot_read(write, status->slot_name, &status->slot, error);
    }
    return code;
}

static void gather_write(const struct pj_app *app, struct pj_status *status)
{
    const char *configured = pj_config_get(&app->config, PJ_SET_SLOT);
    snprintf(status->slot_name, sizeof status->slot_name, "%s",
             status->checkpoint.slot[0] ? status->checkpoint.slot
             : configured               ? configured
                                        : "");
    struct pj_error error;
    struct pj_session *write;
    int code = open_side(app, PJ_WRITE, &write, &error);
    bool opened = code == PJ_OK;
    if (code == PJ_OK)
        code = ask_position(write, status, &error);
    if (code == PJ_OK && status->slot_name[0])
        code = read_slot(app, write, status, &error);
    pj_session_close(write);
    remember(&status->write, opened, code, &error);
}

void pj_status_gather(const struct pj_app *app, struct pj_status *status)
{
    memset(status, 0, sizeof *status);
    status->applied_age_s = status->commit_age_s = -1;
    gather_read(app, status);
    gather_write(app, status);
    pj_status_conclude(status);
}

void pj_status_free(struct pj_status *status)
{
    json_decref(status->figures);
    json_decref(status->projections);
    json_decref(status->mirrors);
    json_decref(status->jobs);
    json_decref(status->requests);
    json_decref(status->unfit);
}

/* ---------------------------------------------------------------------------------------------------- conclusions */

static double lag_seconds(const struct pj_status *status)
{
    const struct pj_checkpoint *checkpoint = &status->checkpoint;
    if (status->write.code != PJ_OK || status->read.code != PJ_OK || !checkpoint->complete)
        return -1;
    if (status->current_lsn <= checkpoint->lsn)
        return 0;
    bool by_keepalive = checkpoint->lsn > checkpoint->witness_lsn || !checkpoint->witness_time_us;
    double age = by_keepalive ? status->applied_age_s : status->commit_age_s;
    return age < 0 ? 0 : age; /* clocks step */
}

static const char *unhealthy_because(const struct pj_status *status)
{
    if (!status->read.reachable)
        return "the read database is unreachable";
    if (!status->write.reachable)
        return "the write database is unreachable";
    if (status->read.code != PJ_OK)
        return "the read database cannot be asked";
    if (status->write.code != PJ_OK)
        return "the write database cannot be asked";
    if (!status->installed)
        return "the read database has no catalog: nothing has been started yet";
    if (!status->running)
        return status->silent ? "the daemon does not report" : "the daemon is not running";
    if (strcmp(status->state, "streaming") != 0)
        return "the daemon is not streaming";
    if (!status->checkpoint.complete)
        return "the first start is not complete";
    if (!status->slot.active)
        return status->slot.exists ? "the slot is not active" : "the slot does not exist";
    return status->lag_s >= HEALTHY_LAG_S ? "the read database lags behind" : "";
}

/* What the daemon has paused, not a person, is wrong by now, however well the others do. Catching up passes by itself. */
static bool not_kept_up(const json_t *projection)
{
    const char *state = json_string_value(json_object_get(projection, "state"));
    const char *reason = json_string_value(json_object_get(projection, "reason"));
    return state && strcmp(state, "paused") == 0 && reason &&
           strncmp(reason, PJ_CATCHES_UP, strlen(PJ_CATCHES_UP)) != 0;
}

/* The first of them, and how many more. */
static void name_not_kept_up(struct pj_status *status)
{
    const json_t *item, *first = NULL;
    size_t i;
    int more = 0;
    json_array_foreach(status->projections, i, item)
    {
        if (!not_kept_up(item))
            continue;
        more += first != NULL;
        first = first ? first : item;
    }
    if (!first)
        return;
    const char *name = json_string_value(json_object_get(first, "name"));
    const char *reason = json_string_value(json_object_get(first, "reason"));
    int length = snprintf(status->reason, sizeof status->reason, "projection %.*s is not kept up (%.*s)",
                          (int)pj_text_clip(name, 100), name, (int)pj_text_clip(reason, 300), reason);
    if (more)
        snprintf(status->reason + length, sizeof status->reason - (size_t)length, ", and %d more", more);
}

/* A cause that another database's server, or somebody on it, is. Where the lag is all that is wrong, or that it is silent. */
static void name_stall(struct pj_status *status)
{
    bool late = status->running && status->lag_s >= HEALTHY_LAG_S && strcmp(status->state, "streaming") == 0;
    if (!*status->reason || status->stall.seconds <= 0 || (!status->silent && !late))
        return;
    size_t length = strlen(status->reason);
    snprintf(status->reason + length, sizeof status->reason - length, ": %s", status->stall.message);
}

const char pj_status_slot_remedy[] =
    "more than half of what max_slot_wal_keep_size allows is used up. At its end the WAL goes, "
    "and only a resync helps: let the daemon catch up, or raise the setting";

bool pj_status_slot_in_danger(const struct pj_slot *slot)
{
    bool most_is_used = slot->safe_bytes >= 0 && slot->safe_bytes < slot->retained_bytes;
    return slot->exists && (most_is_used || strcmp(slot->wal_status, "unreserved") == 0);
}

void pj_status_conclude(struct pj_status *status)
{
    bool fresh = status->daemon_known && status->heartbeat_age_s <= STALE_HEARTBEAT_S;
    bool stopped = strcmp(status->state, "stopped") == 0;
    status->running = fresh && !stopped;
    status->silent = status->daemon_known && !fresh && !stopped && (status->connected || status->stall.seconds > 0);
    status->lag_s = lag_seconds(status);
    status->lag_bytes = -1;
    if (status->lag_s >= 0)
        status->lag_bytes =
            status->current_lsn > status->checkpoint.lsn ? (int64_t)(status->current_lsn - status->checkpoint.lsn) : 0;
    snprintf(status->reason, sizeof status->reason, "%s", unhealthy_because(status));
    if (!*status->reason)
        name_not_kept_up(status);
    name_stall(status);
    status->healthy = !*status->reason;
}

int pj_status_code(const struct pj_status *status)
{
    const struct pj_status_side *sides[] = {&status->read, &status->write};
    for (int i = 0; i < 2; i++)
        if (!sides[i]->reachable)
            return sides[i]->code == PJ_ECONFIG ? PJ_ECONFIG : PJ_EUNREACHABLE;
    for (int i = 0; i < 2; i++)
        if (sides[i]->code != PJ_OK)
            return sides[i]->code == PJ_ECONFIG ? PJ_ECONFIG : PJ_EFAIL;
    if (status->dead_letters)
        return PJ_EDEADLETTER;
    return status->healthy ? PJ_OK : PJ_EUNHEALTHY;
}

/* -------------------------------------------------------------------------------------------------------- command */

static void show(const struct pj_app *app, const struct pj_status *status)
{
    if (!app->options.json) {
        if (app->options.watch)
            fputs("\033[H\033[J", stdout);
        pj_status_print(status);
    } else {
        json_t *json = pj_status_json(status);
        json_dumpf(json, stdout, (app->options.watch ? JSON_COMPACT : JSON_INDENT(2)) | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(json);
    }
    fflush(stdout);
}

int pj_status(struct pj_app *app, struct pj_error *error)
{
    int code;
    do {
        struct pj_status status;
        pj_status_gather(app, &status);
        show(app, &status);
        code = pj_status_code(&status);
        pj_status_free(&status);
    } while (app->options.watch && !ferror(stdout) && pj_stop_sleep(&app->stop, 1000, error) == PJ_OK);
    pj_error_clear(error); /* all has been said */
    return code;
}
