/*
 * See setup.h. A deployment meets its databases in this order: load the modules; gather the tables that modules and
 * configuration want; read those from the write database's catalog; bind each module to them, those that read other
 * projections' tables behind these (core/chain.h). All of that needs the write database alone, so that a first start
 * can find every fault before it leaves anything behind. The read side is checked afterwards, when its tables exist.
 */
#include "core/setup.h"

#include "base/mem.h"
#include "core/chain.h"
#include "core/mirror.h"
#include "core/projection_sql.h"

#include <string.h>

static int load_modules(struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_error *error)
{
    setup->loaded = pj_alloc(sizeof *setup->loaded * (size_t)(deployment->nmodules + 1));
    for (int i = 0; i < deployment->nmodules; i++) {
        const struct pj_deployed_module *module = &deployment->modules[i];
        if (module->image)
            pj_module_load_again(&setup->loaded[i], module->image, module->path);
        else if (pj_module_load(&setup->loaded[i], module->path, error) != PJ_OK)
            return error->code;
        setup->nloaded++;
        for (int j = 0; j < i; j++)
            if (module->binding.beside == deployment->modules[j].binding.beside &&
                strcmp(setup->loaded[i].module->name, setup->loaded[j].module->name) == 0)
                return pj_error_set(error, PJ_ECONFIG, "%s and %s both are the module %s", setup->loaded[j].path,
                                    setup->loaded[i].path, setup->loaded[i].module->name);
    }
    return PJ_OK;
}

/* -------------------------------------------------------------------------------------------------- wanted tables */

struct wanted_list {
    int count;
    struct pj_wanted_table *tables;
};

static bool listed(const struct wanted_list *list, const struct pj_wanted_table *table)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->tables[i].schema, table->schema) == 0 && strcmp(list->tables[i].name, table->name) == 0)
            return true;
    return false;
}

static void want_configured(struct wanted_list *list, const struct pj_deployment *deployment)
{
    for (int i = 0; i < deployment->nwanted; i++) {
        const struct pj_wanted_table *table = &deployment->wanted[i];
        if (listed(list, table))
            continue;
        list->tables = pj_realloc(list->tables, sizeof *list->tables * (size_t)(list->count + 1));
        list->tables[list->count++] =
            (struct pj_wanted_table){pj_strdup(table->schema), pj_strdup(table->name), pj_strdup(table->wanted_by)};
    }
}

static struct pj_chain_node *chain_nodes(const struct pj_setup *setup, const struct pj_deployment *deployment)
{
    struct pj_chain_node *nodes = pj_alloc(sizeof *nodes * (size_t)(setup->nloaded + 1));
    for (int i = 0; i < setup->nloaded; i++)
        nodes[i] = (struct pj_chain_node){setup->loaded[i].module, &deployment->modules[i].binding};
    return nodes;
}

/* What one projection keeps and another reads is no mirror. What the configuration itself names, the first `keep`,
 * stays: should it be a target, too, binding refuses it. */
static void leave_out_targets(const struct pj_setup *setup, const struct pj_deployment *deployment,
                              struct wanted_list *list, int keep)
{
    struct pj_chain_node *nodes = chain_nodes(setup, deployment);
    int kept = keep;
    for (int i = keep; i < list->count; i++) {
        if (pj_chain_is_target(nodes, setup->nloaded, list->tables[i].schema, list->tables[i].name))
            pj_wanted_table_free(&list->tables[i]);
        else
            list->tables[kept++] = list->tables[i];
    }
    list->count = kept;
    pj_free(nodes);
}

static int gather_wanted(const struct pj_setup *setup, const struct pj_deployment *deployment, struct wanted_list *list,
                         struct pj_error *error)
{
    want_configured(list, deployment);
    int configured = list->count;
    for (int i = 0; i < setup->nloaded; i++) {
        int code = pj_projection_want(setup->loaded[i].module, &deployment->modules[i].binding, &list->tables,
                                      &list->count, error);
        if (code != PJ_OK)
            return code;
    }
    leave_out_targets(setup, deployment, list, configured);
    if (list->count)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "nothing to mirror: no module, and no table in [mirrors] tables");
    return pj_error_hint(error, "put modules into the module directory, or name tables in [mirrors] tables");
}

static void free_wanted(struct wanted_list *list)
{
    for (int i = 0; i < list->count; i++)
        pj_wanted_table_free(&list->tables[i]);
    pj_free(list->tables);
}

static int read_tables(struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_session *write,
                       struct pj_error *error)
{
    struct wanted_list list = {0};
    int code = gather_wanted(setup, deployment, &list, error);
    if (code == PJ_OK)
        code = pj_source_tables(write, list.tables, list.count, &setup->tables, error);
    if (code == PJ_OK)
        setup->ntables = list.count;
    free_wanted(&list);
    if (code != PJ_OK)
        return code;
    setup->relmap = pj_relmap_new();
    return pj_source_fill_relmap(write, setup->tables, setup->ntables, setup->relmap, error);
}

/* -------------------------------------------------------------------------------------------------------- binding */

static bool same_target(const struct pj_projection *a, const struct pj_projection *b)
{
    return a->target_sql && b->target_sql && strcmp(a->target_sql, b->target_sql) == 0;
}

