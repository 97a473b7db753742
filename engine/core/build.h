/*
 * Building a projection's table beside the one that serves (or where none does yet), and swapping it in. The stream
 * notes the keys that it touches meanwhile (state `building`). Its story stands in ARCHITECTURE.md, "Registering while
 * running".
 *
 *      prepare -> (the stream begins to note) -> fill -> swap        clear: undoes all up to, and not including, the swap
 *
 * Interrupted anywhere, what serves goes on serving; beginning again removes what was left.
 *
 * While it lasts there is a row in pgprojector.job, kind "build" or "rollback": begun by prepare (or indexing the
 * mirrors), ended by a swap that succeeded, or by whatever failed. Cancelled (pj_request_cancel), each of the three is
 * PJ_ESTOPPED, and its sessions are as usable as before.
 */
#ifndef PJ_CORE_BUILD_H
#define PJ_CORE_BUILD_H

#include "base/log.h"
#include "core/mend.h"
#include "core/setup.h"

/* What the reason of a projection begins with that is paused because a table that it reads was replaced: it is to be
 * resumed. */
#define PJ_CATCHES_UP "catching up: "

/* The reason of a retired row, NAME.kept, whose table nobody wants to be kept. */
#define PJ_REPLACED "replaced"

struct pj_build {
    struct pj_mend *mend; /* its projection is the one beside (bound with `beside`); sessions, job, stop, options */
    struct pj_projection *next;   /* the same */
    const struct pj_setup *setup; /* with the projection as it serves, if it does, and those that are chained on it */
    const char *name;             /* of the projection as it serves: "conversation_summary" */
    bool keep_old;                /* what is replaced is kept for a rollback; else it is dropped after the swap */
    bool drop_later;              /* it is not the swap that drops it, but pj_build_drop_replaced */
    int64_t request;              /* of pgprojector.request, which the swap marks as `committed`; 0: none */
    bool verify;                  /* compare once more before the swap */
    bool from_kept;               /* a rollback: begin with the kept table in the place of an empty one */
    const struct pj_log *log;     /* warnings, and whom a swap waits for; NULL: none */

    /* filled here */
    char table[64];  /* the name once it is swapped in, not quoted: the module's target */
    int64_t rows;    /* that the table beside was filled with; in a rollback those that had to be mended */
    int64_t parked;  /* keys for which the definition fails: they are left out */
    char phase[400]; /* the job's, where it waits for somebody or something */
};

/*
 * Makes the indexes on mirrors that the module asks for, without holding the stream up. Whom the server waits for is
 * said in the job's phase, and in the log. To be called before prepare, so that nothing is noted meanwhile, which may
 * take long; it is the first part of fill all the same. It begins the job.
 */
int pj_build_index_mirrors(struct pj_build *build, struct pj_error *error);

/*
 * After removing what an interrupted build left, creates the empty table beside and its row in the catalog, in one
 * transaction. With from_kept the kept table takes its place. The projection is then described
 * (pj_projection_describe_target). PJ_ECONFIG where something hangs on the former table that cannot move with the name
 * (a view that reads it: that cannot be defined for the new one, which is tried), or a projection is chained on it that
 * could not read the new one; it is named, and nothing has changed.
 */
int pj_build_prepare(struct pj_build *build, struct pj_error *error);

/*
 * Once every batch notes (without a daemon: at once): fills the table, adds key, indexes and statistics, recomputes
 * what was noted until little is left, compares it with the definition. PJ_EDIFFERENT where it differs. Keys for which
 * the definition fails are parked (core/fill_keys.h); it is not compared as a whole, then.
 */
int pj_build_fill(struct pj_build *build, struct pj_error *error);

/* One transaction: the rest of the keys, names, grants, views, catalog, version and roster number. Waits for readers
 * without holding anybody up, as long as it takes. PJ_ECONFIG as prepare. What was replaced is dropped in a second
 * transaction. Those that are chained on it are paused then, and are the caller's to resume (pj_build_catching_up). */
int pj_build_swap(struct pj_build *build, struct pj_error *error);

/* What an interrupted build of that name left goes: table, row, noted keys, job; a kept table is kept again. What
 * serves is not touched; whoever is still at work on the table is ended. *there: whether there was anything. Not while
 * one is under way. */
int pj_build_clear(struct pj_session *work, const char *name, bool *there, struct pj_error *error);

/* The names of the projections that are paused because a table that they read was replaced. */
int pj_build_catching_up(struct pj_session *session, PGresult **names, struct pj_error *error);

/* Drops what swaps have replaced and nobody wanted to be kept; of that name, or, NULL, all. */
int pj_build_drop_replaced(struct pj_session *work, const char *name, struct pj_error *error);

/* Drops what a swap has replaced: the kept table, its row. *there: whether there was one. */
int pj_build_drop_kept(struct pj_session *work, const char *name, bool *there, struct pj_error *error);

#endif
