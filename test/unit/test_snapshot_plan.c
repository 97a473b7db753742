/* The order of what a first start builds: everything once, nothing before what it needs, targets as early as they
 * can be. */
#include "core/snapshot_plan.h"

#include "core/source.h"

#include <criterion/criterion.h>
#include <string.h>

#define TEXT(text) ((char *)(uintptr_t)(text))

static struct pj_table_column columns[] = {
    {.name = TEXT("id"), .type = PJ_UUID, .type_sql = TEXT("pg_catalog.uuid"), .not_null = true},
};
static int first[] = {0};
static const struct pj_table tables[] = {
    {.schema = TEXT("public"),
     .name = TEXT("small"),
     .mirror_sql = TEXT("public.small"),
     .ncolumns = 1,
     .columns = columns,
     .nkey = 1,
     .key = first,
     .nidentity = 1,
     .identity = first,
     .identity_is_key = true},
    {.schema = TEXT("public"),
     .name = TEXT("large"),
     .mirror_sql = TEXT("public.large"),
     .ncolumns = 1,
     .columns = columns,
     .nkey = 1,
     .key = first,
     .nidentity = 1,
     .identity = first,
     .index = 1},
};
static const int64_t bytes[] = {10, 1000};
enum { TABLES = 2, TASKS = 2 + 2 + 1 + 3 + 2 };

/* Two targets, one of the small table alone; three indexes, of which both "reads" and "both" want one. */
static const struct pj_source both_sources[] = {{"small", "id", NULL}, {"large", "id", NULL}, {0}};
static const struct pj_source small_sources[] = {{"small", "id", NULL}, {0}};
static const char *const key[] = {"id", NULL};
static const char *const read_indexes[] = {"{large} (id DESC)", "{large} (id) WHERE id IS NULL", NULL};
static const char *const both_indexes[] = {"{large} (id) WHERE id IS NULL", "{small} (id DESC)", NULL};
static const struct pj_module modules[] = {
    {.name = "reads", .sources = both_sources, .mirror_indexes = read_indexes},
    {.name = "both",
     .sources = both_sources,
     .mirror_indexes = both_indexes,
     .target = "both_target",
     .key = key,
     .definition = "SELECT id FROM {large}"},
    {.name = "one",
     .sources = small_sources,
     .target = "one_target",
     .key = key,
     .definition = "SELECT id FROM {small}"},
};
enum { MODULES = 3 };

static struct pj_projection projections[MODULES];
static struct pj_snapshot_plan plan;

static void make(void)
{
    struct pj_error error;
    for (int i = 0; i < MODULES; i++) {
        struct pj_binding binding = {0};
        cr_assert_eq(pj_projection_bind(&projections[i], &modules[i], &binding, tables, TABLES, &error), PJ_OK, "%s",
                     error.message);
    }
    cr_assert_eq(pj_snapshot_plan_make(&plan, tables, bytes, TABLES, projections, MODULES, &error), PJ_OK, "%s",
                 error.message);
}

static void drop(void)
{
    pj_snapshot_plan_free(&plan);
    for (int i = 0; i < MODULES; i++)
        pj_projection_free(&projections[i]);
}

/* What is done, one at a time, as "kind name". */
static const char *next(char text[160])
{
    static const char *const words[] = {"settle", "index", "fill"};
    struct pj_task *task = pj_snapshot_plan_take(&plan);
    if (!task)
        return NULL;
    task->state = PJ_TASK_DONE;
    snprintf(text, 160, "%s %s", words[task->kind],
             task->kind == PJ_TASK_FILL    ? task->projection->name
             : task->kind == PJ_TASK_INDEX ? task->sql
                                           : task->table->name);
    return text;
}

Test(snapshot_plan, everything_is_done_once_and_a_shared_index_is_one, .init = make, .fini = drop)
{
    char text[160];
    int count = 0;
    while (next(text))
        count++;
    cr_assert_eq(count, TASKS);
    cr_assert(pj_snapshot_plan_taken(&plan));
}

Test(snapshot_plan, the_last_one_has_the_server_to_itself, .init = make, .fini = drop)
{
    struct pj_task *task;
    for (int done = 0; (task = pj_snapshot_plan_take(&plan)); done++) {
        cr_assert_eq(pj_snapshot_plan_last(&plan), done == TASKS - 1, "number %d", done);
        task->state = PJ_TASK_DONE;
    }
}

Test(snapshot_plan, a_target_is_filled_as_soon_as_what_it_needs_is_there, .init = make, .fini = drop)
{
    static const char *const wanted[] = {
        "settle large",
        "settle small",
        "index CREATE UNIQUE INDEX ON public.large (\"id\")",
        "index CREATE INDEX ON public.large (\"id\")",
        "index CREATE INDEX \"large_id_id_",
        "index CREATE UNIQUE INDEX ON public.small (\"id\")",
        "fill one",
        "index CREATE INDEX \"small_id_",
        "fill both",
        "index CREATE INDEX \"large_id_",
    };
    char text[160];
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        cr_assert_not_null(next(text));
        cr_assert_eq(strncmp(text, wanted[i], strlen(wanted[i])), 0, "%zu: %s, not %s", i, text, wanted[i]);
    }
    cr_assert_null(next(text));
}

Test(snapshot_plan, nothing_begins_before_what_it_needs_is_done, .init = make, .fini = drop)
{
    struct pj_task *large = pj_snapshot_plan_take(&plan), *small = pj_snapshot_plan_take(&plan);
    cr_assert(large->kind == PJ_TASK_SETTLE && small->kind == PJ_TASK_SETTLE);
    cr_assert_null(pj_snapshot_plan_take(&plan), "both run, all else waits for them");
    cr_assert_not(pj_snapshot_plan_taken(&plan));
    small->state = PJ_TASK_DONE;
    struct pj_task *key_of_small = pj_snapshot_plan_take(&plan);
    cr_assert(key_of_small->kind == PJ_TASK_INDEX && key_of_small->table == &tables[0]);
    struct pj_task *other = pj_snapshot_plan_take(&plan);
    cr_assert(other->kind == PJ_TASK_INDEX && other->table == &tables[0]);
    cr_assert_null(pj_snapshot_plan_take(&plan));
}
