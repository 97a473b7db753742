/*
 * See mend.h. Apply waits while a chunk has the checkpoint row, so a chunk is made as large as fits into HOLD_US, and
 * between two chunks the daemon gets twice the time that the last one took. Where no daemon runs, chunks are as large
 * as progress and a stop allow.
 */
#include "core/mend.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "core/textarray.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOLD_US = 8000,
    ALONE_US = 500000, /* for progress, and to hear of a stop */
    FIRST_CHUNK = 16,
    LARGEST_CHUNK = 20000,
    PAGE = 20000,
    TICK_MS = 300,
    ATTEMPTS = 6,
    KEY_COLUMNS = 32
};

/* Bad data, a constraint, a RAISE. */
static bool speaks_of_a_row(const struct pj_error *error)
{
    const char *state = error->sqlstate;
    return !strncmp(state, "22", 2) || !strncmp(state, "23", 2) || !strncmp(state, "P0", 2);
}

bool pj_mend_is_key_fault(const struct pj_error *error)
{
    return !error->retryable && speaks_of_a_row(error);
}

/* --------------------------------------------------------------------------------------------------------- parking */

/* What stands in quotes may be a value, except in class 23, whose messages name tables and constraints alone. */
static void without_values(const struct pj_error *fault, char *text, size_t size)
{
    bool names_only = strncmp(fault->sqlstate, "23", 2) == 0, quoted = false;
    size_t length = 0;
    for (const char *at = fault->message; *at && length + 1 < size; at++) {
        if (*at == '"')
            quoted = !quoted;
        if (names_only || !quoted || *at == '"')
            text[length++] = *at;
    }
    pj_text_end(text, length);
}

void pj_mend_strip(struct pj_error *fault)
{
    char message[sizeof fault->message];
    if (!speaks_of_a_row(fault))
        return;
    without_values(fault, message, sizeof message);
    snprintf(fault->message, sizeof fault->message, "%s", message);
}

static const char park_sql[] =
    "INSERT INTO pgprojector.dead_letter AS d (projection, key, sqlstate, message, first_lsn, last_lsn, next_try_at) "
    "VALUES ($1, $2, $3, $4, $5::pg_lsn, $5::pg_lsn, pg_catalog.clock_timestamp() + interval '30 seconds') "
    "ON CONFLICT (projection, key) DO UPDATE SET sqlstate = excluded.sqlstate, message = excluded.message, "
    "last_lsn = excluded.last_lsn, attempts = d.attempts + 1, next_try_at = CASE WHEN d.attempts >= 9 THEN NULL "
    "ELSE pg_catalog.clock_timestamp() + least(interval '30 seconds' * pg_catalog.power(2, d.attempts), "
    "interval '1 hour') END RETURNING attempts";

static int enter(struct pj_session *work, const char *projection, const char *key, const struct pj_error *fault,
                 const char *lsn, bool *first, struct pj_error *error)
{
    char message[512];
    without_values(fault, message, sizeof message);
    const char *params[] = {projection, key, fault->sqlstate, message, lsn};
    PGresult *result;
    int code = pj_session_query_row(work, &result, park_sql, 5, params, error);
    *first = code == PJ_OK && atoi(PQgetvalue(result, 0, 0)) == 1;
    PQclear(result);
    return code;
}

/* The daemon is told of a new one only: it knows the others. */
int pj_mend_note_failure(struct pj_session *work, const char *projection, const char *key, const struct pj_error *fault,
                         const char *lsn, struct pj_error *error)
{
    bool first;
    int code = enter(work, projection, key, fault, lsn, &first, error);
    return code == PJ_OK && first ? pj_keywork_changed(work, error) : code;
}

int pj_mend_enter_failure(struct pj_session *work, const char *projection, const char *key,
                          const struct pj_error *fault, struct pj_error *error)
{
    bool first;
    PGresult *result;
    int code =
        pj_session_query_row(work, &result, "SELECT coalesce(lsn, '0/0') FROM pgprojector.checkpoint", 0, NULL, error);
    if (code == PJ_OK)
        code = enter(work, projection, key, fault, PQgetvalue(result, 0, 0), &first, error);
    PQclear(result);
    return code;
}

