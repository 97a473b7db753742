/* The forms of `rebuild` that make another table: --fresh, --rollback, --drop-kept; and --cancel, which ends any. */
#ifndef PJ_APP_REBUILD_FRESH_H
#define PJ_APP_REBUILD_FRESH_H

#include "app/app.h"

/* A table built beside and swapped in (or the kept one, app->options.rollback): by the daemon, where one runs, else
 * here. */
int pj_rebuild_fresh(struct pj_app *app, const char *name, struct pj_error *error);

int pj_rebuild_drop_kept(struct pj_app *app, const char *name, struct pj_error *error);
int pj_rebuild_cancel(struct pj_app *app, const char *name, struct pj_error *error);

#endif
