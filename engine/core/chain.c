/* See chain.h. */
#include "core/chain.h"

#include "base/mem.h"
#include "core/projection_sql.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------ before binding */

static bool keeps(const struct pj_chain_node *node, const char *schema, const char *table)
{
    if (!node->module->target || node->binding->beside)
        return false;
    char *its_schema, *its_table;
    pj_name_split(node->module->target, node->binding->default_schema, &its_schema, &its_table);
    bool same = strcmp(its_schema, schema) == 0 && strcmp(its_table, table) == 0;
    pj_free(its_schema);
    pj_free(its_table);
    return same;
}

static int find_keeper(const struct pj_chain_node *nodes, int count, const char *schema, const char *table)
{
    for (int i = 0; i < count; i++)
        if (keeps(&nodes[i], schema, table))
            return i;
    return -1;
}

bool pj_chain_is_target(const struct pj_chain_node *nodes, int count, const char *schema, const char *table)
{
    return find_keeper(nodes, count, schema, table) >= 0;
}

/* The node whose table a source names; -1: none, a mirror is meant. */
static int upstream_of(const struct pj_chain_node *nodes, int count, int node, int source)
{
    char *schema, *table;
    pj_actual_table(nodes[node].binding, nodes[node].module->sources[source].table, &schema, &table);
    int upstream = find_keeper(nodes, count, schema, table);
    pj_free(schema);
    pj_free(table);
    return upstream;
}

/* Raises a node's level above those that it reads; *highest: one of them with the highest. */
static bool raise_level(const struct pj_chain_node *nodes, int count, int node, int *levels, int *highest)
{
    bool raised = false;
    for (int s = 0; s < pj_module_source_count(nodes[node].module); s++) {
        int upstream = upstream_of(nodes, count, node, s);
        if (upstream < 0 || levels[upstream] < levels[node])
            continue;
        levels[node] = levels[upstream] + 1;
        highest[node] = upstream;
        raised = true;
    }
    return raised;
}

/* After `count` steps upwards one is in the circle for certain; once around it names all. */
static int refuse_circle(const struct pj_chain_node *nodes, int count, int node, const int *highest,
                         struct pj_error *error)
{
    for (int i = 0; i < count; i++)
        node = highest[node];
    struct pj_buf names = {0};
    int at = node;
    do {
        pj_buf_printf(&names, "%s -> ", nodes[at].module->name);
        at = highest[at];
    } while (at != node);
    pj_error_set(error, PJ_ECONFIG, "projections read each other's tables in a circle: %s%s", pj_buf_text(&names),
                 nodes[node].module->name);
    pj_buf_free(&names);
    return pj_error_hint(error, "one of them must read mirrors alone");
}

int pj_chain_order(const struct pj_chain_node *nodes, int count, int *order, struct pj_error *error)
{
    int *levels = pj_alloc(sizeof *levels * (size_t)(count + 1));
    int *highest = pj_alloc(sizeof *highest * (size_t)(count + 1));
    int placed = 0, code = PJ_OK;
    bool raised = true;
    for (int round = 0; raised && code == PJ_OK; round++) {
        raised = false;
        for (int i = 0; i < count && code == PJ_OK; i++) {
            if (!raise_level(nodes, count, i, levels, highest))
                continue;
            raised = true;
            if (levels[i] > count) /* no way without a circle is as long */
                code = refuse_circle(nodes, count, i, highest, error);
        }
    }
    for (int level = 0; code == PJ_OK && placed < count; level++)
        for (int i = 0; i < count; i++)
            if (levels[i] == level)
                order[placed++] = i;
    pj_free(levels);
    pj_free(highest);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- binding */

static int key_column(const struct pj_projection *upstream, const char *name)
{
    for (int i = 0; i < upstream->nkey; i++)
        if (strcmp(upstream->module->key[i], name) == 0)
            return i;
    return -1;
}

/* A row keeps its key, so what a statement returns is what the row had before, too. Of other columns that is not so. */
static int bind_column(struct pj_projection_source *source, const struct pj_source *declared, const char *name,
                       struct pj_error *error)
{
    const struct pj_projection *upstream = source->upstream;
    int column = key_column(upstream, name);
    if (column >= 0) {
        source->columns[source->width++] = column;
        return PJ_OK;
    }
    struct pj_buf key = {0};
    for (int i = 0; i < upstream->nkey; i++)
        pj_buf_printf(&key, "%s%s", i ? ", " : "", upstream->module->key[i]);
    pj_error_set(error, PJ_ECONFIG,
                 "source %s is the table of projection %s, and its column \"%s\" is not in the key (%s)",
                 declared->table, upstream->name, name, pj_buf_text(&key));
    pj_buf_free(&key);
    return pj_error_hint(error,
                         "key and columns of such a source must be columns of that table's primary key; give the "
                         "upstream a key that has it, or say NULL: then any change of it concerns everything");
}

static int check_columns(const struct pj_projection *projection, const struct pj_source *declared,
                         struct pj_error *error)
{
    int count = pj_source_column_count(declared), nkey = pj_module_key_count(projection->module);
    if (!count)
        return PJ_OK;
    if (declared->key && strcmp(declared->columns[0].name, declared->key) == 0 && count == nkey)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG,
                 "source %s is another projection's table: its columns must be the %d that carry the target's key, in "
                 "that order, the first one being its key",
                 declared->table, nkey);
    return pj_error_hint(error, "or say NULL for the columns: then all rows of a routing key are recomputed");
}

