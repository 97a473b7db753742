/*
 * See snapshot_plan.h. Targets are the longest pieces of work that cannot be divided, so they are filled as soon as
 * what they need is there; the indexes that no target needs fill up the other connections meanwhile and afterwards.
 */
#include "core/snapshot_plan.h"

#include "base/mem.h"
#include "core/mirror.h"

#include <string.h>

static struct pj_task *add(struct pj_snapshot_plan *plan, enum pj_task_kind kind, int64_t weight)
{
    plan->tasks = pj_realloc(plan->tasks, (size_t)(plan->count + 1) * sizeof *plan->tasks);
    struct pj_task *task = &plan->tasks[plan->count++];
    *task = (struct pj_task){.kind = kind, .weight = weight};
    return task;
}

/* Its number, or -1; of an INDEX the one with that statement. */
static int find(const struct pj_snapshot_plan *plan, enum pj_task_kind kind, const struct pj_table *table,
                const char *sql)
{
    for (int i = 0; i < plan->count; i++) {
        const struct pj_task *task = &plan->tasks[i];
        if (task->kind == kind && task->table == table && (!sql || strcmp(task->sql, sql) == 0))
            return i;
    }
    return -1;
}

static void need(struct pj_task *task, int other)
{
    task->needs = pj_realloc(task->needs, (size_t)(task->nneeds + 1) * sizeof *task->needs);
    task->needs[task->nneeds++] = other;
}

/* Takes over `sql`. The task's number; the one of a statement that is there already. */
static int add_index(struct pj_snapshot_plan *plan, const struct pj_table *table, char *sql)
{
    int found = find(plan, PJ_TASK_INDEX, table, sql), settle = find(plan, PJ_TASK_SETTLE, table, NULL);
    if (found >= 0) {
        pj_free(sql);
        return found;
    }
    struct pj_task *task = add(plan, PJ_TASK_INDEX, plan->tasks[settle].weight);
    task->table = table;
    task->sql = sql;
    need(task, settle);
    return plan->count - 1;
}

static void add_table(struct pj_snapshot_plan *plan, const struct pj_table *table, int64_t bytes)
{
    add(plan, PJ_TASK_SETTLE, bytes)->table = table;
    for (enum pj_mirror_index which = PJ_INDEX_KEY; which <= PJ_INDEX_IDENTITY; which++) {
        struct pj_buf sql = {0};
        if (pj_mirror_index(&sql, table, which))
            add_index(plan, table, pj_buf_take(&sql));
        pj_buf_free(&sql);
    }
}

/* The indexes that the projection asks for; `fill` (-1: none) needs them. */
static int add_indexes(struct pj_snapshot_plan *plan, const struct pj_projection *projection, int fill,
                       struct pj_error *error)
{
    for (int i = 0; projection->module->mirror_indexes && projection->module->mirror_indexes[i]; i++) {
        const struct pj_table *table;
        char *sql;
        if (pj_projection_mirror_index(projection, i, &sql, &table, error) != PJ_OK) {
            pj_free(sql);
            return error->code;
        }
        int index = add_index(plan, table, sql);
        if (fill >= 0) {
            plan->tasks[index].wanted = true;
            need(&plan->tasks[fill], index);
        }
    }
    return PJ_OK;
}

/* Targets that it reads must be filled. */
static void need_upstream(struct pj_snapshot_plan *plan, int fill)
{
    const struct pj_projection *projection = plan->tasks[fill].projection;
    for (int i = 0; i < projection->nsources; i++)
        for (int j = 0; projection->sources[i].upstream && j < plan->count; j++)
            if (plan->tasks[j].projection == projection->sources[i].upstream)
                need(&plan->tasks[fill], j);
}

/* All indexes of the tables it reads that have been asked for so far: their keys. */
static void need_keys(struct pj_snapshot_plan *plan, int fill)
{
    const struct pj_projection *projection = plan->tasks[fill].projection;
    for (int i = 0; i < projection->nsources; i++)
        for (int j = 0; j < plan->count; j++) {
            struct pj_task *task = &plan->tasks[j];
            if (task->kind != PJ_TASK_FILL && task->table == projection->sources[i].table) {
                task->wanted = true;
                plan->tasks[fill].weight += task->kind == PJ_TASK_SETTLE ? task->weight : 0;
                need(&plan->tasks[fill], j);
            }
        }
}

/* Fills come before indexes beyond the keys, so that those that one of them needs are known when it is its turn. */
static int add_projections(struct pj_snapshot_plan *plan, struct pj_projection *projections, int count,
                           struct pj_error *error)
{
    int first = plan->count, code = PJ_OK;
    for (int i = 0; i < count; i++)
        if (projections[i].target_sql)
            add(plan, PJ_TASK_FILL, 0)->projection = &projections[i];
    int end = plan->count;
    for (int fill = first; fill < end; fill++) {
        need_upstream(plan, fill);
        need_keys(plan, fill);
    }
    for (int i = 0; code == PJ_OK && i < count; i++) {
        int fill = first;
        while (fill < end && plan->tasks[fill].projection != &projections[i])
            fill++;
        code = add_indexes(plan, &projections[i], fill < end ? fill : -1, error);
    }
    return code;
}

int pj_snapshot_plan_make(struct pj_snapshot_plan *plan, const struct pj_table *tables, const int64_t *bytes,
                          int ntables, struct pj_projection *projections, int nprojections, struct pj_error *error)
{
    *plan = (struct pj_snapshot_plan){0};
    for (int i = 0; i < ntables; i++)
        add_table(plan, &tables[i], bytes[i]);
    return add_projections(plan, projections, nprojections, error);
}

void pj_snapshot_plan_free(struct pj_snapshot_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        pj_free(plan->tasks[i].sql);
        pj_free(plan->tasks[i].needs);
    }
    pj_free(plan->tasks);
    *plan = (struct pj_snapshot_plan){0};
}

/* --------------------------------------------------------------------------------------------------------- taking */

static int rank(const struct pj_task *task)
{
    switch (task->kind) {
    case PJ_TASK_FILL:
        return 0;
    case PJ_TASK_SETTLE:
        return 1;
    default:
        return task->wanted ? 2 : 3;
    }
}

static bool ready(const struct pj_snapshot_plan *plan, const struct pj_task *task)
{
    bool is_ready = task->state == PJ_TASK_WAITING;
    for (int i = 0; is_ready && i < task->nneeds; i++)
        is_ready = plan->tasks[task->needs[i]].state == PJ_TASK_DONE;
    return is_ready;
}

static bool more_urgent(const struct pj_task *a, const struct pj_task *b)
{
    return !b || rank(a) < rank(b) || (rank(a) == rank(b) && a->weight > b->weight);
}

struct pj_task *pj_snapshot_plan_take(struct pj_snapshot_plan *plan)
{
    struct pj_task *best = NULL;
    for (int i = 0; i < plan->count; i++)
        if (ready(plan, &plan->tasks[i]) && more_urgent(&plan->tasks[i], best))
            best = &plan->tasks[i];
    if (best)
        best->state = PJ_TASK_RUNNING;
    return best;
}

bool pj_snapshot_plan_taken(const struct pj_snapshot_plan *plan)
{
    bool taken = true;
    for (int i = 0; i < plan->count; i++)
        taken = taken && plan->tasks[i].state != PJ_TASK_WAITING;
    return taken;
}

bool pj_snapshot_plan_last(const struct pj_snapshot_plan *plan)
{
    int left = 0;
    for (int i = 0; i < plan->count; i++)
        left += plan->tasks[i].state != PJ_TASK_DONE;
    return left == 1;
}
