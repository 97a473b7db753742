/*
 * From a module's SQL texts to statements.
 *
 * The heart is the recompute statement: make the target's rows of some keys equal to the definition, writing only rows
 * that differ. For a definition with {keys(…)} it runs the definition once for each key, as a LATERAL subselect in
 * which {keys(a)} is the plain condition "a = the key": each part of the definition then finds its rows by index,
 * whatever the planner believes about the number of keys. (Restricted by "a = ANY ($1)" instead, a definition that
 * joins two grouped parts became a nested loop over both: quadratic, minutes for 150,000 keys.) A definition without
 * {keys(…)} cannot profit from that; it is run once, and its result filtered. The whole table is another statement: one
 * full join.
 *
 * Rows to delete are found by EXCEPT, not by NOT EXISTS: that stays linear where the session has hash joins switched
 * off, as the applying one has. Values are compared as record images (*=, *<>), never by "=" (1.0 = 1.00).
 */
#include "core/projection_sql.h"

#include "base/mem.h"
#include "host/template.h"

#include <jansson.h>
#include <string.h>

enum keys_mode { KEYS_REFUSED, KEYS_ALL, KEYS_EACH };

struct expansion {
    const struct pj_projection *projection;
    enum keys_mode mode;
    int nkeys; /* KEYS_EACH: how many of the key's columns are given: 1, or all */
    bool keys_seen;
    bool keys_partly; /* KEYS_EACH: some {keys(…)} restricts by fewer columns than are given */
    bool index;       /* {table} is the bare table, and `source` is noted */
    int source;
    const struct pj_stream *stream; /* {delta} is this one's */
};

const char *pj_kind_sql(enum pj_type kind)
{
    static const char *const names[] = {
        "pg_catalog.text",      "pg_catalog.bool",        "pg_catalog.int2",  "pg_catalog.int4",
        "pg_catalog.int8",      "pg_catalog.text",        "pg_catalog.bytea", "pg_catalog.date",
        "pg_catalog.timestamp", "pg_catalog.timestamptz", "pg_catalog.uuid",
    };
    return names[kind];
}

/* ---------------------------------------------------------------------------------------------------- placeholders */

/* Restricts to one key, whose columns the statement around calls pj_key.k1, k2 … */
static int expand_keys(struct expansion *expansion, const char *const *arguments, int count, struct pj_buf *sql,
                       struct pj_error *error)
{
    if (expansion->mode == KEYS_REFUSED)
        return pj_error_set(error, PJ_ECONFIG, "{keys(…)} belongs into the definition only");
    if (count < 1 || count > expansion->projection->nkey)
        return pj_error_set(error, PJ_ECONFIG, "{keys(…)} with %d expressions; the key has %d columns", count,
                            expansion->projection->nkey);
    expansion->keys_seen = true;
    expansion->keys_partly |= count < expansion->nkeys;
    if (expansion->mode == KEYS_ALL)
        pj_buf_puts(sql, "true");
    for (int i = 0; expansion->mode == KEYS_EACH && i < count && i < expansion->nkeys; i++)
        pj_buf_printf(sql, "%s(%s) = pj_key.k%d", i ? " AND " : "", arguments[i], i + 1);
    return PJ_OK;
}

/* A subselect that the planner pulls up: a plain function scan. */
static void expand_delta(const struct pj_stream *stream, struct pj_buf *sql)
{
    int count = pj_stream_column_count(stream);
    pj_buf_puts(sql, "(SELECT * FROM ROWS FROM (");
    for (int i = 0; i < count; i++)
        pj_buf_printf(sql, "%spg_catalog.unnest($%d::%s[])", i ? ", " : "", i + 1,
                      pj_kind_sql(stream->columns[i].type));
    pj_buf_puts(sql, ") AS pj_delta(");
    for (int i = 0; i < count; i++) {
        pj_buf_puts(sql, i ? ", " : "");
        pj_quote_identifier(sql, stream->columns[i].name);
    }
    pj_buf_puts(sql, "))");
}

static int expand_option(const struct pj_projection *projection, const char *name, struct pj_buf *sql,
                         struct pj_error *error)
{
    for (int i = 0; i < pj_module_option_count(projection->module); i++)
        if (strcmp(projection->module->options[i].name, name) == 0) {
            pj_quote_literal(sql, projection->options[i]);
            return PJ_OK;
        }
    return pj_error_set(error, PJ_ECONFIG, "{option:%s}: the module declares no such option", name);
}

