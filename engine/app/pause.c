/* `pause` and `resume`. */
#include "core/pause.h"
#include "app/scope.h"
#include "base/mem.h"
#include "core/catalog.h"
#include "core/guilty.h"
#include "core/request.h"

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

/* ---------------------------------------------------------------------------------------------------------- resume */

struct resuming {
    const char *name;
    bool guilty; /* its apply() was called no more: it has crashed, or not returned */
    bool asked;  /* the daemon has looked at the module's file, and has loaded it where it is another */
};

/* What the daemon has in memory is what has crashed; the file may have been mended since. */
static int have_file_taken(struct pj_app *app, struct resuming *resuming, struct pj_session *read,
                           struct pj_error *error)
{
    struct pj_scope scope = {.app = app}; /* for showing progress alone */
    struct pj_request request = {.kind = PJ_REQUEST_BUILD, .name = resuming->name, .verify = true};
    int code = pj_catalog_daemon_alive(read, &resuming->asked, error);
    if (code != PJ_OK || !resuming->asked)
        return code;
    code = pj_request_enter(read, &request, error);
    if (code == PJ_OK)
        code = pj_request_follow(read, &request, pj_scope_show, &scope, pj_scope_watched(&scope), &app->stop, error);
    pj_scope_end_line(&scope);
    return code == PJ_OK ? PJ_OK : pj_error_wrap(error, "resume %s: load its module's file", resuming->name);
}

/* Following a request needs a session that a stop does not end. */
static int look_for_guilt(struct pj_app *app, struct resuming *resuming, struct pj_error *error)
{
    struct pj_app unstoppable = *app;
    unstoppable.stop.fd = -1;
    struct pj_session *read = NULL;
    PGresult *result = NULL;
    int code = pj_scope_connect(&unstoppable, "resume", &read, error);
    if (code == PJ_OK)
        code = pj_session_query(read, &result,
                                "SELECT FROM pgprojector.projection WHERE name = $1 AND state = 'paused' AND apply_off",
                                1, &resuming->name, error);
    resuming->guilty = code == PJ_OK && PQntuples(result) == 1;
    PQclear(result);
    if (resuming->guilty)
        code = have_file_taken(app, resuming, read, error);
    pj_session_close(read);
    return code;
}

/* A success that lasts until the next such row must not look like one that stays. */
static void warn_of_same_file(const struct pj_scope *scope, const struct resuming *resuming,
                              const struct pj_projection *projection)
{
    struct pj_error ignored; /* a catalog of before knows no guilt */
    char *what;
    if (pj_guilty_of(scope->look, resuming->name, resuming->asked ? NULL : projection->mark, &what, &ignored) ==
            PJ_OK &&
        what) {
        pj_log(&scope->app->log, PJ_LOG_WARNING,
               "%s: its module is still the file of which %s: should it do so again, it is paused again",
               resuming->name, what);
        pj_log(&scope->app->log, PJ_LOG_WARNING,
               "HINT: put a mended file into the module directory, then `pgprojector module add %s`", resuming->name);
    }
    pj_free(what);
}

static int resume(struct pj_scope *scope, void *context, struct pj_error *error)
{
    const struct resuming *resuming = context;
    const char *name = resuming->name;
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
        printf(resuming->guilty ? "%s is live: the table of its new version is in place\n" : "%s was live already\n",
               name);
    if (changed && resuming->guilty)
        warn_of_same_file(scope, resuming, projection);
    if (mend.parked)
        printf("%lld keys could not be written: see pgprojector deadletters list %s\n", (long long)mend.parked, name);
    return mend.parked ? PJ_EDEADLETTER : PJ_OK;
}

int pj_resume_command(struct pj_app *app, struct pj_error *error)
{
    struct resuming resuming = {0};
    int code = require_name(app, error);
    if (code == PJ_OK) {
        resuming.name = app->operands[0];
        code = look_for_guilt(app, &resuming, error);
    }
    return code == PJ_OK ? pj_scope_run(app, "resume", resume, &resuming, error) : code;
}
