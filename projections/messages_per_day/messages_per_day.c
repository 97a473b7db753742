/*
 * messages_per_day - how many live messages each tenant has on each UTC day. The example of a projection that has no
 * apply(): tables, key and definition are all.
 *
 * What it costs. A conversation carries the tenant, so its changes concern one tenant's rows. A message does not: it names
 * its conversation, and which tenant that belongs to only a join can tell. Its source is therefore declared without a
 * key, and every batch with a changed message computes the whole table anew (half a second a million messages). That is
 * right, and fine for small tables; it is why this module is an example and not among the modules deployed by default.
 *
 * The day is cut in UTC whatever the session's time zone is: a definition must not depend on settings.
 */
#include "pgprojector.h"

static const struct pj_source sources[] = {
    {"conversations", "tenant_id", NULL},
    {"messages", NULL, NULL},
    {NULL, NULL, NULL},
};

static const char *const key[] = {"tenant_id", "day", NULL};

static const char definition[] =
    "SELECT c.tenant_id, (m.created_at AT TIME ZONE 'UTC')::pg_catalog.date AS day, count(*) AS messages\n"
    "FROM {conversations} AS c\n"
    "JOIN {messages} AS m ON m.conversation_id = c.id\n"
    "WHERE m.deleted_at IS NULL AND c.tenant_id IS NOT NULL AND m.created_at IS NOT NULL AND {keys(c.tenant_id)}\n"
    "GROUP BY 1, 2";

static const char *const mirror_indexes[] = {
    "{conversations} (tenant_id, updated_at DESC)",
    "{messages} (conversation_id, created_at) WHERE deleted_at IS NULL",
    NULL,
};

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "messages_per_day",
    .version = 1,
    .description = "the number of live messages of each tenant and UTC day",
    .sources = sources,
    .mirror_indexes = mirror_indexes,
    .target = "messages_per_day",
    .key = key,
    .definition = definition,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