static int expand_table(struct expansion *expansion, const char *name, struct pj_buf *sql, struct pj_error *error)
{
    const struct pj_projection *projection = expansion->projection;
    for (int i = 0; i < projection->nsources; i++) {
        if (strcmp(projection->module->sources[i].table, name) != 0)
            continue;
        if (expansion->index && projection->sources[i].upstream)
            return pj_error_set(error, PJ_ECONFIG, "{%s} is another projection's table, which declares its own indexes",
                                name);
        expansion->source = i;
        pj_buf_puts(sql,
                    expansion->index ? projection->sources[i].table->mirror_sql : projection->sources[i].relation_sql);
        return PJ_OK;
    }
    return pj_error_set(error, PJ_ECONFIG, "{%s}: not one of the module's sources", name);
}

static int expand_one(void *context, const char *name, const char *const *arguments, int count, struct pj_buf *sql,
                      struct pj_error *error)
{
    struct expansion *expansion = context;
    if (strcmp(name, "keys") == 0)
        return expand_keys(expansion, arguments, count, sql, error);
    if (count)
        return pj_error_set(error, PJ_ECONFIG, "{%s(…)} is no placeholder", name);
    if (strncmp(name, "option:", 7) == 0)
        return expand_option(expansion->projection, name + 7, sql, error);
    if (strcmp(name, "delta") == 0 && expansion->stream) {
        expand_delta(expansion->stream, sql);
        return PJ_OK;
    }
    if (strcmp(name, "target") == 0 && expansion->projection->target_sql && expansion->mode == KEYS_REFUSED) {
        pj_buf_puts(sql, expansion->projection->target_sql);
        return PJ_OK;
    }
    return expand_table(expansion, name, sql, error);
}

static int expand(struct expansion *expansion, const char *text, struct pj_buf *sql, struct pj_error *error)
{
    return pj_template_expand(text, expand_one, expansion, sql, error);
}

/* ------------------------------------------------------------------------------------------------------- relations */

/* The declared name of a column, by its actual one. */
static const char *declared_name(const struct pj_projection_source *source, const char *actual)
{
    for (int i = 0; i < source->nrenames; i++)
        if (strcmp(source->renames[2 * i + 1], actual) == 0)
            return source->renames[2 * i];
    return actual;
}

char *pj_relation_sql(const struct pj_projection_source *source)
{
    if (!source->nrenames)
        return pj_strdup(source->table->mirror_sql);
    struct pj_buf sql = {0};
    for (int i = 0; i < source->table->ncolumns; i++) {
        const char *name = source->table->columns[i].name;
        pj_buf_puts(&sql, i ? ", " : "(SELECT ");
        pj_quote_identifier(&sql, name);
        pj_buf_puts(&sql, " AS ");
        pj_quote_identifier(&sql, declared_name(source, name));
    }
    pj_buf_printf(&sql, " FROM %s)", source->table->mirror_sql);
    return pj_buf_take(&sql);
}

/* --------------------------------------------------------------------------------------------- definition, merges */

static int build_definition(struct pj_projection *projection, struct pj_error *error)
{
    struct expansion expansion = {.projection = projection, .mode = KEYS_ALL};
    struct pj_buf sql = {0};
    int code = expand(&expansion, projection->module->definition, &sql, error);
    pj_buf_puts(&sql, "\n"); /* it may end in a comment, and will stand in parentheses */
    projection->definition_sql = pj_buf_take(&sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "definition");
}

static int build_merge(struct pj_projection *projection, int i, struct pj_error *error)
{
    const struct pj_stream *stream = &projection->module->streams[i];
    struct expansion expansion = {.projection = projection, .mode = KEYS_REFUSED, .stream = stream};
    struct pj_buf sql = {0};
    int code = expand(&expansion, stream->merge, &sql, error);
    projection->merge_sql[i] = pj_buf_take(&sql);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "merge of stream %s", stream->name);
}

