/*
 * The control thread: a session of its own on the read database, on which it writes the daemon's row about once a
 * second (so that `status` works while apply is blocked) and serves fences (pgprojector.fence, NOTIFY pgprojector). It
 * outlives reconnects of the pipeline, and reconnects by itself.
 */
#ifndef PJ_CORE_CONTROL_H
#define PJ_CORE_CONTROL_H

#include "base/log.h"
#include "core/gate.h"
#include "core/state.h"
#include "pg/session.h"

struct pj_control;

/* Starts the thread; the catalog must be installed. All arguments must outlive it. */
int pj_control_start(struct pj_control **control, const char *read_url, struct pj_state *state, struct pj_gate *gate,
                     const struct pj_log *log, struct pj_error *error);

/*
 * Something to be done every 10 s on the control session while the daemon streams; NULL: nothing any more. When this
 * returns, the former chore is not under way and is not called again; false where that could not be had in time (it
 * hangs), and what it uses must then be left alone. An error of a chore costs the session.
 */
typedef int (*pj_control_chore)(void *context, struct pj_session *session, struct pj_error *error);
bool pj_control_set_chore(struct pj_control *control, pj_control_chore chore, void *context);

/*
 * Called on the control thread when a request may have been entered (NOTIFY pgprojector, 'request'), or news of it
 * missed; NULL: nobody is. When this returns no call of the former listener is under way.
 */
void pj_control_set_listener(struct pj_control *control, void (*listener)(void *context), void *context);

/* Writes the last state once more, ends the thread, frees. NULL is fine. Takes at most 3 s. */
void pj_control_stop(struct pj_control *control);

#endif
