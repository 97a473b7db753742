/*
 * Building a projection's table beside the one that serves (or where none does yet), and swapping it in. The stream notes the
 * keys that it touches meanwhile (state `building`). Its story stands in ARCHITECTURE.md, "Registering while running".
 *
 *      prepare -> (the stream begins to note) -> fill -> swap        discard: undoes all up to, and not including, the swap
 *
 * Interrupted anywhere, what serves goes on serving; beginning again removes what was left.
 */
#ifndef PJ_CORE_BUILD_H
#define PJ_CORE_BUILD_H

#include "core/mend.h"

struct pj_build {
    struct pj_mend *mend; /* its projection is the one beside (bound with `beside`); sessions, job, stop, options */
    struct pj_projection *next; /* the same */
    const char *name;           /* of the projection as it serves: "conversation_summary" */
    const char *serving_table;  /* its table, not quoted */
    bool keep_old;              /* what is replaced is kept for a rollback; else it is dropped after the swap */
    bool verify;                /* compare once more before the swap */
    bool from_kept;             /* a rollback: begin with the kept table in the place of an empty one */
};

/* Creates the empty table beside and its row in the catalog, in one transaction, after removing what an interrupted build left.
 * The projection is then described (pj_projection_describe_target). */
int pj_build_prepare(struct pj_build *build, struct pj_error *error);

/* Once every batch notes: fills the table, adds key, indexes and statistics, recomputes what was noted until little is left. */
int pj_build_fill(struct pj_build *build, struct pj_error *error);

/* One transaction: the rest of the keys, names, grants, views, catalog, roster number. Waits for readers without holding anybody
 * up. PJ_ECONFIG where something hangs on the former table that cannot move with the name; it is named. */
int pj_build_swap(struct pj_build *build, struct pj_error *error);

/* Removes table, row and noted keys. What serves is not touched. */
int pj_build_discard(struct pj_build *build, struct pj_error *error);

/* Drops what a swap has replaced: the kept table, its row. *there: whether there was one. */
int pj_build_drop_kept(struct pj_session *work, const char *name, bool *there, struct pj_error *error);

#endif
