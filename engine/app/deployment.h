/* From a configuration to a deployment: which shared objects, with which bindings, and which further tables. */
#ifndef PJ_APP_DEPLOYMENT_H
#define PJ_APP_DEPLOYMENT_H

#include "app/config.h"
#include "core/deployment.h"

/*
 * Fills the deployment from a resolved configuration. Modules are looked for on disk; those that have a section, and
 * load, are opened to check that its keys are known to them. PJ_ECONFIG. The deployment owns all it points to.
 */
int pj_deployment_make(struct pj_deployment *deployment, const struct pj_config *config, struct pj_error *error);

/* What the configuration says of one module's file (absolute), deployed or not; to be given to pj_binding_free. */
void pj_deployment_bind(const struct pj_config *config, const char *path, struct pj_binding *binding);

/* The directory in which modules are looked for: as configured, else beside the executable. To be freed. */
char *pj_deployment_module_dir(const struct pj_config *config);

#endif
