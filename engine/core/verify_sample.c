/*
 * Samples: which rows are compared where not all are. Half of the keys are drawn from either side, for what is missing
 * shows on one of them only; then all rows of these keys are compared, on both.
 *
 * TABLESAMPLE SYSTEM reads a few pages, drawn anew each time, so the cost follows the sample and not the table. Rows of
 * one page come together: of more pages than would do, a random part of the rows is taken. How many rows there are is
 * the planner's word, which costs nothing; tables that are small by it are counted.
 */
#include "base/mem.h"
#include "core/textarray.h"
#include "core/verify_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* So many rows' pages are read at least, and tables of fewer rows read whole. */
enum { LEAST_ROWS = 4000 };

static int query_text(struct pj_session *session, char *sql, char **text, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(session, &result, sql, 0, NULL, error);
    pj_free(sql);
    *text =
        code == PJ_OK && PQntuples(result) && !PQgetisnull(result, 0, 0) ? pj_strdup(PQgetvalue(result, 0, 0)) : NULL;
    PQclear(result);
    return code;
}

int pj_sample_size(struct pj_session *session, const char *from, int64_t *rows, struct pj_error *error)
{
    char *text;
    *rows = 0;
    int code = query_text(session, pj_sprintf("EXPLAIN SELECT FROM %s", from), &text, error);
    if (code != PJ_OK)
        return code;
    const char *at = text ? strstr(text, " rows=") : NULL;
    *rows = at ? strtoll(at + strlen(" rows="), NULL, 10) : 0;
    pj_free(text);
    if (*rows > LEAST_ROWS)
        return PJ_OK;
    code = query_text(session, pj_sprintf("SELECT pg_catalog.count(*) FROM %s", from), &text, error);
    *rows = text ? strtoll(text, NULL, 10) : 0;
    pj_free(text);
    return code;
}

void pj_sample_put(struct pj_buf *sql, const char *columns, const char *from, int64_t wanted, int64_t rows)
{
    int64_t read = 2 * wanted > LEAST_ROWS ? 2 * wanted : LEAST_ROWS;
    pj_buf_printf(sql, "(SELECT %s FROM %s", columns, from);
    if (read < rows)
        pj_buf_printf(sql, " TABLESAMPLE SYSTEM (%.6f)", 100.0 * (double)read / (double)rows);
    pj_buf_printf(sql, " ORDER BY pg_catalog.random() LIMIT %" PRId64 ")", wanted);
}

/* ---------------------------------------------------------------------------------------------------------- mirrors */

static int draw_keys(struct pj_session *session, const struct pj_table *table, const char *from, int64_t wanted,
                     int64_t rows, struct pj_buf *arrays, struct pj_error *error)
{
    struct pj_buf columns = {0}, sql = {0};
    for (int i = 0; i < table->nkey; i++) {
        pj_buf_puts(&columns, i ? ", " : "");
        pj_quote_identifier(&columns, table->columns[table->key[i]].name);
        pj_buf_puts(&columns, "::pg_catalog.text");
    }
    pj_sample_put(&sql, pj_buf_text(&columns), from, wanted, rows);
    PGresult *result;
    int code = pj_session_query(session, &result, pj_buf_text(&sql), 0, NULL, error);
    for (int row = 0; code == PJ_OK && row < PQntuples(result); row++)
        for (int i = 0; i < table->nkey; i++)
            pj_textarray_add(&arrays[i], PQgetvalue(result, row, i));
    PQclear(result);
    pj_buf_free(&columns);
    pj_buf_free(&sql);
    return code;
}

