/*
 * A deployment met with its databases: modules loaded, tables read from the source's catalog, projections bound.
 */
#ifndef PJ_CORE_SETUP_H
#define PJ_CORE_SETUP_H

#include "core/deployment.h"

struct pj_setup {
    int nloaded;
    struct pj_loaded_module *loaded;
    int ntables;
    struct pj_table *tables;
    struct pj_relmap *relmap;
    int nprojections; /* one a module, with or without a target; by level (core/chain.h): upstream before downstream */
    struct pj_projection *projections;
    int misfit; /* after PJ_ECONFIG of pj_setup_open: the deployment's module that reads another projection's table, and
                   could not be bound; -1: it is something else */
};

/* Loads the modules, gathers the wanted tables, reads them from the source, fills the relmap, binds. The whole of what
 * can be known without the read database. PJ_ECONFIG names every fault. With `read` (NULL: none),
 * columns that the source has gained since the mirrors were made are left out: they are not mirrored. */
int pj_setup_open(struct pj_setup *setup, const struct pj_deployment *deployment, struct pj_session *write,
                  struct pj_session *read, struct pj_error *error);

/* Once the read side's tables exist: checks mirrors and targets, builds what SQL needs their types, and finds the
 * order in which mirrors are best written. */
int pj_setup_check_read(struct pj_setup *setup, struct pj_session *read, struct pj_error *error);

/* The same before a resync, which does not mind what became of the source's rows meanwhile: columns and keys must
 * fit. */
int pj_setup_check_resync(struct pj_setup *setup, struct pj_session *read, struct pj_error *error);

/* The projection of that name; NULL: none. */
struct pj_projection *pj_setup_projection(const struct pj_setup *setup, const char *name);

void pj_setup_close(struct pj_setup *setup);

#endif
