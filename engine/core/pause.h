/*
 * Pausing a projection and taking it up again. A paused one holds nobody back, and no WAL: the daemon goes on, and only
 * notes the keys that it would have changed (pgprojector.dirty_key).
 */
#ifndef PJ_CORE_PAUSE_H
#define PJ_CORE_PAUSE_H

#include "core/mend.h"

/* *changed: false where it was paused already. PJ_ECONFIG where there is no projection of that name. */
int pj_pause(struct pj_session *work, const char *name, bool *changed, struct pj_error *error);

/*
 * Pauses one whose apply() has crashed or not returned, and has the daemon note keys without it (`apply_off`) until it
 * is resumed. `reason` is for the catalog and status. *found: false where there is no such projection (any more).
 */
int pj_pause_guilty(struct pj_session *work, const char *name, const char *reason, bool *found, struct pj_error *error);

/*
 * Recomputes the keys that were noted until few are left, and these together with the change of state, in one
 * transaction. mend: its projection checked (pj_projection_check_target), its job without a row. Interrupted at any
 * point, the projection stays paused and nothing is lost. *changed: false where it was live.
 */
int pj_resume(struct pj_mend *mend, bool *changed, struct pj_error *error);

#endif