int pj_projection_build_sql(struct pj_projection *projection, struct pj_error *error)
{
    int code = build_definition(projection, error);
    projection->merge_sql = pj_alloc((size_t)projection->nstreams * sizeof *projection->merge_sql);
    for (int i = 0; i < projection->nstreams && code == PJ_OK; i++)
        code = build_merge(projection, i, error);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ recompute */

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
    struct expansion expansion = {.projection = projection, .mode = KEYS_EACH, .nkeys = nkeys};
    struct pj_buf definition = {0};
    int code = expand(&expansion, projection->module->definition, &definition, error);
    const char *text = pj_buf_text(&definition);
    if (expansion.keys_seen) {
        pj_buf_puts(sql, "SELECT pj_d.* FROM ");
        put_keys(projection, nkeys, sql);
        pj_buf_printf(sql, " AS pj_key CROSS JOIN LATERAL (\n%s\n) AS pj_d", text);
        pj_buf_puts(sql, expansion.keys_partly ? " WHERE " : "");
        if (expansion.keys_partly)
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

/* The columns of touched rows that those downstream want to know, called t1, t2 …, in the form in which keys are
 * held. */
static void put_touched(const struct pj_projection *projection, const char *alias, struct pj_buf *sql)
{
    for (int i = 0; i < projection->ntouched; i++) {
        int column = projection->touched[i];
        pj_buf_printf(sql, "%s%s%s", i ? ", " : "", alias, *alias ? "." : "");
        pj_quote_identifier(sql, projection->module->key[column]);
        pj_buf_printf(sql, "%s AS t%d", projection->key_kinds[column] == PJ_ANY ? "::pg_catalog.text" : "", i + 1);
    }
}

/* One more than may be: then there are too many, and all is dirty. */
static void put_touched_select(const char *from, struct pj_buf *sql)
{
    pj_buf_printf(sql, "SELECT DISTINCT * FROM %s AS pj_touched LIMIT %d", from, PJ_TOUCHED_AT_MOST + 1);
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
        put_touched(projection, "pj_t", &sql);
        pj_buf_puts(&sql, "\n), pj_put AS (\n");
        put_upsert(projection, columns, count, &sql);
        pj_buf_puts(&sql, "\nRETURNING ");
        put_touched(projection, "", &sql);
        pj_buf_puts(&sql, "\n)\n");
        put_touched_select("(SELECT * FROM pj_gone UNION ALL SELECT * FROM pj_put)", &sql);
    } else {
        pj_buf_puts(&sql, "\n)\n");
        put_upsert(projection, columns, count, &sql);
    }
    pj_free(*out);
    *out = pj_buf_take(&sql);
    return code;
}

static int build_wanted(struct pj_projection *projection, struct pj_error *error)
{
    struct pj_buf sql = {0};
    int code = put_wanted(projection, 1, &sql, error);
    pj_free(projection->wanted_sql);
    projection->wanted_sql = pj_buf_take(&sql);
    return code;
}

/*
 * All of the table: definition and table are joined once, and what differs is kept, which usually is little. A row that
 * is only in the table has no "pj_here" of the definition's.
 */
static void build_recompute_all(struct pj_projection *projection, const char *const *columns, int count)
{
    const char *const *key = projection->module->key;
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "WITH pj_differing AS MATERIALIZED (SELECT pj_w.*");
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(&sql, ", pj_t.");
        pj_quote_identifier(&sql, key[i]);
        pj_buf_printf(&sql, " AS pj_k%d", i + 1);
    }
    pj_buf_printf(&sql,
                  " FROM (SELECT true AS pj_here, * FROM (\n%s\n) AS pj_d) AS pj_w FULL JOIN "
                  "(SELECT true AS pj_here, * FROM %s) AS pj_t ON ",
                  projection->definition_sql, projection->target_sql);
    put_columns(&sql, key, projection->nkey, " AND ", "pj_t.% = pj_w.%");
    pj_buf_puts(&sql, " WHERE pj_t.pj_here IS NULL OR pj_w.pj_here IS NULL OR ROW(");
    put_columns(&sql, columns, count, ", ", "pj_t.%");
    pj_buf_puts(&sql, ")::record OPERATOR(pg_catalog.*<>) ROW(");
    put_columns(&sql, columns, count, ", ", "pj_w.%");
    pj_buf_printf(&sql,
                  ")::record), pj_gone AS (DELETE FROM %s AS pj_t USING pj_differing AS pj_g WHERE "
                  "pj_g.pj_here IS NULL",
                  projection->target_sql);
    for (int i = 0; i < projection->nkey; i++) {
        pj_buf_puts(&sql, " AND pj_t.");
        pj_quote_identifier(&sql, key[i]);
        pj_buf_printf(&sql, " = pj_g.pj_k%d", i + 1);
    }
    pj_buf_printf(&sql, ")\nINSERT INTO %s (", projection->target_sql);
    put_columns(&sql, columns, count, ", ", "%");
    pj_buf_puts(&sql, ")\nSELECT ");
    put_columns(&sql, columns, count, ", ", "pj_w.%");
    pj_buf_puts(&sql, " FROM pj_differing AS pj_w WHERE pj_w.pj_here");
    put_on_conflict(projection, columns, count, &sql);
    pj_free(projection->recompute_all_sql);
    projection->recompute_all_sql = pj_buf_take(&sql);
}

