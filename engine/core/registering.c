/* See registering.h. What is to be done with a module is decided by core/roster.h; building and removing are files
 * of their own. */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/build.h"
#include "core/joining.h"
#include "core/pause.h"

#include <string.h>

/* -------------------------------------------------------------------------------------------------------- sessions */

static int open_session(struct pj_registering *r, enum pj_side side, struct pj_session **session,
                        struct pj_error *error)
{
    const struct pj_deployment *deployment = &pj_outfit_in_use(r)->deployment;
    struct pj_session_options options = {.side = side,
                                         .url = side == PJ_WRITE ? deployment->write_url : deployment->read_url,
                                         .purpose = "registrar",
                                         .stop = r->stop};
    return *session ? PJ_OK : pj_session_open(session, &options, error);
}

int pj_registering_open(struct pj_registering *r, struct pj_error *error)
{
    int code = open_session(r, PJ_READ, &r->look, error);
    if (code == PJ_OK)
        code = open_session(r, PJ_READ, &r->work, error);
    if (code == PJ_OK)
        code = open_session(r, PJ_WRITE, &r->write, error);
    return code;
}

void pj_registering_close(struct pj_registering *r)
{
    pj_session_close(r->look);
    pj_session_close(r->work);
    pj_session_close(r->write);
    r->look = r->work = r->write = NULL;
    for (struct pj_outfit *outfit; r->handover && (outfit = pj_handover_retired(r->handover));)
        pj_outfit_free(outfit);
}

/* ------------------------------------------------------------------------------------------------------------ facts */

static int load(struct pj_deployed_module *module, bool *target, struct pj_error *error)
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

static enum pj_roster_memory in_memory(const struct pj_outfit *outfit, const struct pj_deployed_module *module)
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

/* ------------------------------------------------------------------------------------------------------- one module */

struct candidate {
    struct pj_deployed_module *module;
    struct pj_module_name name;
    struct pj_roster_fact fact;
    struct pj_roster_role role;
    struct pj_outfit *outfit; /* with it in the former's place; not checked against the read side; NULL: given away */
};

/* With all that it reads mirrored, which may take some time. */
static int open_outfit(struct pj_registering *r, struct candidate *c, struct pj_error *error)
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

static int decide(struct pj_registering *r, struct candidate *c, struct pj_error *error)
{
    int code = open_outfit(r, c, error);
    struct pj_projection *projection = code == PJ_OK ? pj_outfit_projection(c->outfit, c->name.text) : NULL;
    if (code == PJ_OK && c->fact.target)
        code = pj_roster_row(r->look, projection, &c->fact.row, error);
    if (code == PJ_OK && c->fact.target && c->fact.row == PJ_ROW_NONE)
        code = check_name_is_free(r, projection, error);
    c->fact.file = PJ_FILE_THERE;
    c->fact.memory = in_memory(pj_outfit_in_use(r), c->module);
    c->role = pj_roster_decide(&c->fact);
    return code;
}

/* The same version and definition from another file, or a module without a table: taken as it is. */
static int take(struct pj_registering *r, struct candidate *c, struct pj_error *error)
{
    struct pj_outfit *outfit = c->outfit;
    int code = pj_projection_add_mirror_indexes(r->look, pj_outfit_projection(outfit, c->name.text), error);
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

/* It stood still, and has its module again; or what it reads was replaced. */
static int wake_up(struct pj_registering *r, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(r->look, &result,
                                "SELECT pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "FROM pgprojector.projection WHERE name = $1 AND state = 'paused' "
                                "AND (pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "OR pg_catalog.starts_with(reason, '" PJ_CATCHES_UP "'))",
                                1, &name, error);
    bool waits = code == PJ_OK && PQntuples(result) == 1, changed;
    bool still = waits && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    const struct pj_projection *projection = waits ? pj_outfit_projection(pj_outfit_in_use(r), name) : NULL;
    if (!projection)
        return code;
    pj_log(r->log, PJ_LOG_INFO,
           still ? "projection %s has its module again: it is made right"
                 : "projection %s: a table that it reads was replaced: it is made right",
           name);
    struct pj_mend mend = pj_registering_mend(r, projection, NULL);
    return pj_resume(&mend, &changed, error);
}

