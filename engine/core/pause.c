/*
 * See pause.h. Resuming goes in rounds:
 *
 *   1. id := the last entry of the log. Its keys up to there, each once, are recomputed in chunks; then those entries go.
 *      An entry that says "everything", or more keys than COMPARE_FROM, make it one comparison of the whole table instead
 *      (core/rebuild.h), which starts after the id was read and so covers them.
 *   2. Few are left: the checkpoint row is locked, so nothing new comes; the rest is recomputed, the log emptied, the state
 *      set to live, in this one transaction.
 *
 * Entries go only after their keys were recomputed in a committed transaction: whatever is interrupted is done again. Each
 * round's "few" grows after a while, so that it comes to an end under any load. Parked keys are left out: their retry
 * recomputes them.
 */
#include "core/pause.h"

#include "base/mem.h"
#include "core/rebuild.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 1000, COMPARE_FROM = 50000, PATIENT_ROUNDS = 5, KEY_COLUMNS = 32 };

/* ---------------------------------------------------------------------------------------------------------- states */

/* Within a transaction. "" where there is no such projection. */
static int read_state(struct pj_session *session, const char *name, char state[16], struct pj_error *error)
{
    PGresult *result;
    int code =
        pj_session_query(session, &result, "SELECT state FROM pgprojector.projection WHERE name = $1", 1, &name, error);
    bool found = code == PJ_OK && PQntuples(result) == 1;
    snprintf(state, 16, "%s", found ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    if (code != PJ_OK || found)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is no projection \"%.60s\"", name);
    return pj_error_hint(error, "`pgprojector status` lists them");
}

static int set_state(struct pj_session *work, const char *name, const char *state, struct pj_error *error)
{
    const char *params[] = {name, state};
    PGresult *result;
    int code = pj_session_query(
        work, &result,
        "UPDATE pgprojector.projection SET state = $2, since = pg_catalog.clock_timestamp(), reason = NULL "
        "WHERE name = $1",
        2, params, error);
    PQclear(result);
    return code == PJ_OK ? pj_keywork_changed(work, error) : code;
}

static int wrong_state(const char *state, struct pj_error *error)
{
    return pj_error_set(error, PJ_EFAIL, "it is %s", state);
}

/* ----------------------------------------------------------------------------------------------------------- pause */

static int pause_locked(struct pj_session *work, const char *name, bool *changed, struct pj_error *error)
{
    char state[16];
    int code = read_state(work, name, state, error);
    if (code != PJ_OK || strcmp(state, "paused") == 0)
        return code;
    if (strcmp(state, "live") != 0 && strcmp(state, "failing") != 0)
        return wrong_state(state, error);
    *changed = true;
    return set_state(work, name, "paused", error);
}

