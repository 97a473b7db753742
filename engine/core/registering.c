/*
 * See registering.h: the sessions, and serving a request. One module is registering_module.c's, looking at all of them
 * registering_survey.c's, what stands still registering_wake.c's; building and removing are files of their own.
 */
#include "core/registering_internal.h"

#include "base/mem.h"
#include "core/build.h"

#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------------- sessions */

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

/* ---------------------------------------------------------------------------------------------------------- serving */

const struct pj_error *pj_registering_not_again(struct pj_error *error)
{
    if (error->storage) {
        error->retryable = false;
        pj_error_hint(
            error, "there was no room, or no leave to write, so it was given up: make room, or mend the file system, "
                   "then ask for it again (a SIGHUP or a restart of the daemon does so, too, and drops what could "
                   "not be dropped now)");
    }
    return error;
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

/* Of this process, which a command may ask from a program that is installed elsewhere. */
static int no_file(const struct pj_deployment *found, const char *name, struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "there is no module %s in the module directory, %s", name, found->module_dir);
    return pj_error_hint(error, "put %s.so there (with a list `modules =` in the configuration, name it there, too)",
                         name);
}

/* A file that somebody names may be another than the one that is loaded. */
static int check_place(const struct pj_deployed_module *module, const struct pj_request *request,
                       struct pj_error *error)
{
    if (!request->file || strcmp(request->file, module->path) == 0)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "%s is not the file that is deployed", request->file);
    return pj_error_hint(error, "module %s is loaded from %s: copy it there, then `pgprojector module add %s`",
                         request->name, module->path, request->name);
}

static int find_file(struct pj_deployment *found, const struct pj_request *request, struct pj_candidate *c,
                     struct pj_error *error)
{
    c->module = pj_deployment_find(found, request->name, false);
    if (!c->module)
        return no_file(found, request->name, error);
    int code = check_place(c->module, request, error);
    return code == PJ_OK ? pj_candidate_load(c->module, &c->fact.target, error) : code;
}

static int serve_build(struct pj_registering *r, const struct pj_request *request, struct pj_error *error)
{
    struct pj_deployment found = {0};
    struct pj_candidate c = {.fact.wish =
                                 request->fresh || request->kind == PJ_REQUEST_ROLLBACK ? PJ_WISH_FRESH : PJ_WISH_ADD};
    snprintf(c.name.text, sizeof c.name.text, "%s", request->name);
    int code = r->deploy(r->context, &found, error);
    if (code == PJ_OK)
        code = find_file(&found, request, &c, error);
    char *upstream = NULL;
    if (code == PJ_OK && pj_candidate_decide(r, &c, error) != PJ_OK)
        code = pj_candidate_explain(r, &found, &c, &upstream, error);
    if (code == PJ_OK)
        code = pj_candidate_act(r, &c, request, error);
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