static int build(struct pj_registering *r, struct candidate *c, const struct pj_request *request,
                 struct pj_error *error)
{
    pj_outfit_free(c->outfit);
    c->outfit = NULL;
    pj_log(r->log, PJ_LOG_INFO, "module %s: its table is being built beside", c->name.text);
    int code = pj_registering_build(r, c->module, request, error);
    if (code == PJ_OK)
        pj_log(r->log, PJ_LOG_INFO, "module %s: its table is in place, and live", c->name.text);
    return code;
}

static int act(struct pj_registering *r, struct candidate *c, const struct pj_request *request, struct pj_error *error)
{
    if (c->role.build)
        return build(r, c, request, error);
    int code = c->role.serve == PJ_SERVE_FILE ? take(r, c, error) : PJ_OK;
    return code == PJ_OK ? wake_up(r, c->name.text, error) : code;
}

static int no_file(const char *name, struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "there is no module %s in the module directory of the daemon", name);
    return pj_error_hint(error, "put %s.so there (with a list `modules =` in the configuration, name it there, too)",
                         name);
}

/* Where it could not be bound because it reads the table of a module that does not serve, that is what is wrong.
 * *upstream: its name, to be freed; NULL: it is something else. */
static int explain(struct pj_registering *r, struct pj_deployment *found, const struct candidate *c, char **upstream,
                   struct pj_error *error)
{
    *upstream = error->code == PJ_ECONFIG ? pj_registering_missing_upstream(r, found, c->name.text) : NULL;
    if (!*upstream)
        return error->code;
    pj_error_set(error, PJ_ECONFIG, "module %s reads the table of projection %s, which no module keeps at present",
                 c->name.text, *upstream);
    return pj_error_hint(error, "pgprojector module add %s comes first", *upstream);
}

/* One whose apply() took the daemon along while it was being built would do so again. */
static int check_innocent(struct pj_registering *r, const char *name, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(r->look, &result,
                                "SELECT pg_catalog.regexp_replace(reason, '^kept as [^\n]*\n', '') "
                                "FROM pgprojector.projection WHERE name = $1 || '.next' AND apply_off",
                                1, &name, error);
    if (code == PJ_OK && PQntuples(result) == 1) {
        struct pj_error ignored; /* else with the next survey */
        bool there;
        pj_build_clear(r->work, name, &there, &ignored);
        pj_error_set(error, PJ_ECONFIG, "module %s: the build was given up: %.400s", name, PQgetvalue(result, 0, 0));
        code = pj_error_hint(error, "mend and replace the module, then `pgprojector module add %s`", name);
    }
    PQclear(result);
    return code;
}

static int serve_build(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    struct pj_deployment found = {0};
    struct candidate c = {.fact.wish =
                              request->fresh || request->kind == PJ_REQUEST_ROLLBACK ? PJ_WISH_FRESH : PJ_WISH_ADD};
    snprintf(c.name.text, sizeof c.name.text, "%s", request->name);
    int code = r->deploy(r->context, &found, error);
    if (code == PJ_OK) {
        c.module = pj_deployment_find(&found, request->name, false);
        code = c.module ? load(c.module, &c.fact.target, error) : no_file(request->name, error);
    }
    char *upstream = NULL;
    if (code == PJ_OK && decide(r, &c, error) != PJ_OK)
        code = explain(r, &found, &c, &upstream, error);
    if (code == PJ_OK)
        code = act(r, &c, request, error);
    pj_free(upstream);
    pj_outfit_free(c.outfit);
    pj_deployment_free(&found);
    return code;
}

static int serve(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    if (request->kind == PJ_REQUEST_REMOVE)
        return pj_registering_remove(r, request, error);
    if (request->committed)
        return pj_registering_tidy_build(r, request->name, error);
    if (request->cancelled) {
        int code = pj_registering_give_up(r, request->name, error);
        return code == PJ_OK ? pj_error_set(error, PJ_ESTOPPED, "cancelled") : code;
    }
    int code = check_innocent(r, request->name, error);
    return code == PJ_OK ? serve_build(r, request, error) : code;
}

