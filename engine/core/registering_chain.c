/*
 * Chains among the modules that are found: in which order they are looked at, and which one must be there first. A
 * module that reads another one's table can only be bound where that one serves.
 */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/chain.h"
#include "core/projection_sql.h"

#include <string.h>

/* The modules found that can be loaded, as they are deployed. */
struct loaded {
    int count;
    struct pj_loaded_module *modules;
    struct pj_chain_node *nodes;
    int *places; /* in the deployment */
};

static void load_one(struct loaded *loaded, struct pj_deployed_module *module, int place)
{
    struct pj_loaded_module *one = &loaded->modules[loaded->count];
    struct pj_error ignored; /* it is told when this one's turn has come */
    if (module->image)
        pj_module_load_again(one, module->image, module->path);
    else if (pj_module_load(one, module->path, &ignored) != PJ_OK)
        return;
    if (!module->image)
        module->image = pj_module_image_share(one->image);
    loaded->nodes[loaded->count] = (struct pj_chain_node){one->module, &module->binding};
    loaded->places[loaded->count++] = place;
}

/* Those that were removed are not run again, not even for this. */
static int load_all(struct pj_registering *r, struct pj_deployment *found, struct loaded *loaded,
                    struct pj_error *error)
{
    size_t most = (size_t)found->nmodules + 1;
    *loaded = (struct loaded){.modules = pj_alloc(most * sizeof *loaded->modules),
                              .nodes = pj_alloc(most * sizeof *loaded->nodes),
                              .places = pj_alloc(most * sizeof *loaded->places)};
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < found->nmodules; i++) {
        bool known, retired = false;
        code = pj_roster_known(r->look, pj_deployed_name(&found->modules[i]).text, &known, &retired, error);
        if (code == PJ_OK && !retired)
            load_one(loaded, &found->modules[i], i);
    }
    return code;
}

static void unload_all(struct loaded *loaded)
{
    for (int i = 0; i < loaded->count; i++)
        pj_module_unload(&loaded->modules[i]);
    pj_free(loaded->modules);
    pj_free(loaded->nodes);
    pj_free(loaded->places);
}

/* ---------------------------------------------------------------------------------------------------------- order */

static void rearrange(struct pj_deployment *found, const struct loaded *loaded, const int *order)
{
    struct pj_deployed_module *modules = pj_alloc(sizeof *modules * (size_t)(found->nmodules + 1));
    bool *taken = pj_alloc(sizeof *taken * (size_t)(found->nmodules + 1));
    int count = 0;
    for (int i = 0; i < loaded->count; i++) {
        int place = loaded->places[order[i]];
        modules[count++] = found->modules[place];
        taken[place] = true;
    }
    for (int i = 0; i < found->nmodules; i++)
        if (!taken[i])
            modules[count++] = found->modules[i];
    pj_free(found->modules);
    pj_free(taken);
    found->modules = modules;
}

int pj_registering_order(struct pj_registering *r, struct pj_deployment *found, struct pj_error *error)
{
    struct loaded loaded;
    int code = load_all(r, found, &loaded, error);
    int *order = pj_alloc(sizeof *order * (size_t)(loaded.count + 1));
    struct pj_error circle; /* binding names it */
    if (code == PJ_OK && pj_chain_order(loaded.nodes, loaded.count, order, &circle) == PJ_OK)
        rearrange(found, &loaded, order);
    pj_free(order);
    unload_all(&loaded);
    return code;
}

/* ------------------------------------------------------------------------------------------------ who must be first */

static bool serves(const struct pj_outfit *outfit, const char *schema, const char *table)
{
    for (int i = 0; i < outfit->setup.nprojections; i++) {
        const struct pj_projection *projection = &outfit->setup.projections[i];
        if (projection->target_sql && strcmp(projection->target_schema, schema) == 0 &&
            strcmp(projection->target_name, table) == 0)
            return true;
    }
    return false;
}

/* Who keeps it: a module that is there, or one that the catalog knows. NULL: nobody; to be freed. */
static char *keeper_of(struct pj_registering *r, const struct loaded *loaded, const char *schema, const char *table)
{
    char *name = NULL;
    for (int i = 0; i < loaded->count && !name; i++)
        if (pj_chain_is_target(&loaded->nodes[i], 1, schema, table))
            name = pj_strdup(loaded->nodes[i].module->name);
    struct pj_error ignored;
    if (!name && pj_roster_keeper(r->look, schema, table, &name, &ignored) != PJ_OK)
        return NULL;
    return name;
}

static char *missing_for(struct pj_registering *r, const struct loaded *loaded, const struct pj_chain_node *node)
{
    char *name = NULL;
    for (const struct pj_source *source = node->module->sources; source->table && !name; source++) {
        char *schema, *table;
        pj_actual_table(node->binding, source->table, &schema, &table);
        if (!serves(pj_outfit_in_use(r), schema, table))
            name = keeper_of(r, loaded, schema, table);
        pj_free(schema);
        pj_free(table);
    }
    return name;
}

char *pj_registering_missing_upstream(struct pj_registering *r, struct pj_deployment *found, const char *name)
{
    struct loaded loaded;
    struct pj_error ignored;
    char *upstream = NULL;
    int code = load_all(r, found, &loaded, &ignored);
    for (int i = 0; code == PJ_OK && i < loaded.count && !upstream; i++)
        if (strcmp(pj_deployed_name(&found->modules[loaded.places[i]]).text, name) == 0)
            upstream = missing_for(r, &loaded, &loaded.nodes[i]);
    unload_all(&loaded);
    if (upstream && strcmp(upstream, name) == 0) {
        pj_free(upstream);
        return NULL;
    }
    return upstream;
}
