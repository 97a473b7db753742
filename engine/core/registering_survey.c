/* Looking at all that is there. */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/guilty.h"

/* What has taken the daemon along would do so again. A command may ask for it all the same. */
static int is_guilty(struct pj_registering *r, const struct pj_candidate *c, bool *yes, struct pj_error *error)
{
    char *what;
    int code =
        pj_guilty_of(r->look, c->name.text, pj_module_mark(c->module->image, &c->module->binding).text, &what, error);
    *yes = what != NULL;
    if (what)
        pj_log(r->log, PJ_LOG_WARNING,
               "module %s: its table is not built by itself, for its file is the one of which %s: mend and replace it, "
               "then `pgprojector module add %s`",
               c->name.text, what, c->name.text);
    pj_free(what);
    return code;
}

static int ask_for_build(struct pj_registering *r, const struct pj_candidate *c, struct pj_error *error)
{
    const char *name = c->name.text;
    bool guilty;
    int known = is_guilty(r, c, &guilty, error);
    if (known != PJ_OK || guilty)
        return known;
    struct pj_request request = {.kind = PJ_REQUEST_BUILD, .name = name, .verify = true};
    int code = pj_request_enter(r->look, &request, error);
    if (code == PJ_EFAIL && !*error->sqlstate) { /* somebody has asked for it already */
        pj_error_clear(error);
        code = PJ_OK;
    }
    return code;
}

/* What it reads is about to be built: its own turn comes after that. */
static int ask_after(struct pj_registering *r, struct pj_deployment *found, const struct pj_candidate *c,
                     struct pj_error *error)
{
    char *upstream;
    struct pj_error cause = *error, ignored;
    PGresult *result = NULL;
    if (pj_candidate_explain(r, found, c, &upstream, &cause) != PJ_OK && !upstream) {
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
    return ask_for_build(r, c, error);
}

static int survey_module(struct pj_registering *r, struct pj_deployment *found, struct pj_deployed_module *module,
                         struct pj_error *error)
{
    struct pj_candidate c = {.module = module, .name = pj_deployed_name(module)};
    bool known, retired;
    int code = pj_roster_known(r->look, c.name.text, &known, &retired, error);
    if (code != PJ_OK || retired)
        return code;
    code = pj_candidate_load(module, &c.fact.target, error);
    if (code == PJ_OK && pj_candidate_in_memory(pj_outfit_in_use(r), module) == PJ_MEMORY_SAME)
        return pj_registering_wake_up(r, c.name.text, error);
    if (code == PJ_OK && pj_candidate_decide(r, &c, error) != PJ_OK)
        code = ask_after(r, found, &c, error);
    else if (code == PJ_OK)
        code = c.role.build ? ask_for_build(r, &c, error) : pj_candidate_act(r, &c, NULL, error);
    pj_outfit_free(c.outfit);
    return code;
}

static int forget_unfit(struct pj_registering *r, struct pj_error *error)
{
    return pj_session_exec(r->work, "DELETE FROM pgprojector.unfit_mirror", error);
}

/* For status, and that nobody waits for a table that will not come by itself. */
static int note_unfit(struct pj_registering *r, const struct pj_wanted_table *table, const struct pj_error *cause,
                      struct pj_error *error)
{
    const char *params[] = {table->schema, table->name, cause->message, cause->hint};
    PGresult *result;
    int code =
        pj_session_query(r->work, &result,
                         "INSERT INTO pgprojector.unfit_mirror VALUES ($1, $2, $3, $4) ON CONFLICT (schema_name, "
                         "table_name) DO UPDATE SET reason = excluded.reason, hint = excluded.hint",
                         4, params, error);
    PQclear(result);
    return code;
}

/* Somebody has a table open that an attempt before has left. */
static int look_again(struct pj_registering *r, const char *what, struct pj_error *error)
{
    r->look_again = true;
    return pj_registering_put_off(r, what, error);
}

/* What is wrong with one of several tables need not concern the others. */
static bool one_by_one(const struct pj_error *error)
{
    return error->code == PJ_ECONFIG || error->in_use;
}

static int add_tables(struct pj_registering *r, const struct pj_wanted_table *tables, int count, struct pj_error *error)
{
    bool added;
    struct pj_outfit *outfit = pj_outfit_make_wanting(r, tables, count, error);
    int code = outfit ? pj_registering_mirrors(r, &outfit->setup, "[mirrors] tables", &added, error) : error->code;
    pj_outfit_free(outfit);
    if (code == PJ_OK || (one_by_one(error) && count > 1) || !pj_registering_goes_on_after(r, error))
        return code;
    struct pj_error cause = *error;
    if (error->in_use) {
        look_again(r, tables[0].name, error);
    } else {
        pj_error_hint(&cause, "%s%sthen send the daemon SIGHUP, or restart it", error->hint,
                      *error->hint ? "; " : "mend it, ");
        pj_log_error(r->log, PJ_LOG_WARNING, &cause);
        pj_error_clear(error);
    }
    code = pj_registering_open(r, error); /* what failed may have closed them */
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = note_unfit(r, &tables[i], &cause, error);
    return code;
}

/* What the configuration names by itself, [mirrors] tables. Where one of them is unfit they are added one by one, and
 * each says what is wrong with it. */
static int survey_tables(struct pj_registering *r, const struct pj_deployment *found, struct pj_error *error)
{
    int code = add_tables(r, found->wanted, found->nwanted, error);
    if (code == PJ_OK || !one_by_one(error))
        return code;
    pj_error_clear(error);
    code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < found->nwanted; i++)
        code = add_tables(r, &found->wanted[i], 1, error);
    return code;
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

/* What interrupted ones have left, but for their tables: these are dropped when all requests are served. */
static int clear_leftovers(struct pj_registering *r, struct pj_error *error)
{
    r->untidy = r->unfinished = true;
    int code = pj_session_exec(r->work,
                               "DELETE FROM pgprojector.job j WHERE kind IN ('build', 'rollback') AND NOT EXISTS "
                               "(SELECT FROM pgprojector.request r WHERE r.state IN ('waiting', 'running') "
                               "AND r.name = j.name)",
                               error);
    return code == PJ_OK ? pj_projection_drop_unfinished_indexes(r->work, error) : code;
}

/* A module's own fault concerns nobody else; a database that is gone does. */
static int go_on_after(struct pj_registering *r, const char *name, struct pj_error *error)
{
    if (!pj_registering_goes_on_after(r, error))
        return error->code;
    if (error->in_use)
        return look_again(r, name, error);
    bool serves = pj_deployment_find(&pj_outfit_in_use(r)->deployment, name, false);
    pj_log(r->log, PJ_LOG_WARNING, "module %s: %s", name,
           serves ? "its file cannot be taken; it goes on as it is in memory" : "it is left out");
    pj_log_error(r->log, PJ_LOG_WARNING, error);
    pj_error_clear(error);
    return PJ_OK;
}

int pj_registering_survey(struct pj_registering *r, struct pj_error *error)
{
    struct pj_deployment found = {0};
    pj_error_clear(error);
    r->look_again = false;
    int code = pj_registering_open(r, error);
    if (code == PJ_OK)
        code = r->deploy(r->context, &found, error);
    if (code == PJ_OK)
        note_gone(r, &found);
    if (code == PJ_OK)
        code = forget_unfit(r, error);
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
