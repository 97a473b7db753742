/*
 * Binding a module to a deployment: which actual table is meant by "messages", which actual column by
 * "messages.conversation_id", what the options are; and whether the tables that are there have what the module reads.
 * Refusals name module, table, column, what is there and what is wanted. No I/O.
 */
#include "core/projection.h"

#include "base/mem.h"
#include "base/text.h"
#include "core/chain.h"
#include "core/projection_sql.h"
#include "core/source.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* ----------------------------------------------------------------------------------------------------------- names */

/* Reads one part of a name at *at: everything up to a dot, or what stands in double quotes. */
static char *name_part(const char **at)
{
    struct pj_buf part = {0};
    const char *from = *at;
    if (*from != '"') {
        size_t length = strcspn(from, ".");
        pj_buf_put(&part, from, length);
        *at = from + length;
        return pj_buf_take(&part);
    }
    for (from++; *from && !(from[0] == '"' && from[1] != '"'); from++) {
        from += from[0] == '"';
        pj_buf_put(&part, from, 1);
    }
    *at = *from ? from + 1 : from;
    return pj_buf_take(&part);
}

void pj_name_split(const char *name, const char *default_schema, char **schema, char **table)
{
    const char *at = name;
    *table = name_part(&at);
    if (*at == '.') {
        at++;
        *schema = *table;
        *table = name_part(&at);
    } else {
        *schema = pj_strdup(default_schema ? default_schema : "public");
    }
}

/* The actual name that a list of pairs gives for a declared one; NULL where it gives none. */
static const char *look_up(const char *const (*pairs)[2], const char *declared)
{
    for (; pairs && (*pairs)[0]; pairs++)
        if (strcmp((*pairs)[0], declared) == 0)
            return (*pairs)[1];
    return NULL;
}

void pj_actual_table(const struct pj_binding *binding, const char *declared, char **schema, char **name)
{
    const char *bound = look_up(binding->tables, declared);
    pj_name_split(bound ? bound : declared, binding->default_schema, schema, name);
}

/* ------------------------------------------------------------------------------------------------------ want */

static bool already_wanted(const struct pj_wanted_table *wanted, int count, const char *schema, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(wanted[i].schema, schema) == 0 && strcmp(wanted[i].name, name) == 0)
            return true;
    return false;
}

int pj_projection_want(const struct pj_module *module, const struct pj_binding *binding,
                       struct pj_wanted_table **wanted, int *count, struct pj_error *error)
{
    pj_error_clear(error);
    for (int i = 0; i < pj_module_source_count(module); i++) {
        char *schema, *name;
        pj_actual_table(binding, module->sources[i].table, &schema, &name);
        if (already_wanted(*wanted, *count, schema, name)) {
            pj_free(schema);
            pj_free(name);
            continue;
        }
        *wanted = pj_realloc(*wanted, (size_t)(*count + 1) * sizeof **wanted);
        (*wanted)[(*count)++] = (struct pj_wanted_table){
            .schema = schema, .name = name, .wanted_by = pj_sprintf("module %s", module->name)};
    }
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------ configuration */

static int source_index(const struct pj_module *module, const char *table, size_t length)
{
    for (int i = 0; i < pj_module_source_count(module); i++)
        if (strncmp(module->sources[i].table, table, length) == 0 && module->sources[i].table[length] == '\0')
            return i;
    return -1;
}

/* A setting that nothing reads is a mistake of whoever wrote it. */
static int check_tables(const struct pj_module *module, const struct pj_binding *binding, struct pj_error *error)
{
    for (const char *const(*pair)[2] = binding->tables; pair && (*pair)[0]; pair++)
        if (source_index(module, (*pair)[0], strlen((*pair)[0])) < 0)
            return pj_error_set(error, PJ_ECONFIG, "table.%s: the module reads no table of that name", (*pair)[0]);
    for (const char *const(*pair)[2] = binding->columns; pair && (*pair)[0]; pair++) {
        const char *dot = strrchr((*pair)[0], '.');
        if (!dot || source_index(module, (*pair)[0], (size_t)(dot - (*pair)[0])) < 0)
            return pj_error_set(error, PJ_ECONFIG, "column.%s: the module reads no table of that name", (*pair)[0]);
    }
    return PJ_OK;
}

static int option_index(const struct pj_module *module, const char *name)
{
    for (int i = 0; i < pj_module_option_count(module); i++)
        if (strcmp(module->options[i].name, name) == 0)
            return i;
    return -1;
}

static int bind_options(struct pj_projection *projection, const struct pj_binding *binding, struct pj_error *error)
{
    const struct pj_module *module = projection->module;
    int count = pj_module_option_count(module);
    projection->options = pj_alloc((size_t)count * sizeof *projection->options);
    for (int i = 0; i < count; i++)
        projection->options[i] = pj_strdup(module->options[i].value);
    for (const char *const(*pair)[2] = binding->options; pair && (*pair)[0]; pair++) {
        int i = option_index(module, (*pair)[0]);
        if (i < 0)
            return pj_error_set(error, PJ_ECONFIG, "it has no option \"%s\"", (*pair)[0]);
        if (pj_module_option_check(&module->options[i], (*pair)[1], error) != PJ_OK)
            return error->code;
        pj_free((void *)(uintptr_t)projection->options[i]);
        projection->options[i] = pj_strdup((*pair)[1]);
    }
    return PJ_OK;
}

/* ---------------------------------------------------------------------------------------------------------- sources */

static const struct pj_table *find_table(const struct pj_table *tables, int count, const char *schema, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(tables[i].schema, schema) == 0 && strcmp(tables[i].name, name) == 0)
            return &tables[i];
    return NULL;
}

