/* `deadletters list|show|retry|discard`: the keys that projections could not take. */
#include "app/scope.h"
#include "app/values.h"
#include "core/deadletter.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 1000 };

static const char *const actions[] = {"list", "show", "retry", "discard", NULL};

static bool is_action(const char *word)
{
    for (const char *const *action = actions; *action; action++)
        if (strcmp(*action, word) == 0)
            return true;
    return false;
}

static int check_usage(const struct pj_app *app, struct pj_error *error)
{
    const struct pj_verb_options *options = &app->options;
    const char *action = app->noperands ? app->operands[0] : "";
    if (!is_action(action)) {
        const char *nearest = pj_value_nearest(action, actions);
        pj_error_set(error, PJ_ECONFIG, "deadletters: list, show, retry or discard?");
        return nearest ? pj_error_hint(error, "did you mean %s?", nearest) : error->code;
    }
    bool changes = strcmp(action, "retry") == 0 || strcmp(action, "discard") == 0;
    if (changes && app->noperands < 2 && !options->key && !options->sqlstate && !options->all) {
        pj_error_set(error, PJ_ECONFIG, "deadletters %s: which ones?", action);
        return pj_error_hint(error, "name a projection, --key, --sqlstate, or say --all");
    }
    return PJ_OK;
}

static struct pj_deadletter_filter filter_of(const struct pj_app *app)
{
    return (struct pj_deadletter_filter){
        .projection = app->noperands > 1 ? app->operands[1] : NULL,
        .key = app->options.key,
        .sqlstate = app->options.sqlstate,
    };
}

/* A projection whose module is gone may have dead letters still, so it is the catalog that knows the names. */
static int check_name(struct pj_session *read, const struct pj_deadletter_filter *filter, struct pj_error *error)
{
    if (!filter->projection)
        return PJ_OK;
    PGresult *result;
    int code = pj_session_query_row(read, &result, "SELECT EXISTS (SELECT FROM pgprojector.projection WHERE name = $1)",
                                    1, &filter->projection, error);
    bool known = code == PJ_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (code != PJ_OK || known)
        return code;
    pj_error_set(error, PJ_ECONFIG, "there is no projection \"%.60s\"", filter->projection);
    return pj_error_hint(error, "`pgprojector status` lists them");
}

/* --------------------------------------------------------------------------------------------------------- listing */

static const char *field(const PGresult *list, int row, enum pj_deadletter_column column)
{
    return PQgetvalue(list, row, (int)column);
}

static json_t *letter_json(const PGresult *list, int row)
{
    bool none = PQgetisnull(list, row, PJ_DEAD_NEXT_TRY_AT);
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:s,s:i,s:o}", "projection", field(list, row, PJ_DEAD_PROJECTION),
                     "key", field(list, row, PJ_DEAD_KEY), "sqlstate", field(list, row, PJ_DEAD_SQLSTATE), "message",
                     field(list, row, PJ_DEAD_MESSAGE), "firstLsn", field(list, row, PJ_DEAD_FIRST_LSN), "lastLsn",
                     field(list, row, PJ_DEAD_LAST_LSN), "attempts", atoi(field(list, row, PJ_DEAD_ATTEMPTS)),
                     "parkedAt", field(list, row, PJ_DEAD_PARKED_AT), "ageSeconds", atoi(field(list, row, PJ_DEAD_AGE)),
                     "nextTryAt", none ? json_null() : json_string(field(list, row, PJ_DEAD_NEXT_TRY_AT)));
}