int pj_pause(struct pj_session *work, const char *name, bool *changed, struct pj_error *error)
{
    pj_lsn lsn;
    *changed = false;
    int code = pj_keywork_begin(work, &lsn, error);
    if (code == PJ_OK)
        code = pause_locked(work, name, changed, error);
    if (code == PJ_OK)
        code = pj_keywork_commit(work, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_keywork_rollback(work);
    return pj_error_wrap(error, "pause %s", name);
}

/* ----------------------------------------------------------------------------------------------------------- a round */

struct dirty {
    char last_id[24];
    int64_t entries;
    bool everything;
};

static int look(struct pj_mend *mend, struct dirty *dirty, struct pj_error *error)
{
    const char *name = mend->projection->name;
    PGresult *result;
    int code = pj_session_query_row(mend->job.session, &result,
                                    "SELECT coalesce(pg_catalog.max(id), 0), pg_catalog.count(*), "
                                    "coalesce(pg_catalog.bool_or(key IS NULL), false) "
                                    "FROM pgprojector.dirty_key WHERE projection = $1",
                                    1, &name, error);
    if (code == PJ_OK) {
        snprintf(dirty->last_id, sizeof dirty->last_id, "%s", PQgetvalue(result, 0, 0));
        dirty->entries = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        dirty->everything = PQgetvalue(result, 0, 2)[0] == 't';
    }
    PQclear(result);
    return code;
}

/*
 * The keys of one width in the log, each once, as columns. Left out: those of parked routing keys, and rows of routing keys
 * that are recomputed as a whole anyway.
 */
static char *keys_sql(const struct pj_projection *projection, bool full, const char *last_id)
{
    struct pj_buf sql = {0};
    struct pj_buf name = {0};
    pj_quote_literal(&name, projection->name);
    pj_buf_puts(&sql, "SELECT DISTINCT ");
    for (int i = 0; i < (full ? projection->nkey : 1); i++)
        pj_buf_printf(&sql, "%sk.key[%d]", i ? ", " : "", i + 1);
    pj_buf_printf(&sql,
                  " FROM pgprojector.dirty_key AS k WHERE k.projection = %s AND k.id <= %s "
                  "AND pg_catalog.cardinality(k.key) = %d AND NOT EXISTS (SELECT FROM pgprojector.dead_letter AS d "
                  "WHERE d.projection = k.projection AND d.key = k.key[1])",
                  pj_buf_text(&name), last_id, full ? projection->nkey : 1);
    if (full)
        pj_buf_printf(&sql,
                      " AND k.key[1] NOT IN (SELECT w.key[1] FROM pgprojector.dirty_key AS w WHERE w.projection = %s "
                      "AND w.id <= %s AND pg_catalog.cardinality(w.key) = 1)",
                      pj_buf_text(&name), last_id);
    pj_buf_puts(&sql, " ORDER BY 1");
    pj_buf_free(&name);
    return pj_buf_take(&sql);
}

static int mend_width(struct pj_mend *mend, bool full, const char *last_id, struct pj_error *error)
{
    int64_t count;
    char *sql = keys_sql(mend->projection, full, last_id);
    int code = pj_mend_open_cursor(mend, "pgprojector_dirty", sql, &count, error);
    pj_free(sql);
    return code == PJ_OK ? pj_mend_cursor(mend, "catching up", full, "pgprojector_dirty", error) : code;
}

static int empty_log(struct pj_session *session, const char *name, const char *last_id, struct pj_error *error)
{
    const char *params[] = {name, last_id};
    PGresult *result;
    int code = pj_session_query(session, &result,
                                "DELETE FROM pgprojector.dirty_key WHERE projection = $1 AND id <= $2::bigint", 2,
                                params, error);
    PQclear(result);
    return code;
}

static int round_of(struct pj_mend *mend, const struct dirty *dirty, struct pj_error *error)
{
    int64_t differing;
    int code;
    if (dirty->everything || dirty->entries > COMPARE_FROM) {
        code = pj_rebuild_pass(mend, &differing, error);
    } else {
        code = mend_width(mend, false, dirty->last_id, error);
        if (code == PJ_OK && mend->projection->nkey > 1)
            code = mend_width(mend, true, dirty->last_id, error);
    }
    if (code == PJ_OK)
        code = empty_log(mend->job.session, mend->projection->name, dirty->last_id, error);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- the last one */

static int recompute_rest(struct pj_mend *mend, bool full, struct pj_error *error)
{
    char *sql = keys_sql(mend->projection, full, "9223372036854775807");
    PGresult *keys;
    int code = pj_session_query(mend->work, &keys, sql, 0, NULL, error);
    pj_free(sql);
    if (code == PJ_OK && PQntuples(keys) > 0) {
        char *arrays[KEY_COLUMNS];
        int width = full ? mend->projection->nkey : 1;
        pj_mend_arrays(keys, 0, PQntuples(keys), width, arrays);
        code = pj_keywork_recompute(mend->work, mend->projection, full, (const char *const *)arrays, NULL, error);
        for (int i = 0; i < width; i++)
            pj_free(arrays[i]);
    }
    PQclear(keys);
    return code;
}

/* Within the transaction: whether as few are left as it was thought. */
static int few_left(struct pj_mend *mend, int64_t few, bool *yes, struct pj_error *error)
{
    const char *name = mend->projection->name;
    PGresult *result;
    int code = pj_session_query_row(mend->work, &result,
                                    "SELECT pg_catalog.count(*), coalesce(pg_catalog.bool_or(key IS NULL), false) "
                                    "FROM pgprojector.dirty_key WHERE projection = $1",
                                    1, &name, error);
    *yes = code == PJ_OK && strtoll(PQgetvalue(result, 0, 0), NULL, 10) <= few && PQgetvalue(result, 0, 1)[0] == 'f';
    PQclear(result);
    return code;
}

static int go_live(struct pj_mend *mend, struct pj_error *error)
{
    const char *name = mend->projection->name;
    int code = recompute_rest(mend, false, error);
    if (code == PJ_OK && mend->projection->nkey > 1)
        code = recompute_rest(mend, true, error);
    if (code == PJ_OK)
        code = empty_log(mend->work, name, "9223372036854775807", error);
    if (code == PJ_OK)
        code = set_state(mend->work, name, "live", error);
    return code == PJ_OK ? pj_keywork_commit(mend->work, error) : code;
}

/* *done: false where there were too many, or a key failed, which a further round then finds and parks. */
static int finish(struct pj_mend *mend, int64_t few, bool *done, struct pj_error *error)
{
    pj_lsn lsn;
    *done = false;
    int code = pj_keywork_begin(mend->work, &lsn, error);
    if (code != PJ_OK)
        return code;
    code = few_left(mend, few, done, error);
    if (code == PJ_OK && *done)
        code = go_live(mend, error);
    if (code == PJ_OK && *done)
        return PJ_OK;
    pj_keywork_rollback(mend->work);
    *done = false;
    return code != PJ_OK && pj_mend_is_key_fault(error) ? PJ_OK : code;
}

/* ---------------------------------------------------------------------------------------------------------- resume */

/* A round before each attempt to finish: it leaves little to the last transaction, and parks the keys that fail. */
static int resume(struct pj_mend *mend, struct pj_error *error)
{
    int64_t few = FEW;
    bool done = false;
    int code = PJ_OK;
    for (int round = 0; code == PJ_OK && !done; round++) {
        struct dirty dirty;
        few = round < PATIENT_ROUNDS ? FEW : 2 * few;
        code = look(mend, &dirty, error);
        if (code == PJ_OK && dirty.entries)
            code = round_of(mend, &dirty, error);
        if (code == PJ_OK)
            code = finish(mend, few, &done, error);
    }
    return code;
}

int pj_resume(struct pj_mend *mend, bool *changed, struct pj_error *error)
{
    const char *name = mend->projection->name;
    char state[16];
    *changed = false;
    int code = read_state(mend->job.session, name, state, error);
    if (code == PJ_OK && strcmp(state, "live") == 0)
        return PJ_OK;
    if (code == PJ_OK && strcmp(state, "paused") != 0)
        code = wrong_state(state, error);
    if (code == PJ_OK)
        code = pj_job_begin(&mend->job, "resume", name, error);
    if (code == PJ_OK)
        code = resume(mend, error);
    *changed = code == PJ_OK;
    pj_job_end(&mend->job);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "resume %s", name);
}
