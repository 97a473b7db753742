/*
 * The careful way to apply a batch, after the fast way has failed on it: step by step, a savepoint around each
 * projection, so that one that fails harms neither the others nor the stream. Blocking; runs on a worker thread, on a
 * session of its own.
 */
#ifndef PJ_CORE_CAREFUL_H
#define PJ_CORE_CAREFUL_H

#include "base/log.h"
#include "core/batch.h"
#include "core/catalog.h"
#include "core/setup.h"
#include "core/writer.h"

struct pj_careful;

struct pj_careful *pj_careful_new(struct pj_setup *setup, const char *read_url, size_t batch_bytes,
                                  const struct pj_stop *stop, const struct pj_log *log);
void pj_careful_free(struct pj_careful *careful); /* closes its session, rolling back what is open; NULL is fine */

/* In a transaction, between its parts: runs a statement that does nothing. */
int pj_careful_ping(struct pj_careful *careful, struct pj_error *error);

/* Closes the session: what it has open is rolled back. */
void pj_careful_reset(struct pj_careful *careful);

/*
 * Applies a batch, like pj_applier_apply; parts without `commit` keep the transaction open for the next call.
 * `believed` is what the checkpoint row holds; after a commit its lsn and version are what it then holds. `writer` is
 * the applier's. An error of a mirror, or of the connection, is returned; one of a projection is dealt with.
 */
int pj_careful_apply(struct pj_careful *careful, struct pj_writer *writer, struct pj_batch *batch, bool commit,
                     struct pj_checkpoint *believed, struct pj_error *error);

bool pj_careful_in_transaction(const struct pj_careful *careful);

#endif
