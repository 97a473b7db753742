/* See scope.h. */
#include "app/scope.h"

#include "app/deployment.h"
#include "app/values.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/catalog.h"
#include "core/roster.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STEP_TIMEOUT_MS = 60000, LOG_EVERY_US = 3000000, RUNS = 10 };

int pj_scope_require_complete(struct pj_session *read, struct pj_error *error)
{
    struct pj_checkpoint checkpoint;
    bool installed;
    int code = pj_catalog_read(read, &checkpoint, &installed, error);
    if (code != PJ_OK || (installed && checkpoint.complete))
        return code;
    pj_error_set(error, PJ_EUNHEALTHY, "the first start is not complete");
    return pj_error_hint(error, "start the daemon with `pgprojector run`, or see `pgprojector status`");
}

/* Without deadlines: a comparison takes as long as it takes, and a stop ends it. */
int pj_scope_connect(const struct pj_app *app, const char *purpose, struct pj_session **read, struct pj_error *error)
{
    int code = pj_app_connect(app, PJ_READ, purpose, 0, read, error);
    if (code == PJ_OK)
        code = pj_scope_require_complete(*read, error);
    if (code == PJ_OK)
        return PJ_OK;
    pj_session_close(*read);
    *read = NULL;
    return code;
}

static int add_beside(struct pj_deployment *deployment, const char *name, struct pj_error *error)
{
    const struct pj_deployed_module *module = pj_deployment_find(deployment, name, false);
    if (module) {
        struct pj_deployed_module serving = *module; /* the list may move */
        pj_deployment_add(deployment, &serving)->binding.beside = true;
        return PJ_OK;
    }
    pj_error_set(error, PJ_ECONFIG, "there is no module \"%.60s\" in the module directory", name);
    return pj_error_hint(error, "`pgprojector status` lists the projections");
}

/* A new module's fault is nobody else's: then with those that can serve. */
static int open_setup(struct pj_scope *scope, struct pj_session *write, struct pj_error *error)
{
    int code = pj_setup_open(&scope->setup, &scope->deployment, write, scope->look, error);
    if (code == PJ_ECONFIG)
        code = pj_roster_open(&scope->setup, &scope->deployment, write, scope->look, NULL, error);
    return code;
}

int pj_scope_open(struct pj_scope *scope, struct pj_app *app, const char *purpose, struct pj_error *error)
{
    return pj_scope_open_beside(scope, app, purpose, NULL, error);
}

