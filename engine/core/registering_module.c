/* One module of the directory beside what is in use: what is to be done with it (core/roster.h), and doing it. */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/build.h"
#include "core/guilty.h"

/* ------------------------------------------------------------------------------------------------------------ facts */

int pj_candidate_load(struct pj_deployed_module *module, bool *target, struct pj_error *error)
{
    struct pj_loaded_module loaded;
    if (module->image)
        pj_module_load_again(&loaded, module->image, module->path);
    else if (pj_module_load(&loaded, module->path, error) != PJ_OK)
        return error->code;
    if (!module->image)
        module->image = pj_module_image_share(loaded.image);
    *target = loaded.module->target != NULL;
    pj_module_unload(&loaded);
    return PJ_OK;
}

enum pj_roster_memory pj_candidate_in_memory(const struct pj_outfit *outfit, const struct pj_deployed_module *module)
{
    const struct pj_deployed_module *former =
        pj_deployment_find(&outfit->deployment, pj_deployed_name(module).text, false);
    if (!former)
        return PJ_MEMORY_NONE;
    return pj_module_image_same(former->image, module->image) && pj_binding_same(&former->binding, &module->binding)
               ? PJ_MEMORY_SAME
               : PJ_MEMORY_OTHER;
}

/* A table that is in the way is found before anything is begun. */
static int check_name_is_free(struct pj_registering *r, const struct pj_projection *projection, struct pj_error *error)
{
    const char *table = projection->target_sql;
    PGresult *result;
    int code =
        pj_session_query_row(r->look, &result, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", 1, &table, error);
    bool taken = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (!taken)
        return code;
    pj_error_set(error, PJ_ECONFIG,
                 "module %s: there is already a table %s on the read database, and pgprojector did not make it",
                 projection->module->name, table);
    return pj_error_hint(error, "drop or rename it; it is not touched");
}

/* ---------------------------------------------------------------------------------------------- deciding and acting */

/* With all that it reads mirrored, which may take some time. */
static int open_outfit(struct pj_registering *r, struct pj_candidate *c, struct pj_error *error)
{
    bool added = true;
    int code = PJ_OK;
    while (code == PJ_OK && added) {
        pj_outfit_free(c->outfit);
        c->outfit = pj_outfit_make(r, c->name.text, c->module, false, error);
        code = c->outfit ? pj_registering_mirrors(r, &c->outfit->setup, c->name.text, &added, error) : error->code;
    }
    return code;
}

int pj_candidate_decide(struct pj_registering *r, struct pj_candidate *c, struct pj_error *error)
{
    int code = open_outfit(r, c, error);
    struct pj_projection *projection = code == PJ_OK ? pj_outfit_projection(c->outfit, c->name.text) : NULL;
    if (code == PJ_OK && c->fact.target)
        code = pj_roster_row(r->look, projection, &c->fact.row, error);
    if (code == PJ_OK && c->fact.target && c->fact.row == PJ_ROW_NONE)
        code = check_name_is_free(r, projection, error);
    c->fact.file = PJ_FILE_THERE;
    c->fact.memory = pj_candidate_in_memory(pj_outfit_in_use(r), c->module);
    c->role = pj_roster_decide(&c->fact);
    return code;
}

static int index_mirrors(struct pj_registering *r, const struct pj_candidate *c, struct pj_error *error)
{
    struct pj_projection *projection = pj_outfit_projection(c->outfit, c->name.text);
    struct pj_mend mend = pj_registering_mend(r, projection, NULL);
    struct pj_build build = {.mend = &mend, .next = projection, .name = c->name.text, .log = r->log};
    int code = pj_build_index_mirrors(&build, error);
    pj_job_end(&mend.job);
    return code;
}

/* The same version and definition from another file, or a module without a table: taken as it is. */
static int take(struct pj_registering *r, struct pj_candidate *c, struct pj_error *error)
{
    struct pj_outfit *outfit = c->outfit;
    int code = index_mirrors(r, c, error);
    if (code == PJ_OK)
        code = pj_outfit_check(r, outfit, NULL, error);
    if (code != PJ_OK)
        return code;
    c->outfit = NULL;
    code = pj_outfit_hand_over(r, outfit, error);
    if (code == PJ_OK)
        pj_log(r->log, PJ_LOG_INFO, "module %s: its file is in use now", c->name.text);
    return code;
}

static int build(struct pj_registering *r, struct pj_candidate *c, const struct pj_request *request,
                 struct pj_error *error)
{
    pj_outfit_free(c->outfit);
    c->outfit = NULL;
    pj_log(r->log, PJ_LOG_INFO, "module %s: its table is being built beside", c->name.text);
    int code = pj_registering_build(r, c->module, request, error);
    if (code == PJ_OK)
        code = pj_guilty_forget(r->work, c->name.text, NULL, error);
    if (code == PJ_OK)
        pj_log(r->log, PJ_LOG_INFO, "module %s: its table is in place, and live", c->name.text);
    return code;
}

int pj_candidate_act(struct pj_registering *r, struct pj_candidate *c, const struct pj_request *request,
                     struct pj_error *error)
{
    if (c->role.build)
        return build(r, c, request, error);
    struct pj_module_mark mark = pj_module_mark(c->module->image, &c->module->binding);
    int code = c->role.serve == PJ_SERVE_FILE ? take(r, c, error) : PJ_OK;
    if (code == PJ_OK) /* what has crashed was another */
        code = pj_guilty_forget(r->work, c->name.text, mark.text, error);
    return code == PJ_OK ? pj_registering_wake_up(r, c->name.text, error) : code;
}

int pj_candidate_explain(struct pj_registering *r, struct pj_deployment *found, const struct pj_candidate *c,
                         char **upstream, struct pj_error *error)
{
    *upstream = error->code == PJ_ECONFIG ? pj_registering_missing_upstream(r, found, c->name.text) : NULL;
    if (!*upstream)
        return error->code;
    pj_error_set(error, PJ_ECONFIG, "module %s reads the table of projection %s, which no module keeps at present",
                 c->name.text, *upstream);
    return pj_error_hint(error, "pgprojector module add %s comes first", *upstream);
}