static void print_json(const PGresult *list, int64_t count)
{
    json_t *letters = json_array();
    for (int i = 0; i < PQntuples(list); i++)
        json_array_append_new(letters, letter_json(list, i));
    json_t *json = json_pack("{s:I,s:o}", "count", (json_int_t)count, "deadLetters", letters);
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static const char *next_try(const PGresult *list, int row)
{
    return PQgetisnull(list, row, PJ_DEAD_NEXT_TRY_AT) ? "by hand only" : field(list, row, PJ_DEAD_NEXT_TRY_AT);
}

static void print_line(const PGresult *list, int row)
{
    printf("%s %s: SQLSTATE %s, %s s ago, %s attempt%s, next try: %s\n", field(list, row, PJ_DEAD_PROJECTION),
           field(list, row, PJ_DEAD_KEY), field(list, row, PJ_DEAD_SQLSTATE), field(list, row, PJ_DEAD_AGE),
           field(list, row, PJ_DEAD_ATTEMPTS), strcmp(field(list, row, PJ_DEAD_ATTEMPTS), "1") ? "s" : "",
           next_try(list, row));
}

static void print_all(const PGresult *list, int row)
{
    printf("%s %s\n", field(list, row, PJ_DEAD_PROJECTION), field(list, row, PJ_DEAD_KEY));
    const char *message = field(list, row, PJ_DEAD_MESSAGE); /* most have the SQLSTATE in them */
    if (strstr(message, "(SQLSTATE "))
        printf("  error     %s\n", message);
    else
        printf("  error     %s (SQLSTATE %s)\n", message, field(list, row, PJ_DEAD_SQLSTATE));
    printf("  parked    %s, at LSN %s; last attempt at LSN %s\n", field(list, row, PJ_DEAD_PARKED_AT),
           field(list, row, PJ_DEAD_FIRST_LSN), field(list, row, PJ_DEAD_LAST_LSN));
    printf("  attempts  %s, next try: %s\n", field(list, row, PJ_DEAD_ATTEMPTS), next_try(list, row));
}

static void print_text(const PGresult *list, int64_t count, bool show)
{
    for (int i = 0; i < PQntuples(list); i++)
        (show ? print_all : print_line)(list, i);
    if (count > PQntuples(list))
        printf("… and %lld more\n", (long long)count - PQntuples(list));
    printf("%lld dead letter%s\n", (long long)count, count == 1 ? "" : "s");
}

static int list_them(struct pj_app *app, bool show, struct pj_error *error)
{
    struct pj_deadletter_filter filter = filter_of(app);
    struct pj_session *read;
    PGresult *list = NULL;
    int64_t count = 0;
    int code = pj_scope_connect(app, "deadletters", &read, error);
    if (code == PJ_OK)
        code = check_name(read, &filter, error);
    if (code == PJ_OK)
        code = pj_deadletter_count(read, &filter, &count, error);
    if (code == PJ_OK)
        code = pj_deadletter_list(read, &filter, LISTED, &list, error);
    if (code == PJ_OK && app->options.json)
        print_json(list, count);
    else if (code == PJ_OK)
        print_text(list, count, show);
    PQclear(list);
    pj_session_close(read);
    return code == PJ_OK && count ? PJ_EDEADLETTER : code;
}

/* ------------------------------------------------------------------------------------------------ retry and discard */

static void say_retried(const struct pj_app *app, const struct pj_deadletter_tally *tally)
{
    if (app->options.json) {
        printf("{\"healed\": %lld, \"failed\": %lld, \"skipped\": %lld}\n", (long long)tally->healed,
               (long long)tally->failed, (long long)tally->skipped);
        return;
    }
    printf("%lld healed, %lld failed again", (long long)tally->healed, (long long)tally->failed);
    if (tally->skipped)
        printf(", %lld skipped (their projection is not live, or its module is not deployed)",
               (long long)tally->skipped);
    putchar('\n');
}

/* A projection that cannot be retried must not keep the others from it. */
static void check_targets(struct pj_scope *scope)
{
    struct pj_error error;
    for (int i = 0; i < scope->setup.nprojections; i++) {
        struct pj_projection *projection = &scope->setup.projections[i];
        if (projection->target_sql && pj_projection_check_target(scope->look, projection, &error) != PJ_OK)
            pj_log_error(&scope->app->log, PJ_LOG_WARNING, &error);
    }
}

/* Begun again, it tries those once more that have failed; what was healed stays counted. */
static int retry_meant(struct pj_scope *scope, void *context, struct pj_error *error)
{
    struct pj_deadletter_tally *tally = context;
    struct pj_deadletter_filter filter = filter_of(scope->app);
    *tally = (struct pj_deadletter_tally){.healed = tally->healed};
    int code = check_name(scope->look, &filter, error);
    if (code != PJ_OK)
        return code;
    check_targets(scope);
    return pj_deadletter_retry(scope->look, scope->work, &scope->mark, scope->setup.projections,
                               scope->setup.nprojections, &filter, tally, error);
}

static int retry(struct pj_app *app, struct pj_error *error)
{
    struct pj_deadletter_tally tally = {0};
    int code = pj_scope_run(app, "deadletters", retry_meant, &tally, error);
    if (code == PJ_OK)
        say_retried(app, &tally);
    return code == PJ_OK && (tally.failed || tally.skipped) ? PJ_EDEADLETTER : code;
}

static int discard(struct pj_app *app, struct pj_error *error)
{
    struct pj_deadletter_filter filter = filter_of(app);
    struct pj_session *read;
    int64_t discarded = 0;
    int code = pj_scope_connect(app, "deadletters", &read, error);
    if (code == PJ_OK)
        code = check_name(read, &filter, error);
    if (code == PJ_OK)
        code = pj_deadletter_discard(read, &filter, &discarded, error);
    if (code == PJ_OK && app->options.json)
        printf("{\"discarded\": %lld}\n", (long long)discarded);
    else if (code == PJ_OK)
        printf("%lld discarded\n", (long long)discarded);
    if (code == PJ_OK && discarded)
        pj_log(&app->log, PJ_LOG_WARNING,
               "their rows were not mended and may be wrong: `pgprojector rebuild` finds and mends them");
    pj_session_close(read);
    return code;
}

int pj_deadletters(struct pj_app *app, struct pj_error *error)
{
    if (check_usage(app, error) != PJ_OK)
        return error->code;
    const char *action = app->operands[0];
    if (strcmp(action, "retry") == 0)
        return retry(app, error);
    if (strcmp(action, "discard") == 0)
        return discard(app, error);
    return list_them(app, strcmp(action, "show") == 0, error);
}
