/*
 * The fence: two snapshots, one on each database, that show one and the same commit (protocol in ARCHITECTURE.md,
 * "Fence"). This is the verifier's side; the daemon's is the apply gate (core/gate.h). They speak through
 * pgprojector.fence and NOTIFY on the channel "pgprojector".
 */
#ifndef PJ_CORE_FENCE_H
#define PJ_CORE_FENCE_H

#include "pg/session.h"

struct pj_fence_options {
    const char *write_url, *read_url;
    int wait_ms;  /* how long a slot's creation may wait for open transactions before letting go: 1000 */
    int attempts; /* tries before giving up */
    bool lock;    /* the read session may write: it comes in READ COMMITTED and holds the checkpoint row's lock, so
                        that nothing is applied until its transaction ends; within a few seconds, please */
    /* What will be read, quoted and qualified, NULL-ended; NULL: none. Nobody can empty, alter or drop these tables
     * until the sessions end their transactions (core/pin.h). Those of the read side are not held where `lock` is. */
    const char *const *write_tables, *const *read_tables;
    const struct pj_stop *stop;
};

/*
 * Opens two sessions in REPEATABLE READ READ ONLY transactions that show the write database at *lsn. The caller closes
 * them. PJ_EUNHEALTHY where no daemon is running or it does not answer; PJ_EUNREACHABLE with the blocker named where
 * open transactions kept every attempt from a consistent point.
 */
int pj_fence_open(const struct pj_fence_options *options, struct pj_session **write, struct pj_session **read,
                  pj_lsn *lsn, struct pj_error *error);

#endif
