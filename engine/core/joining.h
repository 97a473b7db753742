/*
 * A mirror added while the daemon runs. Nothing waits for it:
 *
 *      prepare    the empty table and its row in the catalog, in the state `joining`
 *                 -> the pipeline is handed a setup with the table in it: from then on it notes the identities of its changed rows
 *                    (pgprojector.dirty_row) instead of writing them
 *      run        copy from a snapshot of the source that holds all that was streamed before the first note; keys; statistics;
 *                 then the noted rows once more from newer snapshots, in rounds, until few are left; these at a fence, where apply
 *                 stands still at the commit that the source's snapshot shows. In that transaction the mirror becomes `exact`.
 *                 -> the pipeline is handed a setup in which it is like any other
 *
 * Why it is exact: a row whose change is not in the copy's snapshot is noted, for the stream brought that change after the
 * noting had begun; else it would be in. It is fetched again from a snapshot that holds all that was noted before, and at last
 * at a commit up to which everything has been noted. An ordinary snapshot would not do (joining_source.c). Interrupted
 * anywhere, it begins again from nothing; what the daemon serves is not touched.
 */
#ifndef PJ_CORE_JOINING_H
#define PJ_CORE_JOINING_H

#include "base/log.h"
#include "core/job.h"
#include "core/source.h"

struct pj_joining {
    const char *write_url, *read_url;
    struct pj_session *work; /* on the read database, idle: short transactions */
    struct pj_job *job;      /* its session is another one on the read database; without a row yet */
    int jobs;                /* parallel copies */
    int slot_wait_ms;        /* how long one attempt at a snapshot may wait for open transactions */
    const struct pj_stop *stop;
    char *waiting; /* PJ_JOINING_WAITING bytes of the caller's, for the job's phase */
};

enum { PJ_JOINING_WAITING = 256 };

/* Which of the tables have no exact mirror yet: sets `joining` of each. *count: how many. */
int pj_joining_missing(struct pj_session *read, struct pj_table *tables, int ntables, int *count,
                       struct pj_error *error);

/* Prepares those tables that are marked. What an interrupted attempt left is removed first. In one transaction.
 * PJ_ECONFIG where another table of that name is in the way, or a type is missing. */
int pj_joining_prepare(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                       struct pj_error *error);

/* Once the pipeline notes: makes the marked tables' mirrors exact. PJ_ESTOPPED soon after the job, or its request, was
 * cancelled; PJ_EUNHEALTHY, retryable, where the daemon was halted meanwhile. That raises the roster's number: nothing is
 * applied until the pipeline has the setup in which they are. */
int pj_joining_run(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                   struct pj_error *error);

/* Removes what is left of mirrors that are joining; of those that the pipeline notes none may be left. *removed: how
 * many. */
int pj_joining_clean(struct pj_session *work, int *removed, struct pj_error *error);

#endif