/* A target must be nobody else's: neither another projection's nor a mirror. */
static int check_target_is_free(const struct pj_setup *setup, const struct pj_projection *projection,
                                struct pj_error *error)
{
    for (int i = 0; i < setup->nprojections; i++)
        if (&setup->projections[i] != projection && same_target(&setup->projections[i], projection))
            return pj_error_set(error, PJ_ECONFIG, "modules %s and %s both keep the table %s",
                                setup->projections[i].name, projection->name, projection->target_sql);
    for (int i = 0; projection->target_sql && i < setup->ntables; i++)
        if (strcmp(setup->tables[i].mirror_sql, projection->target_sql) == 0)
            return pj_error_set(error, PJ_ECONFIG, "module %s would keep the table %s, which is a mirror",
                                projection->name, projection->target_sql);
    return PJ_OK;
}

/* One module, into the next place; those whose tables it reads are bound. */
static int bind_module(struct pj_setup *setup, const struct pj_deployment *deployment, int index,
                       struct pj_error *error)
{
    struct pj_projection *projection = &setup->projections[setup->nprojections];
    int code =
        pj_projection_bind_chained(projection, setup->loaded[index].module, &deployment->modules[index].binding,
                                   setup->tables, setup->ntables, setup->projections, setup->nprojections, error);
    if (code != PJ_OK)
        return code; /* a binding that failed has freed itself */
    struct pj_module_mark mark = pj_module_mark(setup->loaded[index].image, &deployment->modules[index].binding);
    memcpy(projection->mark, mark.text, sizeof mark.text);
    setup->nprojections++;
    pj_chain_link(projection);
    return check_target_is_free(setup, projection, error);
}

static bool is_chained(const struct pj_setup *setup, const struct pj_chain_node *nodes, int index)
{
    bool chained = false;
    for (const struct pj_source *source = nodes[index].module->sources; source->table && !chained; source++) {
        char *schema, *table;
        pj_actual_table(nodes[index].binding, source->table, &schema, &table);
        chained = pj_chain_is_target(nodes, setup->nloaded, schema, table);
        pj_free(schema);
        pj_free(table);
    }
    return chained;
}

/* *misfit: as in struct pj_setup. */
static int bind_modules(struct pj_setup *setup, const struct pj_deployment *deployment, int *misfit,
                        struct pj_error *error)
{
    int *order = pj_alloc(sizeof *order * (size_t)(setup->nloaded + 1));
    struct pj_chain_node *nodes = chain_nodes(setup, deployment);
    setup->projections = pj_alloc(sizeof *setup->projections * (size_t)(setup->nloaded + 1));
    int code = pj_chain_order(nodes, setup->nloaded, order, error);
    for (int i = 0; code == PJ_OK && i < setup->nloaded; i++) {
        code = bind_module(setup, deployment, order[i], error);
        if (code == PJ_ECONFIG && is_chained(setup, nodes, order[i]))
            *misfit = order[i];
    }
    pj_free(nodes);
    pj_free(order);
    return code;
}

int pj_setup_open(struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_session *write,
                  struct pj_session *read, struct pj_error *error)
{
    int misfit = -1;
    memset(setup, 0, sizeof *setup);
    pj_error_clear(error);
    int code = load_modules(setup, deployment, error);
    if (code == PJ_OK)
        code = read_tables(setup, deployment, write, error);
    if (code == PJ_OK && read)
        code = pj_mirror_limit(read, setup->tables, setup->ntables, deployment->adopt_columns, error);
    if (code == PJ_OK)
        code = bind_modules(setup, deployment, &misfit, error);
    if (code != PJ_OK)
        pj_setup_close(setup);
    setup->misfit = misfit;
    return code;
}

static int check_targets(struct pj_setup *setup, struct pj_session *read, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < setup->nprojections; i++)
        if (setup->projections[i].module->target)
            code = pj_projection_check_target(read, &setup->projections[i], error);
    return code;
}

int pj_setup_check_read(struct pj_setup *setup, struct pj_session *read, struct pj_error *error)
{
    int code = pj_mirror_check(read, setup->tables, setup->ntables, error);
    if (code == PJ_OK)
        code = pj_mirror_learn_order(read, setup->tables, setup->ntables, error);
    return code == PJ_OK ? check_targets(setup, read, error) : code;
}

int pj_setup_check_resync(struct pj_setup *setup, struct pj_session *read, struct pj_error *error)
{
    int code = pj_mirror_check_shape(read, setup->tables, setup->ntables, error);
    if (code == PJ_OK)
        code = pj_mirror_learn_order(read, setup->tables, setup->ntables, error);
    return code == PJ_OK ? check_targets(setup, read, error) : code;
}

struct pj_projection *pj_setup_projection(const struct pj_setup *setup, const char *name)
{
    for (int i = 0; i < setup->nprojections; i++)
        if (strcmp(setup->projections[i].name, name) == 0)
            return &setup->projections[i];
    return NULL;
}

/* Modules go last: everything above points into them. */
void pj_setup_close(struct pj_setup *setup)
{
    for (int i = 0; i < setup->nprojections; i++)
        pj_projection_free(&setup->projections[i]);
    pj_free(setup->projections);
    pj_relmap_free(setup->relmap);
    if (setup->tables)
        pj_source_tables_free(setup->tables, setup->ntables);
    for (int i = 0; i < setup->nloaded; i++)
        pj_module_unload(&setup->loaded[i]);
    pj_free(setup->loaded);
    memset(setup, 0, sizeof *setup);
}