int pj_registering_serve(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    pj_error_clear(error);
    int code = pj_registering_open(r, error);
    r->request = request->id;
    if (code == PJ_OK)
        code = serve(r, request, error);
    r->request = 0;
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- survey */

static int ask_for_build(struct pj_registering *r, const char *name, struct pj_error *error)
{
    struct pj_request request = {.kind = PJ_REQUEST_BUILD, .name = name, .verify = true};
    int code = pj_request_enter(r->look, &request, error);
    if (code == PJ_EFAIL && !*error->sqlstate) { /* somebody has asked for it already */
        pj_error_clear(error);
        code = PJ_OK;
    }
    return code;
}

/* What it reads is about to be built: its own turn comes after that. */
static int ask_after(struct pj_registering *r, struct pj_deployment *found, const struct candidate *c,
                     struct pj_error *error)
{
    char *upstream;
    struct pj_error cause = *error, ignored;
    PGresult *result = NULL;
    if (explain(r, found, c, &upstream, &cause) != PJ_OK && !upstream) {
        *error = cause;
        return error->code;
    }
    const char *name = upstream;
    int code = pj_session_query(r->look, &result,
                                "SELECT FROM pgprojector.request WHERE name = $1 AND kind <> 'remove' "
                                "AND state IN ('waiting', 'running')",
                                1, &name, &ignored);
    bool comes = code == PJ_OK && PQntuples(result) > 0;
    PQclear(result);
    pj_free(upstream);
    *error = cause;
    if (!comes)
        return error->code;
    pj_error_clear(error);
    return ask_for_build(r, c->name.text, error);
}

static int survey_module(struct pj_registering *r, struct pj_deployment *found, struct pj_deployed_module *module,
                         struct pj_error *error)
{
    struct candidate c = {.module = module, .name = pj_deployed_name(module)};
    bool known, retired;
    int code = pj_roster_known(r->look, c.name.text, &known, &retired, error);
    if (code != PJ_OK || retired)
        return code;
    code = load(module, &c.fact.target, error);
    if (code == PJ_OK && in_memory(pj_outfit_in_use(r), module) == PJ_MEMORY_SAME)
        return wake_up(r, c.name.text, error);
    if (code == PJ_OK && decide(r, &c, error) != PJ_OK)
        code = ask_after(r, found, &c, error);
    else if (code == PJ_OK)
        code = c.role.build ? ask_for_build(r, c.name.text, error) : act(r, &c, NULL, error);
    pj_outfit_free(c.outfit);
    return code;
}

/* A fault of one of those that are looked at, or somebody has had it given up. Else it is a database, or the daemon's
 * end. */
static bool goes_on_after(const struct pj_registering *r, const struct pj_error *error)
{
    if (error->code == PJ_ESTOPPED)
        return !pj_stop_asked(r->stop);
    return !error->retryable && error->code != PJ_EUNREACHABLE;
}

/* What the configuration names by itself, [mirrors] tables. */
static int survey_tables(struct pj_registering *r, const struct pj_deployment *found, struct pj_error *error)
{
    bool added;
    struct pj_outfit *outfit = pj_outfit_make_wanting(r, found->wanted, found->nwanted, error);
    int code = outfit ? pj_registering_mirrors(r, &outfit->setup, "[mirrors] tables", &added, error) : error->code;
    pj_outfit_free(outfit);
    if (code == PJ_OK || !goes_on_after(r, error))
        return code;
    pj_log_error(r->log, PJ_LOG_WARNING, error);
    pj_error_clear(error);
    return PJ_OK;
}

/* A file that is gone retires nothing. */
static void note_gone(struct pj_registering *r, const struct pj_deployment *found)
{
    const struct pj_deployment *used = &pj_outfit_in_use(r)->deployment;
    for (int i = 0; i < used->nmodules; i++) {
        struct pj_module_name name = pj_deployed_name(&used->modules[i]);
        if (!pj_deployment_find(found, name.text, false))
            pj_log(
                r->log, PJ_LOG_WARNING,
                "module %s: its file is gone; it goes on as it is in memory until the daemon is restarted, and stands "
                "still then. To be rid of it: pgprojector module remove %s",
                name.text, name.text);
    }
}

/* What a daemon that was killed was building, and nobody asks for any more. */
static int clear_leftovers(struct pj_registering *r, struct pj_error *error)
{
    PGresult *names;
    int code = pj_session_query(r->look, &names,
                                "SELECT pg_catalog.left(p.name, -5) FROM pgprojector.projection p "
                                "WHERE p.name LIKE '%.next' AND NOT EXISTS (SELECT FROM pgprojector.request r WHERE "
                                "r.state IN ('waiting', 'running') AND r.name || '.next' = p.name)",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(names); i++) {
        bool there;
        code = pj_build_clear(r->work, PQgetvalue(names, i, 0), &there, error);
    }
    PQclear(names);
    if (code == PJ_OK)
        code = pj_session_exec(r->work,
                               "DELETE FROM pgprojector.job j WHERE kind IN ('build', 'rollback') AND NOT EXISTS "
                               "(SELECT FROM pgprojector.request r WHERE r.state IN ('waiting', 'running') "
                               "AND r.name = j.name)",
                               error);
    if (code == PJ_OK)
        code = pj_build_drop_replaced(r->work, NULL, error);
    if (code == PJ_OK)
        code = pj_registering_drop_discarded(r, error);
    if (code == PJ_OK)
        code = pj_projection_drop_unfinished_indexes(r->work, error);
    int removed;
    return code == PJ_OK ? pj_joining_clean(r->work, &removed, error) : code;
}

/* A module's own fault concerns nobody else; a database that is gone does. */
static int go_on_after(struct pj_registering *r, const char *name, struct pj_error *error)
{
    if (!goes_on_after(r, error))
        return error->code;
    bool serves = pj_deployment_find(&pj_outfit_in_use(r)->deployment, name, false);
    pj_log(r->log, PJ_LOG_WARNING, "module %s: %s", name,
           serves ? "its file cannot be taken; it goes on as it is in memory" : "it is left out");
    pj_log_error(r->log, PJ_LOG_WARNING, error);
    pj_error_clear(error);
    return PJ_OK;
}

int pj_registering_stands_still(struct pj_registering *r, bool *yes, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(r->look, &result,
                                    "SELECT EXISTS (SELECT FROM pgprojector.projection WHERE state = 'paused' "
                                    "AND pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "'))",
                                    0, NULL, error);
    *yes = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return code;
}

int pj_registering_say_why(struct pj_registering *r, const char *name, const struct pj_error *fault,
                           struct pj_error *error)
{
    char *reason = pj_sprintf(PJ_STANDS_STILL "the module that made its table is not there, and the one that is cannot "
                                              "take its place: %s%s%s",
                              fault->message, *fault->hint ? "; " : "", fault->hint);
    const char *params[] = {name, reason};
    PGresult *result;
    int code = pj_session_query(r->look, &result,
                                "UPDATE pgprojector.projection SET reason = $2 WHERE name = $1 AND state = 'paused' "
                                "AND pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "')",
                                2, params, error);
    if (code == PJ_OK && strcmp(PQcmdTuples(result), "1") == 0)
        pj_log(r->log, PJ_LOG_ERROR, "projection %s %s", name, reason);
    PQclear(result);
    pj_free(reason);
    return code;
}

/* Those that cannot be resumed stay as they are, with their reason. */
int pj_registering_catch_up(struct pj_registering *r, struct pj_error *error)
{
    PGresult *names = NULL;
    pj_error_clear(error);
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = pj_session_query(r->look, &names,
                                "SELECT name FROM pgprojector.projection WHERE state = 'paused' "
                                "AND (pg_catalog.starts_with(reason, '" PJ_STANDS_STILL "') "
                                "OR pg_catalog.starts_with(reason, '" PJ_CATCHES_UP "')) ORDER BY name",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(names); i++) {
        code = wake_up(r, PQgetvalue(names, i, 0), error);
        if (code == PJ_OK || !goes_on_after(r, error))
            continue;
        pj_log_error(r->log, PJ_LOG_WARNING, error);
        pj_error_clear(error);
        code = PJ_OK;
    }
    PQclear(names);
    return code;
}

int pj_registering_survey(struct pj_registering *r, struct pj_error *error)
{
    struct pj_deployment found = {0};
    pj_error_clear(error);
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = r->deploy(r->context, &found, error);
    if (code == PJ_OK)
        note_gone(r, &found);
    if (code == PJ_OK && found.nwanted)
        code = survey_tables(r, &found, error);
    if (code == PJ_OK)
        code = pj_registering_order(r, &found, error);
    for (int i = 0; code == PJ_OK && i < found.nmodules; i++)
        if (survey_module(r, &found, &found.modules[i], error) != PJ_OK)
            code = go_on_after(r, pj_deployed_name(&found.modules[i]).text, error);
    if (code == PJ_OK)
        code = clear_leftovers(r, error);
    pj_deployment_free(&found);
    return code;
}
