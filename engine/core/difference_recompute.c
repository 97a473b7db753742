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

/* Where keys are more than this, a pass over everything is not much slower, and bounded. */
enum { MOST_KEYS = 20000 };

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
        int code = pj_difference_rows_exist(read, table, &mended, error);
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
                           MOST_KEYS, keys->data);
    int code = pj_session_query_row(read, result, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

static int recompute_all(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                         struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(read, &result, projection->recompute_all_sql, 0, NULL, error);
    if (code == PJ_OK)
        *rows = strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return code == PJ_OK ? pj_chainwork_all(read, projection, error) : code;
}

static int recompute_keys(struct pj_session *read, const struct pj_projection *projection, const struct pj_buf *keys,
                          int64_t *rows, struct pj_error *error)
{
    PGresult *result;
    int code = read_keys(read, keys, &result, error);
    if (code != PJ_OK)
        return code;
    const char *params[] = {PQgetvalue(result, 0, 1)};
    if (PQgetisnull(result, 0, 1) && strcmp(PQgetvalue(result, 0, 0), "0") != 0)
        code = recompute_all(read, projection, rows, error);
    else if (!PQgetisnull(result, 0, 1))
        code = pj_keywork_recompute(read, projection, false, params, rows, error);
    PQclear(result);
    return code;
}

int pj_difference_recompute(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                            struct pj_error *error)
{
    struct pj_buf keys = {0};
    bool all;
    *rows = 0;
    if (!projection->target_sql)
        return PJ_OK;
    int code = gather(read, projection, &keys, &all, error);
    if (code == PJ_OK && all)
        code = recompute_all(read, projection, rows, error);
    else if (code == PJ_OK && keys.length)
        code = recompute_keys(read, projection, &keys, rows, error);
    pj_buf_free(&keys);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "recompute projection %s", projection->name);
}
