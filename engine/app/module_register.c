/*
 * `module add`, `module remove`: asked of the daemon, where one runs (core/request.h), else done here, with its lock
 * held (core/registering.h).
 */
#include "app/deployment.h"
#include "app/module.h"
#include "app/scope.h"
#include "base/mem.h"
#include "core/build.h"
#include "core/catalog.h"
#include "core/registering.h"
#include "core/roster.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_TIMEOUT_MS = 60000 };

/* ---------------------------------------------------------------------------------------------------- with a daemon */

static int ask_daemon(struct pj_scope *scope, struct pj_session *read, struct pj_request *request,
                      struct pj_error *error)
{
    int code = pj_request_enter(read, request, error);
    if (code != PJ_OK || scope->app->options.no_wait)
        return code;
    code = pj_request_follow(read, request, pj_scope_show, scope, pj_scope_watched(scope), &scope->app->stop, error);
    pj_scope_end_line(scope);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- without */

static int deploy(void *context, struct pj_deployment *deployment, struct pj_error *error)
{
    const struct pj_scope *scope = context;
    return pj_deployment_make(deployment, &scope->app->config, error);
}

/* What a daemon would run. */
static int put_on(struct pj_scope *scope, struct pj_registering *r, struct pj_session *read, struct pj_error *error)
{
    struct pj_session *write = NULL;
    r->alone = pj_alloc(sizeof *r->alone);
    int code = deploy(scope, &r->alone->deployment, error);
    if (code == PJ_OK)
        code = pj_app_connect(scope->app, PJ_WRITE, "module", STEP_TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = pj_roster_open(&r->alone->setup, &r->alone->deployment, write, read, NULL, error);
    pj_session_close(write);
    return code;
}

/* What cannot serve until the request is carried out, as the module to be built and what reads its table, stands
 * still meanwhile. */
static int begin_here(struct pj_scope *scope, struct pj_registering *r, struct pj_session *read, struct pj_error *error)
{
    int code = put_on(scope, r, read, error);
    return code == PJ_OK ? pj_roster_stand_still(&r->alone->setup, &r->alone->deployment, read, NULL, error) : code;
}

/* What can serve now is made right; what is left, a daemon does when it is started. */
static void end_here(struct pj_scope *scope, struct pj_registering *r, struct pj_session *read)
{
    struct pj_error error;
    pj_outfit_free(r->alone);
    int code = put_on(scope, r, read, &error);
    if (code == PJ_OK)
        code = pj_setup_check_read(&r->alone->setup, read, &error);
    if (code == PJ_OK)
        code = pj_registering_catch_up(r, &error);
    if (code != PJ_OK)
        pj_log_error(r->log, PJ_LOG_WARNING, &error);
}

static int do_it_here(struct pj_scope *scope, struct pj_session *read, const struct pj_request *request,
                      struct pj_error *error)
{
    struct pj_log quiet = {PJ_LOG_WARNING, scope->app->log.fd};
    struct pj_registering r = {
        .deploy = deploy, .show = pj_scope_show, .context = scope, .log = &quiet, .stop = &scope->app->stop};
    struct pj_error ignored;
    bool there;
    int code = begin_here(scope, &r, read, error);
    if (code == PJ_OK)
        code = pj_registering_serve(&r, request, error);
    if (code != PJ_ESTOPPED)
        end_here(scope, &r, read);
    pj_registering_close(&r);
    pj_outfit_free(r.alone);
    pj_scope_end_line(scope);
    if (code == PJ_ESTOPPED)
        pj_build_clear(read, request->name, &there, &ignored);
    return code;
}

/* `read` is not ended by a stop: a request has to be cancelled then. */
static int carry_out(struct pj_app *app, struct pj_request *request, bool *daemon, struct pj_error *error)
{
    struct pj_app unstoppable = *app;
    unstoppable.stop.fd = -1;
    struct pj_scope scope = {.app = app}; /* for showing progress alone */
    struct pj_session *read = NULL;
    bool mine = false;
    int code = pj_scope_connect(&unstoppable, "module", &read, error);
    if (code == PJ_OK)
        code = pj_catalog_install(read, error);
    if (code == PJ_OK)
        code = pj_catalog_lock_without_daemon(read, &mine, NULL, error);
    *daemon = !mine;
    if (code == PJ_OK)
        code = mine ? do_it_here(&scope, read, request, error) : ask_daemon(&scope, read, request, error);
    pj_session_close(read);
    return code;
}

/* -------------------------------------------------------------------------------------------------------------- add */

/* Whether a file is the one that is deployed, only who loads it can say: the path as it is here, to be freed. */
static int resolve_file(const char *operand, char **file, struct pj_error *error)
{
    *file = realpath(operand, NULL);
    return *file ? PJ_OK : pj_error_set(error, PJ_ECONFIG, "there is no file %s", operand);
}

static void name_of(const char *operand, struct pj_module_name *name)
{
    struct pj_deployed_module module = {.path = (char *)(uintptr_t)operand};
    *name = pj_deployed_name(&module);
}

static int add_one(struct pj_app *app, const char *operand, struct pj_error *error)
{
    struct pj_module_name name;
    name_of(operand, &name);
    bool daemon;
    char *file = NULL;
    int code = strcmp(operand, name.text) != 0 ? resolve_file(operand, &file, error) : PJ_OK;
    struct pj_request request = {.kind = PJ_REQUEST_BUILD,
                                 .name = name.text,
                                 .file = file,
                                 .keep_old = app->options.keep_old,
                                 .verify = !app->options.no_verify};
    if (code == PJ_OK)
        code = carry_out(app, &request, &daemon, error);
    free(file);
    if (code == PJ_OK && daemon && app->options.no_wait)
        printf("%s: asked for; see pgprojector module list\n", name.text);
    else if (code == PJ_OK)
        printf("%s is registered%s\n", name.text, request.keep_old ? "; a table that it replaced is kept" : "");
    fflush(stdout);
    return code;
}

int pj_module_add_command(struct pj_app *app, struct pj_error *error)
{
    int code = pj_app_configure(app, error);
    if (code == PJ_OK)
        code = pj_module_check_quietly(app, error);
    for (int i = 1; code == PJ_OK && i < app->noperands; i++)
        code = add_one(app, app->operands[i], error);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- remove */

int pj_module_remove_command(struct pj_app *app, struct pj_error *error)
{
    struct pj_request request = {
        .kind = PJ_REQUEST_REMOVE, .name = app->operands[1], .drop_table = app->options.drop_table};
    bool daemon = false;
    int code = pj_app_configure(app, error);
    if (code == PJ_OK)
        code = carry_out(app, &request, &daemon, error);
    if (code != PJ_OK)
        return code;
    printf(daemon && app->options.no_wait ? "%s: asked for; see pgprojector module list\n"
           : request.drop_table           ? "%s is removed, with its table\n"
                                          : "%s is removed; its table stays as it is\n",
           request.name);
    return PJ_OK;
}
