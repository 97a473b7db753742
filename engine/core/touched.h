/*
 * What a statement of a projection has touched, as dirty keys of those that are chained on its table. The statements
 * (merges and recomputations of a projection that others are chained on) return it; core/projection_sql.c makes them.
 */
#ifndef PJ_CORE_TOUCHED_H
#define PJ_CORE_TOUCHED_H

#include "core/projection.h"

#include <libpq-fe.h>

/* Marks the rows of a result with binary values. More than PJ_TOUCHED_AT_MOST of them, or of keys that are dirty
 * downstream than `keys_at_most`, become "everything". */
void pj_touched_mark(const struct pj_projection *upstream, const PGresult *rows, size_t keys_at_most);

/* All rows may have been touched. */
void pj_touched_mark_all(const struct pj_projection *upstream);

#endif
