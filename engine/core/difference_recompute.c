/*
 * The projections' rows that depend on mended rows. A projection's source names the column that carries its routing
 * key; the keys that mended rows carry, before and after, are all that can have changed. Where they are many, or a
 * source has no such column, the whole target is made equal to its definition: one pass, which writes only rows that
 * differ.
 */
#include "core/difference.h"

#include "base/mem.h"
#include "core/chainwork.h"
#include "core/difference_internal.h"
#include "core/keywork.h"

#include <stdlib.h>
#include <string.h>

static void put_keys_of(struct pj_buf *sql, const struct pj_table *table, const char *column, enum pj_rows_kept which)
{
    pj_buf_puts(sql, sql->length ? " UNION SELECT " : "SELECT ");
    pj_quote_identifier(sql, column);
    pj_buf_puts(sql, "::pg_catalog.text AS key FROM ");
    pj_difference_rows_name(sql, table, which);
}

/* Gathers what gives the keys; *all: no keys will do. */
static int gather(struct pj_session *read, const struct pj_projection *projection, struct pj_buf *keys, bool *all,
                  struct pj_error *error)
{
    *all = false;
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_table *table = projection->sources[i].table;
        bool mended;
        if (!table)
            continue;
        int code = pj_difference_rows_exist(read, table, PJ_ROWS_COME, &mended, error);
        if (code != PJ_OK)
            return code;
        const char *column = pj_projection_routing_column(projection, i);
        if (!mended)
            continue;
        *all = *all || !column;
        for (enum pj_rows_kept which = PJ_ROWS_GONE; column && which <= PJ_ROWS_COME; which++)
            put_keys_of(keys, table, column, which);
    }
    return PJ_OK;
}

static int read_keys(struct pj_session *read, const struct pj_buf *keys, PGresult **result, struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT pg_catalog.count(*), CASE WHEN pg_catalog.count(*) <= %d "
                           "THEN pg_catalog.array_agg(key)::pg_catalog.text END "
                           "FROM (%s) AS keys WHERE key IS NOT NULL",
                           PJ_DIFFERENCE_MOST_KEYS, keys->data);
    int code = pj_session_query_row(read, result, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

static int count_written(struct pj_session *read, const char *sql, int64_t *rows, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 0, NULL, error);
    if (code == PJ_OK)
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return code;
}

/* What differs becomes a table of its own first. */
static int recompute_in_steps(struct pj_session *read, const struct pj_projection *projection, const char *differing,
                              int count, const char *const *params, int64_t *rows, struct pj_error *error)
{
    PGresult *result;
    char *create = pj_sprintf("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS %s", PJ_DIFFERING_TABLE, differing);
    int code = pj_session_query(read, &result, create, count, params, error);
    PQclear(result);
    pj_free(create);
    if (code == PJ_OK)
        code = pj_session_exec(read, projection->differing_delete_sql, error);
    if (code == PJ_OK)
        code = count_written(read, projection->differing_insert_sql, rows, error);
    return code == PJ_OK ? pj_session_exec(read, "DROP TABLE " PJ_DIFFERING_TABLE, error) : code;
}

static int recompute_all(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                         struct pj_error *error)
{
    int code = recompute_in_steps(read, projection, projection->differing_all_sql, 0, NULL, rows, error);
    return code == PJ_OK ? pj_chainwork_all(read, projection, error) : code;
}

/* Those who are chained on the table want to know of its rows. */
static int recompute_keys(struct pj_session *read, const struct pj_projection *projection,
                          const struct pj_difference_keys *keys, int64_t *rows, struct pj_error *error)
{
    const char *params[] = {keys->keys};
    if (!keys->many || projection->nchained)
        return pj_keywork_recompute(read, projection, false, params, rows, error);
    return recompute_in_steps(read, projection, projection->differing_keys_sql, 1, params, rows, error);
}

