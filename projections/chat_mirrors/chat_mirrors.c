/*
 * chat_mirrors - the chat's tables on the read database, with the indexes that its queries read by.
 *
 * No projection of its own: a module without a target only asks for mirrors and indexes.
 */
#include "pgprojector.h"

static const struct pj_source sources[] = {
    {.table = "users"}, {.table = "conversations"}, {.table = "messages"}, {.table = "user_conversations"}, {0},
};

static const char *const mirror_indexes[] = {
    "{messages} (conversation_id, sequence_number DESC)",
    "{messages} (conversation_id, sequence_number DESC) WHERE deleted_at IS NULL",
    "{messages} (sender_id, created_at DESC)",
    "{messages} (created_at DESC)",
    "{conversations} (tenant_id, updated_at DESC)",
    NULL,
};

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "chat_mirrors",
    .version = 1,
    .description = "users, conversations, messages and user_conversations, with indexes for reading",
    .sources = sources,
    .mirror_indexes = mirror_indexes,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
