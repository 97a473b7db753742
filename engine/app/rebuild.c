/* `rebuild`: projections made equal to their definitions, in place, while all goes on; or in one of its other forms
 * (app/rebuild_fresh.h). */
#include "core/rebuild.h"
#include "app/rebuild_fresh.h"
#include "app/scope.h"
#include "base/mem.h"
#include "core/roster.h"

#include <stdio.h>

/* What else is asked for than a rebuild in place; one thing at a time. */
static int check_forms(const struct pj_verb_options *options, struct pj_error *error)
{
    if (options->fresh + options->rollback + options->drop_kept + options->cancel > 1)
        return pj_error_set(error, PJ_ECONFIG, "one of --fresh, --rollback, --drop-kept, --cancel, not several");
    if (options->keep_old && !options->fresh && !options->rollback)
        return pj_error_set(error, PJ_ECONFIG,
                            "--keep-old goes with --fresh or --rollback: in place nothing is replaced");
    return PJ_OK;
}

static int check_usage(const struct pj_app *app, struct pj_error *error)
{
    if (check_forms(&app->options, error) != PJ_OK)
        return error->code;
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

/* By whoever runs it, or by `rebuild NAME --cancel` from elsewhere. */
static int stopped(const struct pj_projection *projection, const struct pj_mend *mend, struct pj_error *error)
{
    return pj_error_set(error, PJ_ESTOPPED,
                        "rebuild %s %s: %lld rows were mended, and stay so; start it again to go on", projection->name,
                        pj_stop_asked(mend->stop) ? "stopped" : "was cancelled", (long long)mend->keys);
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

/* Whether --all means it: it has a table, and was not removed. */
static int among_all(const struct pj_scope *scope, const struct pj_projection *projection, bool *yes,
                     struct pj_error *error)
{
    bool known = false, retired = false;
    int code = projection->target_sql ? pj_roster_known(scope->look, projection->name, &known, &retired, error) : PJ_OK;
    *yes = projection->target_sql && !retired;
    return code;
}

static int rebuild_all(struct pj_scope *scope, int64_t *dead_letters, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < scope->setup.nprojections; i++) {
        bool meant;
        code = among_all(scope, &scope->setup.projections[i], &meant, error);
        if (code == PJ_OK && meant)
            code = rebuild_one(scope, &scope->setup.projections[i], dead_letters, error);
    }
    return code;
}

static int rebuild_meant(struct pj_scope *scope, void *context, struct pj_error *error)
{
    int64_t *dead_letters = context;
    *dead_letters = 0;
    return scope->app->options.all ? rebuild_all(scope, dead_letters, error)
                                   : rebuild_named(scope, dead_letters, error);
}

static int in_place(struct pj_app *app, struct pj_error *error)
{
    int64_t dead_letters;
    int code = pj_scope_run(app, "rebuild", rebuild_meant, &dead_letters, error);
    return code == PJ_OK && dead_letters ? PJ_EDEADLETTER : code;
}

/* ------------------------------------------------------------------------------------------------------ other forms */

/* The names of all projections, or of those given, in a list that is to be freed with its texts. */
static int list_names(struct pj_app *app, char ***names, int *count, struct pj_error *error)
{
    struct pj_scope scope = {0};
    struct pj_projection *found;
    int code = pj_scope_open(&scope, app, "rebuild", error);
    int most = app->options.all ? scope.setup.nprojections : app->noperands;
    *names = pj_alloc(sizeof **names * (size_t)(most + 1));
    *count = 0;
    for (int i = 0; code == PJ_OK && i < most; i++) {
        const char *name = app->options.all ? scope.setup.projections[i].name : app->operands[i];
        bool meant = true;
        if (app->options.all)
            code = among_all(&scope, &scope.setup.projections[i], &meant, error);
        if (code != PJ_OK || !meant)
            continue;
        code = pj_scope_find(&scope, name, &found, error);
        (*names)[(*count)++] = pj_strdup(name);
    }
    pj_scope_close(&scope);
    return code;
}

static int of_each(struct pj_app *app, int (*form)(struct pj_app *app, const char *name, struct pj_error *error),
                   struct pj_error *error)
{
    char **names = NULL;
    int count = 0, code = list_names(app, &names, &count, error);
    for (int i = 0; code == PJ_OK && i < count; i++)
        code = form(app, names[i], error);
    for (int i = 0; i < count; i++)
        pj_free(names[i]);
    pj_free(names);
    return code;
}

/* What is under way may have no projection yet: a mirror that is being added, a module whose file is broken by now. */
static int cancel_named(struct pj_app *app, struct pj_error *error)
{
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < app->noperands; i++)
        code = pj_rebuild_cancel(app, app->operands[i], error);
    return code;
}

int pj_rebuild_command(struct pj_app *app, struct pj_error *error)
{
    const struct pj_verb_options *options = &app->options;
    if (check_usage(app, error) != PJ_OK)
        return error->code;
    if (options->cancel)
        return options->all ? of_each(app, pj_rebuild_cancel, error) : cancel_named(app, error);
    if (options->drop_kept)
        return of_each(app, pj_rebuild_drop_kept, error);
    return options->fresh || options->rollback ? of_each(app, pj_rebuild_fresh, error) : in_place(app, error);
}
