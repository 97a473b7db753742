/*
 * See comparison.h. Definition and table are joined by the key, and rows compared by their binary image, as the
 * recomputation compares them: a row that differs in no more than the form of a number (1.0, 1.00) differs.
 */
#include "core/comparison.h"

#include "base/mem.h"

static void put_names(struct pj_buf *sql, const char *format, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        struct pj_buf name = {0};
        pj_quote_identifier(&name, names[i]);
        pj_buf_puts(sql, i ? ", " : "");
        for (const char *at = format; *at; at++) {
            if (*at == '%')
                pj_buf_puts(sql, pj_buf_text(&name));
            else
                pj_buf_put(sql, at, 1);
        }
        pj_buf_free(&name);
    }
}

/* Within each side of the join, so that what is left out is not computed either. A constant array is hashed. Keys that
 * are equal to their type count as the same, as they do where they are recomputed. */
static void put_not_given(struct pj_buf *sql, const struct pj_projection *projection, const char *alias)
{
    pj_buf_printf(sql, " WHERE (%s.", alias);
    pj_quote_identifier(sql, projection->module->key[0]);
    pj_buf_printf(sql, " = ANY ($1::%s[])) IS NOT TRUE", projection->key_types[0]);
}

static void put_join(struct pj_buf *sql, const struct pj_projection *projection, bool but_given)
{
    pj_buf_printf(sql, " FROM (SELECT true AS \"pgprojector here\", * FROM %s AS target", projection->target_sql);
    if (but_given)
        put_not_given(sql, projection, "target");
    pj_buf_printf(sql, ") AS t FULL JOIN (SELECT true AS \"pgprojector here\", * FROM (%s) AS definition",
                  projection->definition_sql);
    if (but_given)
        put_not_given(sql, projection, "definition");
    pj_buf_puts(sql, ") AS d ON ");
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, i ? " AND t." : "t.");
        pj_quote_identifier(sql, projection->module->key[i]);
        pj_buf_puts(sql, " = d.");
        pj_quote_identifier(sql, projection->module->key[i]);
    }
}

/* Rows that will be recomputed anyway, for their keys have been noted. */
static void put_not_noted(struct pj_buf *sql, const struct pj_projection *projection)
{
    pj_buf_puts(sql, " AND NOT EXISTS (SELECT FROM pgprojector.dirty_key AS noted WHERE noted.projection = ");
    pj_quote_literal(sql, projection->name);
    pj_buf_puts(sql, " AND (noted.key IS NULL OR noted.key = ARRAY[");
    put_names(sql, "difference.%::pg_catalog.text", projection->module->key, 1);
    pj_buf_puts(sql, "] OR noted.key = ARRAY[");
    put_names(sql, "difference.%::pg_catalog.text", projection->module->key, projection->nkey);
    pj_buf_puts(sql, "]))");
}

static void put_not_parked(struct pj_buf *sql, const struct pj_projection *projection)
{
    pj_buf_puts(sql, " AND NOT EXISTS (SELECT FROM pgprojector.dead_letter AS parked WHERE parked.projection = ");
    pj_quote_literal(sql, projection->name);
    pj_buf_puts(sql, " AND parked.key = difference.");
    pj_quote_identifier(sql, projection->module->key[0]);
    pj_buf_puts(sql, "::pg_catalog.text)");
}

static char *comparison_sql(const struct pj_projection *projection, const char *const *columns, int count,
                            unsigned leave_out)
{
    const char *const *key = projection->module->key;
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "SELECT ");
    put_names(&sql, "%::pg_catalog.text", key, projection->nkey);
    pj_buf_puts(&sql, " FROM (SELECT ");
    put_names(&sql, "coalesce(t.%, d.%) AS %", key, projection->nkey);
    put_join(&sql, projection, leave_out & PJ_COMPARE_BUT_GIVEN);
    pj_buf_puts(&sql, " WHERE t.\"pgprojector here\" IS NULL OR d.\"pgprojector here\" IS NULL OR ROW(");
    put_names(&sql, "t.%", columns, count);
    pj_buf_puts(&sql, ")::record OPERATOR(pg_catalog.*<>) ROW(");
    put_names(&sql, "d.%", columns, count);
    pj_buf_puts(&sql, ")::record) AS difference WHERE true");
    if (leave_out & PJ_COMPARE_BUT_PARKED)
        put_not_parked(&sql, projection);
    if (leave_out & PJ_COMPARE_BUT_NOTED)
        put_not_noted(&sql, projection);
    pj_buf_puts(&sql, " ORDER BY ");
    put_names(&sql, "difference.%", key, projection->nkey);
    return pj_buf_take(&sql);
}

int pj_comparison_describe(struct pj_session *look, const char *relation, bool query, PGresult **columns,
                           struct pj_error *error)
{
    char *sql = pj_sprintf("SELECT * FROM %s%s%s AS pj_shape LIMIT 0", query ? "(" : "", relation, query ? ")" : "");
    int code = pj_session_query(look, columns, sql, 0, NULL, error);
    pj_free(sql);
    return code;
}

const char **pj_comparison_names(const PGresult *columns)
{
    const char **names = pj_alloc(sizeof *names * (size_t)(PQnfields(columns) + 1));
    for (int i = 0; i < PQnfields(columns); i++)
        names[i] = PQfname(columns, i);
    return names;
}

int pj_comparison_sql(struct pj_session *look, const struct pj_projection *projection, unsigned leave_out, char **sql,
                      struct pj_error *error)
{
    PGresult *columns;
    *sql = NULL;
    int code = pj_comparison_describe(look, projection->definition_sql, true, &columns, error);
    if (code != PJ_OK)
        return code;
    const char **names = pj_comparison_names(columns);
    *sql = comparison_sql(projection, names, PQnfields(columns), leave_out);
    pj_free(names);
    PQclear(columns);
    return PJ_OK;
}
