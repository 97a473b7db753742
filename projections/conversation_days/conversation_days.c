/*
 * conversation_days - how many live messages each conversation has on each UTC day, with its tenant: what
 * messages_per_day adds up. No apply(): tables, key and definition are all, and a changed message has its
 * conversation's rows computed anew.
 *
 * The tenant is part of the key although the conversation decides it. Whoever reads this table is told keys of touched
 * rows, and so learns of both tenants when a conversation goes from one to the other: the rows of the one go, those of
 * the other come.
 *
 * The day is cut in UTC whatever the session's time zone is: a definition must not depend on settings.
 */
#include "pgprojector.h"

static const struct pj_source sources[] = {
    {"conversations", "id", NULL},
    {"messages", "conversation_id", NULL},
    {NULL, NULL, NULL},
};

static const char *const key[] = {"conversation_id", "tenant_id", "day", NULL};

static const char definition[] =
    "SELECT c.id AS conversation_id, c.tenant_id, (m.created_at AT TIME ZONE 'UTC')::pg_catalog.date AS day,\n"
    "       count(*) AS messages\n"
    "FROM {conversations} AS c\n"
    "JOIN {messages} AS m ON m.conversation_id = c.id\n"
    "WHERE m.deleted_at IS NULL AND c.tenant_id IS NOT NULL AND m.created_at IS NOT NULL AND {keys(c.id)}\n"
    "GROUP BY 1, 2, 3";

static const char *const mirror_indexes[] = {
    "{messages} (conversation_id, created_at) WHERE deleted_at IS NULL",
    NULL,
};

/* For messages_per_day. */
static const char *const target_indexes[] = {"(tenant_id, day)", NULL};

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "conversation_days",
    .version = 1,
    .description = "the number of live messages of each conversation and UTC day",
    .sources = sources,
    .mirror_indexes = mirror_indexes,
    .target = "conversation_days",
    .key = key,
    .target_indexes = target_indexes,
    .fillfactor = 70,
    .definition = definition,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
