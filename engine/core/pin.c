/*
 * TRUNCATE and rewriting ALTER TABLEs are not MVCC-safe: a snapshot that was taken before them sees an empty table
 * after them. A transaction that reads under a snapshot and has not touched the table yet is not shielded from that,
 * and one that goes from table to table, locking each when it comes to it, can meet a TRUNCATE of several in a
 * deadlock. So all tables are locked at once, right after the snapshot was taken, and then asked whether they are what
 * the snapshot shows: their files are the same, in the snapshot's catalog and in the present one.
 *
 * NOWAIT and patience here, not a wait in the server: there a TRUNCATE of two tables could hold one, wait for the
 * other, which we hold, and fail for our sake.
 */
#include "core/pin.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/textarray.h"
#include "sql.h"

#include <string.h>

enum { POLL_MS = 10 };

/* Within a savepoint: a lock that cannot be had gives back those that were. */
static char *lock_sql(const char *const *names)
{
    struct pj_buf sql = {0};
    for (int i = 0; names[i]; i++)
        pj_buf_printf(&sql, "%s%s", i ? ", " : "SAVEPOINT pgprojector_pin; LOCK TABLE ", names[i]);
    pj_buf_puts(&sql, " IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT pgprojector_pin");
    return pj_buf_take(&sql);
}

static bool is_taken(const struct pj_error *error)
{
    return strcmp(error->sqlstate, "55P03") == 0;
}

static int try_lock(struct pj_session *session, const char *sql, struct pj_error *error)
{
    struct pj_error rolling_back;
    if (pj_session_exec(session, sql, error) == PJ_OK)
        return PJ_OK;
    if (is_taken(error) && pj_session_exec(session, "ROLLBACK TO SAVEPOINT pgprojector_pin", &rolling_back) != PJ_OK)
        *error = rolling_back;
    return error->code;
}

static int lock(struct pj_session *session, const char *const *names, int wait_ms, const struct pj_stop *stop,
                struct pj_error *error)
{
    char *sql = lock_sql(names);
    uint64_t deadline = pj_clock_monotonic_us() + (uint64_t)wait_ms * 1000;
    int code = try_lock(session, sql, error);
    while (code != PJ_OK && is_taken(error) && pj_clock_monotonic_us() < deadline) {
        code = pj_stop_sleep(stop, POLL_MS, error);
        if (code == PJ_OK)
            code = try_lock(session, sql, error);
    }
    pj_free(sql);
    return code;
}

static char *array_of(const char *const *names)
{
    struct pj_buf array = {0};
    pj_textarray_begin(&array);
    for (int i = 0; names[i]; i++)
        pj_textarray_add(&array, names[i]);
    pj_textarray_end(&array);
    return pj_buf_take(&array);
}

static int check(struct pj_session *session, const char *const *names, struct pj_error *error)
{
    char *array = array_of(names);
    const char *params[] = {array};
    PGresult *result;
    int code = pj_session_query(session, &result, pj_sql_pin_changed, 1, params, error);
    if (code == PJ_OK && PQntuples(result)) {
        code = pj_error_set(error, PJ_EUNHEALTHY, "%s: %.200s was emptied or replaced at this very moment",
                            pj_side_name(pj_session_side(session)), PQgetvalue(result, 0, 0));
        error->retryable = true;
    }
    PQclear(result);
    pj_free(array);
    return code;
}

int pj_pin(struct pj_session *session, const char *const *names, int wait_ms, const struct pj_stop *stop,
           struct pj_error *error)
{
    if (!names || !names[0])
        return PJ_OK;
    int code = lock(session, names, wait_ms, stop, error);
    return code == PJ_OK ? check(session, names, error) : code;
}

int pj_pin_sources(struct pj_session *session, const struct pj_table *tables, int ntables, int wait_ms,
                   struct pj_error *error)
{
    int code = pj_session_execf(session, error, "BEGIN; SET LOCAL lock_timeout = %d", wait_ms);
    for (int i = 0; code == PJ_OK && i < ntables; i++) {
        const char *name = tables[i].mirror_sql; /* of the same name there */
        code = pj_session_execf(session, error, "LOCK TABLE %s IN ACCESS SHARE MODE", name);
        if (code != PJ_OK)
            pj_error_wrap(error, "lock %s", name);
    }
    return code;
}
