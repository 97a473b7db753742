/*
 * See rebuild_fresh.h. With a daemon it is a request (core/request.h), which the daemon serves while all goes on.
 * Without one this process holds the daemon's lock and does the same itself: no stream moves, so nothing has to be
 * noted.
 */
#include "app/rebuild_fresh.h"

#include "app/deployment.h"
#include "app/scope.h"
#include "core/build.h"
#include "core/catalog.h"
#include "core/pause.h"
#include "core/request.h"

#include <stdio.h>

/* ---------------------------------------------------------------------------------------------------- with a daemon */

static void say_done(const struct pj_app *app, const char *name)
{
    const char *kept = app->options.keep_old ? "; the former table is kept" : "";
    printf(app->options.rollback ? "%s: rolled back to the kept table%s\n" : "%s: built anew and swapped in%s\n", name,
           kept);
    fflush(stdout);
}

/* Follows on a session that outlives a stop, for the stop is to cancel the request. */
static int ask_daemon(struct pj_app *app, const char *name, struct pj_error *error)
{
    struct pj_scope scope = {.app = app}; /* for showing progress alone */
    struct pj_app unstoppable = *app;
    unstoppable.stop.fd = -1;
    struct pj_session *read = NULL;
    struct pj_request request = {.kind = app->options.rollback ? PJ_REQUEST_ROLLBACK : PJ_REQUEST_BUILD,
                                 .name = name,
                                 .fresh = true,
                                 .keep_old = app->options.keep_old,
                                 .verify = !app->options.no_verify,
                                 .max_rate = app->options.max_rate,
                                 .chunk = app->options.chunk};
    int code = pj_scope_connect(&unstoppable, "rebuild", &read, error);
    if (code == PJ_OK)
        code = pj_request_enter(read, &request, error);
    if (code == PJ_OK)
        code = pj_request_follow(read, &request, pj_scope_show, &scope, pj_scope_watched(&scope), &app->stop, error);
    pj_scope_end_line(&scope);
    pj_session_close(read);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- without */

static int find_next(const struct pj_scope *scope, const char *name, struct pj_projection **next,
                     struct pj_error *error)
{
    char beside[128];
    snprintf(beside, sizeof beside, "%s%s", name, PJ_NEXT_NAME);
    return pj_scope_find(scope, beside, next, error);
}

/* After a stop nothing can be sent through the sessions any more. */
static void clean_up(struct pj_scope *scope, const char *name)
{
    struct pj_app unstoppable = *scope->app;
    unstoppable.stop.fd = -1;
    struct pj_session *work = NULL;
    struct pj_error error;
    bool there;
    pj_session_close(scope->work);
    pj_session_close(scope->look);
    scope->work = scope->look = NULL;
    int code = pj_app_connect(&unstoppable, PJ_READ, "rebuild", 0, &work, &error);
    if (code == PJ_OK)
        code = pj_build_clear(work, name, &there, &error);
    if (code != PJ_OK)
        pj_log_error(&scope->app->log, PJ_LOG_WARNING, &error);
    pj_session_close(work);
}

/* Those that are chained on the table; a daemon that is started does what is left. */
static void catch_up_chained(struct pj_scope *scope)
{
    struct pj_error error;
    struct pj_projection *projection;
    PGresult *names = NULL;
    int code = pj_build_catching_up(scope->look, &names, &error);
    for (int i = 0; code == PJ_OK && i < PQntuples(names); i++) {
        bool changed;
        code = pj_scope_find(scope, PQgetvalue(names, i, 0), &projection, &error);
        if (code == PJ_OK)
            code = pj_projection_check_target(scope->look, projection, &error);
        if (code == PJ_OK) {
            struct pj_mend mend = pj_scope_mend(scope, projection);
            mend.mark = NULL;
            code = pj_resume(&mend, PJ_CATCHES_UP, &changed, &error);
        }
    }
    PQclear(names);
    if (code == PJ_OK)
        return;
    pj_error_wrap(&error, "what reads the table is not up to date yet");
    pj_error_hint(&error,
                  "start the daemon, or run `pgprojector resume` for what `pgprojector status` shows as paused");
    pj_log_error(&scope->app->log, PJ_LOG_WARNING, &error);
}

/* The daemon's lock is held. */
static int build_here(struct pj_scope *scope, const char *name, struct pj_error *error)
{
    struct pj_projection *next;
    int code = pj_keywork_check(scope->look, &scope->mark, error); /* as it was before there was the lock? */
    if (code == PJ_OK)
        code = find_next(scope, name, &next, error);
    if (code != PJ_OK)
        return code;
    struct pj_mend mend = pj_scope_mend(scope, next);
    mend.mark = NULL; /* from here on it is this process that changes things */
    struct pj_build build = {.mend = &mend,
                             .next = next,
                             .setup = &scope->setup,
                             .name = name,
                             .keep_old = scope->app->options.keep_old,
                             .verify = !scope->app->options.no_verify,
                             .from_kept = scope->app->options.rollback,
                             .log = &scope->app->log};
    code = pj_build_prepare(&build, error);
    bool prepared = code == PJ_OK;
    if (code == PJ_OK)
        code = pj_build_fill(&build, error);
    if (code == PJ_OK)
        code = pj_build_swap(&build, error);
    if (code == PJ_OK)
        catch_up_chained(scope);
    pj_scope_end_line(scope);
    if (code != PJ_OK && prepared)
        clean_up(scope, name);
    return code;
}

/* ------------------------------------------------------------------------------------------------------------ verbs */

int pj_rebuild_fresh(struct pj_app *app, const char *name, struct pj_error *error)
{
    struct pj_scope scope;
    bool mine = false;
    int code = pj_scope_open_beside(&scope, app, "rebuild", name, error);
    if (code == PJ_OK)
        code = pj_catalog_install(scope.look, error);
    if (code == PJ_OK)
        code = pj_catalog_lock_without_daemon(scope.look, &mine, NULL, error);
    if (code == PJ_OK)
        code = mine ? build_here(&scope, name, error) : ask_daemon(app, name, error);
    pj_scope_close(&scope);
    if (code == PJ_OK)
        say_done(app, name);
    return code;
}

int pj_rebuild_drop_kept(struct pj_app *app, const char *name, struct pj_error *error)
{
    struct pj_session *read = NULL;
    bool there = false;
    int code = pj_scope_connect(app, "rebuild", &read, error);
    if (code == PJ_OK)
        code = pj_build_drop_kept(read, name, &there, error);
    pj_session_close(read);
    if (code == PJ_OK)
        printf("%s: %s\n", name, there ? "the kept table was dropped" : "no table was kept");
    return code;
}

int pj_rebuild_cancel(struct pj_app *app, const char *name, struct pj_error *error)
{
    struct pj_session *read = NULL;
    bool found = false, failed = false, possible = false;
    int code = pj_scope_connect(app, "rebuild", &read, error);
    if (code == PJ_OK)
        code = pj_request_possible(read, &possible, error);
    if (code == PJ_OK && possible)
        code = pj_request_cancel(read, name, &found, error);
    if (code == PJ_OK && possible && !found)
        code = pj_request_forget(read, name, &failed, error);
    pj_session_close(read);
    if (code != PJ_OK)
        return code;
    printf(failed   ? "%s: nothing is under way; what had failed is forgotten\n"
           : !found ? "%s: nothing is under way\n"
                    : "%s: asked to be given up\n",
           name);
    return PJ_OK;
}
