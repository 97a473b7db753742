/*
 * @NAME@ - how many messages each sender has, and when the last one was sent.
 *
 * Replace tables, key and definition by yours. pgprojector.h describes every field; projections/README.md tells how.
 */
#include "pgprojector.h"

/* The tables that are read, each with its column that carries the target's key ("routing key"). A changed row makes the
 * rows of its old and of its new key be computed anew. NULL instead of a column: any change concerns every key (dear). */
static const struct pj_source sources[] = {
    {"messages", "sender_id", NULL},
    {NULL, NULL, NULL},
};

/* The target's primary key, the routing key first. */
static const char *const key[] = {"sender_id", NULL};

/* What the target must contain: a SELECT over the sources, one row for each key. {keys(m.sender_id)} restricts it to the
 * keys in question; put it wherever a table is read. Its columns and types become the target's. */
static const char definition[] =
    "SELECT m.sender_id, count(*) AS messages, max(m.created_at) AS last_sent_at\n"
    "FROM {messages} AS m\n"
    "WHERE m.deleted_at IS NULL AND m.sender_id IS NOT NULL AND {keys(m.sender_id)}\n"
    "GROUP BY m.sender_id";

/* By these the definition finds the rows of a key. */
static const char *const mirror_indexes[] = {
    "{messages} (sender_id) WHERE deleted_at IS NULL",
    NULL,
};

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "@NAME@",
    .version = 1, /* raise it whenever the definition, or what it means, changes */
    .description = "the messages of each sender",
    .sources = sources,
    .mirror_indexes = mirror_indexes,
    .target = "@NAME@",
    .key = key,
    .definition = definition,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
