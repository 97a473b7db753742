/*
 * messages_per_day - how many live messages each tenant has on each UTC day. The example of a projection that has no
 * apply(): tables, key and definition are all.
 *
 * A message names its conversation, and only a join can tell which tenant that belongs to. Read straight from the
 * mirrors, messages would be a source without a key, and each batch would compute the whole table anew. So it is two
 * steps, chained: conversation_days counts by conversation, which each changed row does name, and keeps the tenant in
 * its key; what is touched there tells tenant and day, and only those rows are added up anew here. Both modules are to
 * be deployed.
 */
#include "pgprojector.h"

/* The columns that carry the key: single rows become dirty, not all days of a tenant. */
static const struct pj_column columns[] = {{"tenant_id", PJ_UUID}, {"day", PJ_DATE}, {NULL, PJ_ANY}};

static const struct pj_source sources[] = {
    {"conversation_days", "tenant_id", columns},
    {NULL, NULL, NULL},
};

static const char *const key[] = {"tenant_id", "day", NULL};

/* sum() of bigint is numeric. */
static const char definition[] = "SELECT d.tenant_id, d.day, sum(d.messages)::pg_catalog.int8 AS messages\n"
                                 "FROM {conversation_days} AS d\n"
                                 "WHERE {keys(d.tenant_id, d.day)}\n"
                                 "GROUP BY d.tenant_id, d.day";

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "messages_per_day",
    .version = 2,
    .description = "the number of live messages of each tenant and UTC day",
    .sources = sources,
    .target = "messages_per_day",
    .key = key,
    .fillfactor = 70,
    .definition = definition,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
