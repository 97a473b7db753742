/*
 * Resync: the read side made equal to a fresh snapshot of the write database, with a new slot, in one transaction. The
 * remedy where the stream cannot be continued. Its story with its crash points stands at the head of resync.c.
 */
#ifndef PJ_CORE_RESYNC_H
#define PJ_CORE_RESYNC_H

#include "core/setup.h"
#include "core/snapshot.h"

struct pj_resync_options {
    const char *write_url, *read_url;
    const char *plugin; /* "wal2json" */
    int slot_wait_ms;   /* how long to wait for open transactions */
    const struct pj_stop *stop;
    const struct pj_log *log;
    void (*progress)(void *context, const struct pj_snapshot_progress *progress); /* with each step, or NULL */
    void *context;
};

struct pj_resynced {
    int64_t rows;        /* of mirrors: that were missing, extra or changed */
    int64_t target_rows; /* of projections: inserted or updated */
    pj_lsn lsn;          /* the new checkpoint */
};

/*
 * `read` holds the daemon's lock, and its epoch is `epoch`; the setup is open, and its read side checked for a resync
 * (pj_setup_check_resync). Until the end readers have the former state. Starting again after a kill is the same call.
 * On failure the new slot is dropped where that is possible; what could not be removed is removed by the next attempt.
 */
int pj_resync_run(struct pj_session *read, int64_t epoch, const struct pj_resync_options *options,
                  struct pj_setup *setup, struct pj_resynced *resynced, struct pj_error *error);

#endif
