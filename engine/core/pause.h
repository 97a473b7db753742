/*
 * Pausing a projection and taking it up again. A paused one holds nobody back, and no WAL: the daemon goes on, and only
 * notes the keys that it would have changed (pgprojector.dirty_key).
 */
#ifndef PJ_CORE_PAUSE_H
#define PJ_CORE_PAUSE_H

#include "core/mend.h"
#include "host/guard.h"

enum pj_paused {
    PJ_PAUSED_NOW,
    PJ_PAUSED_BEFORE,     /* by a person */
    PJ_PAUSE_ACKNOWLEDGED /* the daemon had paused it: from now on it is as if a person had, and stays so until resumed */
};

/* *reason: what it was paused for when that is acknowledged, else NULL; to be freed, also after an error. PJ_ECONFIG where
 * there is no projection of that name. */
int pj_pause(struct pj_session *work, const char *name, enum pj_paused *how, char **reason, struct pj_error *error);

/*
 * Pauses one whose apply() has crashed or not returned, and has the daemon note keys without it (`apply_off`) until it
 * is resumed. `reason` is for the catalog and status. *found: false where there is no such projection (any more). The
 * module that did it (`mark`, core/deployment.h) is kept in mind (core/guilty.h).
 */
int pj_pause_guilty(struct pj_session *work, const struct pj_guilt *guilt, const char *reason, bool *found,
                    struct pj_error *error);

/*
 * Recomputes the keys that were noted until few are left, and these together with the change of state, in one
 * transaction. mend: its projection checked (pj_projection_check_target), its job without a row. Interrupted at any
 * point, the projection stays paused and nothing is lost. because: only where its reason begins so, as what resumes by
 * itself must heed (a person may have acknowledged it meanwhile); NULL: whatever it was paused for. *changed: false where it
 * was live, or is paused for something else. Paused anew while it was at work, it stays so: without `because` an error.
 */
int pj_resume(struct pj_mend *mend, const char *because, bool *changed, struct pj_error *error);

#endif
