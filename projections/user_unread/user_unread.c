/*
 * user_unread - a row for every user with a membership: in how many conversations there is something unread, and how
 * many messages that is, over all.
 *
 * It reads another projection's table, user_conversation_membership: the two are chained. What a batch touches there
 * makes its user's row dirty here, and that is computed anew in the same transaction. Definition alone, no apply(). The
 * memberships themselves are a source, too, for one whose conversation is gone is not in that table, but counts as a
 * membership.
 */
#include "pgprojector.h"

static const struct pj_source sources[] = {
    {"user_conversations", "user_id", NULL},
    {"user_conversation_membership", "user_id", NULL},
    {NULL, NULL, NULL},
};

static const char *const key[] = {"user_id", NULL};

/* Both tables have an index that begins with user_id. sum() of bigint is numeric. */
static const char definition[] =
    "SELECT u.user_id, count(*) FILTER (WHERE u.unread > 0) AS unread_conversations,\n"
    "       coalesce(sum(u.unread), 0)::pg_catalog.int8 AS unread_messages\n"
    "FROM (SELECT c.user_id, NULL AS unread FROM {user_conversations} AS c WHERE {keys(c.user_id)}\n"
    "      UNION ALL\n"
    "      SELECT m.user_id, m.unread_count FROM {user_conversation_membership} AS m WHERE {keys(m.user_id)}) AS u\n"
    "GROUP BY u.user_id";

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "user_unread",
    .version = 1,
    .description = "each user's number of unread messages, and of conversations with any",
    .sources = sources,
    .target = "user_unread",
    .key = key,
    .fillfactor = 50,
    .definition = definition,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