int pj_scope_open_beside(struct pj_scope *scope, struct pj_app *app, const char *purpose, const char *name,
                         struct pj_error *error)
{
    *scope = (struct pj_scope){.app = app};
    struct pj_session *write = NULL;
    int code = pj_deployment_make(&scope->deployment, &app->config, error);
    if (code == PJ_OK && name)
        code = add_beside(&scope->deployment, name, error);
    if (code == PJ_OK)
        code = pj_scope_connect(app, purpose, &scope->look, error);
    if (code == PJ_OK)
        code = pj_standing_mark(scope->look, &scope->mark, error);
    if (code == PJ_OK)
        code = pj_app_connect(app, PJ_READ, purpose, 0, &scope->work, error);
    if (code == PJ_OK)
        code = pj_app_connect(app, PJ_WRITE, purpose, STEP_TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = open_setup(scope, write, error);
    pj_session_close(write);
    return code;
}

void pj_scope_close(struct pj_scope *scope)
{
    pj_scope_end_line(scope);
    pj_setup_close(&scope->setup);
    pj_session_close(scope->look);
    pj_session_close(scope->work);
    pj_deployment_free(&scope->deployment);
}

int pj_scope_run(struct pj_app *app, const char *purpose,
                 int (*work)(struct pj_scope *scope, void *context, struct pj_error *error), void *context,
                 struct pj_error *error)
{
    int code = PJ_ERELOAD;
    for (int run = 0; code == PJ_ERELOAD && run < RUNS; run++) {
        struct pj_scope scope = {0};
        if (run)
            pj_log(&app->log, PJ_LOG_INFO, "once more: %s", error->message);
        code = pj_scope_open(&scope, app, purpose, error);
        if (code == PJ_OK)
            code = work(&scope, context, error);
        pj_scope_close(&scope);
    }
    return code;
}

const char *pj_scope_why_left_out(const struct pj_deployment *deployment, const char *name)
{
    const char *why = pj_deployment_why_left_out(deployment, name);
    return why ? why : "is missing here";
}

int pj_scope_left_out(struct pj_session *read, const struct pj_deployment *deployment, const char *name,
                      struct pj_error *error)
{
    bool known, retired;
    int code = pj_roster_known(read, name, &known, &retired, error);
    if (code != PJ_OK || !known || strchr(name, '.')) /* NAME.kept and NAME.next are no names to be given */
        return code;
    if (retired) {
        pj_error_set(error, PJ_ECONFIG, "projection %.60s was removed: its table is not kept up any more", name);
        return pj_error_hint(error, "`pgprojector module add %s` takes it up again", name);
    }
    bool there = pj_deployment_why_left_out(deployment, name) != NULL;
    pj_error_set(error, PJ_ECONFIG, "projection %.60s: its module's file %s", name,
                 pj_scope_why_left_out(deployment, name));
    return there ? pj_error_hint(error,
                                 "`pgprojector module add %s` has its table built by it, or says what is wrong; "
                                 "`pgprojector module list` compares versions",
                                 name)
                 : pj_error_hint(error, "put it into the module directory, %s, then `pgprojector module add %s`",
                                 deployment->module_dir, name);
}

/* Joining mirrors are one job, under the name of the first of them. */
static void say_joining(const char *mirror, const char *phase, struct pj_error *error)
{
    pj_error_set(error, PJ_EUNHEALTHY,
                 "mirror %.120s is still being added%s%.200s%s: until it is exact there is nothing to compare", mirror,
                 *phase ? " (" : "", phase, *phase ? ")" : "");
    pj_error_hint(error, "`pgprojector status` shows it among what is under way; ask again when it is no more");
}

int pj_scope_mirror_left_out(struct pj_session *read, const char *name, struct pj_error *error)
{
    static const char sql[] =
        "SELECT schema_name || '.' || table_name, state = 'joining', (SELECT coalesce("
        "pg_catalog.min(phase), '') FROM pgprojector.job WHERE kind = 'mirror') "
        "FROM pgprojector.mirror WHERE $1 IN (table_name, schema_name || '.' || table_name) LIMIT 1";
    PGresult *result;
    int code = pj_session_query(read, &result, sql, 1, &name, error);
    if (code == PJ_OK && PQntuples(result)) {
        const char *mirror = PQgetvalue(result, 0, 0);
        if (PQgetvalue(result, 0, 1)[0] == 't')
            say_joining(mirror, PQgetvalue(result, 0, 2), error);
        else
            pj_error_set(error, PJ_ECONFIG, "mirror %.120s: its source is gone, so there is nothing to compare it with",
                         mirror);
        code = error->code;
    }
    PQclear(result);
    return code;
}

int pj_scope_find(const struct pj_scope *scope, const char *name, struct pj_projection **projection,
                  struct pj_error *error)
{
    const struct pj_setup *setup = &scope->setup;
    const char **names = pj_alloc(sizeof *names * (size_t)(setup->nprojections + 1));
    int count = 0;
    *projection = NULL;
    for (int i = 0; i < setup->nprojections; i++) {
        if (!setup->projections[i].target_sql)
            continue;
        names[count++] = setup->projections[i].name;
        if (strcmp(names[count - 1], name) == 0)
            *projection = &setup->projections[i];
    }
    const char *nearest = pj_value_nearest(name, names);
    pj_free(names);
    if (*projection)
        return PJ_OK;
    int code = pj_scope_left_out(scope->look, &scope->deployment, name, error);
    if (code != PJ_OK)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is no projection \"%.60s\"", name);
    return nearest ? pj_error_hint(error, "did you mean %s?", nearest)
                   : pj_error_hint(error, "`pgprojector status` lists them");
}

/* -------------------------------------------------------------------------------------------------------- progress */

static void describe(const struct pj_progress *progress, char *text, size_t size)
{
    int length = snprintf(text, size, "%s %s: %s", progress->kind, progress->name, progress->phase);
    if (progress->total > 0)
        length +=
            snprintf(text + length, size - (size_t)length, ", %lld of %lld keys, %d %%", (long long)progress->done,
                     (long long)progress->total, (int)(progress->done * 100 / progress->total));
    if (progress->rate > 0 && progress->remaining_s >= 0)
        snprintf(text + length, size - (size_t)length, ", %.0f a second, %.0f s left", progress->rate,
                 progress->remaining_s);
}

bool pj_scope_watched(const struct pj_scope *scope)
{
    return isatty(scope->app->log.fd);
}

void pj_scope_show(void *context, const struct pj_progress *progress)
{
    struct pj_scope *scope = context;
    char text[320];
    describe(progress, text, sizeof text);
    if (pj_scope_watched(scope)) {
        dprintf(scope->app->log.fd, "\r\033[K%s", text);
        scope->line_open = true;
        return;
    }
    uint64_t now = pj_clock_monotonic_us();
    if (scope->phase == progress->phase && now - scope->logged_us < LOG_EVERY_US)
        return;
    scope->phase = progress->phase;
    scope->logged_us = now;
    pj_log(&scope->app->log, PJ_LOG_INFO, "%s", text);
}

void pj_scope_end_line(struct pj_scope *scope)
{
    if (scope->line_open)
        dprintf(scope->app->log.fd, "\r\033[K");
    scope->line_open = false;
}

struct pj_mend pj_scope_mend(struct pj_scope *scope, const struct pj_projection *projection)
{
    return (struct pj_mend){
        .work = scope->work,
        .job = {.session = scope->look, .show = pj_scope_show, .context = scope},
        .projection = projection,
        .mark = &scope->mark,
        .stop = &scope->app->stop,
        .options = {.chunk = scope->app->options.chunk, .max_rate = scope->app->options.max_rate},
    };
}
