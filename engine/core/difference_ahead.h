/*
 * Looking at all mirrors, one after the other, while where the next ones disagree with their sources is found already,
 * by a thread with a session of its own on either side. Comparing hashes keeps both servers busy, joining the rows that
 * may differ but one: so the two go together.
 */
#ifndef PJ_CORE_DIFFERENCE_AHEAD_H
#define PJ_CORE_DIFFERENCE_AHEAD_H

#include "core/difference.h"

struct pj_difference_ahead_options {
    const char *write_url, *read_url;
    const char *snapshot; /* its name on the write side; exported, and alive until the last mirror was looked at */
    const struct pj_table *tables;
    int ntables;
};

struct pj_difference_ahead;

/* Begins with the largest mirror. Nobody may write to the mirrors until pj_difference_ahead_free; what the options point
 * to must live so long. NULL: see *error. */
struct pj_difference_ahead *pj_difference_ahead_begin(const struct pj_difference_ahead_options *options,
                                                      struct pj_error *error);

/*
 * Looks at the next mirror, as pj_difference_look_at does. *table is NULL after the last, else *mended is set. `stop`
 * (may be NULL) ends the waiting.
 */
int pj_difference_ahead_look(struct pj_difference_ahead *ahead, struct pj_session *write, struct pj_session *read,
                             const struct pj_stop *stop, const struct pj_table **table, struct pj_mended *mended,
                             struct pj_error *error);

/* Ends what is under way, and its sessions. NULL is fine. */
void pj_difference_ahead_free(struct pj_difference_ahead *ahead);

#endif
