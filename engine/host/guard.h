/*
 * What keeps a bad module from taking the daemon along: one whose apply() crashes, ends the process, or never returns.
 * The story stands at the head of guard.c. One guard a process: signals and exec are the process's.
 */
#ifndef PJ_HOST_GUARD_H
#define PJ_HOST_GUARD_H

#include "base/log.h"
#include "pg/stop.h"

#include <stddef.h>

/* ------------------------------------------------------------------------------------------------ around the calls */

/* Whose apply() is called from now on, on this thread, by which module ("": not said), and for changes of which table (as
 * declared). All are borrowed until the next time. One thread at a time calls modules. */
void pj_guard_about(const char *projection, const char *mark, const char *table);

/* Directly before and after each call of an apply(): a store each. Nothing happens where no guard has been started. */
void pj_guard_enter(void);
void pj_guard_leave(void);

/* ------------------------------------------------------------------------------------------------------- the guard */

struct pj_guard_options {
    char *const *argv;          /* of this process: what it restarts itself with; borrowed */
    int timeout_ms;             /* the longest a call may last; 0: for ever */
    const struct pj_stop *stop; /* once asked nothing is restarted any more */
    const struct pj_log *log;
};

struct pj_guard;

/*
 * Installs the handlers and starts the watchdog's thread. From then on a call that crashes, ends the process or lasts
 * too long replaces the process by a new one of the same program and arguments, which learns of it by
 * pj_guard_guilty().
 */
int pj_guard_start(struct pj_guard **guard, const struct pj_guard_options *options, struct pj_error *error);
void pj_guard_stop(struct pj_guard *guard); /* NULL is fine */

/* --------------------------------------------------------------------------------------------- after such a restart */

struct pj_guilt {
    char projection[96];
    char mark[40];  /* of the module (core/deployment.h); "-": not known */
    char what[400]; /* "its apply() crashed with signal 11 (Segmentation fault) on a change of messages" */
};

/* Whether this process was started by a guard, and on whose account. To be asked before the guard is started. */
bool pj_guard_guilty(struct pj_guilt *guilt);

/* What a guard hands over, put into words; false where it is not of that form. For tests. */
bool pj_guard_read(const char *handed_over, struct pj_guilt *guilt);

#endif