int pj_projection_build_recompute(struct pj_projection *projection, const char *const *columns, int count,
                                  struct pj_error *error)
{
    build_recompute_all(projection, columns, count);
    int code = build_wanted(projection, error);
    if (code == PJ_OK)
        code = build_recompute(projection, 1, columns, count, &projection->recompute_routing_sql, error);
    if (code == PJ_OK && projection->nkey > 1)
        code = build_recompute(projection, projection->nkey, columns, count, &projection->recompute_full_sql, error);
    return code;
}

/* --------------------------------------------------------------------------------------------------- touched rows */

/* What a plan writes: the ModifyTable nodes in it. */
static int count_writes(const json_t *plan, const json_t **write)
{
    const char *type = json_string_value(json_object_get(plan, "Node Type"));
    int count = type && strcmp(type, "ModifyTable") == 0;
    if (count)
        *write = plan;
    size_t i;
    json_t *below;
    json_array_foreach(json_object_get(plan, "Plans"), i, below) count += count_writes(below, write);
    return count;
}

static int explain(struct pj_session *read, const char *sql, int nparams, json_t **plan, struct pj_error *error)
{
    static const char *const nothing[PJ_MAX_SOURCE_COLUMNS] = {NULL};
    char *text = pj_sprintf("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) %s", sql);
    PGresult *result;
    int code = pj_session_query(read, &result, text, nparams, nothing, error);
    *plan = code == PJ_OK && PQntuples(result) ? json_loads(PQgetvalue(result, 0, 0), 0, NULL) : NULL;
    PQclear(result);
    pj_free(text);
    return code;
}

/* `target`: quoted and qualified; the projection's, or the one beside that is to take its name. */
static bool names_target(const struct pj_projection *projection, const char *target, const json_t *write)
{
    const char *schema = json_string_value(json_object_get(write, "Schema"));
    const char *table = json_string_value(json_object_get(write, "Relation Name"));
    if (!schema || !table)
        return false;
    if (strncmp(schema, "pg_temp", 7) == 0)
        return strcmp(table, projection->target_name) == 0;
    struct pj_buf written = {0};
    pj_quote_identifier(&written, schema);
    pj_buf_puts(&written, ".");
    pj_quote_identifier(&written, table);
    bool same = strcmp(pj_buf_text(&written), target) == 0;
    pj_buf_free(&written);
    return same;
}

/* The name that the merge gives to the target: RETURNING needs it where {delta} has columns of the same names. A
 * table without another name is called what it will be called. */
static void take_alias(const struct pj_projection *projection, const json_t *write, char **alias)
{
    const char *name = json_string_value(json_object_get(write, "Alias"));
    const char *table = json_string_value(json_object_get(write, "Relation Name"));
    struct pj_buf quoted = {0};
    pj_quote_identifier(&quoted, strcmp(name, table) == 0 ? projection->target_name : name);
    *alias = pj_buf_take(&quoted);
}

static int find_alias(const struct pj_projection *projection, const char *target, const json_t *plan, char **alias,
                      struct pj_error *error)
{
    const json_t *write = NULL;
    int writes = count_writes(json_object_get(json_array_get(plan, 0), "Plan"), &write);
    if (writes != 1 || !names_target(projection, target, write)) {
        pj_error_set(error, PJ_ECONFIG,
                     "projections are chained on %s, so each of its merges must be one INSERT, UPDATE or "
                     "DELETE of it, and this one %s",
                     projection->target_sql,
                     writes == 1 ? "writes another table"
                     : writes    ? "writes more than once"
                                 : "writes nothing");
        return pj_error_hint(error, "make two streams of it, or mark keys dirty instead");
    }
    take_alias(projection, write, alias);
    return PJ_OK;
}

