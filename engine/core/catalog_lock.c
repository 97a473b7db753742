/*
 * One daemon a read database, and the stale one harmless:
 *   - the lock, a session-level advisory lock, keeps a second daemon waiting;
 *   - a lock can be lost without its holder noticing (frozen, partitioned), so whoever has it *takes over*: ends the
 *     former backend, locks the checkpoint row, by which a COMMIT still under way is over, and raises the epoch. The
 *     former daemon's next batch finds another epoch and changes nothing.
 */
#include "core/catalog_internal.h"

#include "base/mem.h"
#include "base/text.h"
#include "core/keywork.h"
#include "sql.h"

#include <stdio.h>
#include <string.h>

enum { TAKE_OVER_WAIT_MS = 10000, GONE_WAIT_MS = 1000, GONE_POLL_MS = 20 };

/* ------------------------------------------------------------------------------------------------------------- lock */

static char *describe_holder(struct pj_session *read)
{
    char class[16], object[16];
    snprintf(class, sizeof class, "%d", PJ_CATALOG_LOCK);
    snprintf(object, sizeof object, "%d", PJ_CATALOG_LOCK_DAEMON);
    const char *params[] = {class, object};
    struct pj_error ignored;
    PGresult *result;
    char *holder = NULL;
    if (pj_session_query(read, &result, pj_sql_catalog_lock_holder, 2, params, &ignored) == PJ_OK && PQntuples(result))
        holder = pj_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return holder;
}

int pj_catalog_lock(struct pj_session *read, bool *mine, char **holder, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT pg_catalog.pg_try_advisory_lock(%d, %d)", PJ_CATALOG_LOCK, PJ_CATALOG_LOCK_DAEMON);
    PGresult *result;
    *mine = false;
    if (holder)
        *holder = NULL;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code != PJ_OK)
        return pj_error_wrap(error, "take the daemon's lock");
    *mine = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (!*mine && holder)
        *holder = describe_holder(read);
    return PJ_OK;
}

/* *stopped: the last that it has said of itself. */
static int daemon_is_there(struct pj_session *read, bool *there, bool *stopped, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(
        read, &result,
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
        "AND application_name = 'pgprojector control'), EXISTS (SELECT FROM pgprojector.daemon WHERE state = "
        "'stopped')",
        0, NULL, error);
    *there = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    *stopped = code == PJ_OK && PQgetvalue(result, 0, 1)[0] == 't';
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "look for a daemon");
}

int pj_catalog_daemon_alive(struct pj_session *read, bool *alive, struct pj_error *error)
{
    PGresult *result;
    bool there, stopped;
    int code = daemon_is_there(read, &there, &stopped, error);
    *alive = code == PJ_OK && there;
    if (code != PJ_OK || there || stopped)
        return code;
    code = pj_session_query_row(read, &result,
                                "SELECT EXISTS (SELECT FROM pgprojector.daemon WHERE heartbeat_at > "
                                "pg_catalog.clock_timestamp() - interval '5 seconds')",
                                0, NULL, error);
    *alive = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "look for a daemon");
}

static void copy_clipped(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%.*s", (int)pj_text_clip(text, size - 1), text);
}

int pj_catalog_daemon_says(struct pj_session *read, struct pj_daemon_says *says, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result,
                                "SELECT state, message, hint FROM pgprojector.daemon WHERE state <> 'stopped' AND "
                                "heartbeat_at > pg_catalog.clock_timestamp() - interval '6 seconds'",
                                0, NULL, error);
    *says = (struct pj_daemon_says){.running = code == PJ_OK && PQntuples(result) == 1};
    if (says->running) {
        copy_clipped(says->state, sizeof says->state, PQgetvalue(result, 0, 0));
        copy_clipped(says->message, sizeof says->message, PQgetvalue(result, 0, 1));
        copy_clipped(says->hint, sizeof says->hint, PQgetvalue(result, 0, 2));
    }
    PQclear(result);
    return code;
}

/* *certain: it will not be otherwise in a moment. */
static int try_without_daemon(struct pj_session *read, bool *mine, char **holder, bool *certain, struct pj_error *error)
{
    bool there, stopped;
    int code = daemon_is_there(read, &there, &stopped, error);
    if (code == PJ_OK && !there)
        code = pj_catalog_lock(read, mine, holder, error);
    else if (code == PJ_OK)
        *holder = describe_holder(read);
    *certain = *mine || (there && !stopped && *holder);
    return code;
}

