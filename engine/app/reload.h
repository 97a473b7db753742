/* The configuration read again while the daemon runs: SIGHUP, and whenever the registrar looks at a module. */
#ifndef PJ_APP_RELOAD_H
#define PJ_APP_RELOAD_H

#include "app/app.h"

#include <pthread.h>

struct pj_reload {
    struct pj_app *app;
    pthread_mutex_t lock;
    struct pj_config current; /* as it was read last */
};

void pj_reload_init(struct pj_reload *reload, struct pj_app *app);
void pj_reload_free(struct pj_reload *reload);

/*
 * Reads file and environment again and makes a deployment of them (deploy of core/registering.h; `context`: the
 * pj_reload). What cannot change while the daemon runs stays as it was, and the log names it. Thread-safe. PJ_ECONFIG:
 * then nothing has changed.
 */
int pj_reload_deploy(void *context, struct pj_deployment *deployment, struct pj_error *error);

/* The same, but where that fails it is logged, and the deployment is made of what was read last. */
int pj_reload_deploy_anyhow(void *context, struct pj_deployment *deployment, struct pj_error *error);

#endif
