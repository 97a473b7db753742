/*
 * Targets against their definitions: one query in the read database, which returns only what differs. Rows meet by
 * their key columns' "=" (within one database that is sound: keys are not NULL, and the primary key's own notion of
 * equality is meant), and are compared as text, for 1.0 = 1.00 and 0 = -0.
 *
 * The columns compared are the definition's. A column somebody added to the target is not the projection's business;
 * one that is missing there is an error that names itself.
 */
#include "core/verify.h"

#include "base/mem.h"
#include "core/comparison.h"
#include "core/projection_sql.h"
#include "core/verify_internal.h"

#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------------- shared parts */

void pj_verify_tally_add(struct pj_verify_tally *tally, const char *fault, const char *key, const char *const *values)
{
    const struct pj_verify_options *options = tally->options;
    struct pj_difference difference = {tally->kind, tally->name, fault, key, values, tally->nvalues};
    tally->differences++;
    if (key && tally->shown < options->keys_shown && options->report) {
        tally->shown++;
        options->report(options->context, &difference);
    }
    if (values && tally->handed < options->keys_wanted && options->differs) {
        tally->handed++;
        options->differs(options->context, &difference);
    }
}

void pj_verify_tally_add_row(struct pj_verify_tally *tally, const char *fault, const PGresult *rows, int row, int field)
{
    const char *values[PJ_VERIFY_KEY_COLUMNS];
    for (int i = 0; i < tally->nvalues; i++)
        values[i] = PQgetvalue(rows, row, field + 1 + i);
    pj_verify_tally_add(tally, fault, PQgetvalue(rows, row, field), values);
}

void pj_verify_tally_close(const struct pj_verify_tally *tally, int64_t rows, int64_t of)
{
    const struct pj_verify_options *options = tally->options;
    if (options->compared)
        options->compared(options->context, tally->kind, tally->name, rows, of, tally->differences);
}

void pj_verify_key_json(struct pj_buf *sql, const char *prefix, const char *const *names, int count)
{
    pj_buf_puts(sql, "pg_catalog.json_build_object(");
    for (int i = 0; i < count; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        pj_quote_literal(sql, names[i]);
        pj_buf_printf(sql, ", %s", prefix);
        pj_quote_identifier(sql, names[i]);
    }
    pj_buf_puts(sql, ")::pg_catalog.text");
}

void pj_verify_key_texts(struct pj_buf *sql, const char *prefix, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        pj_buf_printf(sql, ", %s", prefix);
        pj_quote_identifier(sql, names[i]);
        pj_buf_puts(sql, "::pg_catalog.text");
    }
}

void pj_verify_row_text(struct pj_buf *sql, const char *prefix, const char *const *names, int count)
{
    pj_buf_puts(sql, "ROW(");
    for (int i = 0; i < count; i++) {
        pj_buf_printf(sql, "%s%s", i ? ", " : "", prefix);
        pj_quote_identifier(sql, names[i]);
    }
    pj_buf_puts(sql, ")::pg_catalog.text");
}

/* ----------------------------------------------------------------------------------------------------- projections */

/* The definition's columns, without running it. */
/* What stands behind FROM for the target, or for its rows of the keys drawn ($1). pj_free. */
static char *target_from(const struct pj_projection *projection, bool sampled)
{
    struct pj_buf from = {0};
    pj_buf_puts(&from, projection->target_sql);
    if (sampled) {
        pj_buf_puts(&from, " AS pj_t WHERE pj_t.");
        pj_quote_identifier(&from, projection->module->key[0]);
        pj_buf_printf(&from, " IN (SELECT pj_u.a1::%s FROM pg_catalog.unnest($1::%s[]) AS pj_u (a1))",
                      projection->key_types[0], pj_kind_sql(projection->key_kinds[0]));
    }
    return pj_buf_take(&from);
}

static void put_join(struct pj_buf *sql, const struct pj_projection *projection, bool sampled)
{
    char *from = target_from(projection, sampled);
    pj_buf_printf(sql,
                  " FROM (SELECT true AS \"pgprojector here\", * FROM %s) AS t FULL JOIN "
                  "(SELECT true AS \"pgprojector here\", * FROM (%s) AS definition) AS d ON ",
                  from, sampled ? projection->wanted_sql : projection->definition_sql);
    pj_free(from);
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, i ? " AND t." : "t.");
        pj_quote_identifier(sql, projection->module->key[i]);
        pj_buf_puts(sql, " = d.");
        pj_quote_identifier(sql, projection->module->key[i]);
    }
}

/* Dead letters show their last good rows, and may differ. */
static void put_not_parked(struct pj_buf *sql, const struct pj_projection *projection)
{
    pj_buf_puts(sql, " AND NOT EXISTS (SELECT FROM pgprojector.dead_letter AS parked WHERE parked.projection = ");
    pj_quote_literal(sql, projection->name);
    pj_buf_puts(sql, " AND parked.key = coalesce(t.");
    pj_quote_identifier(sql, projection->module->key[0]);
    pj_buf_puts(sql, ", d.");
    pj_quote_identifier(sql, projection->module->key[0]);
    pj_buf_puts(sql, ")::pg_catalog.text)");
}

