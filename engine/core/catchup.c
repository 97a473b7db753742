/*
 * See catchup.h. Rounds:
 *
 *   1. id := the last entry of the log. Its keys up to there, each once, are recomputed in chunks; then those entries go.
 *      An entry that says "everything", or more keys than COMPARE_FROM, make it one comparison of the whole table instead
 *      (core/rebuild.h), which starts after the id was read and so covers them.
 *   2. Few are left: the checkpoint row is locked, so nothing new comes; the rest is recomputed, the log emptied, and
 *      whatever makes the projection live is done, in this one transaction.
 *
 * Entries go only after their keys were recomputed in a committed transaction: whatever is interrupted is done again.
 * Each round's "few" grows after a while, so that it comes to an end under any load. From then on the last transaction
 * also takes an entry that says "everything", which each batch may note anew: by a comparison of its own, which the
 * stream waits for. Parked keys are left out: their retry recomputes them.
 */
#include "core/catchup.h"

#include "base/mem.h"
#include "core/comparison.h"
#include "core/rebuild.h"

#include <stdio.h>
#include <stdlib.h>

enum { FEW = 1000, COMPARE_FROM = 50000, PATIENT_ROUNDS = 5, MOST_DOUBLINGS = 40, KEY_COLUMNS = 32, TICK_MS = 300 };

static const char everything[] = "9223372036854775807"; /* an id beyond all others */

/* ---------------------------------------------------------------------------------------------------------- a round */

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
 * The keys of one width in the log, each once, as columns. Left out: those of parked routing keys, and rows of routing
 * keys that are recomputed as a whole anyway.
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

static int recompute_these(struct pj_mend *mend, bool full, const PGresult *keys, struct pj_error *error)
{
    char *arrays[KEY_COLUMNS];
    int width = full ? mend->projection->nkey : 1;
    if (!PQntuples(keys))
        return PJ_OK;
    pj_mend_arrays(keys, 0, PQntuples(keys), width, arrays);
    int code = pj_keywork_recompute(mend->work, mend->projection, full, (const char *const *)arrays, NULL, error);
    for (int i = 0; i < width; i++)
        pj_free(arrays[i]);
    return code;
}

static int recompute_width(struct pj_mend *mend, bool full, struct pj_error *error)
{
    char *sql = keys_sql(mend->projection, full, everything);
    PGresult *keys;
    int code = pj_session_query(mend->work, &keys, sql, 0, NULL, error);
    pj_free(sql);
    if (code == PJ_OK)
        code = recompute_these(mend, full, keys, error);
    PQclear(keys);
    return code;
}

static int recompute_noted(struct pj_mend *mend, struct pj_error *error)
{
    int code = recompute_width(mend, false, error);
    return code == PJ_OK && mend->projection->nkey > 1 ? recompute_width(mend, true, error) : code;
}

static int still_wanted(void *context, struct pj_error *error)
{
    const struct pj_mend *mend = context;
    return pj_job_check(&mend->job, mend->job.session, error);
}

/* The keys of the rows that differ, or one more than `few` of them, with the planner's whole choice for the comparison. */
static int find_differing(struct pj_mend *mend, int64_t few, PGresult **keys, struct pj_error *error)
{
    char *sql = NULL;
    *keys = NULL;
    int code = pj_session_exec(mend->work, PJ_KEYWORK_WIDE "; SET LOCAL work_mem = '128MB'", error);
    if (code == PJ_OK)
        code = pj_comparison_sql(mend->work, mend->projection, PJ_COMPARE_BUT_PARKED, &sql, error);
    if (code == PJ_OK) {
        char *limited = pj_sprintf("%s LIMIT %lld", sql, (long long)few + 1);
        pj_session_set_tick(mend->work, TICK_MS, still_wanted, mend);
        code = pj_session_query(mend->work, keys, limited, 0, NULL, error);
        pj_session_set_tick(mend->work, 0, NULL, NULL);
        pj_free(limited);
    }
    pj_free(sql);
    return code == PJ_OK ? pj_session_exec(mend->work, PJ_KEYWORK_NARROW "; SET LOCAL work_mem TO DEFAULT", error)
                         : code;
}

/* "Everything" is among what was noted, as it may be with each batch. The rounds have left few rows that differ. */
static int recompute_differing(struct pj_mend *mend, int64_t few, bool *done, struct pj_error *error)
{
    PGresult *keys;
    int code = find_differing(mend, few, &keys, error);
    *done = code == PJ_OK && PQntuples(keys) <= few;
    if (*done)
        code = recompute_these(mend, mend->projection->nkey > 1, keys, error);
    PQclear(keys);
    return code;
}

/* Within the transaction: what is left now. */
static int look_again(struct pj_mend *mend, struct dirty *dirty, struct pj_error *error)
{
    const char *name = mend->projection->name;
    PGresult *result;
    int code = pj_session_query_row(mend->work, &result,
                                    "SELECT pg_catalog.count(*), coalesce(pg_catalog.bool_or(key IS NULL), false) "
                                    "FROM pgprojector.dirty_key WHERE projection = $1",
                                    1, &name, error);
    if (code == PJ_OK) {
        dirty->entries = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        dirty->everything = PQgetvalue(result, 0, 1)[0] == 't';
    }
    PQclear(result);
    return code;
}

int64_t pj_catchup_few(int round)
{
    int doublings = round < PATIENT_ROUNDS ? 0 : round - PATIENT_ROUNDS + 1;
    return (int64_t)FEW << (doublings < MOST_DOUBLINGS ? doublings : MOST_DOUBLINGS);
}

int pj_catchup_round(struct pj_mend *mend, struct pj_error *error)
{
    struct dirty dirty;
    int code = look(mend, &dirty, error);
    return code == PJ_OK && dirty.entries ? round_of(mend, &dirty, error) : code;
}

int pj_catchup_is_everything(struct pj_mend *mend, bool *yes, struct pj_error *error)
{
    struct dirty dirty = {.everything = false};
    int code = look_again(mend, &dirty, error);
    *yes = dirty.everything;
    return code;
}

int pj_catchup_rest(struct pj_mend *mend, int64_t few, bool *done, struct pj_error *error)
{
    struct dirty dirty;
    int code = look_again(mend, &dirty, error);
    *done = code == PJ_OK && dirty.entries <= few && (!dirty.everything || few > FEW);
    if (*done)
        code = dirty.everything ? recompute_differing(mend, few, done, error) : recompute_noted(mend, error);
    if (code == PJ_OK && *done)
        code = empty_log(mend->work, mend->projection->name, everything, error);
    *done = *done && code == PJ_OK;
    return code;
}
