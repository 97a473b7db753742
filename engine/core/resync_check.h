/*
 * Are the targets what their definitions say of the mirrors as they stood before a resync touched any? Asked while it
 * recomputes, by a thread with a session of its own. See resync.c.
 */
#ifndef PJ_CORE_RESYNC_CHECK_H
#define PJ_CORE_RESYNC_CHECK_H

#include "core/difference.h"
#include "core/setup.h"

struct pj_resync_check;

/*
 * Begins, while the caller holds the checkpoint row's lock. `but`, of each projection of the setup: keys that need not be
 * looked at. Both must stay until it is over. NULL with an error.
 */
struct pj_resync_check *pj_resync_check_begin(const char *read_url, const struct pj_setup *setup,
                                              const struct pj_difference_keys *but, struct pj_error *error);

/* Waits for it. A stop is passed on. What is wrong belongs to the check. */
int pj_resync_check_await(struct pj_resync_check *check, const struct pj_stop *stop, struct pj_error *error);

/* What is wrong with projection number `index` of the setup, after it was awaited. */
const struct pj_difference_keys *pj_resync_check_found(const struct pj_resync_check *check, int index);

/* The routing keys of rows that differ now, in the caller's transaction, without those that are parked; NULL where they are
 * too many to be looked at one by one. */
int pj_resync_check_list(struct pj_session *read, const struct pj_projection *projection, PGresult **keys,
                         struct pj_error *error);

/* Ends it, wherever it is. NULL is fine. */
void pj_resync_check_free(struct pj_resync_check *check);

#endif
