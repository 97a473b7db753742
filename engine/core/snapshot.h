/*
 * The first start: slot with exported snapshot, parallel COPY into the mirrors, indexes after the data, targets from
 * their definitions, checkpoint = consistent point. The story with its crash points stands at the head of snapshot.c.
 */
#ifndef PJ_CORE_SNAPSHOT_H
#define PJ_CORE_SNAPSHOT_H

#include "base/log.h"
#include "core/catalog.h"
#include "core/projection.h"

struct pj_snapshot_progress {
    const char *phase;           /* "waiting for a consistent point", "copying", "building", "done" */
    char detail[128];            /* the table or projection, for "building" after "7 of 15, " */
    int64_t rows, rows_expected; /* of the phase; expected 0: unknown (from reltuples: an estimate) */
    int64_t bytes;
};

struct pj_snapshot_options {
    const char *write_url, *read_url;
    const char *slot;   /* NULL: "pgprojector_" and the catalog's instance */
    const char *plugin; /* "wal2json" */
    int jobs;           /* parallel COPYs, 1–16 */
    int slot_wait_ms;   /* how long to wait for open transactions */
    const struct pj_stop *stop;
    const struct pj_log *log;
    void (*progress)(void *context,
                     const struct pj_snapshot_progress *progress); /* at most 5 times a second, or NULL */
    void *context;
};

/*
 * Runs the first start to its end. `read` holds the daemon's lock, and its epoch is `epoch`. Starting again after a
 * kill is the same call: leftovers of the last attempt (slot by our own intent, mirrors and targets in the catalog) are
 * removed first. On failure the slot is dropped where that is possible; what could not be removed is removed by the
 * next attempt.
 */
int pj_snapshot_run(struct pj_session *read, int64_t epoch, const struct pj_snapshot_options *options,
                    const struct pj_table *tables, int ntables, struct pj_projection *projections, int nprojections,
                    struct pj_error *error);

#endif
