/* Between the files that make a mirror exact. */
#ifndef PJ_CORE_JOINING_INTERNAL_H
#define PJ_CORE_JOINING_INTERNAL_H

#include "core/joining.h"

enum { PJ_JOINING_TICK_MS = 300 };

/* A session's tick, with the job as its context: while the server lets us wait, makes a key or an index, or mends. */
int pj_joining_working(void *job, struct pj_error *error);

/* Somebody is in the way, for which nothing is begun anew: shown as the job's phase, and waited for a moment. The error is
 * cleared, unless the job was cancelled meanwhile. */
int pj_joining_wait(const struct pj_joining *joining, struct pj_error *error);

/*
 * Opens *write, a session in a transaction whose snapshot holds every commit that the stream had brought at the time of the
 * call. `pinned`: tables that stay as the snapshot shows them until its end (core/pin.h); NULL: none. Waits for
 * transactions that are open on the source, and then begins the job's phase. *write is NULL after a failure.
 */
int pj_joining_snapshot(const struct pj_joining *joining, const char *phase, const char *const *pinned,
                        struct pj_session **write, struct pj_error *error);

/* The marked tables, quoted and qualified, NULL-ended; pj_free. */
const char **pj_joining_names(const struct pj_table *tables, int ntables);

/* Copies the marked tables into their empty mirrors, from a snapshot that begins with the call, and adds keys and statistics. */
int pj_joining_copy(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                    struct pj_error *error);

#endif
