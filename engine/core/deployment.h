/*
 * A deployment: what the configuration says, resolved and checked for form, but with nothing of it looked at on a
 * server yet. Filled by the application, read-only for everything below.
 */
#ifndef PJ_CORE_DEPLOYMENT_H
#define PJ_CORE_DEPLOYMENT_H

#include "core/projection.h"
#include "core/source.h"

struct pj_deployed_module {
    char *path;                    /* of the shared object, absolute */
    struct pj_module_image *image; /* what it was when it was read; NULL: it is to be read */
    struct pj_binding binding; /* what [module NAME] says; its strings are the module's own, but for default_schema */
};

/* A module that was there and cannot serve (core/roster.h). */
struct pj_left_out {
    char *name, *why; /* "reads the table of …" */
};

struct pj_deployment {
    char *write_url, *read_url;
    char *slot;           /* NULL: made from the catalog's instance */
    char *default_schema; /* for modules' unqualified names; "public" */
    char *module_dir;     /* where modules are looked for; for messages */
    int nmodules;
    struct pj_deployed_module *modules;
    int nleft_out;
    struct pj_left_out *left_out;
    int nwanted;
    struct pj_wanted_table *wanted; /* [mirrors] tables */
    int jobs;                       /* parallel copies of a first start: 2 */
    int slot_wait_ms;               /* how long creating the slot may wait for open transactions: 60000 */
    size_t batch_bytes;             /* a batch's cap: 8 MiB. Some four times that bounds the memory, eight at worst */
    bool resync_on_gap;             /* on_gap = resync: a gap in the stream is followed by a resync instead of a halt */
    bool adopt_columns;             /* a resync follows: columns that mirrors were given by hand count from now on */
    int gather_ms;                  /* longest gathering of a batch while the stream runs hot: 250 */
};

/* "conversation_summary" of ".../conversation_summary.so", as long as the path. Static length: no module's name is
 * longer. */
struct pj_module_name {
    char text[64];
};
struct pj_module_name pj_deployed_name(const struct pj_deployed_module *module);

/* Appends a copy of the module (its image shared), and returns it. */
struct pj_deployed_module *pj_deployment_add(struct pj_deployment *deployment, const struct pj_deployed_module *module);
void pj_deployment_remove(struct pj_deployment *deployment, int index);
/* The same, and keeps in mind why. */
void pj_deployment_leave_out(struct pj_deployment *deployment, int index, const char *why);
/* Why the module of that name was left out; NULL: it was not. */
const char *pj_deployment_why_left_out(const struct pj_deployment *deployment, const char *name);
struct pj_deployed_module *pj_deployment_find(const struct pj_deployment *deployment, const char *name, bool beside);

/* Appends a wanted table, unless it is there. */
void pj_deployment_want(struct pj_deployment *deployment, const char *schema, const char *name, const char *wanted_by);

/* The settings and wanted tables, with none of the modules. */
struct pj_deployment pj_deployment_without_modules(const struct pj_deployment *from);

/* Whether tables, columns and options are bound alike. */
bool pj_binding_same(const struct pj_binding *a, const struct pj_binding *b);
void pj_binding_free(struct pj_binding *binding);

/* A text by which a module is known again as the same file, bound alike; over restarts, too. */
struct pj_module_mark {
    char text[PJ_DIGEST_SIZE];
};
struct pj_module_mark pj_module_mark(const struct pj_module_image *image, const struct pj_binding *binding);

void pj_deployment_free(struct pj_deployment *deployment);

#endif
