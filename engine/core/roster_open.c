/*
 * Opening a setup without a former outfit in memory takes two looks: with all modules that load and that the catalog
 * knows, to learn their definitions; then, where some of them cannot serve, without these.
 */
#include "core/roster.h"

#include "base/mem.h"
#include "core/catalog.h"
#include "core/chain.h"
#include "core/projection_sql.h"

#include <string.h>

/* ----------------------------------------------------------------------------------------------------------- tables */

static int is_mirror(struct pj_session *read, const char *schema, const char *name, bool *yes, struct pj_error *error)
{
    static const char sql[] =
        "SELECT FROM pgprojector.mirror WHERE schema_name = $1 AND table_name = $2 AND state = 'exact'";
    const char *params[] = {schema, name};
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 2, params, error);
    *yes = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    return code;
}

/* What the configuration names and is no mirror yet: the registrar adds it. */
static int leave_out_tables(struct pj_deployment *deployment, struct pj_session *read, const struct pj_log *log,
                            struct pj_error *error)
{
    int code = PJ_OK, kept = 0;
    for (int i = 0; i < deployment->nwanted; i++) {
        struct pj_wanted_table *wanted = &deployment->wanted[i];
        bool mirrored = true;
        if (code == PJ_OK)
            code = is_mirror(read, wanted->schema, wanted->name, &mirrored, error);
        if (code != PJ_OK || mirrored) {
            deployment->wanted[kept++] = *wanted;
            continue;
        }
        if (log)
            pj_log(log, PJ_LOG_INFO, "table %s.%s is not mirrored yet: its mirror is to be added", wanted->schema,
                   wanted->name);
        pj_wanted_table_free(wanted);
    }
    deployment->nwanted = kept;
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- modules */

static void leave_out(struct pj_deployment *deployment, int index, const struct pj_log *log, enum pj_log_level level,
                      const char *why)
{
    if (log)
        pj_log(log, level, "module %s %s", pj_deployed_name(&deployment->modules[index]).text, why);
    pj_deployment_leave_out(deployment, index, why);
}

/* It is judged anew then; false: there is no other to try. */
static bool try_former(struct pj_deployed_module *module, struct pj_former_images *former)
{
    const char *slash = strrchr(module->path, '/');
    struct pj_module_image *image = former ? pj_former_images_take(former, slash ? slash + 1 : module->path) : NULL;
    if (!image)
        return false;
    pj_module_image_release(module->image);
    module->image = image;
    return true;
}

/* One bad module is nobody else's matter: where it has a table, that stands still, and says why. */
static void leave_out_broken(struct pj_deployment *deployment, int index, const struct pj_log *log, bool known,
                             const struct pj_error *fault)
{
    char *why = known ? pj_sprintf("does not load: %s", fault->message)
                      : pj_strdup("does not load, and is left out: it was never registered");
    if (log)
        pj_log_error(log, known ? PJ_LOG_ERROR : PJ_LOG_WARNING, fault);
    leave_out(deployment, index, log, known ? PJ_LOG_ERROR : PJ_LOG_WARNING, why);
    pj_free(why);
}

/* Reads a module into memory. *stays false: it was left out. */
static int take_module(struct pj_deployment *deployment, int index, struct pj_former_images *former,
                       struct pj_session *read, const struct pj_log *log, bool *stays, struct pj_error *error)
{
    struct pj_deployed_module *module = &deployment->modules[index];
    struct pj_module_name name = pj_deployed_name(module);
    struct pj_loaded_module loaded;
    bool known, retired;
    *stays = false;
    int code = pj_roster_known(read, name.text, &known, &retired, error);
    if (code != PJ_OK)
        return code;
    if (retired) {
        leave_out(deployment, index, log, PJ_LOG_INFO, "was removed; `pgprojector module add` takes it up again");
        return PJ_OK;
    }
    if (pj_module_load(&loaded, module->path, error) != PJ_OK) {
        *stays = known && try_former(module, former);
        if (!*stays)
            leave_out_broken(deployment, index, log, known, error);
        pj_error_clear(error);
        return PJ_OK;
    }
    if (!module->image)
        module->image = pj_module_image_share(loaded.image);
    *stays = known || !loaded.module->target;
    pj_module_unload(&loaded);
    if (!*stays)
        leave_out(deployment, index, log, PJ_LOG_INFO, "is new: its table is yet to be built");
    return PJ_OK;
}

static int take_modules(struct pj_deployment *deployment, struct pj_former_images *former, struct pj_session *read,
                        const struct pj_log *log, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < deployment->nmodules;) {
        bool stays;
        code = take_module(deployment, i, former, read, log, &stays, error);
        i += stays;
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------ chained on nobody */

/* The projection whose table a module reads, and whose own module is not there; NULL: none. To be freed. */
static int find_gone_upstream(const struct pj_chain_node *nodes, int count, int node, struct pj_session *read,
                              char **upstream, struct pj_error *error)
{
    int code = PJ_OK;
    *upstream = NULL;
    for (const struct pj_source *source = nodes[node].module->sources; source->table && !*upstream && code == PJ_OK;
         source++) {
        char *schema, *table;
        pj_actual_table(nodes[node].binding, source->table, &schema, &table);
        if (!pj_chain_is_target(nodes, count, schema, table))
            code = pj_roster_keeper(read, schema, table, upstream, error);
        pj_free(schema);
        pj_free(table);
    }
    return code;
}

/* The first module that reads the table of one that is not there; *index: -1: none. */
static int find_orphan(const struct pj_deployment *deployment, struct pj_session *read, int *index, char **upstream,
                       struct pj_error *error)
{
    size_t most = (size_t)deployment->nmodules + 1;
    struct pj_loaded_module *loaded = pj_alloc(sizeof *loaded * most);
    struct pj_chain_node *nodes = pj_alloc(sizeof *nodes * most);
    int count = deployment->nmodules, code = PJ_OK;
    for (int i = 0; i < count; i++) {
        pj_module_load_again(&loaded[i], deployment->modules[i].image, deployment->modules[i].path);
        nodes[i] = (struct pj_chain_node){loaded[i].module, &deployment->modules[i].binding};
    }
    *index = -1;
    for (int i = 0; code == PJ_OK && *index < 0 && i < count; i++) {
        code = find_gone_upstream(nodes, count, i, read, upstream, error);
        *index = code == PJ_OK && *upstream ? i : -1;
    }
    for (int i = 0; i < count; i++)
        pj_module_unload(&loaded[i]);
    pj_free(loaded);
    pj_free(nodes);
    return code;
}

/* What is chained on nobody cannot be bound; and what is chained on that, neither. */
static int leave_out_orphans(struct pj_deployment *deployment, struct pj_session *read, const struct pj_log *log,
                             struct pj_error *error)
{
    int index, code;
    char *upstream;
    while ((code = find_orphan(deployment, read, &index, &upstream, error)) == PJ_OK && index >= 0) {
        char *why = pj_sprintf("reads the table of projection %s, whose module is not there", upstream);
        leave_out(deployment, index, log, PJ_LOG_WARNING, why);
        pj_free(why);
        pj_free(upstream);
    }
    return code;
}

/* ---------------------------------------------------------------------------------------------------- who can serve */

/* Whether it reads a table that is no mirror yet. */
static int wants_more(const struct pj_projection *projection, struct pj_session *read, bool *yes,
                      struct pj_error *error)
{
    int code = PJ_OK;
    bool mirrored = true;
    for (int i = 0; code == PJ_OK && mirrored && i < projection->nsources; i++) {
        const struct pj_table *table = projection->sources[i].table;
        if (table)
            code = is_mirror(read, table->schema, table->name, &mirrored, error);
    }
    *yes = !mirrored;
    return code;
}

/* *why: NULL where it can serve. What reads the table of one that cannot, cannot either. */
static int judge(const struct pj_projection *projection, struct pj_session *read, const char **why,
                 struct pj_error *error)
{
    int upstream_code = PJ_OK;
    *why = NULL;
    for (int i = 0; upstream_code == PJ_OK && !*why && i < projection->nsources; i++)
        if (projection->sources[i].upstream)
            upstream_code = judge(projection->sources[i].upstream, read, why, error);
    if (*why)
        *why = "reads the table of a module that cannot serve yet";
    if (*why || upstream_code != PJ_OK)
        return upstream_code;
    enum pj_roster_row row = PJ_ROW_SAME;
    bool more = false;
    int code = projection->target_sql ? pj_roster_row(read, projection, &row, error)
                                      : wants_more(projection, read, &more, error);
    if (more)
        *why = "asks for mirrors that are yet to be made";
    else if (row != PJ_ROW_SAME)
        *why = "is of another version or definition than its table, or the table is gone: it is yet to be built";
    return code;
}

/* With those that can be bound: one that does not fit the table of another (whose module is of a new version, say) is
 * left out, and what reads its own with it. */
static int open_fitting(struct pj_setup *setup, struct pj_deployment *deployment, struct pj_session *write,
                        struct pj_session *read, const struct pj_log *log, struct pj_error *error)
{
    int code = pj_setup_open(setup, deployment, write, read, error);
    while (code == PJ_ECONFIG && setup->misfit >= 0) {
        char *why = pj_sprintf("does not fit the table that it reads: %s", error->message);
        if (log)
            pj_log_error(log, PJ_LOG_ERROR, error);
        leave_out(deployment, setup->misfit, log, PJ_LOG_ERROR, why);
        pj_free(why);
        code = leave_out_orphans(deployment, read, log, error);
        if (code == PJ_OK)
            code = pj_setup_open(setup, deployment, write, read, error);
    }
    return code;
}

/* *left: how many had to be left out, or are to be judged anew. */
static int leave_out_unfit(struct pj_deployment *deployment, const struct pj_setup *setup,
                           struct pj_former_images *former, struct pj_session *read, const struct pj_log *log,
                           int *left, struct pj_error *error)
{
    int code = PJ_OK;
    *left = 0;
    for (int i = deployment->nmodules - 1; code == PJ_OK && i >= 0; i--) {
        const char *why = NULL;
        struct pj_module_name name = pj_deployed_name(&deployment->modules[i]);
        const struct pj_projection *projection = pj_setup_projection(setup, name.text);
        if (projection)
            code = judge(projection, read, &why, error);
        if (code == PJ_OK && why && try_former(&deployment->modules[i], former)) {
            ++*left;
        } else if (code == PJ_OK && why) {
            leave_out(deployment, i, log, PJ_LOG_WARNING, why);
            ++*left;
        }
    }
    return code;
}

/* What was loaded from a file is in memory from now on. */
static void keep_images(struct pj_deployment *deployment, const struct pj_setup *setup)
{
    for (int i = 0; i < setup->nloaded; i++)
        if (!deployment->modules[i].image)
            deployment->modules[i].image = pj_module_image_share(setup->loaded[i].image);
}

/* ---------------------------------------------------------------------------------------------------------- opening */

int pj_roster_open(struct pj_setup *setup, struct pj_deployment *deployment, struct pj_session *write,
                   struct pj_session *read, const struct pj_log *log, struct pj_error *error)
{
    return pj_roster_open_again(setup, deployment, NULL, write, read, log, error);
}

int pj_roster_open_again(struct pj_setup *setup, struct pj_deployment *deployment, struct pj_former_images *former,
                         struct pj_session *write, struct pj_session *read, const struct pj_log *log,
                         struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    int left = 0;
    memset(setup, 0, sizeof *setup);
    int code = pj_catalog_read(read, &checkpoint, &installed, error);
    bool complete = code == PJ_OK && installed && checkpoint.complete;
    if (complete) {
        code = leave_out_tables(deployment, read, log, error);
        if (code == PJ_OK)
            code = pj_roster_want_mirrors(deployment, write, read, log, error);
        if (code == PJ_OK)
            code = take_modules(deployment, former, read, log, error);
        if (code == PJ_OK)
            code = leave_out_orphans(deployment, read, log, error);
    }
    if (code == PJ_OK)
        code = complete ? open_fitting(setup, deployment, write, read, log, error)
                        : pj_setup_open(setup, deployment, write, read, error);
    if (code == PJ_OK && complete)
        code = leave_out_unfit(deployment, setup, former, read, log, &left, error);
    while (code == PJ_OK && left) {
        pj_setup_close(setup);
        code = open_fitting(setup, deployment, write, read, log, error);
        if (code == PJ_OK)
            code = leave_out_unfit(deployment, setup, former, read, log, &left, error);
    }
    if (code != PJ_OK)
        pj_setup_close(setup);
    else
        keep_images(deployment, setup);
    return code;
}
