/*
 * Making the read side equal to the write database where the two differ, and nowhere else: resync and repair.
 *
 * `write` is inside a transaction whose snapshot shows one commit, `read` inside the writing transaction that is to
 * show the same one; until that commits, readers see nothing of it. Both may be used for more within their
 * transactions. The read session's role needs the right to make temporary tables.
 */
#ifndef PJ_CORE_DIFFERENCE_H
#define PJ_CORE_DIFFERENCE_H

#include "core/projection.h"

/* Rows of a mirror that were not the source's. */
struct pj_mended {
    int64_t missing, extra, changed;
};

static inline int64_t pj_mended_rows(const struct pj_mended *mended)
{
    return mended->missing + mended->extra + mended->changed;
}

/*
 * Makes the whole mirror equal to its source. Finds where they differ by fingerprints of buckets of rows, and fetches
 * the rows of these buckets only. *mended is set.
 */
int pj_difference_mend_table(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                             struct pj_mended *mended, struct pj_error *error);

/* Its second half. After the first (core/difference_ahead.h) it is known what is to be written, and pj_difference_touched
 * says what depends on it; this writes it. */
int pj_difference_write_table(struct pj_session *read, const struct pj_table *table, struct pj_error *error);

/* Makes the rows of some keys equal: `keys` is one array literal ("{…}") of texts for each column of the primary
 * key. */
int pj_difference_mend_keys(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                            const char *const *keys, struct pj_mended *mended, struct pj_error *error);

/*
 * The same, with keys of the replica identity, for a mirror that is not exact elsewhere: a row whose primary key in the
 * mirror is still another's takes it over, and the other is gone until it is mended itself.
 */
int pj_difference_mend_identities(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                                  const char *const *keys, struct pj_mended *mended, struct pj_error *error);

/* Where keys are more than this, a pass over everything is not much slower, and bounded. */
enum { PJ_DIFFERENCE_MOST_KEYS = 20000 };

/* Routing keys of a projection. */
struct pj_difference_keys {
    bool all;
    bool many;  /* so many that one join of all their rows is quicker than looking each row up */
    char *keys; /* an array literal (pj_free); NULL: none, or all */
};

/* The routing keys of a projection's rows that depend on what has been, or is to be, mended within this transaction, in
 * whatever tables. All, where that would be the quicker way, or where keys alone do not tell. *touched is set. */
int pj_difference_touched(struct pj_session *read, const struct pj_projection *projection,
                          struct pj_difference_keys *touched, struct pj_error *error);

/* The same keys where they are wanted one by one: all only where keys alone do not tell, or are too many. */
int pj_difference_touched_keys(struct pj_session *read, const struct pj_projection *projection,
                               struct pj_difference_keys *touched, struct pj_error *error);

/* Makes it all, where that would be the quicker way to recompute them; `count`: how many they are. */
int pj_difference_choose(struct pj_session *read, const struct pj_projection *projection,
                         struct pj_difference_keys *keys, int64_t count, struct pj_error *error);

/* Makes the rows of these keys equal to the definition. *rows is set to the rows written. */
int pj_difference_recompute_keys(struct pj_session *read, const struct pj_projection *projection,
                                 const struct pj_difference_keys *keys, int64_t *rows, struct pj_error *error);

/* The two in one; where nothing that the projection reads was mended, nothing is done. */
int pj_difference_recompute(struct pj_session *read, const struct pj_projection *projection, int64_t *rows,
                            struct pj_error *error);

#endif
