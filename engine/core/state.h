/*
 * What the daemon says of itself: set by whoever knows, written to pgprojector.daemon by the control thread, so that
 * `status` works from anywhere. Thread-safe.
 */
#ifndef PJ_CORE_STATE_H
#define PJ_CORE_STATE_H

#include "base/error.h"
#include "base/lsn.h"

#include <stddef.h>
#include <stdint.h>

/* X(enum, word in pgprojector.daemon.state) */
#define PJ_PHASES(X)                                                                                                   \
    X(PJ_STARTING, "starting")   /* connecting, checking */                                                            \
    X(PJ_STANDBY, "standby")     /* another daemon has the lock */                                                     \
    X(PJ_SNAPSHOT, "snapshot")   /* the first start's copy */                                                          \
    X(PJ_STREAMING, "streaming") /* applying */                                                                        \
    X(PJ_WAITING, "waiting")     /* a database is down, or what has failed there comes again */                        \
    X(PJ_HALTED, "halted")       /* will not go on by itself; the message says why, the hint what to do */             \
    X(PJ_STOPPED, "stopped")

#define PJ_PHASE_ENUM(name, word) name,
enum pj_phase { PJ_PHASES(PJ_PHASE_ENUM) };
#undef PJ_PHASE_ENUM

const char *pj_phase_word(enum pj_phase phase);

/* Counters since the daemon's start, and positions. */
enum { PJ_REFUSERS = 4 };

/* Rows that a projection's apply() has refused; those of more projections than these are not counted. */
struct pj_refused {
    char projection[64]; /* "": nobody's place */
    uint64_t rows;
};

struct pj_figures {
    uint64_t transactions, changes, batches, skipped; /* applied; skipped: sent again, already applied */
    uint64_t bytes;                                   /* received payload */
    uint64_t reconnects;
    pj_lsn received, applied, confirmed;
    int64_t applied_commit_us; /* commit time of the last applied transaction, us since 2000-01-01 UTC; 0 unknown */
    int64_t apply_us;          /* time spent on the last batch, BEGIN to COMMIT's answer */
    uint64_t last_batch_transactions;
    uint64_t buffered_bytes; /* decoded, not yet applied */
    struct pj_refused refused[PJ_REFUSERS];
};

struct pj_state;

struct pj_state *pj_state_new(void);
void pj_state_free(struct pj_state *state);
void pj_state_set(struct pj_state *state, enum pj_phase phase, const char *message, const char *hint);
enum pj_phase pj_state_get(struct pj_state *state, char *message, size_t message_size, char *hint, size_t hint_size);

/* Called after each pj_state_set that changed something, from the thread that made it. For the control thread. */
void pj_state_on_change(struct pj_state *state, void (*wake)(void *context), void *context);

void pj_state_set_figures(struct pj_state *state, const struct pj_figures *figures);
void pj_state_get_figures(struct pj_state *state, struct pj_figures *figures);

#endif
