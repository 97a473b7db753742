/*
 * The recompute statement: make the target's rows of some keys equal to the definition, writing only rows that differ.
 *
 * For a definition with {keys(…)} it runs the definition once for each key, as a LATERAL subselect in which {keys(a)} is
 * the plain condition "a = the key": each part of the definition then finds its rows by index, whatever the planner
 * believes about the number of keys. (Restricted by "a = ANY ($1)" instead, a definition that joins two grouped parts
 * became a nested loop over both: quadratic, minutes for 150,000 keys.) A definition without {keys(…)} cannot profit
 * from that; it is run once, and its result filtered. The whole table is another statement: one full join. A resync takes
 * that in steps, also for many keys at once.
 *
 * Rows to delete are found by EXCEPT, not by NOT EXISTS: that stays linear where the session has hash joins switched
 * off, as the applying one has. Values are compared as record images (*=, *<>), never by "=" (1.0 = 1.00).
 */
#include "core/projection_sql.h"

#include "base/mem.h"

/* Column lists in many shapes: each name with `format`, in which every %s is the quoted name. */
static void put_columns(struct pj_buf *sql, const char *const *columns, int count, const char *separator,
                        const char *format)
{
    for (int i = 0; i < count; i++) {
        struct pj_buf name = {0};
        pj_quote_identifier(&name, columns[i]);
        pj_buf_puts(sql, i ? separator : "");
        for (const char *at = format; *at; at++) {
            if (*at == '%')
                pj_buf_put(sql, name.data, name.length);
            else
                pj_buf_put(sql, at, 1);
        }
        pj_buf_free(&name);
    }
}

/* The keys as a relation with columns k1, k2 …, each key once by the key's own equality. */
static void put_keys(const struct pj_projection *projection, int nkeys, struct pj_buf *sql)
{
    pj_buf_puts(sql, "(SELECT DISTINCT ");
    for (int i = 0; i < nkeys; i++)
        pj_buf_printf(sql, "%spj_u.a%d::%s AS k%d", i ? ", " : "", i + 1, projection->key_types[i], i + 1);
    pj_buf_puts(sql, " FROM ROWS FROM (");
    for (int i = 0; i < nkeys; i++)
        pj_buf_printf(sql, "%spg_catalog.unnest($%d::%s[])", i ? ", " : "", i + 1,
                      pj_kind_sql(projection->key_kinds[i]));
    pj_buf_puts(sql, ") AS pj_u(");
    for (int i = 0; i < nkeys; i++)
        pj_buf_printf(sql, "%sa%d", i ? ", " : "", i + 1);
    pj_buf_puts(sql, "))");
}

static void put_key_condition(const struct pj_projection *projection, int nkeys, const char *alias, struct pj_buf *sql)
{
    for (int i = 0; i < nkeys; i++) {
        pj_buf_printf(sql, "%s%s.", i ? " AND " : "", alias);
        pj_quote_identifier(sql, projection->module->key[i]);
        pj_buf_printf(sql, " = pj_key.k%d", i + 1);
    }
}

/* What the rows in question ought to be. A definition that is restricted by the key's first columns only gives more
 * than the rows asked for, and the same ones for each of two keys that share these columns. */
static int put_wanted(const struct pj_projection *projection, int nkeys, struct pj_buf *sql, struct pj_error *error)
{
    enum pj_restriction restriction;
    struct pj_buf definition = {0};
    int code = pj_sql_put_definition_of(projection, nkeys, &definition, &restriction, error);
    const char *text = pj_buf_text(&definition);
    if (restriction != PJ_UNRESTRICTED) {
        pj_buf_puts(sql, "SELECT pj_d.* FROM ");
        put_keys(projection, nkeys, sql);
        pj_buf_printf(sql, " AS pj_key CROSS JOIN LATERAL (\n%s\n) AS pj_d", text);
        pj_buf_puts(sql, restriction == PJ_RESTRICTED_PARTLY ? " WHERE " : "");
        if (restriction == PJ_RESTRICTED_PARTLY)
            put_key_condition(projection, nkeys, "pj_d", sql);
    } else {
        /* "IS TRUE" keeps the planner from making a join of it: the keys are hashed, the definition runs once. */
        pj_buf_printf(sql, "SELECT pj_d.* FROM (\n%s\n) AS pj_d WHERE ((", text);
        put_columns(sql, projection->module->key, nkeys, ", ", "pj_d.%");
        pj_buf_puts(sql, ") IN (SELECT * FROM ");
        put_keys(projection, nkeys, sql);
        pj_buf_puts(sql, " AS pj_key)) IS TRUE");
    }
    pj_buf_free(&definition);
    return code;
}

