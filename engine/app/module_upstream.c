/*
 * For `module check`: a source may be another module's table. Of those that lie about the one that keeps it is taken,
 * with the sources that it has, which may be other modules' tables again; its table is made from its definition, as the
 * mirrors are.
 */
#include "app/deployment.h"
#include "app/module_probe.h"
#include "base/mem.h"
#include "core/chain.h"

#include <glob.h>
#include <string.h>

struct pj_probe_upstream {
    struct pj_loaded_module loaded;
    struct pj_binding binding;
};

/* ---------------------------------------------------------------------------------------------------------- finding */

static bool keeps(struct pj_probe_upstream *upstream, const struct pj_config *config, const char *path,
                  const char *schema, const char *table)
{
    struct pj_error ignored;
    if (pj_module_load(&upstream->loaded, path, &ignored) != PJ_OK)
        return false;
    pj_deployment_bind(config, path, &upstream->binding);
    const struct pj_chain_node node = {upstream->loaded.module, &upstream->binding};
    if (pj_chain_is_target(&node, 1, schema, table))
        return true;
    pj_binding_free(&upstream->binding);
    pj_module_unload(&upstream->loaded);
    return false;
}

static bool find(const struct pj_module_databases *databases, struct pj_probe_upstream *upstream, const char *schema,
                 const char *table)
{
    bool found = false;
    for (char *const *directory = databases->directories; directory && *directory && !found; directory++) {
        char *pattern = pj_sprintf("%s/*.so", *directory);
        glob_t files = {0};
        glob(pattern, 0, NULL, &files);
        for (size_t i = 0; i < files.gl_pathc && !found; i++)
            found = keeps(upstream, databases->config, files.gl_pathv[i], schema, table);
        globfree(&files);
        pj_free(pattern);
    }
    return found;
}

static bool among(const struct pj_probe *probe, const struct pj_wanted_table *wanted)
{
    for (int i = 0; i < probe->nupstreams; i++) {
        const struct pj_chain_node node = {probe->upstreams[i].loaded.module, &probe->upstreams[i].binding};
        if (pj_chain_is_target(&node, 1, wanted->schema, wanted->name))
            return true;
    }
    return false;
}

bool pj_probe_add_upstream(struct pj_probe *probe, const struct pj_wanted_table *of, struct pj_wanted_table **wanted,
                           int *count)
{
    struct pj_probe_upstream upstream;
    struct pj_error ignored;
    if (among(probe, of))
        return true;
    if (!find(probe->databases, &upstream, of->schema, of->name))
        return false;
    pj_module_note(probe->report, "%s.%s is the table of projection %s: it is taken to be as %s makes it", of->schema,
                   of->name, upstream.loaded.module->name, upstream.loaded.path);
    size_t size = sizeof *probe->upstreams * (size_t)(probe->nupstreams + 1);
    probe->upstreams = pj_realloc(probe->upstreams, size);
    probe->upstreams[probe->nupstreams++] = upstream;
    pj_projection_want(upstream.loaded.module, &upstream.binding, wanted, count, &ignored);
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- binding */

static void unbind(struct pj_probe *probe)
{
    for (int i = 0; i < probe->nbound; i++)
        pj_projection_free(&probe->bound[i]);
    pj_free(probe->bound);
    probe->bound = NULL;
    probe->nbound = 0;
}

/* Its table is a temporary one. */
static void move_target(struct pj_projection *projection)
{
    struct pj_buf sql = {0};
    pj_buf_puts(&sql, "pg_temp.");
    pj_quote_identifier(&sql, projection->target_name);
    pj_free(projection->target_sql);
    projection->target_sql = pj_buf_take(&sql);
}

static int bind_in_order(struct pj_probe *probe, const int *order, struct pj_error *error)
{
    int code = PJ_OK;
    probe->bound = pj_alloc(sizeof *probe->bound * (size_t)(probe->nupstreams + 1));
    for (int i = 0; code == PJ_OK && i < probe->nupstreams; i++) {
        const struct pj_probe_upstream *upstream = &probe->upstreams[order[i]];
        code = pj_projection_bind_chained(&probe->bound[i], upstream->loaded.module, &upstream->binding, probe->tables,
                                          probe->ntables, probe->bound, i, error);
        if (code != PJ_OK)
            break;
        move_target(&probe->bound[i]);
        probe->nbound++;
    }
    return code;
}

int pj_probe_bind_upstreams(struct pj_probe *probe, struct pj_error *error)
{
    struct pj_chain_node *nodes = pj_alloc(sizeof *nodes * (size_t)(probe->nupstreams + 2));
    int *order = pj_alloc(sizeof *order * (size_t)(probe->nupstreams + 2));
    for (int i = 0; i < probe->nupstreams; i++)
        nodes[i] = (struct pj_chain_node){probe->upstreams[i].loaded.module, &probe->upstreams[i].binding};
    unbind(probe);
    int code = pj_chain_order(nodes, probe->nupstreams, order, error);
    if (code == PJ_OK)
        code = bind_in_order(probe, order, error);
    pj_free(nodes);
    pj_free(order);
    return code;
}

int pj_probe_make_upstreams(struct pj_probe *probe, struct pj_error *error)
{
    int code = pj_probe_bind_upstreams(probe, error);
    for (int i = 0; code == PJ_OK && i < probe->nbound; i++) {
        struct pj_projection *upstream = &probe->bound[i];
        struct pj_buf sql = {0};
        pj_buf_printf(&sql, "CREATE TABLE %s AS\n%s\nWITH NO DATA; ALTER TABLE %s ADD PRIMARY KEY (",
                      upstream->target_sql, upstream->definition_sql, upstream->target_sql);
        for (int k = 0; k < upstream->nkey; k++) {
            pj_buf_puts(&sql, k ? ", " : "");
            pj_quote_identifier(&sql, upstream->module->key[k]);
        }
        pj_buf_puts(&sql, ")");
        code = pj_session_exec(probe->databases->read, pj_buf_text(&sql), error);
        pj_buf_free(&sql);
        if (code == PJ_OK)
            code = pj_projection_describe_target(probe->databases->read, upstream, error);
        if (code != PJ_OK)
            pj_error_wrap(error, "the table of projection %s", upstream->name);
    }
    return code;
}

void pj_probe_free_upstreams(struct pj_probe *probe)
{
    unbind(probe);
    for (int i = 0; i < probe->nupstreams; i++) {
        pj_binding_free(&probe->upstreams[i].binding);
        pj_module_unload(&probe->upstreams[i].loaded);
    }
    pj_free(probe->upstreams);
}
