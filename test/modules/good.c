/* The smallest module that is right; the others here differ from it in one point each (MODULE_… macros). */
#include "pgprojector.h"

#ifndef MAGIC
#define MAGIC PJ_MODULE_MAGIC
#endif
#ifndef ABI
#define ABI PJ_ABI_VERSION
#endif
#ifndef SIZE
#define SIZE sizeof(struct pj_module)
#endif
#ifndef NAME
#define NAME "good"
#endif

static const struct pj_source sources[] = {{"things", "owner_id", NULL}, {NULL, NULL, NULL}};
static const char *const key[] = {"owner_id", NULL};

static const struct pj_module module = {
    .magic = MAGIC,
    .abi_version = ABI,
    .size = SIZE,
    .name = NAME,
    .version = 1,
    .description = "how many things each owner has",
    .sources = sources,
    .target = "owned_things",
    .key = key,
    .definition =
        "SELECT t.owner_id, count(*) AS things FROM {things} AS t WHERE {keys(t.owner_id)} GROUP BY t.owner_id",
};

const struct pj_module *pj_module(void)
{
    return &module;
}