int pj_sample_mirror(struct pj_session *write, struct pj_session *read, const struct pj_table *table, int64_t sample,
                     char **condition, int64_t *rows, struct pj_error *error)
{
    int64_t there = 0, here = 0;
    char *from = pj_verify_source_from(table);
    struct pj_buf *arrays = pj_alloc(sizeof *arrays * (size_t)(table->nkey + 1));
    const char **texts = pj_alloc(sizeof *texts * (size_t)(table->nkey + 1));
    *condition = NULL;
    for (int i = 0; i < table->nkey; i++)
        pj_textarray_begin(&arrays[i]);
    int code = pj_sample_size(write, from, &there, error);
    if (code == PJ_OK)
        code = pj_sample_size(read, table->mirror_sql, &here, error);
    bool all = there <= sample && here <= sample;
    if (code == PJ_OK && !all)
        code = draw_keys(write, table, from, sample / 2 + sample % 2, there, arrays, error);
    if (code == PJ_OK && !all)
        code = draw_keys(read, table, table->mirror_sql, sample / 2, here, arrays, error);
    for (int i = 0; i < table->nkey; i++) {
        pj_textarray_end(&arrays[i]);
        texts[i] = pj_buf_text(&arrays[i]);
    }
    if (code == PJ_OK && !all)
        *condition = pj_mirror_key_condition(table, table->key, table->nkey, texts, "");
    for (int i = 0; i < table->nkey; i++)
        pj_buf_free(&arrays[i]);
    pj_free(arrays);
    pj_free(texts);
    pj_free(from);
    *rows = there;
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- targets */

/* Routing keys of a relation, as texts. */
static int put_routing_keys(struct pj_session *read, struct pj_buf *sql, const char *column, const char *from,
                            int64_t wanted, struct pj_error *error)
{
    int64_t rows;
    struct pj_buf key = {0};
    int code = pj_sample_size(read, from, &rows, error);
    pj_quote_identifier(&key, column);
    pj_buf_puts(&key, "::pg_catalog.text AS key");
    pj_buf_puts(sql, sql->length ? " UNION ALL " : "");
    pj_sample_put(sql, pj_buf_text(&key), from, wanted, rows);
    pj_buf_free(&key);
    return code;
}

static int put_drawn(struct pj_session *read, const struct pj_projection *projection, int64_t sample,
                     struct pj_buf *sql, struct pj_error *error)
{
    int64_t each = sample / 2 / (projection->nsources ? projection->nsources : 1) + 1;
    int code = put_routing_keys(read, sql, projection->module->key[0], projection->target_sql, sample / 2 + 1, error);
    for (int i = 0; code == PJ_OK && i < projection->nsources; i++) {
        const char *column = pj_projection_routing_column(projection, i);
        if (column)
            code = put_routing_keys(read, sql, column, projection->sources[i].table->mirror_sql, each, error);
    }
    return code;
}

/* A key may have many rows: of those drawn, so many are taken in random order that their rows are about the sample. */
int pj_sample_projection(struct pj_session *read, const struct pj_projection *projection, int64_t sample, char **keys,
                         int64_t *rows, struct pj_error *error)
{
    *keys = NULL;
    int code = pj_sample_size(read, projection->target_sql, rows, error);
    if (code != PJ_OK || *rows <= sample)
        return code;
    struct pj_buf drawn = {0}, key = {0};
    code = put_drawn(read, projection, sample, &drawn, error);
    pj_quote_identifier(&key, projection->module->key[0]);
    if (code == PJ_OK)
        code = query_text(
            read,
            pj_sprintf("WITH drawn AS (SELECT DISTINCT key FROM (%s) AS k WHERE key IS NOT NULL), sized AS (SELECT "
                       "key, (SELECT pg_catalog.count(*) FROM %s AS t WHERE t.%s = drawn.key::%s) AS size FROM drawn), "
                       "summed AS (SELECT key, size, pg_catalog.sum(greatest(size, 1)) OVER (ORDER BY "
                       "pg_catalog.random()) AS upto FROM sized) SELECT coalesce(pg_catalog.array_agg(key), '{}') "
                       "FROM summed WHERE upto - greatest(size, 1) < %" PRId64,
                       pj_buf_text(&drawn), projection->target_sql, pj_buf_text(&key), projection->key_types[0],
                       sample),
            keys, error);
    pj_buf_free(&drawn);
    pj_buf_free(&key);
    return code;
}
