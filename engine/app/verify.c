/*
 * `verify`: a fence gives two sessions that show one and the same commit; under them every mirror is compared with its
 * source and every projection with its definition, or those that were named. With --repair the keys that differ are
 * mended at a second fence, and everything is compared once more, until nothing differs.
 */
#include "core/verify.h"
#include "app/app.h"
#include "app/deployment.h"
#include "app/scope.h"
#include "base/mem.h"
#include "core/keywork.h"
#include "core/repair.h"
#include "core/roster.h"
#include "core/setup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FENCE_WAIT_MS = 1000, FENCE_ATTEMPTS = 5, STEP_TIMEOUT_MS = 60000, REPAIR_ROUNDS = 5, RETRIES = 3, RUNS = 10 };

struct verification {
    struct pj_app *app;
    struct pj_deployment deployment;
    struct pj_setup setup;
    struct pj_mark mark;             /* of before the setup was made */
    char **sources, **targets;       /* what is read on the write and on the read side: quoted names, NULL-ended */
    struct pj_session *write, *read; /* under the fence */
    pj_lsn lsn;
    int64_t rows, total, differences, dead_letters; /* total: with --sample, about how many rows there are */
    json_t *tables, *keys;                          /* with --json */
    struct pj_repair *repair;                       /* with --repair */
    struct pj_repaired repaired;
};

/* --------------------------------------------------------------------------------------------------------- names */

static bool names_table(const char *word, const struct pj_table *table)
{
    const char *dot = strchr(word, '.');
    if (!dot)
        return strcmp(word, table->name) == 0;
    size_t length = strlen(table->schema);
    return strncmp(word, table->schema, length) == 0 && word[length] == '.' &&
           strcmp(word + length + 1, table->name) == 0;
}

static bool names_projection(const char *word, const struct pj_projection *projection)
{
    return projection->target_sql && strcmp(word, projection->name) == 0;
}

static bool wanted_table(const struct pj_app *app, const struct pj_table *table)
{
    for (int i = 0; i < app->noperands; i++)
        if (names_table(app->operands[i], table))
            return true;
    return app->noperands == 0;
}

static bool wanted_projection(const struct pj_app *app, const struct pj_projection *projection)
{
    if (!projection->target_sql)
        return false;
    for (int i = 0; i < app->noperands; i++)
        if (names_projection(app->operands[i], projection))
            return true;
    return app->noperands == 0;
}

static bool has_projection(const struct pj_setup *setup, const char *word)
{
    for (int i = 0; i < setup->nprojections; i++)
        if (names_projection(word, &setup->projections[i]))
            return true;
    return false;
}

static bool known(const struct pj_setup *setup, const char *word)
{
    for (int i = 0; i < setup->ntables; i++)
        if (names_table(word, &setup->tables[i]))
            return true;
    return has_projection(setup, word);
}

