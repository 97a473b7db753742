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
#include "core/verify_internal.h"

#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------------ shared parts
 */

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

void pj_verify_tally_close(const struct pj_verify_tally *tally, int64_t rows)
{
    const struct pj_verify_options *options = tally->options;
    if (options->compared)
        options->compared(options->context, tally->kind, tally->name, rows, tally->differences);
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

/* ------------------------------------------------------------------------------------------------------- projections
 */

/* The definition's columns, without running it. */
static int definition_columns(struct pj_session *read, const struct pj_projection *projection, PGresult **columns,
                              struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT * FROM (%s) AS definition LIMIT 0", projection->definition_sql);
    int code = pj_session_query(read, columns, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

/* The names of a result's columns; they live as long as the result. */
static const char **column_names(const PGresult *result)
{
    const char **names = pj_alloc(sizeof *names * (size_t)(PQnfields(result) + 1));
    for (int i = 0; i < PQnfields(result); i++)
        names[i] = PQfname(result, i);
    return names;
}

static void put_join(struct pj_buf *sql, const struct pj_projection *projection)
{
    pj_buf_printf(sql,
                  " FROM (SELECT true AS \"pgprojector here\", * FROM %s) AS t FULL JOIN "
                  "(SELECT true AS \"pgprojector here\", * FROM (%s) AS definition) AS d ON ",
                  projection->target_sql, projection->definition_sql);
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
                           int count, int limit)
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
    put_join(sql, projection);
    pj_buf_printf(sql, " WHERE (%s OR %s OR ", missing, extra);
    pj_verify_row_text(sql, "t.", names, count);
    pj_buf_puts(sql, " <> ");
    pj_verify_row_text(sql, "d.", names, count);
    /* text's own "=" is by bytes under every deterministic collation; "C" makes sure */
    pj_buf_puts(sql, " COLLATE \"C\")");
    put_not_parked(sql, projection);
    pj_buf_printf(sql, ") AS difference ORDER BY key COLLATE \"C\", fault LIMIT %d", limit);
}

static int compare(struct pj_session *read, const struct pj_projection *projection, struct pj_verify_tally *tally,
                   int64_t *missing, struct pj_error *error)
{
    PGresult *columns, *rows;
    int code = definition_columns(read, projection, &columns, error);
    if (code != PJ_OK)
        return code;
    const char **names = column_names(columns);
    struct pj_buf sql = {0};
    const struct pj_verify_options *options = tally->options;
    int limit = options->keys_shown > options->keys_wanted ? options->keys_shown : options->keys_wanted;
    limit = limit > 0 ? limit : 1;
    put_comparison(&sql, projection, names, PQnfields(columns), limit);
    code = pj_session_query(read, &rows, pj_buf_text(&sql), 0, NULL, error);
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

static int count_target(struct pj_session *read, const struct pj_projection *projection, int64_t *count,
                        struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT pg_catalog.count(*) FROM %s", projection->target_sql);
    PGresult *result;
    int code = pj_session_query_row(read, &result, sql, 0, NULL, error);
    pj_free(sql);
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
    int64_t rows = 0, missing = 0;
    int code = compare(read, projection, &tally, &missing, error);
    if (code == PJ_OK)
        code = count_target(read, projection, &rows, error);
    if (code != PJ_OK)
        return pj_error_wrap(error, "compare projection %s", projection->name);
    *differences = tally.differences;
    pj_verify_tally_close(&tally, rows + missing);
    return PJ_OK;
}
