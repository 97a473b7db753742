/* What the parts of `module check`'s probe share: tables and columns (module_probe.c), SQL (module_probe_sql.c), the
 * target's place (module_place.c). */
#ifndef PJ_APP_MODULE_PROBE_H
#define PJ_APP_MODULE_PROBE_H

#include "app/module.h"
#include "core/source.h"

struct pj_probe {
    const struct pj_module *module;
    struct pj_binding binding; /* without columns of tables that are not there */
    const struct pj_module_databases *databases;
    struct pj_module_report *report;
    int ntables;
    struct pj_table *tables; /* those that are there */
    bool complete;           /* all are */
    int nsources;            /* those whose table is there, without key and columns; behind them the end */
    struct pj_source *sources;
    int *places; /* their indexes in the module's list */
    int nupstreams;
    struct pj_probe_upstream *upstreams; /* modules whose tables it reads, and those whose tables these read */
    int nbound;
    struct pj_projection
        *bound; /* the same, bound to tables of the same names in pg_temp; upstream before downstream */
};

/* A fault, unless it is the database's and not the module's. `what` may be NULL. */
void pj_probe_found(struct pj_probe *probe, struct pj_error *error, const char *what);

/* A descriptor with the sources alone, to which what is to be looked at is added. */
struct pj_module pj_probe_reduced(const struct pj_probe *probe);
int pj_probe_bind(struct pj_probe *probe, const struct pj_module *reduced, struct pj_projection *projection,
                  struct pj_error *error);

/* Looks for the module that keeps a table, and adds the tables that it wants to the list. False: there is none. */
bool pj_probe_add_upstream(struct pj_probe *probe, const struct pj_wanted_table *of, struct pj_wanted_table **wanted,
                           int *count);
int pj_probe_bind_upstreams(struct pj_probe *probe, struct pj_error *error);
/* Binds them anew, to the mirrors as they are called now, and makes their tables. */
int pj_probe_make_upstreams(struct pj_probe *probe, struct pj_error *error);
void pj_probe_free_upstreams(struct pj_probe *probe);

/* Whether the target's name is free, and its schema there (module_place.c). */
void pj_probe_place(struct pj_probe *probe);

/* Definition, merges and indexes, on the read database. */
void pj_probe_sql(struct pj_probe *probe);

#endif
