/*
 * ACCESS EXCLUSIVE on a table of ours that is not, or no longer, in use, but that somebody may be reading: to drop it,
 * to give it another name. Neither the stream nor other readers wait behind us: the lock is asked for in attempts
 * that are given up within milliseconds, and before the checkpoint row's.
 */
#ifndef PJ_CORE_TABLE_LOCK_H
#define PJ_CORE_TABLE_LOCK_H

#include "pg/session.h"

/* A lock_timeout for waiting no longer than others would notice. Less than the server's deadlock_timeout: of two that wait
 * for each other it is we who give way. */
int pj_table_lock_timeout(struct pj_session *session, int *milliseconds, struct pj_error *error);

/* Whether a statement failed by a lock that was not to be had, or a deadlock with somebody who locks in another order:
 * worth another attempt. */
bool pj_table_lock_in_the_way(const struct pj_error *error);

/* Ends our own sessions that have a lock on it: a server goes on for a while with what a process that is gone, or has
 * given up, had asked of it. Nothing of ours may be rightly at work on the table. */
int pj_table_lock_end_orphans(struct pj_session *session, const char *schema, const char *table,
                              struct pj_error *error);

struct pj_patience {
    int milliseconds;                                      /* 0: as long as it takes */
    int (*between)(void *context, struct pj_error *error); /* called between attempts; its error ends it; NULL: none */
    void *context;
};

/*
 * BEGIN as pj_keywork_begin_alone, with the lock; without it where there is no such table. An error leaves no
 * transaction; at the end of the patience it is one that names who has the table open (`in_use`).
 */
int pj_table_lock_begin(struct pj_session *session, const char *schema, const char *table,
                        const struct pj_patience *patience, struct pj_error *error);

#endif
