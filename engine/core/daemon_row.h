/*
 * The daemon's row (pgprojector.daemon): who it is, its phase, its figures, and that it is alive.
 *
 * The row is singular, but daemons may be two (one in standby, one dying): the row is taken by force only by one that
 * works; any other writes it where it is its own, or where nobody keeps it up any more.
 */
#ifndef PJ_CORE_DAEMON_ROW_H
#define PJ_CORE_DAEMON_ROW_H

#include "core/state.h"
#include "pg/session.h"

/* What the daemon was at one moment. */
struct pj_daemon_moment {
    enum pj_phase phase;
    char message[2048], hint[1024];
    struct pj_figures figures;
};

struct pj_daemon_row {
    struct pj_state *state;
    char host[256], pid[12], started_at[48];
    struct pj_daemon_moment written; /* what the row says */
    uint64_t written_at_us;          /* monotonic; 0: not yet by this session */
    uint64_t caught_up_at_us;        /* monotonic; 0: never yet */
};

/* This process is the daemon. The state must outlive the row. */
void pj_daemon_row_init(struct pj_daemon_row *row, struct pj_state *state);

void pj_daemon_row_look(const struct pj_daemon_row *row, struct pj_daemon_moment *now);

/* A phase is told at once, figures and progress once a second, and that nothing happens every other second. */
bool pj_daemon_row_due(const struct pj_daemon_row *row, const struct pj_daemon_moment *now);

int pj_daemon_row_write(struct pj_daemon_row *row, struct pj_session *session, const struct pj_daemon_moment *now,
                        struct pj_error *error);

#endif