/* Rows of the keys in question that ought not to be there. */
static void put_delete(const struct pj_projection *projection, int nkeys, struct pj_buf *sql)
{
    const char *const *key = projection->module->key;
    pj_buf_printf(sql, "DELETE FROM %s AS pj_t USING (SELECT ", projection->target_sql);
    put_columns(sql, key, projection->nkey, ", ", "pj_o.%");
    pj_buf_puts(sql, " FROM ");
    put_keys(projection, nkeys, sql);
    pj_buf_printf(sql, " AS pj_key JOIN %s AS pj_o ON ", projection->target_sql);
    put_key_condition(projection, nkeys, "pj_o", sql);
    pj_buf_puts(sql, " EXCEPT SELECT ");
    put_columns(sql, key, projection->nkey, ", ", "pj_w.%");
    pj_buf_puts(sql, " FROM pj_wanted AS pj_w) AS pj_g WHERE ");
    put_columns(sql, key, projection->nkey, " AND ", "pj_t.% = pj_g.%");
}

static void put_on_conflict(const struct pj_projection *projection, const char *const *columns, int count,
                            struct pj_buf *sql)
{
    pj_buf_puts(sql, "\nON CONFLICT (");
    put_columns(sql, projection->module->key, projection->nkey, ", ", "%");
    pj_buf_puts(sql, ") DO UPDATE SET ");
    put_columns(sql, columns, count, ", ", "% = excluded.%");
}

/* Rows that are missing or differ. The condition keeps equal rows from even being locked. */
static void put_upsert(const struct pj_projection *projection, const char *const *columns, int count,
                       struct pj_buf *sql)
{
    const char *const *key = projection->module->key;
    pj_buf_printf(sql, "INSERT INTO %s (", projection->target_sql);
    put_columns(sql, columns, count, ", ", "%");
    pj_buf_puts(sql, ")\nSELECT ");
    put_columns(sql, columns, count, ", ", "pj_w.%");
    pj_buf_printf(sql, " FROM pj_wanted AS pj_w WHERE NOT EXISTS (SELECT FROM %s AS pj_t WHERE ",
                  projection->target_sql);
    put_columns(sql, key, projection->nkey, " AND ", "pj_t.% = pj_w.%");
    pj_buf_puts(sql, " AND ROW(");
    put_columns(sql, columns, count, ", ", "pj_t.%");
    pj_buf_puts(sql, ")::record OPERATOR(pg_catalog.*=) ROW(");
    put_columns(sql, columns, count, ", ", "pj_w.%");
    pj_buf_puts(sql, ")::record)");
    put_on_conflict(projection, columns, count, sql);
}

/* Of all rows nothing is returned: those downstream then are dirty as a whole. */
static int build_recompute(const struct pj_projection *projection, int nkeys, const char *const *columns, int count,
                           char **out, struct pj_error *error)
{
    struct pj_buf sql = {0};
    bool touched = projection->nchained;
    pj_buf_puts(&sql, "WITH pj_wanted AS MATERIALIZED (\n");
    int code = put_wanted(projection, nkeys, &sql, error);
    pj_buf_puts(&sql, "\n), pj_gone AS (\n");
    put_delete(projection, nkeys, &sql);
    if (touched) {
        pj_buf_puts(&sql, "\nRETURNING ");
        pj_sql_put_touched(projection, "pj_t", &sql);
        pj_buf_puts(&sql, "\n), pj_put AS (\n");
        put_upsert(projection, columns, count, &sql);
        pj_buf_puts(&sql, "\nRETURNING ");
        pj_sql_put_touched(projection, "", &sql);
        pj_buf_puts(&sql, "\n)\n");
        pj_sql_put_touched_select("(SELECT * FROM pj_gone UNION ALL SELECT * FROM pj_put)", &sql);
    } else {
        pj_buf_puts(&sql, "\n)\n");
        put_upsert(projection, columns, count, &sql);
    }
    pj_free(*out);
    *out = pj_buf_take(&sql);
    return code;
}

int pj_projection_build_wanted(struct pj_projection *projection, struct pj_error *error)
{
    struct pj_buf sql = {0};
    int code = put_wanted(projection, 1, &sql, error);
    pj_free(projection->wanted_sql);
    projection->wanted_sql = pj_buf_take(&sql);
    return code;
}

/* ------------------------------------------------------------------------------------------------- many rows */

/*
 * Definition and table are joined once, and what differs is kept, which usually is little. A row that is only in the
 * table has no "pj_here" of the definition's; the table's key stands in pj_k1, pj_k2 …
 */