/* One that was killed or stopped a moment ago is given the time to be gone: the server may end its sessions after the
 * process, and in any order. */
int pj_catalog_lock_without_daemon(struct pj_session *read, bool *mine, char **holder, struct pj_error *error)
{
    char *has = NULL;
    bool certain = false;
    int code = PJ_OK;
    *mine = false;
    for (int waited = 0; code == PJ_OK && !certain && waited <= GONE_WAIT_MS; waited += GONE_POLL_MS) {
        if (waited)
            code = pj_stop_sleep(NULL, GONE_POLL_MS, error);
        pj_free(has);
        has = NULL;
        if (code == PJ_OK)
            code = try_without_daemon(read, mine, &has, &certain, error);
    }
    if (holder)
        *holder = has;
    else
        pj_free(has);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- take over */

/*
 * A pid may have been given to another backend since: its start and its name must be the ones we noted. Where somebody
 * else has taken over since, the backend is not ours to end.
 */
static const char former_sql[] =
    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a "
    "JOIN pgprojector.checkpoint c ON c.backend_pid = a.pid AND c.backend_start = a.backend_start "
    "WHERE a.application_name LIKE 'pgprojector%' AND a.pid <> pg_catalog.pg_backend_pid() "
    "AND ($1::bigint < 0 OR c.epoch = $1::bigint)";

static int end_former(struct pj_session *read, int64_t believed_epoch, struct pj_error *error)
{
    char believed[24];
    snprintf(believed, sizeof believed, "%lld", (long long)believed_epoch);
    const char *params[] = {believed};
    for (int waited = 0, pause = 1; waited <= TAKE_OVER_WAIT_MS; waited += pause, pause = pause < 25 ? pause * 2 : 50) {
        PGresult *result;
        int code = pj_session_query(read, &result, former_sql, 1, params, error);
        if (code != PJ_OK)
            return pj_error_wrap(error, "end the former daemon's backend");
        int alive = PQntuples(result);
        PQclear(result);
        if (!alive)
            return PJ_OK;
        code = pj_stop_sleep(NULL, pause, error);
        if (code != PJ_OK)
            return code;
    }
    pj_error_set(error, PJ_EUNREACHABLE, "read database: the former daemon's backend does not end within %d s",
                 TAKE_OVER_WAIT_MS / 1000);
    error->retryable = true;
    return error->code;
}

static int raise_epoch(struct pj_session *read, int64_t believed_epoch, struct pj_checkpoint *checkpoint,
                       struct pj_error *error)
{
    static const char sql[] =
        "UPDATE pgprojector.checkpoint SET epoch = epoch + 1, backend_pid = pg_catalog.pg_backend_pid(), backend_start "
        "= "
        "(SELECT a.backend_start FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid())";
    int code = pj_catalog_read_row(read, "FOR UPDATE", checkpoint, error);
    if (code != PJ_OK)
        return code;
    if (believed_epoch >= 0 && checkpoint->epoch != believed_epoch)
        return pj_error_set(error, PJ_ESTALE, "another daemon has taken over (epoch %lld, ours was %lld)",
                            (long long)checkpoint->epoch, (long long)believed_epoch);
    code = pj_session_exec(read, sql, error);
    return code == PJ_OK ? pj_catalog_read_row(read, "", checkpoint, error) : code;
}

int pj_catalog_take_over(struct pj_session *read, int64_t believed_epoch, struct pj_checkpoint *checkpoint,
                         struct pj_error *error)
{
    memset(checkpoint, 0, sizeof *checkpoint);
    int code = end_former(read, believed_epoch, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "BEGIN ISOLATION LEVEL READ COMMITTED", error);
    if (code != PJ_OK)
        return code;
    code = raise_epoch(read, believed_epoch, checkpoint, error);
    if (code == PJ_OK)
        code = pj_session_exec(read, "COMMIT", error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_error_wrap(error, "take over the read database");
    pj_keywork_rollback(read);
    return error->code;
}
