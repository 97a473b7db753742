/*
 * Columns that sources have gained since their mirrors were made. A running daemon leaves them out; a mirror gets them by
 * ALTER TABLE, and the next resync fills them and has them kept from then on.
 */
#ifndef PJ_CORE_MIRROR_REFRESH_H
#define PJ_CORE_MIRROR_REFRESH_H

#include "pg/session.h"
#include "wire/table.h"

/*
 * The columns of `table`, as it is on the source with all it has, that its mirror does not keep, in their order: *gained
 * has their names in its first field (PQclear). None for a table without a mirror, or whose mirror is joining.
 */
int pj_mirror_gained(struct pj_session *read, const struct pj_table *table, PGresult **gained, struct pj_error *error);

/*
 * Gives them to the mirror, where nobody has done that by hand, and makes the types that they need. In a transaction of
 * its own, which waits for readers of the mirror without holding anybody up, a minute; then they are named, retryably.
 */
int pj_mirror_refresh(struct pj_session *write, struct pj_session *read, const struct pj_table *table,
                      struct pj_error *error);

#endif
