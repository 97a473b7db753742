/*
 * A deployment: what the configuration says, resolved and checked for form, but with nothing of it looked at on a server
 * yet. Filled by the application, read-only for everything below.
 */
#ifndef PJ_CORE_DEPLOYMENT_H
#define PJ_CORE_DEPLOYMENT_H

#include "core/projection.h"
#include "core/source.h"

struct pj_deployed_module {
    char *path;                /* of the shared object, absolute */
    struct pj_binding binding; /* what [module NAME] says */
};

struct pj_deployment {
    char *write_url, *read_url;
    char *slot;           /* NULL: made from the catalog's instance */
    char *default_schema; /* for modules' unqualified names; "public" */
    int nmodules;
    struct pj_deployed_module *modules;
    int nwanted;
    struct pj_wanted_table *wanted; /* [mirrors] tables */
    int jobs;                       /* parallel copies of a first start: 2 */
    int slot_wait_ms;               /* how long creating the slot may wait for open transactions: 60000 */
    size_t batch_bytes;             /* a batch's cap: 8 MiB. Twice that, and libpq's buffers, bound the memory */
    bool resync_on_gap;             /* on_gap = resync: a gap in the stream is followed by a resync instead of a halt */
    int gather_ms;                  /* longest gathering of a batch while the stream runs hot: 250 */
};

#endif
