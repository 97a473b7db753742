/* Running a projection's module over a batch: rows in, deltas and dirty keys out. Pure. */
#ifndef PJ_CORE_PROJECT_H
#define PJ_CORE_PROJECT_H

#include "core/batch.h"
#include "core/projection.h"

/*
 * Runs apply() on every changed row of the projection's sources; the outcome is added to projection->deltas. A row that
 * apply() refuses makes its routing keys dirty instead, for what the definition says can be written even where apply()
 * cannot digest the row, and is counted (`refused`); with on_error = halt, while it is live, it is an error. Where
 * apply() has been switched off (`apply_off`) every row makes its routing keys dirty.
 */
int pj_project_batch(struct pj_projection *projection, const struct pj_batch *batch, struct pj_error *error);

/* Hints at what to do about a projection whose error halts the daemon (on_error = halt). Returns the error's code. */
int pj_project_halt(const struct pj_projection *projection, struct pj_error *error);

/* Whether a row that was there and is there has kept its primary key. */
bool pj_project_same_key(const struct pj_table *table, const struct pj_row *row);

#endif
