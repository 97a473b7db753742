/*
 * What is to be done between the copy of the tables and the checkpoint, and in which order: a list of tasks, each with
 * the tasks that must be done before it. Who takes always the most urgent task that is ready keeps all connections busy
 * to the end. Pure.
 */
#ifndef PJ_CORE_SNAPSHOT_PLAN_H
#define PJ_CORE_SNAPSHOT_PLAN_H

#include "core/projection.h"

/*
 * SETTLE  VACUUM and ANALYZE of a mirror, which locks out the making of its indexes, so it comes first
 * INDEX   an index of a mirror; several of one mirror go on beside each other
 * FILL    a projection's target, with its key and indexes
 */
enum pj_task_kind { PJ_TASK_SETTLE, PJ_TASK_INDEX, PJ_TASK_FILL };
enum pj_task_state { PJ_TASK_WAITING, PJ_TASK_RUNNING, PJ_TASK_DONE };

struct pj_task {
    enum pj_task_kind kind;
    enum pj_task_state state;
    const struct pj_table *table;     /* not of a FILL */
    struct pj_projection *projection; /* of a FILL */
    char *sql;                        /* of an INDEX; freed with the plan */
    bool wanted;                      /* of an INDEX: a FILL needs it */
    int64_t weight;                   /* among equals the heavier goes first: bytes of the tables concerned */
    int *needs;                       /* indexes of tasks; freed with the plan */
    int nneeds;
};

struct pj_snapshot_plan {
    struct pj_task *tasks;
    int count;
};

/* `bytes`: of each table. Of projections that read each other's targets all are here. */
int pj_snapshot_plan_make(struct pj_snapshot_plan *plan, const struct pj_table *tables, const int64_t *bytes,
                          int ntables, struct pj_projection *projections, int nprojections, struct pj_error *error);
void pj_snapshot_plan_free(struct pj_snapshot_plan *plan);

/* The most urgent task that is ready, now RUNNING; NULL where there is none: all are done or running, or wait for
 * one that runs. */
struct pj_task *pj_snapshot_plan_take(struct pj_snapshot_plan *plan);

/* Whether nothing is waiting any more. */
bool pj_snapshot_plan_taken(const struct pj_snapshot_plan *plan);

/* Whether only one task is not done: who has it has the server to itself. */
bool pj_snapshot_plan_last(const struct pj_snapshot_plan *plan);

#endif
