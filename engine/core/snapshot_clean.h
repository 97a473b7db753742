/* Removing what an unfinished first start left behind. */
#ifndef PJ_CORE_SNAPSHOT_CLEAN_H
#define PJ_CORE_SNAPSHOT_CLEAN_H

#include "base/log.h"
#include "core/catalog.h"

/*
 * The slot by our own intent, where it was made on this write database for `plugin`, then targets and mirrors, then the
 * intent itself. Refuses, changing nothing, where the first start is complete, or the slot is not ours or is in use.
 */
int pj_snapshot_clean(struct pj_session *read, struct pj_session *write, const struct pj_source_identity *identity,
                      const char *plugin, const struct pj_log *log, struct pj_error *error);

/* Drops the slot after a failure, on a connection of its own and within a few seconds. Its failure is only logged. */
void pj_snapshot_drop_slot(const char *write_url, const char *slot, const struct pj_log *log);

#endif
