/* Holding tables fast, so that what a snapshot shows of them stays to be seen. */
#ifndef PJ_CORE_PIN_H
#define PJ_CORE_PIN_H

#include "pg/session.h"
#include "wire/table.h"

/*
 * Within a transaction whose snapshot has been taken: locks the tables (ACCESS SHARE, which stands in the way of
 * TRUNCATE, ALTER and DROP alone) and makes sure that none of them has been emptied or replaced since the snapshot.
 * Waits for nobody that holds one of them for longer than `wait_ms`, and not at all within the server, so that it is
 * part of no deadlock. `names` are quoted and qualified, NULL-ended. PJ_EUNHEALTHY, retryable with another snapshot,
 * with the table named.
 */
int pj_pin(struct pj_session *session, const char *const *names, int wait_ms, const struct pj_stop *stop,
           struct pj_error *error);

/*
 * For a snapshot that is yet to be taken, by a slot of which another session waits: BEGIN, and the sources locked (ACCESS
 * SHARE), each within `wait_ms`. A table that is truncated or rewritten after the snapshot was taken, and before it is
 * read, would be found empty; a rewrite is not in the stream. The locks have no transaction id, so the slot does not
 * wait for them.
 */
int pj_pin_sources(struct pj_session *session, const struct pj_table *tables, int ntables, int wait_ms,
                   struct pj_error *error);

#endif