char *pj_sql_instead(const char *text, const char *table, const char *other)
{
    struct pj_buf out = {0};
    size_t length = strlen(table);
    for (const char *at; (at = strstr(text, table)); text = at + length) {
        pj_buf_put(&out, text, (size_t)(at - text));
        pj_buf_puts(&out, other);
    }
    pj_buf_puts(&out, text);
    return pj_buf_take(&out);
}

/* Asks the server what a merge writes; *alias: to be freed. */
static int ask_alias(struct pj_session *read, const struct pj_projection *projection, const char *target, int i,
                     char **alias, struct pj_error *error)
{
    const struct pj_stream *stream = &projection->module->streams[i];
    char *merge = pj_sql_instead(projection->merge_sql[i], projection->target_sql, target);
    json_t *plan = NULL;
    *alias = NULL;
    int code = explain(read, merge, pj_stream_column_count(stream), &plan, error);
    if (code == PJ_OK)
        code = find_alias(projection, target, plan, alias, error);
    json_decref(plan);
    pj_free(merge);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "merge of stream %s", stream->name);
}

static int build_touched(struct pj_session *read, struct pj_projection *projection, const char *target, int i,
                         struct pj_error *error)
{
    char *alias;
    int code = ask_alias(read, projection, target, i, &alias, error);
    if (code == PJ_OK) {
        struct pj_buf sql = {0};
        pj_buf_printf(&sql, "WITH pj_merged AS (\n%s\nRETURNING ", projection->merge_sql[i]);
        put_touched(projection, alias, &sql);
        pj_buf_puts(&sql, "\n)\n");
        put_touched_select("pj_merged", &sql);
        pj_free(projection->merge_touched_sql[i]);
        projection->merge_touched_sql[i] = pj_buf_take(&sql);
    }
    pj_free(alias);
    return code;
}

int pj_projection_check_merges(struct pj_session *read, const struct pj_projection *projection, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < projection->nstreams; i++) {
        char *alias;
        code = ask_alias(read, projection, projection->target_sql, i, &alias, error);
        pj_free(alias);
    }
    return code;
}

int pj_projection_build_touched(struct pj_session *read, struct pj_projection *projection, const char *target,
                                struct pj_error *error)
{
    int code = PJ_OK;
    if (!projection->nchained)
        return PJ_OK;
    if (!projection->merge_touched_sql)
        projection->merge_touched_sql =
            pj_alloc((size_t)(projection->nstreams + 1) * sizeof *projection->merge_touched_sql);
    for (int i = 0; code == PJ_OK && i < projection->nstreams; i++)
        code = build_touched(read, projection, target, i, error);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- indexes */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* An index is on the table itself, so declared column names give way to the actual ones, word by word. */
static void rename_words(const struct pj_projection_source *source, const char *text, struct pj_buf *sql)
{
    while (*text) {
        size_t length = 0;
        while (is_word(text[length]))
            length++;
        const char *actual = NULL;
        for (int i = 0; length && i < source->nrenames; i++)
            if (strncmp(source->renames[2 * i], text, length) == 0 && !source->renames[2 * i][length])
                actual = source->renames[2 * i + 1];
        if (actual)
            pj_quote_identifier(sql, actual);
        else
            pj_buf_put(sql, text, length ? length : 1);
        text += length ? length : 1;
    }
}

int pj_projection_index_sql(const struct pj_projection *projection, const char *text, struct pj_buf *sql, int *source,
                            struct pj_error *error)
{
    struct expansion expansion = {.projection = projection, .mode = KEYS_REFUSED, .index = true, .source = -1};
    struct pj_buf expanded = {0};
    int code = expand(&expansion, text, &expanded, error);
    if (code == PJ_OK && expansion.source < 0)
        code = pj_error_set(error, PJ_ECONFIG, "mirror index \"%.80s\" names no {table}", text);
    if (code == PJ_OK) {
        const struct pj_projection_source *on = &projection->sources[expansion.source];
        size_t table = strlen(on->table->mirror_sql);
        bool first = strncmp(expanded.data, on->table->mirror_sql, table) == 0;
        pj_buf_put(sql, expanded.data, first ? table : 0);
        rename_words(on, expanded.data + (first ? table : 0), sql);
        *source = expansion.source;
    }
    pj_buf_free(&expanded);
    return code;
}
