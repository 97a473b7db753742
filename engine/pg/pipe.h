/*
 * A connection in libpq's pipeline mode on a libuv loop: statements are sent without waiting, results come back in
 * order. The first error ends it: what was sent behind it has not run, the owner is told once, and closes.
 *
 * Lifetime: after pj_pipe_close the closed callback fires exactly once, from the loop; only then is the memory gone.
 */
#ifndef PJ_PG_PIPE_H
#define PJ_PG_PIPE_H

#include "base/error.h"
#include "pg/sink.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

struct pj_pipe;

struct pj_pipe_callbacks {
    /* What was sent has left; more may be sent without piling up. Fires from the loop. */
    void (*writable)(void *context);
    /* The connection or a statement failed. Fires once; no result comes after it. */
    void (*failed)(void *context, const struct pj_error *error);
    void *context;
};

/* Takes a connected, idle connection, even on failure. */
int pj_pipe_open(struct pj_pipe **pipe, uv_loop_t *loop, PGconn *conn, const struct pj_pipe_callbacks *callbacks,
                 struct pj_error *error);

/* Sends a prepared statement with binary parameters (a value of length PJ_NULL is NULL); binary results.
 * `result` may be NULL. Errors come through `failed`. */
void pj_pipe_execute(struct pj_pipe *pipe, const char *statement, int count, const struct pj_value *params,
                     pj_result_fn result, void *context);

/* Sends SQL text without parameters. */
void pj_pipe_query(struct pj_pipe *pipe, const char *sql, pj_result_fn result, void *context);

/* The two above, as a sink. */
struct pj_sink pj_pipe_sink(struct pj_pipe *pipe);

/* Has the server send the results of what was sent so far, without ending the transaction. */
void pj_pipe_flush(struct pj_pipe *pipe);

/* Ends a series; `synced` fires when the server has done all before it without an error. */
void pj_pipe_sync(struct pj_pipe *pipe, void (*synced)(void *context), void *context);

/* Bytes are waiting for the socket: better send no more until `writable`. */
bool pj_pipe_backlogged(const struct pj_pipe *pipe);

void pj_pipe_close(struct pj_pipe *pipe, void (*closed)(void *context), void *context);

/* The same, but the connection is given back in *kept before `closed` fires; NULL (and closed) where it was not
 * idle. */
void pj_pipe_release(struct pj_pipe *pipe, PGconn **kept, void (*closed)(void *context), void *context);

/* The same after a statement has failed: the connection comes back in the midst of its pipeline, to be brought out of it
 * by pj_session_recover; NULL (and closed) where it is lost. */
void pj_pipe_salvage(struct pj_pipe *pipe, PGconn **kept, void (*closed)(void *context), void *context);

#endif