static void put_differing(const struct pj_projection *projection, const char *definition, const char *condition,
                          const char *const *columns, int count, struct pj_buf *sql)
{
    const char *const *key = projection->module->key;
    pj_buf_puts(sql, "SELECT pj_w.*");
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, ", pj_t.");
        pj_quote_identifier(sql, key[i]);
        pj_buf_printf(sql, " AS pj_k%d", i + 1);
    }
    pj_buf_printf(sql,
                  " FROM (SELECT true AS pj_here, * FROM (\n%s\n) AS pj_d) AS pj_w FULL JOIN "
                  "(SELECT true AS pj_here, pj_o.* FROM %s AS pj_o%s) AS pj_t ON ",
                  definition, projection->target_sql, condition);
    put_columns(sql, key, projection->nkey, " AND ", "pj_t.% = pj_w.%");
    pj_buf_puts(sql, " WHERE pj_t.pj_here IS NULL OR pj_w.pj_here IS NULL OR ROW(");
    put_columns(sql, columns, count, ", ", "pj_t.%");
    pj_buf_puts(sql, ")::record OPERATOR(pg_catalog.*<>) ROW(");
    put_columns(sql, columns, count, ", ", "pj_w.%");
    pj_buf_puts(sql, ")::record");
}

/* What is too many goes, as `differing` has it. */
static void put_differing_delete(const struct pj_projection *projection, const char *differing, struct pj_buf *sql)
{
    pj_buf_printf(sql, "DELETE FROM %s AS pj_t USING %s AS pj_g WHERE pj_g.pj_here IS NULL", projection->target_sql,
                  differing);
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(sql, " AND pj_t.");
        pj_quote_identifier(sql, projection->module->key[i]);
        pj_buf_printf(sql, " = pj_g.pj_k%d", i + 1);
    }
}

/* The rest comes. */
static void put_differing_insert(const struct pj_projection *projection, const char *differing,
                                 const char *const *columns, int count, struct pj_buf *sql)
{
    pj_buf_printf(sql, "INSERT INTO %s (", projection->target_sql);
    put_columns(sql, columns, count, ", ", "%");
    pj_buf_puts(sql, ")\nSELECT ");
    put_columns(sql, columns, count, ", ", "pj_w.%");
    pj_buf_printf(sql, " FROM %s AS pj_w WHERE pj_w.pj_here", differing);
    put_on_conflict(projection, columns, count, sql);
}

static void build_recompute_all(struct pj_projection *projection, const char *const *columns, int count)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "WITH pj_differing AS MATERIALIZED (");
    put_differing(projection, projection->definition_sql, "", columns, count, &sql);
    pj_buf_puts(&sql, "), pj_gone AS (");
    put_differing_delete(projection, "pj_differing", &sql);
    pj_buf_puts(&sql, ")\n");
    put_differing_insert(projection, "pj_differing", columns, count, &sql);
    pj_free(projection->recompute_all_sql);
    projection->recompute_all_sql = pj_buf_take(&sql);
}

static void take(char **out, struct pj_buf *sql)
{
    pj_free(*out);
    *out = pj_buf_take(sql);
    *sql = (struct pj_buf){0};
}

/* The same, and that of the rows of many routing keys, in steps: what differs becomes a table, for only a statement
 * that writes to none of the others may use the server's parallel workers. */
static void build_steps(struct pj_projection *projection, const char *const *columns, int count)
{
    struct pj_buf sql = {0}, condition = {0};
    pj_buf_puts(&condition, " WHERE pj_o.");
    pj_quote_identifier(&condition, projection->module->key[0]);
    pj_buf_puts(&condition, " IN ");
    put_keys(projection, 1, &condition);
    put_differing(projection, projection->definition_sql, "", columns, count, &sql);
    take(&projection->differing_all_sql, &sql);
    put_differing(projection, projection->wanted_sql, pj_buf_text(&condition), columns, count, &sql);
    take(&projection->differing_keys_sql, &sql);
    put_differing_delete(projection, PJ_DIFFERING_TABLE, &sql);
    take(&projection->differing_delete_sql, &sql);
    put_differing_insert(projection, PJ_DIFFERING_TABLE, columns, count, &sql);
    take(&projection->differing_insert_sql, &sql);
    pj_buf_free(&condition);
}

int pj_projection_build_recompute(struct pj_projection *projection, const char *const *columns, int count,
                                  struct pj_error *error)
{
    build_recompute_all(projection, columns, count);
    int code = pj_projection_build_wanted(projection, error);
    if (code == PJ_OK)
        build_steps(projection, columns, count);
    if (code == PJ_OK)
        code = build_recompute(projection, 1, columns, count, &projection->recompute_routing_sql, error);
    if (code == PJ_OK && projection->nkey > 1)
        code = build_recompute(projection, projection->nkey, columns, count, &projection->recompute_full_sql, error);
    return code;
}
