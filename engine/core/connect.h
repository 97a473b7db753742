/*
 * Opening both ends of the pipeline: the applying session and the replication stream, with every check that must hold
 * before START_REPLICATION. Blocking; runs on a worker thread.
 */
#ifndef PJ_CORE_CONNECT_H
#define PJ_CORE_CONNECT_H

#include "base/log.h"
#include "core/catalog.h"
#include "core/setup.h"

#include <libpq-fe.h>

/*
 * What is known of the epoch. It is raised by each connect, also by one that fails later, or whose COMMIT's answer is
 * lost: kept from one connect to the next, this tells a take-over of our own from another daemon's.
 */
struct pj_connect_epoch {
    int64_t believed;  /* the row's must be the same, or PJ_ESTALE */
    int attempted_pid; /* of the backend that last tried to raise it; 0: none */
};

struct pj_connect_options {
    const struct pj_deployment *deployment;
    struct pj_setup *setup; /* its projections' standing is read anew */
    int64_t roster;         /* that the setup was made for */
    const struct pj_decoder *decoder;
    const struct pj_stop *stop;
    const struct pj_log *log;       /* of what had to be paused */
    struct pj_connect_epoch *epoch; /* in and out */
    struct pj_session
        *read; /* a session that already holds the lock and was taken over; NULL: open one. Consumed. It may have
                                been prepared for another setup */
};

struct pj_connections {
    PGconn
        *apply; /* prepared (pj_statements_prepare). After PJ_ERELOAD it is left open: it holds the lock, taken over */
    PGconn *stream; /* START_REPLICATION has been answered */
    struct pj_checkpoint checkpoint;
    uint32_t timeline;     /* the server's */
    int sender_timeout_ms; /* the walsender's: it gives up who is silent for so long; 0: it does not */
    pj_lsn confirmed;      /* the slot's, when it was looked at */
    bool witness_expected; /* the last applied transaction must come again, before anything new */
};

/*
 * Opens both, or neither. Projections whose statements the server refuses are paused. Beyond what sessions report:
 *   PJ_ESTALE  another daemon has taken over, or holds the lock now
 *   PJ_EGAP    the stream cannot be continued without a gap (invariant 7); the hint names the remedy
 *   PJ_ESCHEMA the source's tables are no longer as they were
 *   PJ_ERELOAD the read side's tables are kept by other modules than the setup has (checkpoint.roster)
 */
int pj_connect_open(const struct pj_connect_options *options, struct pj_connections *connections,
                    struct pj_error *error);
/* Opens the read side alone, for a stream that is open already and stands at `applied`: the checkpoint must be that
 * (else PJ_EFAIL, retryable). connections->stream stays NULL. Errors and what is left open as above. */
int pj_connect_read_side(const struct pj_connect_options *options, pj_lsn applied, struct pj_connections *connections,
                         struct pj_error *error);

/*
 * What the daemon holds of the read side's catalog is read again, in the applying session, while the stream stays open:
 * the standing of the setup's projections, and the version in *believed. PJ_ESTALE and PJ_ERELOAD as above; an error
 * that is retryable where the checkpoint has moved otherwise than by us: to be connected anew.
 */
int pj_connect_reread(const struct pj_connect_options *options, struct pj_checkpoint *believed, struct pj_error *error);
void pj_connect_close(struct pj_connections *connections); /* NULL members are fine */

#endif