int pj_mend_park(struct pj_session *work, const struct pj_mark *mark, const char *projection, const char *key,
                 const struct pj_error *fault, struct pj_error *error)
{
    struct pj_error cause = *fault; /* the two may be one object */
    pj_lsn lsn;
    int code = pj_keywork_begin_of(work, mark, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = pj_mend_note_failure(work, projection, key, &cause, PJ_LSN(lsn), error);
    code = pj_keywork_end(work, code, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "park a key");
}

/* ---------------------------------------------------------------------------------------------------------- chunks */

/* Of routing keys alone: rows of one key come one after the other. */
static bool repeats(const PGresult *keys, int row, int first, int width)
{
    return width == 1 && row > first && strcmp(PQgetvalue(keys, row, 0), PQgetvalue(keys, row - 1, 0)) == 0;
}

void pj_mend_arrays(const PGresult *keys, int first, int count, int width, char **arrays)
{
    for (int column = 0; column < width; column++) {
        struct pj_buf array = {0};
        pj_textarray_begin(&array);
        for (int row = first; row < first + count; row++)
            if (!repeats(keys, row, first, width))
                pj_textarray_add(&array, PQgetvalue(keys, row, column));
        pj_textarray_end(&array);
        arrays[column] = pj_buf_take(&array);
    }
}

/* While a chunk waits for somebody who has the table locked. */
static int waiting(void *context, struct pj_error *error)
{
    struct pj_mend *mend = context;
    return pj_job_check(&mend->job, mend->job.session, error);
}

static int recompute(struct pj_mend *mend, bool full, const char *const *arrays, int64_t *rows, struct pj_error *error)
{
    pj_lsn lsn;
    int code = mend->company == PJ_MEND_NOBODY ? pj_keywork_begin_alone(mend->work, error)
                                               : pj_keywork_begin_of(mend->work, mend->mark, &lsn, error);
    if (code != PJ_OK)
        return code;
    uint64_t locked_us = pj_clock_monotonic_us();
    pj_session_set_tick(mend->work, TICK_MS, waiting, mend);
    code = pj_keywork_recompute(mend->work, mend->projection, full, arrays, rows, error);
    pj_session_set_tick(mend->work, 0, NULL, NULL);
    code = pj_keywork_end(mend->work, code, error);
    mend->held_us = pj_clock_monotonic_us() - locked_us;
    return code;
}

/* One transaction, again where that may help (a deadlock with somebody who locks the table by hand). */
static int attempt(struct pj_mend *mend, bool full, const PGresult *keys, int first, int count, struct pj_error *error)
{
    char *arrays[KEY_COLUMNS];
    int width = full ? mend->projection->nkey : 1;
    int64_t rows = 0;
    pj_mend_arrays(keys, first, count, width, arrays);
    int code = PJ_OK;
    for (int i = 0; i < ATTEMPTS; i++) {
        code = recompute(mend, full, (const char *const *)arrays, &rows, error);
        bool again = code != PJ_OK && error->retryable && PQstatus(pj_session_conn(mend->work)) == CONNECTION_OK;
        if (!again || pj_stop_sleep(mend->stop, 50 << i, error) != PJ_OK)
            break;
    }
    for (int i = 0; i < width; i++)
        pj_free(arrays[i]);
    if (code == PJ_OK) {
        mend->keys += count;
        mend->rows += rows;
    }
    return code == PJ_OK ? PJ_OK : error->code;
}

/* Rows of one routing key come one after the other; the key is parked with the first that fails, once. A key too
 * long to be remembered is parked with each. */
static int park_once(struct pj_mend *mend, const char *key, const struct pj_error *fault, struct pj_error *error)
{
    if (mend->parked && strcmp(mend->last_parked, key) == 0)
        return PJ_OK;
    if (mend->parked++ >= PJ_PARK_AT_MOST)
        return pj_error_wrap(error, "more than %d keys cannot be written", PJ_PARK_AT_MOST);
    snprintf(mend->last_parked, sizeof mend->last_parked, "%s", key);
    return pj_mend_park(mend->work, mend->mark, mend->projection->name, key, fault, error);
}

/* Halves what fails until the guilty keys stand alone. */
static int chunk(struct pj_mend *mend, bool full, const PGresult *keys, int first, int count, struct pj_error *error)
{
    int code = attempt(mend, full, keys, first, count, error);
    if (code == PJ_OK || !pj_mend_is_key_fault(error))
        return code;
    if (count == 1)
        return park_once(mend, PQgetvalue(keys, first, 0), error, error);
    code = chunk(mend, full, keys, first, count / 2, error);
    return code == PJ_OK ? chunk(mend, full, keys, first + count / 2, count - count / 2, error) : code;
}

static void adapt(struct pj_mend *mend, int count)
{
    int limit = mend->options.chunk ? mend->options.chunk : LARGEST_CHUNK;
    if (mend->options.max_rate && mend->options.max_rate < limit)
        limit = mend->options.max_rate; /* the work of a second */
    uint64_t hold_us = mend->company == PJ_MEND_DAEMON ? HOLD_US : ALONE_US;
    if (mend->held_us > hold_us)
        mend->chunk = count / 2;
    else if (mend->held_us < hold_us / 2 && count == mend->chunk)
        mend->chunk *= 2;
    mend->chunk = mend->chunk < 1 ? 1 : mend->chunk;
    mend->chunk = mend->chunk > limit ? limit : mend->chunk;
}

static int leave_room(struct pj_mend *mend, struct pj_error *error)
{
    bool daemon = mend->company == PJ_MEND_DAEMON;
    uint64_t pause_us = daemon ? 2 * mend->held_us : 0;
    if (mend->options.max_rate) {
        uint64_t due_us = (uint64_t)mend->keys * 1000000 / (uint64_t)mend->options.max_rate;
        uint64_t since_us = pj_clock_monotonic_us() - mend->begun_us;
        if (due_us > since_us && due_us - since_us > pause_us)
            pause_us = due_us - since_us;
    }
    return pj_stop_sleep(mend->stop, (int)(pause_us / 1000) + (daemon ? 1 : 0), error);
}

/* A daemon that starts later waits for a chunk at a time. */
static int ask(struct pj_mend *mend, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(mend->job.session, &result,
                                    "SELECT EXISTS (SELECT FROM pgprojector.daemon WHERE state <> 'stopped' "
                                    "AND heartbeat_at > pg_catalog.clock_timestamp() - interval '10 seconds')",
                                    0, NULL, error);
    if (code == PJ_OK)
        mend->company = PQgetvalue(result, 0, 0)[0] == 't' ? PJ_MEND_DAEMON : PJ_MEND_NO_DAEMON;
    PQclear(result);
    return code;
}

static int begin(struct pj_mend *mend, struct pj_error *error)
{
    mend->chunk = FIRST_CHUNK;
    mend->begun_us = pj_clock_monotonic_us();
    return mend->company == PJ_MEND_ASKS ? ask(mend, error) : PJ_OK;
}

int pj_mend_keys(struct pj_mend *mend, bool full, const PGresult *keys, int first, int count, struct pj_error *error)
{
    int code = mend->begun_us ? PJ_OK : begin(mend, error);
    for (int end = first + count, size; code == PJ_OK && first < end; first += size) {
        size = end - first < mend->chunk ? end - first : mend->chunk;
        code = chunk(mend, full, keys, first, size, error);
        adapt(mend, size);
        if (code == PJ_OK)
            code = leave_room(mend, error);
    }
    return code;
}

/* --------------------------------------------------------------------------------------------------------- cursors */

/* A result's command tag is "MOVE 123". */
static int count_cursor(struct pj_session *session, const char *cursor, int64_t *count, struct pj_error *error)
{
    PGresult *result;
    char *sql = pj_sprintf("MOVE FORWARD ALL IN %s", cursor);
    int code = pj_session_query(session, &result, sql, 0, NULL, error);
    pj_free(sql);
    if (code == PJ_OK)
        *count = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return code == PJ_OK ? pj_session_execf(session, error, "MOVE ABSOLUTE 0 IN %s", cursor) : code;
}

/* While the server looks for the rows. */
static int looking(void *context, struct pj_error *error)
{
    struct pj_mend *mend = context;
    return pj_job_check(&mend->job, mend->work, error);
}

int pj_mend_open_cursor(struct pj_mend *mend, const char *cursor, const char *query, int64_t *count,
                        struct pj_error *error)
{
    struct pj_session *look = mend->job.session;
    struct pj_error ignored;
    int code = pj_session_exec(look,
                               "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem = '128MB'; "
                               "SET LOCAL jit = off",
                               error);
    pj_session_set_tick(look, TICK_MS, looking, mend);
    if (code == PJ_OK)
        code = pj_session_execf(look, error, "DECLARE %s SCROLL CURSOR WITH HOLD FOR %s", cursor, query);
    if (code == PJ_OK)
        code = pj_session_exec(look, "COMMIT", error);
    pj_session_set_tick(look, 0, NULL, NULL);
    if (code == PJ_OK)
        return count_cursor(look, cursor, count, error);
    if (PQtransactionStatus(pj_session_conn(look)) == PQTRANS_INERROR)
        pj_session_exec(look, "ROLLBACK", &ignored);
    return code;
}

/* A page in pieces, so that progress is told while a slow one goes on. */
static int mend_page(struct pj_mend *mend, bool full, const PGresult *page, int64_t before, struct pj_error *error)
{
    int count = PQntuples(page), code = PJ_OK;
    for (int first = 0, size; code == PJ_OK && first < count; first += size) {
        size = mend->chunk > 50 ? mend->chunk : 50;
        size = count - first < size ? count - first : size;
        code = pj_mend_keys(mend, full, page, first, size, error);
        if (code == PJ_OK)
            code = pj_job_advance(&mend->job, before + first + size, error);
    }
    return code;
}

static int mend_pages(struct pj_mend *mend, bool full, const char *cursor, struct pj_error *error)
{
    char *sql = pj_sprintf("FETCH %d FROM %s", PAGE, cursor);
    int code = PJ_OK;
    bool more = true;
    for (int64_t done = 0; code == PJ_OK && more;) {
        PGresult *page;
        code = pj_session_query(mend->job.session, &page, sql, 0, NULL, error);
        more = code == PJ_OK && PQntuples(page) > 0;
        if (more)
            code = mend_page(mend, full, page, done, error);
        done += more ? PQntuples(page) : 0;
        PQclear(page);
    }
    pj_free(sql);
    return code;
}

int pj_mend_cursor(struct pj_mend *mend, const char *phase, bool full, const char *cursor, struct pj_error *error)
{
    int64_t count = 0;
    int code = count_cursor(mend->job.session, cursor, &count, error);
    if (code == PJ_OK && count)
        code = pj_job_phase(&mend->job, phase, count, error);
    if (code == PJ_OK && count)
        code = mend_pages(mend, full, cursor, error);
    if (code == PJ_OK)
        code = pj_session_execf(mend->job.session, error, "CLOSE %s", cursor);
    return code;
}
