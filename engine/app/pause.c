/* `pause` and `resume`. */
#include "core/pause.h"
#include "app/scope.h"
#include "base/mem.h"

#include <stdio.h>

static int require_name(const struct pj_app *app, struct pj_error *error)
{
    if (app->noperands == 1)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "which projection?");
    return pj_error_hint(error, "`pgprojector status` lists them");
}

int pj_pause_command(struct pj_app *app, struct pj_error *error)
{
    struct pj_session *read = NULL;
    enum pj_paused how;
    char *reason = NULL;
    int code = require_name(app, error);
    if (code == PJ_OK)
        code = pj_scope_connect(app, "pause", &read, error);
    if (code == PJ_OK)
        code = pj_pause(read, app->operands[0], &how, &reason, error);
    if (code == PJ_OK && how == PJ_PAUSE_ACKNOWLEDGED)
        printf("%s was paused by the daemon (%s); it stays paused until it is resumed\n", app->operands[0], reason);
    else if (code == PJ_OK)
        printf("%s %s\n", app->operands[0], how == PJ_PAUSED_NOW ? "is paused" : "was paused already");
    pj_free(reason);
    pj_session_close(read);
    return code;
}

static int resume(struct pj_scope *scope, void *context, struct pj_error *error)
{
    const char *name = context;
    struct pj_projection *projection;
    bool changed = false;
    if (pj_scope_find(scope, name, &projection, error) != PJ_OK)
        return error->code;
    struct pj_mend mend = pj_scope_mend(scope, projection);
    int code = pj_projection_check_target(scope->look, projection, error);
    if (code == PJ_OK)
        code = pj_resume(&mend, NULL, &changed, error);
    pj_scope_end_line(scope);
    if (code == PJ_ESTOPPED)
        return pj_error_set(error, code, "%s is still paused: %s after %lld keys; resume it again to go on", name,
                            pj_stop_asked(&scope->app->stop) ? "stopped" : "cancelled", (long long)mend.keys);
    if (code != PJ_OK)
        return code;
    if (changed)
        printf("%s is live, %lld keys were caught up with before\n", name, (long long)mend.keys);
    else
        printf("%s was live already\n", name);
    if (mend.parked)
        printf("%lld keys could not be written: see pgprojector deadletters list %s\n", (long long)mend.parked, name);
    return mend.parked ? PJ_EDEADLETTER : PJ_OK;
}

int pj_resume_command(struct pj_app *app, struct pj_error *error)
{
    int code = require_name(app, error);
    return code == PJ_OK ? pj_scope_run(app, "resume", resume, app->operands[0], error) : code;
}
