/*
 * What merges and recomputations say of the rows they touch, where other projections are chained on the target: the key
 * columns that those read, by RETURNING. Which name a merge gives to the target is asked of the server, by EXPLAIN.
 */
#include "core/projection_sql.h"

#include "base/mem.h"

#include <jansson.h>
#include <string.h>

void pj_sql_put_touched(const struct pj_projection *projection, const char *alias, struct pj_buf *sql)
{
    for (int i = 0; i < projection->ntouched; i++) {
        int column = projection->touched[i];
        pj_buf_printf(sql, "%s%s%s", i ? ", " : "", alias, *alias ? "." : "");
        pj_quote_identifier(sql, projection->module->key[column]);
        pj_buf_printf(sql, "%s AS t%d", projection->key_kinds[column] == PJ_ANY ? "::pg_catalog.text" : "", i + 1);
    }
}

void pj_sql_put_touched_select(const char *from, struct pj_buf *sql)
{
    pj_buf_printf(sql, "SELECT DISTINCT * FROM %s AS pj_touched LIMIT %d", from, PJ_TOUCHED_AT_MOST + 1);
}

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
        pj_sql_put_touched(projection, alias, &sql);
        pj_buf_puts(&sql, "\n)\n");
        pj_sql_put_touched_select("pj_merged", &sql);
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