/* The planner's estimate of a statement: "… (cost=0.43..1234.56 rows=…". */
static int estimate(struct pj_session *read, const char *sql, int count, const char *const *params, double *cost,
                    struct pj_error *error)
{
    char *text = pj_sprintf("EXPLAIN %s", sql);
    PGresult *result;
    int code = pj_session_query(read, &result, text, count, params, error);
    const char *at = code == PJ_OK && PQntuples(result) ? strstr(PQgetvalue(result, 0, 0), "..") : NULL;
    *cost = at ? strtod(at + 2, NULL) : 0;
    PQclear(result);
    pj_free(text);
    return code;
}

/*
 * Rows of a key are looked up one by one, by index, and keys with many rows are the ones most likely to be among those
 * touched; a pass over everything reads whole tables, in their order. Which is the quicker way the planner knows, but
 * for the number of keys, which it takes for 200 where there are more. (7,000 of 50,000 conversations, with three
 * quarters of all messages: by key 6.4 s, all 1.3 s.)
 */
int pj_difference_choose(struct pj_session *read, const struct pj_projection *projection,
                         struct pj_difference_keys *keys, int64_t count, struct pj_error *error)
{
    enum { PLANNERS_GUESS = 200 };
    const char *params[] = {keys->keys};
    double by_key = 0, whole = 0;
    keys->many = count > PLANNERS_GUESS;
    if (keys->all || !keys->many)
        return PJ_OK;
    int code = estimate(read, projection->recompute_routing_sql, 1, params, &by_key, error);
    if (code == PJ_OK)
        code = estimate(read, projection->recompute_all_sql, 0, NULL, &whole, error);
    if (code != PJ_OK || by_key * (double)count / PLANNERS_GUESS <= whole)
        return code;
    keys->all = true;
    pj_free(keys->keys);
    keys->keys = NULL;
    return PJ_OK;
}

static int touched_keys(struct pj_session *read, const struct pj_buf *keys, struct pj_difference_keys *touched,
                        int64_t *count, struct pj_error *error)
{
    PGresult *result;
    int code = read_keys(read, keys, &result, error);
    if (code != PJ_OK)
        return code;
    *count = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    touched->all = *count > 0 && PQgetisnull(result, 0, 1);
    if (*count > 0 && !touched->all)
        touched->keys = pj_strdup(PQgetvalue(result, 0, 1));
    PQclear(result);
    return PJ_OK;
}

/* *count: how many they are. */
static int find_touched(struct pj_session *read, const struct pj_projection *projection,
                        struct pj_difference_keys *touched, int64_t *count, struct pj_error *error)
{
    struct pj_buf keys = {0};
    *touched = (struct pj_difference_keys){0};
    *count = 0;
    if (!projection->target_sql)
        return PJ_OK;
    int code = gather(read, projection, &keys, &touched->all, error);
    if (code == PJ_OK && !touched->all && keys.length)
        code = touched_keys(read, &keys, touched, count, error);
    pj_buf_free(&keys);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "gather keys of projection %s", projection->name);
}

int pj_difference_touched_keys(struct pj_session *read, const struct pj_projection *projection,
                               struct pj_difference_keys *touched, struct pj_error *error)
{
    int64_t count;
    return find_touched(read, projection, touched, &count, error);
}

int pj_difference_touched(struct pj_session *read, const struct pj_projection *projection,
                          struct pj_difference_keys *touched, struct pj_error *error)
{
    int64_t count;
    int code = find_touched(read, projection, touched, &count, error);
    return code == PJ_OK && touched->keys ? pj_difference_choose(read, projection, touched, count, error) : code;
}

int pj_difference_recompute_keys(struct pj_session *read, const struct pj_projection *projection,
                                 const struct pj_difference_keys *keys, int64_t *rows, struct pj_error *error)
{
    int code = PJ_OK;
    *rows = 0;
    if (keys->all)
        code = recompute_all(read, projection, rows, error);
    else if (keys->keys)
        code = recompute_keys(read, projection, keys, rows, error);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "recompute projection %s", projection->name);
}

int pj_difference_recompute(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                            struct pj_error *error)
{
    struct pj_difference_keys touched;
    *rows = 0;
    int code = pj_difference_touched(read, projection, &touched, error);
    if (code == PJ_OK)
        code = pj_difference_recompute_keys(read, projection, &touched, rows, error);
    pj_free(touched.keys);
    return code;
}
