/*
 * See resync_check.h. One snapshot, one projection after the other; what is kept of each is a list of routing keys, of
 * bounded length. A comparison that the server refuses (a definition that fails on some row) tells nothing of the
 * target, which then counts as wrong all over: recomputing it will fail in the same way, where that is dealt with.
 */
#include "core/resync_check.h"

#include "base/mem.h"
#include "core/aside.h"
#include "core/comparison.h"

#include <stdlib.h>
#include <string.h>

struct pj_resync_check {
    const char *read_url;
    const struct pj_setup *setup;
    const struct pj_difference_keys *but; /* of each projection, as what follows */
    struct pj_difference_keys *wrong;
    struct pj_aside aside;
};

/* ------------------------------------------------------------------------------------------------------ comparing */

/* The routing keys of rows that differ, or that they are too many. */
static char *keys_sql(const struct pj_projection *projection, const char *comparison)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "SELECT pg_catalog.count(*), pg_catalog.array_agg(key)::pg_catalog.text FROM (SELECT DISTINCT ");
    pj_quote_identifier(&sql, projection->module->key[0]);
    pj_buf_printf(&sql, " AS key FROM (%s) AS differing LIMIT %d) AS keys", comparison, PJ_DIFFERENCE_MOST_KEYS + 1);
    return pj_buf_take(&sql);
}

static int take_wrong(struct pj_session *session, const struct pj_projection *projection, const PGresult *result,
                      struct pj_difference_keys *wrong, struct pj_error *error)
{
    int64_t count = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    wrong->all = count > PJ_DIFFERENCE_MOST_KEYS;
    if (count == 0 || wrong->all)
        return PJ_OK;
    wrong->keys = pj_strdup(PQgetvalue(result, 0, 1));
    return pj_difference_choose(session, projection, wrong, count, error);
}

static int compare(struct pj_session *session, const struct pj_projection *projection,
                   const struct pj_difference_keys *but, struct pj_difference_keys *wrong, struct pj_error *error)
{
    const char *params[] = {but->keys};
    char *comparison, *sql;
    PGresult *result = NULL;
    int code = pj_comparison_sql(session, projection, PJ_COMPARE_BUT_PARKED | (but->keys ? PJ_COMPARE_BUT_GIVEN : 0),
                                 &comparison, error);
    if (code != PJ_OK)
        return code;
    sql = keys_sql(projection, comparison);
    code = pj_session_query_row(session, &result, sql, but->keys ? 1 : 0, params, error);
    if (code == PJ_OK)
        code = take_wrong(session, projection, result, wrong, error);
    PQclear(result);
    pj_free(sql);
    pj_free(comparison);
    return code;
}

int pj_resync_check_list(struct pj_session *read, const struct pj_projection *projection, PGresult **keys,
                         struct pj_error *error)
{
    char *comparison;
    struct pj_buf sql = {0};
    int code = pj_comparison_sql(read, projection, PJ_COMPARE_BUT_PARKED, &comparison, error);
    if (code != PJ_OK)
        return code;
    pj_buf_puts(&sql, "SELECT DISTINCT ");
    pj_quote_identifier(&sql, projection->module->key[0]);
    pj_buf_printf(&sql, "::pg_catalog.text AS key FROM (%s) AS differing ORDER BY 1 LIMIT %d", comparison,
                  PJ_DIFFERENCE_MOST_KEYS + 1);
    code = pj_session_query(read, keys, sql.data, 0, NULL, error);
    if (code == PJ_OK && PQntuples(*keys) > PJ_DIFFERENCE_MOST_KEYS) {
        PQclear(*keys);
        *keys = NULL;
    }
    pj_buf_free(&sql);
    pj_free(comparison);
    return code;
}

static int begin(struct pj_session *session, struct pj_error *error)
{
    return pj_session_exec(session,
                           "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem = '128MB'; "
                           "SET LOCAL jit = off; SELECT FROM pgprojector.checkpoint; SAVEPOINT pgprojector_check",
                           error);
}

static int compare_all(struct pj_resync_check *check, struct pj_session *session, const struct pj_stop *cancel,
                       struct pj_error *error)
{
    int code = begin(session, error);
    for (int i = 0; code == PJ_OK && i < check->setup->nprojections; i++) {
        if (!check->setup->projections[i].target_sql || check->but[i].all)
            continue;
        code = compare(session, &check->setup->projections[i], &check->but[i], &check->wrong[i], error);
        if (code == PJ_OK || error->retryable || PQstatus(pj_session_conn(session)) != CONNECTION_OK ||
            pj_stop_asked(cancel))
            continue;
        pj_free(check->wrong[i].keys);
        check->wrong[i] = (struct pj_difference_keys){.all = true};
        pj_error_clear(error);
        code = pj_session_exec(session, "ROLLBACK TO SAVEPOINT pgprojector_check", error);
    }
    return code;
}

static void run(void *context, const struct pj_stop *cancel, struct pj_error *error)
{
    struct pj_resync_check *check = context;
    struct pj_session *session;
    struct pj_session_options options = {
        .side = PJ_READ, .url = check->read_url, .purpose = "resync check", .stop = cancel};
    if (pj_session_open(&session, &options, error) == PJ_OK)
        compare_all(check, session, cancel, error);
    pj_session_close(session);
}

/* ----------------------------------------------------------------------------------------------------------- calls */

struct pj_resync_check *pj_resync_check_begin(const char *read_url, const struct pj_setup *setup,
                                              const struct pj_difference_keys *but, struct pj_error *error)
{
    struct pj_resync_check *check = pj_alloc(sizeof *check);
    *check = (struct pj_resync_check){.read_url = read_url, .setup = setup, .but = but, .aside = PJ_ASIDE_NONE};
    check->wrong = pj_alloc(sizeof *check->wrong * (size_t)(setup->nprojections + 1));
    memset(check->wrong, 0, sizeof *check->wrong * (size_t)(setup->nprojections + 1));
    if (pj_aside_begin(&check->aside, run, check, error) == PJ_OK)
        return check;
    pj_resync_check_free(check);
    return NULL;
}

int pj_resync_check_await(struct pj_resync_check *check, const struct pj_stop *stop, struct pj_error *error)
{
    pj_aside_await(&check->aside, NULL, stop);
    if (check->aside.error.code == PJ_OK)
        return PJ_OK;
    *error = check->aside.error;
    return pj_error_wrap(error, "compare targets with their definitions");
}

const struct pj_difference_keys *pj_resync_check_found(const struct pj_resync_check *check, int index)
{
    return &check->wrong[index];
}

void pj_resync_check_free(struct pj_resync_check *check)
{
    if (!check)
        return;
    pj_aside_end(&check->aside);
    for (int i = 0; i < check->setup->nprojections; i++)
        pj_free(check->wrong[i].keys);
    pj_free(check->wrong);
    pj_free(check);
}