/* Finds the actual column for a declared one. */
static int bind_column(const struct pj_projection_source *source, const struct pj_source *declared, const char *column,
                       int *index, struct pj_error *error)
{
    const char *actual = column;
    for (int i = 0; i < source->nrenames; i++)
        if (strcmp(source->renames[2 * i], column) == 0)
            actual = source->renames[2 * i + 1];
    *index = pj_table_column_index(source->table, actual, strlen(actual));
    if (*index >= 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "table %s.%s has no column \"%s\"", source->table->schema, source->table->name,
                 actual);
    return pj_error_hint(error,
                         "where the column has another name, say so in the module's section: column.%s.%s = NAME",
                         declared->table, column);
}

static const char *type_name(enum pj_type type)
{
    static const char *const names[] = {"any",   "boolean", "smallint",  "integer",     "bigint", "text",
                                        "bytea", "date",    "timestamp", "timestamptz", "uuid"};
    return names[type];
}

static int check_type(const struct pj_projection_source *source, int index, enum pj_type wanted, struct pj_error *error)
{
    const struct pj_table_column *column = &source->table->columns[index];
    if (wanted == PJ_ANY || wanted == column->type)
        return PJ_OK;
    return pj_error_set(error, PJ_ECONFIG, "column %s.%s.%s is of type %s, and the module wants %s",
                        source->table->schema, source->table->name, column->name, column->type_sql, type_name(wanted));
}

