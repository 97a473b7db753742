/* What the files of a session share: its state, and how it waits. */
#ifndef PJ_PG_SESSION_INTERNAL_H
#define PJ_PG_SESSION_INTERNAL_H

#include "pg/session.h"

#include <stdint.h>

enum { PJ_SESSION_KEPT = 16 };

struct pj_session {
    PGconn *conn;
    enum pj_side side;
    int timeout_ms;
    const struct pj_stop *stop;
    int tick_ms;
    int (*tick)(void *context, struct pj_error *error);
    void *tick_context;
    struct pj_error given_up; /* why the tick had the statement given up; code PJ_OK: it did not */
    int nkept;
    const char *kept[PJ_SESSION_KEPT]; /* texts of prepared statements; an index is its name */
};

/* On the monotonic clock; 0 (never) of 0 milliseconds. */
uint64_t pj_session_deadline(int milliseconds);

/* Waits for `events` (of poll) on the connection. Sets *ready, which stays false when the deadline passes. PJ_ESTOPPED
 * on a stop. */
int pj_session_await(struct pj_session *session, short events, uint64_t deadline, bool *ready, struct pj_error *error);

/* The same for a statement that runs: on a stop, or when the deadline passes, the server is asked to give it up, and
 * the call fails. */
int pj_session_await_answer(struct pj_session *session, short events, uint64_t deadline, struct pj_error *error);

#endif