static int check_names(const struct verification *verification, struct pj_session *read, struct pj_error *error)
{
    const struct pj_app *app = verification->app;
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < app->noperands; i++) {
        if (known(&verification->setup, app->operands[i]))
            continue;
        code = pj_scope_left_out(read, &verification->deployment, app->operands[i], error);
        if (code == PJ_OK) /* or it has become exact since the setup was made */
            code = pj_keywork_check(read, &verification->mark, error);
        if (code == PJ_OK)
            code = pj_scope_mirror_left_out(read, app->operands[i], error);
        if (code != PJ_OK)
            return code;
        pj_error_set(error, PJ_ECONFIG, "\"%.60s\" is neither a projection nor a mirrored table", app->operands[i]);
        code = pj_error_hint(error, "`pgprojector status` lists them; tables are named as there, without quotes");
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------------ reporting */

static void report(void *context, const struct pj_difference *difference)
{
    struct verification *verification = context;
    if (verification->app->options.json) {
        json_t *key = json_loads(difference->key, 0, NULL);
        json_array_append_new(verification->keys, json_pack("{s:s,s:o}", "fault", difference->fault, "key",
                                                            key ? key : json_string(difference->key)));
        return;
    }
    printf("%s %s: %s %s\n", difference->kind, difference->name, difference->fault, difference->key);
}

static void differs(void *context, const struct pj_difference *difference)
{
    struct verification *verification = context;
    pj_repair_note(verification->repair, difference);
}

static void print_compared(const char *kind, const char *name, int64_t rows, int64_t of, int64_t differences)
{
    char total[40] = "";
    if (of)
        snprintf(total, sizeof total, "of about %lld ", (long long)of);
    printf("%s %s: %lld %srows compared, ", kind, name, (long long)rows, total);
    if (differences)
        printf("%lld DIFFERENT\n", (long long)differences);
    else
        printf("no difference\n");
}

static void compared(void *context, const char *kind, const char *name, int64_t rows, int64_t of, int64_t differences)
{
    struct verification *verification = context;
    verification->rows += rows;
    verification->total += of ? of : rows;
    verification->differences += differences;
    if (!verification->app->options.json) {
        print_compared(kind, name, rows, of, differences);
        fflush(stdout);
        return;
    }
    json_t *table = json_pack("{s:s,s:s,s:I,s:I,s:o}", "kind", kind, "name", name, "rows", (json_int_t)rows,
                              "differences", (json_int_t)differences, "keys", verification->keys);
    if (verification->app->options.sample)
        json_object_set_new(table, "of", json_integer((json_int_t)(of ? of : rows)));
    json_array_append_new(verification->tables, table);
    verification->keys = json_array();
}

static void print_conclusion(const struct verification *verification)
{
    char sample[80] = "";
    if (verification->app->options.sample)
        snprintf(sample, sizeof sample, " (a sample, of about %lld)", (long long)verification->total);
    printf("%lld rows compared%s, ", (long long)verification->rows, sample);
    if (verification->differences)
        printf("%lld differences at LSN %s\n", (long long)verification->differences, PJ_LSN(verification->lsn));
    else
        printf("no difference at LSN %s\n", PJ_LSN(verification->lsn));
}

static void conclude(const struct verification *verification)
{
    long long rows = (long long)verification->rows, differences = (long long)verification->differences;
    if (!verification->app->options.json) {
        print_conclusion(verification);
        return;
    }
    json_t *json = json_pack("{s:s,s:I,s:I,s:I,s:O}", "lsn", PJ_LSN(verification->lsn), "rows", (json_int_t)rows,
                             "differences", (json_int_t)differences, "deadLetters",
                             (json_int_t)verification->dead_letters, "tables", verification->tables);
    if (verification->app->options.sample) {
        json_object_set_new(json, "sample", json_integer(verification->app->options.sample));
        json_object_set_new(json, "of", json_integer((json_int_t)verification->total));
    }
    if (verification->repair)
        json_object_set_new(json, "repaired",
                            json_pack("{s:I,s:I}", "mirrorRows", (json_int_t)verification->repaired.rows,
                                      "projectionKeys", (json_int_t)verification->repaired.keys));
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

/* ------------------------------------------------------------------------------------------------------ comparing */

static void free_names(char **names)
{
    for (int i = 0; names && names[i]; i++)
        pj_free(names[i]);
    pj_free(names);
}

static char *source_name(const struct pj_table *table)
{
    struct pj_buf name = {0};
    pj_quote_identifier(&name, table->schema);
    pj_buf_puts(&name, ".");
    pj_quote_identifier(&name, table->name);
    return pj_buf_take(&name);
}

static bool is_among(const PGresult *names, const char *name)
{
    for (int i = 0; i < PQntuples(names); i++)
        if (strcmp(PQgetvalue(names, i, 0), name) == 0)
            return true;
    return false;
}

/* Which tables must not be emptied or replaced while they are compared. A definition may read any mirror. */
static int list_tables(struct verification *verification, struct pj_session *read, struct pj_error *error)
{
    const struct pj_setup *setup = &verification->setup;
    char **sources = pj_alloc(sizeof *sources * (size_t)(setup->ntables + 1));
    char **targets = pj_alloc(sizeof *targets * (size_t)(setup->ntables + setup->nprojections + 1));
    verification->sources = sources;
    verification->targets = targets;
    PGresult *live;
    int code =
        pj_session_query(read, &live, "SELECT name FROM pgprojector.projection WHERE state = 'live'", 0, NULL, error);
    if (code != PJ_OK)
        return code;
    for (int i = 0; i < setup->ntables; i++) {
        *targets++ = pj_strdup(setup->tables[i].mirror_sql);
        if (wanted_table(verification->app, &setup->tables[i]))
            *sources++ = source_name(&setup->tables[i]);
    }
    for (int i = 0; i < setup->nprojections; i++)
        if (wanted_projection(verification->app, &setup->projections[i]) && is_among(live, setup->projections[i].name))
            *targets++ = pj_strdup(setup->projections[i].target_sql);
    PQclear(live);
    return PJ_OK;
}

static int read_setup(struct verification *verification, struct pj_session *write, struct pj_session *read,
                      struct pj_error *error)
{
    pj_setup_close(&verification->setup);
    int code = pj_roster_open(&verification->setup, &verification->deployment, write, read, NULL, error);
    if (code == PJ_OK)
        code = check_names(verification, read, error);
    return code == PJ_OK ? pj_setup_check_read(&verification->setup, read, error) : code;
}

/*
 * What there is to compare, from sessions of their own: the fence's begin with their snapshots. The source is read
 * before the read side is: where the daemon has learned of a new partition in between, a second look agrees.
 */
static int prepare(struct verification *verification, struct pj_error *error)
{
    struct pj_session *write = NULL, *read = NULL;
    int code = pj_app_connect(verification->app, PJ_READ, "verify", STEP_TIMEOUT_MS, &read, error);
    if (code == PJ_OK)
        code = pj_scope_require_complete(read, error);
    if (code == PJ_OK)
        code = pj_standing_mark(read, &verification->mark, error);
    if (code == PJ_OK)
        code = pj_app_connect(verification->app, PJ_WRITE, "verify", STEP_TIMEOUT_MS, &write, error);
    if (code == PJ_OK)
        code = read_setup(verification, write, read, error);
    if (code == PJ_ESCHEMA)
        code = read_setup(verification, write, read, error);
    if (code == PJ_OK)
        code = list_tables(verification, read, error);
    pj_session_close(write);
    pj_session_close(read);
    return code;
}

static struct pj_fence_options fence_options(const struct verification *verification)
{
    return (struct pj_fence_options){
        .write_url = verification->deployment.write_url,
        .read_url = verification->deployment.read_url,
        .wait_ms = FENCE_WAIT_MS,
        .attempts = FENCE_ATTEMPTS,
        .write_tables = (const char *const *)verification->sources,
        .read_tables = (const char *const *)verification->targets,
        .stop = &verification->app->stop,
    };
}

static int open_fence(struct verification *verification, struct pj_error *error)
{
    struct pj_fence_options options = fence_options(verification);
    return pj_fence_open(&options, &verification->write, &verification->read, &verification->lsn, error);
}

static void close_fence(struct verification *verification)
{
    pj_session_close(verification->write);
    pj_session_close(verification->read);
    verification->write = verification->read = NULL;
}

static void say_not_compared(struct verification *verification, const char *kind, const char *name, const char *state)
{
    if (verification->app->options.json)
        json_array_append_new(verification->tables,
                              json_pack("{s:s,s:s,s:s}", "kind", kind, "name", name, "notCompared", state));
    else
        printf("%s %s: %s, not compared\n", kind, name, state);
}

/* One that is not live is behind by design; of a live one, dead letters are not counted as differences. */
static int look_at_standing(struct verification *verification, const char *name, bool *live, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query_row(
        verification->read, &result,
        "SELECT state, (SELECT pg_catalog.count(*) FROM pgprojector.dead_letter d WHERE d.projection = p.name) "
        "FROM pgprojector.projection p WHERE name = $1",
        1, &name, error);
    if (code != PJ_OK)
        return code;
    *live = strcmp(PQgetvalue(result, 0, 0), "live") == 0;
    long long parked = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    if (!*live)
        say_not_compared(verification, "projection", name, PQgetvalue(result, 0, 0));
    else if (parked && !verification->app->options.json)
        printf(parked == 1 ? "projection %s: %lld key is a dead letter, not compared\n"
                           : "projection %s: %lld keys are dead letters, not compared\n",
               name, parked);
    verification->dead_letters += parked;
    PQclear(result);
    return PJ_OK;
}

/* What the daemon keeps up by a module that is not to be had here; nothing must look compared that was not. */
static int name_projections(struct verification *verification, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(verification->read, &result,
                                "SELECT name FROM pgprojector.projection WHERE state <> 'retired' AND "
                                "pg_catalog.strpos(name, '.') = 0 ORDER BY name",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(result); i++) {
        const char *name = PQgetvalue(result, i, 0);
        if (has_projection(&verification->setup, name))
            continue;
        char *why = pj_sprintf("its module's file %s", pj_scope_why_left_out(&verification->deployment, name));
        say_not_compared(verification, "projection", name, why);
        pj_free(why);
    }
    PQclear(result);
    return code;
}

static bool has_table(const struct pj_setup *setup, const char *schema, const char *name)
{
    for (int i = 0; i < setup->ntables; i++)
        if (strcmp(setup->tables[i].schema, schema) == 0 && strcmp(setup->tables[i].name, name) == 0)
            return true;
    return false;
}

static int name_mirrors(struct verification *verification, struct pj_error *error)
{
    PGresult *result;
    int code = pj_session_query(verification->read, &result,
                                "SELECT schema_name, table_name, schema_name || '.' || table_name, CASE state "
                                "WHEN 'joining' THEN 'it is still being added' ELSE 'its source is gone' END "
                                "FROM pgprojector.mirror ORDER BY 1, 2",
                                0, NULL, error);
    for (int i = 0; code == PJ_OK && i < PQntuples(result); i++)
        if (!has_table(&verification->setup, PQgetvalue(result, i, 0), PQgetvalue(result, i, 1)))
            say_not_compared(verification, "mirror", PQgetvalue(result, i, 2), PQgetvalue(result, i, 3));
    PQclear(result);
    return code;
}

static int name_left_out(struct verification *verification, struct pj_error *error)
{
    int code = name_mirrors(verification, error);
    return code == PJ_OK ? name_projections(verification, error) : code;
}

static int compare(struct verification *verification, struct pj_error *error)
{
    const struct pj_setup *setup = &verification->setup;
    struct pj_verify_options options = {
        .sample = verification->app->options.sample,
        .keys_shown = verification->app->options.keys,
        .report = report,
        .compared = compared,
        .keys_wanted = verification->repair ? PJ_REPAIR_KEYS : 0,
        .differs = verification->repair ? differs : NULL,
        .context = verification,
    };
    int64_t ignored = 0; /* compared() sums up */
    bool live;
    int code = PJ_OK;
    for (int i = 0; code == PJ_OK && i < setup->ntables; i++)
        if (wanted_table(verification->app, &setup->tables[i]))
            code = pj_verify_mirrors(verification->write, verification->read, &setup->tables[i], 1, &options, &ignored,
                                     error);
    for (int i = 0; code == PJ_OK && i < setup->nprojections; i++) {
        if (!wanted_projection(verification->app, &setup->projections[i]))
            continue;
        code = look_at_standing(verification, setup->projections[i].name, &live, error);
        if (code == PJ_OK && live)
            code = pj_verify_projection(verification->read, &setup->projections[i], &options, &ignored, error);
    }
    return code == PJ_OK && !verification->app->noperands ? name_left_out(verification, error) : code;
}

static int compare_once(struct verification *verification, struct pj_error *error)
{
    verification->rows = verification->total = verification->differences = verification->dead_letters = 0;
    json_array_clear(verification->tables);
    json_array_clear(verification->keys);
    int code = open_fence(verification, error);
    if (code == PJ_OK)
        code = pj_keywork_check(verification->read, &verification->mark, error);
    if (code == PJ_OK)
        code = compare(verification, error);
    close_fence(verification);
    return code;
}

/* A deadlock, a conflict with recovery: it was nobody's fault, and may not happen again. */
static bool met_others(const struct verification *verification, int code, const struct pj_error *error)
{
    if (code == PJ_OK || strncmp(error->sqlstate, "40", 2) != 0)
        return false;
    pj_log(&verification->app->log, PJ_LOG_INFO, "once more: %s", error->message);
    return true;
}

static int compare_at_fence(struct verification *verification, struct pj_error *error)
{
    int code = compare_once(verification, error);
    for (int again = 0; again < RETRIES && met_others(verification, code, error); again++)
        code = compare_once(verification, error);
    return code;
}

static int repair(struct verification *verification, struct pj_error *error)
{
    struct pj_fence_options options = fence_options(verification);
    struct pj_repaired *repaired = &verification->repaired;
    repaired->failed = 0;
    int code = pj_repair_run(verification->repair, &options, repaired, error);
    if (code == PJ_OK && !verification->app->options.json)
        printf("repaired by now: %lld rows of mirrors, %lld keys of projections\n", (long long)repaired->rows,
               (long long)repaired->keys);
    if (code == PJ_OK && repaired->failed)
        pj_log(&verification->app->log, PJ_LOG_WARNING, "not all could be mended: %s", repaired->fault);
    fflush(stdout);
    return code;
}

static void forget_setup(struct verification *verification)
{
    close_fence(verification);
    pj_repair_free(verification->repair);
    verification->repair = NULL;
    pj_setup_close(&verification->setup);
    free_names(verification->sources);
    free_names(verification->targets);
    pj_deployment_free(&verification->deployment);
    verification->sources = verification->targets = NULL;
}

static int verify_all(struct verification *verification, struct pj_error *error)
{
    int code = pj_deployment_make(&verification->deployment, &verification->app->config, error);
    if (code == PJ_OK)
        code = prepare(verification, error);
    if (code == PJ_OK && verification->app->options.repair)
        verification->repair = pj_repair_new(&verification->setup, &verification->mark);
    if (code == PJ_OK)
        code = compare_at_fence(verification, error);
    for (int round = 0; code == PJ_OK && verification->repair && verification->differences && round < REPAIR_ROUNDS;
         round++) {
        code = repair(verification, error);
        if (code == PJ_OK || met_others(verification, code, error))
            code = compare_at_fence(verification, error); /* finds again what could not be mended */
    }
    if (code != PJ_OK)
        return code;
    conclude(verification);
    if (verification->differences)
        return PJ_EDIFFERENT;
    return verification->dead_letters ? PJ_EDEADLETTER : PJ_OK;
}

int pj_verify(struct pj_app *app, struct pj_error *error)
{
    struct verification verification = {.app = app, .tables = json_array(), .keys = json_array()};
    int code = verify_all(&verification, error);
    for (int run = 1; code == PJ_ERELOAD && run < RUNS; run++) {
        pj_log(&app->log, PJ_LOG_INFO, "once more: %s", error->message);
        forget_setup(&verification);
        code = verify_all(&verification, error);
    }
    forget_setup(&verification);
    json_decref(verification.tables);
    json_decref(verification.keys);
    return code;
}
