/* Between the files that make a mirror exact. */
#ifndef PJ_CORE_JOINING_INTERNAL_H
#define PJ_CORE_JOINING_INTERNAL_H

#include "core/joining.h"

enum { PJ_JOINING_TICK_MS = 300 };

/* A session's tick, with the job as its context: while the server lets us wait, makes a key or an index, or mends. */
int pj_joining_working(void *job, struct pj_error *error);

/* Copies the marked tables into their empty mirrors, from a snapshot that begins with the call, and adds keys and statistics. */
int pj_joining_copy(const struct pj_joining *joining, const struct pj_table *tables, int ntables,
                    struct pj_error *error);

#endif
