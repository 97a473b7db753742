/*
 * The rows that were written last, so that their old images need not be fetched when they change again: a quiet stream
 * then takes one round trip a batch instead of two. Direct-mapped and of fixed size; forgets at will, but never knows
 * wrongly: only the applier writes the mirrors, whoever else does (repair, resync) makes it reconnect, and a connection
 * begins with an empty cache.
 */
#ifndef PJ_CORE_ROWCACHE_H
#define PJ_CORE_ROWCACHE_H

#include "core/batch.h"

struct pj_rowcache;

struct pj_rowcache *pj_rowcache_new(void);
void pj_rowcache_free(struct pj_rowcache *cache); /* NULL is fine */
void pj_rowcache_clear(struct pj_rowcache *cache);

/* Gives the batch's rows whose old is PJ_OLD_UNKNOWN the old images that are known here, copied into the batch's
 * arena. */
void pj_rowcache_fill(struct pj_rowcache *cache, struct pj_batch *batch);

/* Takes over what a committed (or, within its transaction, written) batch has made of its rows. */
void pj_rowcache_learn(struct pj_rowcache *cache, const struct pj_batch *batch);

#endif
