/*
 * From a module's SQL texts to SQL of this deployment: placeholders, relations, the definition, merges, indexes. What is
 * made of the definition for some keys is in projection_recompute.c.
 */
#include "core/projection_sql.h"

#include "base/mem.h"
#include "host/template.h"

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

char *pj_sql_delta(const struct pj_stream *stream, enum pj_given given)
{
    struct pj_buf sql = {0};
    int count = pj_stream_column_count(stream);
    for (int i = 0; i < count; i++) {
        pj_buf_puts(&sql, i ? ", " : "(SELECT ");
        pj_given_put(&sql, given, i + 1, pj_kind_sql(stream->columns[i].type));
        pj_buf_puts(&sql, " AS ");
        pj_quote_identifier(&sql, stream->columns[i].name);
    }
    pj_buf_puts(&sql, ")");
    return pj_buf_take(&sql);
}

static void expand_delta(const struct pj_stream *stream, struct pj_buf *sql)
{
    char *delta = pj_sql_delta(stream, PJ_MANY);
    pj_buf_puts(sql, delta);
    pj_free(delta);
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
        return pj_error_set(error, PJ_ECONFIG, "{%s(…)} is no placeholder; only {keys(…)} has arguments", name);
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

/* The table's own column of a name that the mapping gives to another: the definition means that one. */
static bool is_covered(const struct pj_projection_source *source, const char *actual)
{
    for (int i = 0; i < source->nrenames; i++)
        if (strcmp(source->renames[2 * i], actual) == 0 && strcmp(source->renames[2 * i + 1], actual) != 0)
            return strcmp(declared_name(source, actual), actual) == 0;
    return false;
}

char *pj_relation_sql(const struct pj_projection_source *source)
{
    if (!source->nrenames)
        return pj_strdup(source->table->mirror_sql);
    struct pj_buf sql = {0};
    for (int i = 0; i < source->table->ncolumns; i++) {
        const char *name = source->table->columns[i].name;
        if (is_covered(source, name))
            continue;
        pj_buf_puts(&sql, sql.length ? ", " : "(SELECT ");
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

int pj_sql_put_definition_of(const struct pj_projection *projection, int nkeys, struct pj_buf *sql,
                             enum pj_restriction *restriction, struct pj_error *error)
{
    struct expansion expansion = {.projection = projection, .mode = KEYS_EACH, .nkeys = nkeys};
    int code = expand(&expansion, projection->module->definition, sql, error);
    *restriction = !expansion.keys_seen    ? PJ_UNRESTRICTED
                   : expansion.keys_partly ? PJ_RESTRICTED_PARTLY
                                           : PJ_RESTRICTED;
    return code;
}

int pj_projection_build_sql(struct pj_projection *projection, struct pj_error *error)
{
    int code = build_definition(projection, error);
    projection->merge_sql = pj_alloc((size_t)projection->nstreams * sizeof *projection->merge_sql);
    for (int i = 0; i < projection->nstreams && code == PJ_OK; i++)
        code = build_merge(projection, i, error);
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
