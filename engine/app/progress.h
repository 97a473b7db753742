/* The first start's progress: a line in place on a terminal, else a log line now and then; and the daemon's state. */
#ifndef PJ_APP_PROGRESS_H
#define PJ_APP_PROGRESS_H

#include "core/snapshot.h"

/* For pj_snapshot_options; `context` is the struct pj_start. */
void pj_progress_show(void *context, const struct pj_snapshot_progress *progress);

/* Ends the line in place, so that what follows begins a new one. */
struct pj_start;
void pj_progress_end(struct pj_start *start);

#endif