/* What apply() sees of a row: the declared columns, or the routing key alone. */
static int bind_columns(struct pj_projection_source *source, const struct pj_source *declared, struct pj_error *error)
{
    int count = pj_source_column_count(declared);
    source->width = count ? count : declared->key != NULL;
    source->columns = pj_alloc((size_t)source->width * sizeof *source->columns);
    if (declared->key) {
        int key;
        int code = bind_column(source, declared, declared->key, &key, error);
        if (code != PJ_OK)
            return code;
        if (!count)
            source->columns[0] = key;
    }
    for (int i = 0; declared->columns && i < count; i++) {
        int code = bind_column(source, declared, declared->columns[i].name, &source->columns[i], error);
        if (code == PJ_OK)
            code = check_type(source, source->columns[i], declared->columns[i].type, error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

static int bind_renames(struct pj_projection_source *source, const struct pj_source *declared,
                        const struct pj_binding *binding, struct pj_error *error)
{
    size_t length = strlen(declared->table);
    for (const char *const(*pair)[2] = binding->columns; pair && (*pair)[0]; pair++) {
        const char *name = (*pair)[0], *actual = (*pair)[1];
        if (strncmp(name, declared->table, length) != 0 || name[length] != '.' || strchr(name + length + 1, '.'))
            continue;
        if (pj_table_column_index(source->table, actual, strlen(actual)) < 0)
            return pj_error_set(error, PJ_ECONFIG, "column.%s: table %s.%s has no column \"%s\"", name,
                                source->table->schema, source->table->name, actual);
        source->renames = pj_realloc(source->renames, (size_t)(source->nrenames + 1) * 2 * sizeof *source->renames);
        source->renames[2 * source->nrenames] = pj_strdup(name + length + 1);
        source->renames[2 * source->nrenames + 1] = pj_strdup(actual);
        source->nrenames++;
    }
    return PJ_OK;
}

/* Where sources are looked for: the mirrored tables, and the targets of projections that are bound already. */
struct sources_from {
    const struct pj_table *tables;
    int count;
    const struct pj_projection *others;
    int nothers;
};

static const struct pj_projection *find_upstream(const struct sources_from *from, const char *schema, const char *name)
{
    for (int i = 0; i < from->nothers; i++)
        if (from->others[i].target_sql && strcmp(from->others[i].target_schema, schema) == 0 &&
            strcmp(from->others[i].target_name, name) == 0)
            return &from->others[i];
    return NULL;
}

static int bind_mirrored(const struct pj_projection *projection, int index, const struct pj_binding *binding,
                         struct pj_error *error)
{
    struct pj_projection_source *source = &projection->sources[index];
    const struct pj_source *declared = &projection->module->sources[index];
    if (declared->columns && projection->module->target && !projection->module->apply)
        return pj_error_set(error, PJ_ECONFIG, "source %s lists columns, but there is no apply() to read them",
                            declared->table);
    int code = bind_renames(source, declared, binding, error);
    if (code == PJ_OK)
        code = bind_columns(source, declared, error);
    if (code == PJ_OK)
        source->relation_sql = pj_relation_sql(source);
    return code;
}

static int bind_upstream(const struct pj_projection *projection, int index, const struct pj_binding *binding,
                         const struct pj_projection *upstream, struct pj_error *error)
{
    const char *table = projection->module->sources[index].table;
    size_t length = strlen(table);
    for (const char *const(*pair)[2] = binding->columns; pair && (*pair)[0]; pair++)
        if (strncmp((*pair)[0], table, length) == 0 && (*pair)[0][length] == '.')
            return pj_error_set(error, PJ_ECONFIG,
                                "column.%s: the table is projection %s's, whose columns have one name only", (*pair)[0],
                                upstream->name);
    return pj_chain_bind_source(projection, index, upstream, error);
}

static int bind_source(const struct pj_projection *projection, int index, const struct pj_binding *binding,
                       const struct sources_from *from, struct pj_error *error)
{
    char *schema, *name;
    pj_actual_table(binding, projection->module->sources[index].table, &schema, &name);
    struct pj_projection_source *source = &projection->sources[index];
    const struct pj_projection *upstream = find_upstream(from, schema, name);
    source->table = find_table(from->tables, from->count, schema, name);
    int code = PJ_OK;
    if (source->table && upstream)
        code = pj_error_set(error, PJ_ECONFIG, "table %s.%s is a mirror as well as the table of projection %s", schema,
                            name, upstream->name);
    else if (!source->table && !upstream)
        code = pj_error_set(error, PJ_ECONFIG, "table %s.%s is not among the mirrored tables", schema, name);
    pj_free(schema);
    pj_free(name);
    if (code != PJ_OK)
        return code;
    return upstream ? bind_upstream(projection, index, binding, upstream, error)
                    : bind_mirrored(projection, index, binding, error);
}

static int bind_sources(struct pj_projection *projection, const struct pj_binding *binding,
                        const struct sources_from *from, struct pj_error *error)
{
    projection->nsources = pj_module_source_count(projection->module);
    projection->sources = pj_alloc((size_t)projection->nsources * sizeof *projection->sources);
    for (int i = 0; i < projection->nsources; i++) {
        int code = bind_source(projection, i, binding, from, error);
        if (code != PJ_OK)
            return code;
    }
    return PJ_OK;
}

/* ------------------------------------------------------------------------------------------------------------- bind */

char *pj_table_beside(const char *table, const char *suffix)
{
    char digits[10] = "";
    size_t length = strlen(table), room = 63 - strlen(suffix);
    if (length > room) {
        snprintf(digits, sizeof digits, "_%08x", XXH32(table, length, 0));
        length = pj_text_clip(table, room - strlen(digits));
    }
    return pj_sprintf("%.*s%s%s", (int)length, table, digits, suffix);
}

static int bind_target(struct pj_projection *projection, const struct pj_binding *binding, struct pj_error *error)
{
    if (!projection->module->target)
        return PJ_OK;
    struct pj_buf sql = {0};
    pj_name_split(projection->module->target, binding->default_schema, &projection->target_schema,
                  &projection->target_name);
    if (binding->beside) {
        char *serving = projection->target_name;
        projection->target_name = pj_table_beside(serving, PJ_NEXT_TABLE);
        pj_free(serving);
    }
    pj_quote_identifier(&sql, projection->target_schema);
    pj_buf_puts(&sql, ".");
    pj_quote_identifier(&sql, projection->target_name);
    projection->target_sql = pj_buf_take(&sql);
    projection->nkey = pj_module_key_count(projection->module);
    projection->nstreams = pj_module_stream_count(projection->module);
    return pj_projection_build_sql(projection, error);
}

int pj_projection_bind(struct pj_projection *projection, const struct pj_module *module,
                       const struct pj_binding *binding, const struct pj_table *tables, int count,
                       struct pj_error *error)
{
    return pj_projection_bind_chained(projection, module, binding, tables, count, NULL, 0, error);
}

int pj_projection_bind_chained(struct pj_projection *projection, const struct pj_module *module,
                               const struct pj_binding *binding, const struct pj_table *tables, int count,
                               const struct pj_projection *others, int nothers, struct pj_error *error)
{
    const struct sources_from from = {tables, count, others, nothers};
    pj_error_clear(error);
    memset(projection, 0, sizeof *projection);
    projection->module = module;
    projection->halt_on_error = binding->halt_on_error;
    projection->name = pj_sprintf("%s%s", module->name, binding->beside ? PJ_NEXT_NAME : "");
    int code = check_tables(module, binding, error);
    if (code == PJ_OK)
        code = bind_options(projection, binding, error);
    if (code == PJ_OK)
        code = bind_sources(projection, binding, &from, error);
    if (code == PJ_OK)
        code = bind_target(projection, binding, error);
    if (code == PJ_OK)
        projection->deltas = pj_deltas_new(module, projection->options);
    if (code != PJ_OK) {
        pj_error_wrap(error, "module %s", module->name);
        pj_projection_free(projection);
    }
    return code;
}

static void free_source(struct pj_projection_source *source)
{
    for (int i = 0; i < source->nrenames * 2; i++)
        pj_free(source->renames[i]);
    pj_free(source->renames);
    pj_free(source->columns);
    pj_free(source->relation_sql);
}

static void free_texts(char **texts, int count)
{
    for (int i = 0; texts && i < count; i++)
        pj_free(texts[i]);
    pj_free(texts);
}

void pj_projection_free(struct pj_projection *projection)
{
    for (int i = 0; projection->sources && i < projection->nsources; i++)
        free_source(&projection->sources[i]);
    pj_free(projection->sources);
    pj_free(projection->name);
    for (int i = 0; projection->options && i < pj_module_option_count(projection->module); i++)
        pj_free((void *)(uintptr_t)projection->options[i]);
    pj_free(projection->options);
    pj_deltas_free(projection->deltas);
    pj_chain_free(projection);
    free_texts(projection->merge_touched_sql, projection->nstreams);
    free_texts(projection->key_types, projection->nkey);
    free_texts(projection->merge_sql, projection->nstreams);
    pj_free(projection->key_kinds);
    pj_free(projection->target_schema);
    pj_free(projection->target_name);
    pj_free(projection->target_sql);
    pj_free(projection->recompute_routing_sql);
    pj_free(projection->recompute_full_sql);
    pj_free(projection->recompute_all_sql);
    pj_free(projection->differing_all_sql);
    pj_free(projection->differing_keys_sql);
    pj_free(projection->differing_delete_sql);
    pj_free(projection->differing_insert_sql);
    pj_free(projection->wanted_sql);
    pj_free(projection->definition_sql);
    memset(projection, 0, sizeof *projection);
}

const char *pj_projection_routing_column(const struct pj_projection *projection, int source)
{
    const char *key = projection->module->sources[source].key;
    const struct pj_projection_source *bound = &projection->sources[source];
    for (int i = 0; key && i < bound->nrenames; i++)
        if (strcmp(bound->renames[2 * i], key) == 0)
            return bound->renames[2 * i + 1];
    return key;
}
