/*
 * What a daemon's sessions on the read database stand still for, asked of that database: somebody's lock, a synchronous
 * standby that is away, a disk. To read it takes no WAL, so it can be told where the daemon cannot even write its row.
 */
#ifndef PJ_CORE_STALL_H
#define PJ_CORE_STALL_H

#include "pg/session.h"

#define PJ_STALL_TOLD_S 3.0 /* a statement that takes no longer is nothing to speak of */

struct pj_stall {
    double seconds;    /* that it has been at one statement; 0: none stands still, and the rest is empty */
    char message[512]; /* a sentence without a full stop: which session, since when, for what */
    char hint[256];
};

/* The session that has been at one statement for the longest, `from_s` seconds or more. */
int pj_stall_look(struct pj_session *read, double from_s, struct pj_stall *stall, struct pj_error *error);

/* The words. `kind` and `event` are pg_stat_activity's wait_event_type and wait_event, "" where it does not wait;
 * `holders` tells who has the lock, "" where that is unknown. Pure. */
void pj_stall_describe(struct pj_stall *stall, const char *session, const char *pid, const char *kind,
                       const char *event, const char *holders);

#endif
