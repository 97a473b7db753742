/* `rebuild`: a projection, or all of them, made equal to their definitions in place, while all goes on. */
#include "core/rebuild.h"
#include "app/scope.h"

#include <stdio.h>

static int not_there_yet(struct pj_error *error)
{
    pj_error_set(error, PJ_ECONFIG, "--fresh (a new table built beside, then swapped in) is not there yet");
    return pj_error_hint(error, "without it the table is rebuilt in place, which mends every row that differs");
}

static int check_usage(const struct pj_app *app, struct pj_error *error)
{
    if (app->options.fresh)
        return not_there_yet(error);
    if (app->options.all && app->noperands)
        return pj_error_set(error, PJ_ECONFIG, "either --all or names, not both");
    if (app->options.all || app->noperands)
        return PJ_OK;
    pj_error_set(error, PJ_ECONFIG, "which projection?");
    return pj_error_hint(error, "name one or more, or say --all; `pgprojector status` lists them");
}

static void say_done(const struct pj_projection *projection, const struct pj_mend *mend, bool verify,
                     const struct pj_rebuild_result *result)
{
    printf("%s: ", projection->name);
    if (result->differing)
        printf("%lld rows differed, %lld mended%s", (long long)result->differing, (long long)mend->keys,
               verify ? ", verified" : "");
    else
        printf("no row differed");
    if (result->dead_letters)
        printf("; %lld key%s", (long long)result->dead_letters,
               result->dead_letters == 1 ? " is a dead letter" : "s are dead letters");
    if (result->new_version)
        printf("; now of version %u and its definition", projection->module->version);
    putchar('\n');
    fflush(stdout);
}

static int stopped(const struct pj_projection *projection, const struct pj_mend *mend, struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED,
                        "rebuild %s stopped: %lld rows were mended, and stay so; start it again to go on",
                        projection->name, (long long)mend->keys);
}

static int rebuild_one(struct pj_scope *scope, struct pj_projection *projection, int64_t *dead_letters,
                       struct pj_error *error)
{
    bool verify = !scope->app->options.no_verify;
    struct pj_mend mend = pj_scope_mend(scope, projection);
    struct pj_rebuild_result result = {0};
    bool created = false;
    int code = pj_rebuild_create_missing(&mend, projection, &created, error);
    if (code == PJ_OK && created) {
        pj_scope_end_line(scope);
        printf("%s: %s was not there; created and filled\n", projection->name, projection->target_sql);
        return PJ_OK;
    }
    if (code == PJ_OK)
        code = pj_projection_describe_target(scope->look, projection, error);
    if (code == PJ_OK)
        code = pj_rebuild(&mend, verify, &result, error);
    pj_scope_end_line(scope);
    if (code == PJ_ESTOPPED)
        return stopped(projection, &mend, error);
    if (code == PJ_OK)
        say_done(projection, &mend, verify, &result);
    *dead_letters += result.dead_letters;
    return code;
}

static int rebuild_named(struct pj_scope *scope, int64_t *dead_letters, struct pj_error *error)
{
    int code = PJ_OK;
    struct pj_projection *projection;
    for (int i = 0; code == PJ_OK && i < scope->app->noperands; i++) /* a wrong name first, before anything is done */
        code = pj_scope_find(scope, scope->app->operands[i], &projection, error);
    for (int i = 0; code == PJ_OK && i < scope->app->noperands; i++) {
        code = pj_scope_find(scope, scope->app->operands[i], &projection, error);
        if (code == PJ_OK)
            code = rebuild_one(scope, projection, dead_letters, error);
    }
    return code;
}

static int rebuild_all(struct pj_scope *scope, int64_t *dead_letters, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < scope->setup.nprojections; i++)
        if (scope->setup.projections[i].target_sql)
            code = rebuild_one(scope, &scope->setup.projections[i], dead_letters, error);
    return code;
}

int pj_rebuild_command(struct pj_app *app, struct pj_error *error)
{
    int64_t dead_letters = 0;
    struct pj_scope scope = {0};
    if (check_usage(app, error) != PJ_OK)
        return error->code;
    int code = pj_scope_open(&scope, app, "rebuild", error);
    if (code == PJ_OK)
        code =
            app->options.all ? rebuild_all(&scope, &dead_letters, error) : rebuild_named(&scope, &dead_letters, error);
    pj_scope_close(&scope);
    return code == PJ_OK && dead_letters ? PJ_EDEADLETTER : code;
}