int pj_chain_bind_source(const struct pj_projection *projection, int index, const struct pj_projection *upstream,
                         struct pj_error *error)
{
    struct pj_projection_source *source = &projection->sources[index];
    const struct pj_source *declared = &projection->module->sources[index];
    int count = pj_source_column_count(declared);
    source->upstream = (struct pj_projection *)(uintptr_t)upstream;
    source->relation_sql = pj_strdup(upstream->target_sql);
    source->columns = pj_alloc((size_t)(count + 1) * sizeof *source->columns);
    int code = projection->module->target ? check_columns(projection, declared, error) : PJ_OK;
    if (code == PJ_OK && !count && declared->key)
        code = bind_column(source, declared, declared->key, error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = bind_column(source, declared, declared->columns[i].name, error);
    return code;
}

/* Which place a column of the key has among those that are asked for; asks for it where it is not yet. */
static int place_of(struct pj_projection *upstream, int column)
{
    for (int i = 0; i < upstream->ntouched; i++)
        if (upstream->touched[i] == column)
            return i;
    upstream->touched = pj_realloc(upstream->touched, sizeof(int) * (size_t)(upstream->ntouched + 1));
    upstream->touched[upstream->ntouched] = column;
    return upstream->ntouched++;
}

static void link_source(struct pj_projection *downstream, const struct pj_projection_source *source)
{
    struct pj_projection *upstream = source->upstream;
    size_t size = sizeof *upstream->chained * (size_t)(upstream->nchained + 1);
    upstream->chained = pj_realloc(upstream->chained, size);
    struct pj_chained *chained = &upstream->chained[upstream->nchained++];
    *chained = (struct pj_chained){.downstream = downstream, .width = source->width};
    chained->columns = pj_alloc(sizeof(int) * (size_t)(source->width + 1));
    for (int i = 0; i < source->width; i++)
        chained->columns[i] = place_of(upstream, source->columns[i]);
    if (!upstream->ntouched)
        place_of(upstream, 0); /* that there are rows is all that matters */
}

void pj_chain_link(struct pj_projection *projection)
{
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_projection *upstream = projection->sources[i].upstream;
        if (!upstream || !projection->target_sql)
            continue;
        link_source(projection, &projection->sources[i]);
        if (projection->level <= upstream->level)
            projection->level = upstream->level + 1;
    }
}

/* ---------------------------------------------------------------------------------------------------------- kinds */

static int check_kind(const struct pj_projection *projection, int index, int column, struct pj_error *error)
{
    const struct pj_projection *upstream = projection->sources[index].upstream;
    const struct pj_source *declared = &projection->module->sources[index];
    int of_upstream = projection->sources[index].columns[column];
    enum pj_type kind = upstream->key_kinds[of_upstream];
    if (kind == projection->key_kinds[column]) {
        if (!declared->columns || declared->columns[column].type == PJ_ANY || declared->columns[column].type == kind)
            return PJ_OK;
        return pj_error_set(error, PJ_ECONFIG, "column %s of %s is of type %s, which is not what the module declares",
                            declared->columns[column].name, upstream->target_sql, upstream->key_types[of_upstream]);
    }
    pj_error_set(error, PJ_ECONFIG, "key column %s of %s is of type %s, but %s of %s, which carries it, is %s",
                 projection->module->key[column], projection->target_sql, projection->key_types[column],
                 upstream->module->key[of_upstream], upstream->target_sql, upstream->key_types[of_upstream]);
    return pj_error_hint(error, "cast one of them in its definition");
}

int pj_chain_check_kinds(const struct pj_projection *projection, struct pj_error *error)
{
    for (int i = 0; i < projection->nsources; i++) {
        const struct pj_projection_source *source = &projection->sources[i];
        for (int column = 0; source->upstream && source->upstream->key_kinds && column < source->width; column++)
            if (check_kind(projection, i, column, error) != PJ_OK)
                return error->code;
    }
    return PJ_OK;
}

void pj_chain_free(struct pj_projection *projection)
{
    for (int i = 0; i < projection->nchained; i++)
        pj_free(projection->chained[i].columns);
    pj_free(projection->chained);
    pj_free(projection->touched);
}
