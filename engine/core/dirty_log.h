/*
 * The log of what projections that are not live have missed (pgprojector.dirty_key) is kept from growing without end: one
 * that is paused for a night would fill the disk, and then all would stand still because of one that should hold nobody up.
 */
#ifndef PJ_CORE_DIRTY_LOG_H
#define PJ_CORE_DIRTY_LOG_H

#include "pg/session.h"

/*
 * Where a projection's log has outgrown what anybody would go through key by key, "everything" takes its place. To be called
 * now and then, with no transaction open; takes a second at most, and what is then left the next time.
 */
int pj_dirty_log_trim(struct pj_session *read, struct pj_error *error);

#endif
