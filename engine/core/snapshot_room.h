/* Whether there is room for what a first start makes. Changes nothing; for the first start itself, and for `doctor`. */
#ifndef PJ_CORE_SNAPSHOT_ROOM_H
#define PJ_CORE_SNAPSHOT_ROOM_H

#include "core/projection.h"
#include "core/source.h"

/* PJ_ECONFIG where the read database has tables (views …) of the names of mirrors or targets that pgprojector did not
 * make; all are named. `installed`: whether the catalog is there, which then says what an unfinished start has made. */
int pj_snapshot_room_for_tables(struct pj_session *read, bool installed, const struct pj_table *tables, int ntables,
                                const struct pj_projection *projections, int nprojections, struct pj_error *error);

/* PJ_ECONFIG where there is a slot of that name. One that is our own by an intent is not to be asked for. */
int pj_snapshot_room_for_slot(struct pj_session *write, const char *slot, struct pj_error *error);

#endif