/*
 * The differing rows, ordered so that the same difference is always shown the same way; each carries the number of all
 * of them, so that only as many come over as are shown.
 */
static void put_comparison(struct pj_buf *sql, const struct pj_projection *projection, const char *const *names,
                           int count, int limit, bool sampled)
{
    static const char missing[] = "t.\"pgprojector here\" IS NULL", extra[] = "d.\"pgprojector here\" IS NULL";
    const char *const *key = projection->module->key;
    pj_buf_puts(sql,
                "SELECT pg_catalog.count(*) OVER (), pg_catalog.count(*) FILTER (WHERE fault = 'missing') OVER (), "
                "* FROM (SELECT CASE WHEN ");
    pj_buf_printf(sql, "%s THEN 'missing' WHEN %s THEN 'extra' ELSE 'differs' END AS fault, CASE WHEN %s THEN ",
                  missing, extra, missing);
    pj_verify_key_json(sql, "d.", key, projection->nkey);
    pj_buf_puts(sql, " ELSE ");
    pj_verify_key_json(sql, "t.", key, projection->nkey);
    pj_buf_puts(sql, " END AS key");
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, ", coalesce(t.");
        pj_quote_identifier(sql, key[i]);
        pj_buf_puts(sql, ", d.");
        pj_quote_identifier(sql, key[i]);
        pj_buf_printf(sql, ")::pg_catalog.text AS key_%d", i);
    }
    put_join(sql, projection, sampled);
    pj_buf_printf(sql, " WHERE (%s OR %s OR ", missing, extra);
    pj_verify_row_text(sql, "t.", names, count);
    pj_buf_puts(sql, " <> ");
    pj_verify_row_text(sql, "d.", names, count);
    /* text's own "=" is by bytes under every deterministic collation; "C" makes sure */
    pj_buf_puts(sql, " COLLATE \"C\")");
    put_not_parked(sql, projection);
    pj_buf_printf(sql, ") AS difference ORDER BY key COLLATE \"C\", fault LIMIT %d", limit);
}

/* `keys`: those drawn, as an array literal; NULL: all. */
static int compare(struct pj_session *read, const struct pj_projection *projection, const char *keys,
                   struct pj_verify_tally *tally, int64_t *missing, struct pj_error *error)
{
    PGresult *columns, *rows;
    int code = pj_comparison_describe(read, projection->definition_sql, true, &columns, error);
    if (code != PJ_OK)
        return code;
    const char **names = pj_comparison_names(columns);
    struct pj_buf sql = {0};
    const struct pj_verify_options *options = tally->options;
    int limit = options->keys_shown > options->keys_wanted ? options->keys_shown : options->keys_wanted;
    limit = limit > 0 ? limit : 1;
    put_comparison(&sql, projection, names, PQnfields(columns), limit, keys != NULL);
    code = pj_session_query(read, &rows, pj_buf_text(&sql), keys ? 1 : 0, &keys, error);
    pj_buf_free(&sql);
    pj_free(names);
    PQclear(columns);
    if (code != PJ_OK)
        return code;
    for (int i = 0; i < PQntuples(rows); i++)
        pj_verify_tally_add_row(tally, PQgetvalue(rows, i, 2), rows, i, 3);
    *missing = PQntuples(rows) ? strtoll(PQgetvalue(rows, 0, 1), NULL, 10) : 0;
    tally->differences = PQntuples(rows) ? strtoll(PQgetvalue(rows, 0, 0), NULL, 10) : 0;
    PQclear(rows);
    return PJ_OK;
}

static int count_target(struct pj_session *read, const struct pj_projection *projection, const char *keys,
                        int64_t *count, struct pj_error *error)
{
    char *from = target_from(projection, keys != NULL), *sql = pj_sprintf("SELECT pg_catalog.count(*) FROM %s", from);
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, keys ? 1 : 0, &keys, error);
    pj_free(sql);
    pj_free(from);
    if (code == PJ_OK)
        *count = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return code;
}

int pj_verify_projection(struct pj_session *read, const struct pj_projection *projection,
                         const struct pj_verify_options *options, int64_t *differences, struct pj_error *error)
{
    pj_error_clear(error);
    *differences = 0;
    if (!projection->module->target)
        return PJ_OK;
    struct pj_verify_tally tally = {
        .options = options, .kind = "projection", .name = projection->name, .nvalues = projection->nkey};
    int64_t rows = 0, missing = 0, total = 0;
    char *keys = NULL;
    int code = options->sample ? pj_sample_projection(read, projection, options->sample, &keys, &total, error) : PJ_OK;
    if (code == PJ_OK)
        code = compare(read, projection, keys, &tally, &missing, error);
    if (code == PJ_OK)
        code = count_target(read, projection, keys, &rows, error);
    total = keys ? total : 0;
    pj_free(keys);
    if (code != PJ_OK)
        return pj_error_wrap(error, "compare projection %s", projection->name);
    *differences = tally.differences;
    pj_verify_tally_close(&tally, rows + missing, total);
    return PJ_OK;
}
