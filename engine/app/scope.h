/* What commands that work on projections have in common: the deployment bound to both databases, two sessions,
 * progress. */
#ifndef PJ_APP_SCOPE_H
#define PJ_APP_SCOPE_H

#include "app/app.h"
#include "core/mend.h"
#include "core/setup.h"

struct pj_scope {
    struct pj_app *app;
    struct pj_deployment deployment;
    struct pj_setup setup;
    struct pj_session *look, *work; /* on the read database */
    struct pj_mark mark;            /* of before the setup was made; for mends */
    bool line_open;                 /* progress in place on a terminal */
    uint64_t logged_us;
    const char *phase;
};

/* Modules are loaded and bound (the write database's catalog is read); targets are not looked at yet. */
int pj_scope_open(struct pj_scope *scope, struct pj_app *app, const char *purpose, struct pj_error *error);
/* The same, with the module of that name bound a second time, to a table beside its own. */
int pj_scope_open_beside(struct pj_scope *scope, struct pj_app *app, const char *purpose, const char *name,
                         struct pj_error *error);
void pj_scope_close(struct pj_scope *scope);

/* Opens a scope, has the work done, and closes it. Again with another scope where the work ends with PJ_ERELOAD
 * (core/keywork.h): what it does must be fit to be begun again. */
int pj_scope_run(struct pj_app *app, const char *purpose,
                 int (*work)(struct pj_scope *scope, void *context, struct pj_error *error), void *context,
                 struct pj_error *error);

/* PJ_EUNHEALTHY, with the remedy, where the first start is not complete. */
int pj_scope_require_complete(struct pj_session *read, struct pj_error *error);

/* A read session for what needs no modules; PJ_EUNHEALTHY where the first start is not complete. */
int pj_scope_connect(const struct pj_app *app, const char *purpose, struct pj_session **read, struct pj_error *error);

/* The deployed projection of that name; PJ_ECONFIG where there is none. */
int pj_scope_find(const struct pj_scope *scope, const char *name, struct pj_projection **projection,
                  struct pj_error *error);

/* PJ_ECONFIG where the catalog knows a projection of that name, which no module of the deployment serves (as the roster
 * has left it): why not, and the remedy. */
int pj_scope_left_out(struct pj_session *read, const struct pj_deployment *deployment, const char *name,
                      struct pj_error *error);

/* Why not, in words that go on behind "its module's file ". */
const char *pj_scope_why_left_out(const struct pj_deployment *deployment, const char *name);

/* The same of a mirror ("messages", "public.messages") that the setup has not: PJ_EUNHEALTHY where it is still being
 * added, PJ_ECONFIG where its source is gone. */
int pj_scope_mirror_left_out(struct pj_session *read, const char *name, struct pj_error *error);

/* A mend on this scope's sessions, with its progress shown on stderr; it gives up (PJ_ERELOAD) where the setup is out of
 * date. */
struct pj_mend pj_scope_mend(struct pj_scope *scope, const struct pj_projection *projection);
void pj_scope_show(void *scope, const struct pj_progress *progress);
bool pj_scope_watched(const struct pj_scope *scope); /* progress is shown on a terminal, where somebody can give up */
void pj_scope_end_line(struct pj_scope *scope);

#endif
