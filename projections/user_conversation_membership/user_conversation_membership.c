/*
 * user_conversation_membership - a row for every membership whose conversation exists, with the conversation's columns
 * and the number of its live messages (deleted_at IS NULL) created after the member's last_read_at.
 *
 * How the deltas work. A batch's messages of one conversation are combined into one row: the change n of their number,
 * and the least and greatest time among all that were added or removed. The merge then looks at each member:
 *     last_read_at before all of them:  they all count, unread_count + n.
 *     last_read_at at or after the last: none counts, the member is not touched.
 *     in between:                        counted anew, by index, in the mirror as it is after the batch.
 * Members whose own row changed in the batch are dirty one by one: they are recomputed after the merges. The
 * conversation's columns are copied from the mirror, but only when one of those shown here has changed: updated_at,
 * which changes with every message, must not touch ten thousand members.
 *
 * What is compared with created_at is not last_read_at itself but coalesce(last_read_at, …), by the option
 * null_last_read: `none` makes it NULL, and nothing is later than NULL; `all` makes it -infinity.
 */
#include "pgprojector.h"

/* ------------------------------------------------------------------------------------------------- declarations */

enum source { CONVERSATIONS, MESSAGES, MEMBERS };
enum conversation { CONVERSATION_ID, TITLE, TYPE, TENANT_ID, CONVERSATION_COLUMNS };
enum message { MESSAGE_CONVERSATION, MESSAGE_CREATED_AT, MESSAGE_DELETED_AT };
enum member { MEMBER_CONVERSATION, MEMBER_USER, MEMBER_KEY, JOINED_AT = MEMBER_KEY, LAST_READ_AT, MEMBER_COLUMNS };

static const struct pj_column conversation_columns[] = {
    [CONVERSATION_ID] = {"id", PJ_UUID},
    [TITLE] = {"title", PJ_ANY},
    [TYPE] = {"type", PJ_ANY},
    [TENANT_ID] = {"tenant_id", PJ_ANY},
    [CONVERSATION_COLUMNS] = {NULL, PJ_ANY},
};

static const struct pj_column message_columns[] = {
    [MESSAGE_CONVERSATION] = {"conversation_id", PJ_UUID},
    [MESSAGE_CREATED_AT] = {"created_at", PJ_TIMESTAMPTZ},
    [MESSAGE_DELETED_AT] = {"deleted_at", PJ_ANY},
    {NULL, PJ_ANY},
};

static const struct pj_column member_columns[] = {
    [MEMBER_CONVERSATION] = {"conversation_id", PJ_UUID},
    [MEMBER_USER] = {"user_id", PJ_UUID},
    [JOINED_AT] = {"joined_at", PJ_ANY},
    [LAST_READ_AT] = {"last_read_at", PJ_ANY},
    [MEMBER_COLUMNS] = {NULL, PJ_ANY},
};

static const struct pj_source sources[] = {
    [CONVERSATIONS] = {"conversations", "id", conversation_columns},
    [MESSAGES] = {"messages", "conversation_id", message_columns},
    [MEMBERS] = {"user_conversations", "conversation_id", member_columns},
    {NULL, NULL, NULL},
};

/* The mirror's primary key begins with user_id; the second index finds the members of a conversation. */
static const char *const mirror_indexes[] = {
    "{messages} (conversation_id, created_at) WHERE deleted_at IS NULL",
    "{user_conversations} (conversation_id, user_id)",
    NULL,
};

/* The primary key leads with the conversation; a user's list is read by this one. Neither column is ever updated, so
 * updates of unread_count stay HOT. With fillfactor 50 they also find room on their page where a batch updates most
 * rows of it: half of 5,000 conversations' members eight times over took 0.29 s (100 % HOT), 0.58 s (89 %) with 70,
 * and the table ended at the same size. */
static const char *const target_indexes[] = {"(user_id)", NULL};

static const char *const key[] = {"conversation_id", "user_id", NULL};

static const char *const none_or_all[] = {"none", "all", NULL};
static const struct pj_option options[] = {
    {"null_last_read", "none", "what a member without a last_read_at has not read: none or all of the messages",
     none_or_all},
    {NULL, NULL, NULL, NULL},
};

/* The planner reduces the CASE to the branch of the option's value. */
#define READ_UNTIL(row)                                                                                                \
    "coalesce(" row ".last_read_at, CASE {option:null_last_read} WHEN 'all'\n"                                         \
    "                             THEN '-infinity'::pg_catalog.timestamptz END)"

/*
 * A count for each member, by index, which reads only what is unread. Measured for 3 million messages, last_read_at
 * spread from nothing to all read: 150,000 conversations of 10 members 5.0 s, 5,000 conversations of 10 members 0.7 s.
 * One sorted array of times a conversation and width_bucket() took 1.4 s and 0.3 s, but reads the whole conversation
 * for one member's last_read_at. The count is a subselect in the list, not a LATERAL one, which the planner would
 * remember by last_read_at, to no use: half a million memberships with 3 million unread messages take 1.4 s of CPU so,
 * and 1.9 otherwise.
 */
static const char definition[] =
    "SELECT uc.user_id, uc.conversation_id, uc.joined_at, uc.last_read_at,\n"
    "       c.title AS conversation_title, c.type AS conversation_type, c.tenant_id,\n"
    "       (SELECT count(*) FROM {messages} AS m\n"
    "        WHERE m.conversation_id = uc.conversation_id AND m.deleted_at IS NULL\n"
    "          AND m.created_at > " READ_UNTIL("uc") ") AS unread_count\n"
                                                     "FROM {user_conversations} AS uc\n"
                                                     "JOIN {conversations} AS c ON c.id = uc.conversation_id\n"
                                                     "WHERE {keys(uc.conversation_id, uc.user_id)}";

/* ------------------------------------------------------------------------------------------------------- deltas */

enum stream { UNREAD, IMAGE };
enum unread { UNREAD_CONVERSATION, N, MIN_AT, MAX_AT, UNREAD_COLUMNS };

static const struct pj_stream_column unread_columns[] = {
    [UNREAD_CONVERSATION] = {"conversation_id", PJ_UUID, PJ_KEY},
    [N] = {"n", PJ_INT8, PJ_SUM},
    [MIN_AT] = {"min_at", PJ_TIMESTAMPTZ, PJ_MIN},
    [MAX_AT] = {"max_at", PJ_TIMESTAMPTZ, PJ_MAX},
    [UNREAD_COLUMNS] = {NULL, PJ_ANY, PJ_KEY},
};

static const char merge_unread[] =
    "UPDATE {target} AS t SET unread_count = CASE\n"
    "    WHEN " READ_UNTIL("t") " < d.min_at THEN t.unread_count + d.n\n"
                                "    ELSE (SELECT count(*) FROM {messages} AS m\n"
                                "          WHERE m.conversation_id = t.conversation_id AND m.deleted_at IS NULL\n"
                                "            AND m.created_at > " READ_UNTIL(
                                    "t") ") END\n"
                                         "FROM {delta} AS d\n"
                                         "WHERE t.conversation_id = d.conversation_id\n"
                                         "  AND " READ_UNTIL("t") " < d.max_at\n"
                                                                  "  AND (d.n <> 0 OR " READ_UNTIL("t") " >= d.min_at)";

static const struct pj_stream_column image_columns[] = {
    {"conversation_id", PJ_UUID, PJ_KEY},
    {NULL, PJ_ANY, PJ_KEY},
};

static const char merge_image[] =
    "UPDATE {target} AS t SET conversation_title = c.title, conversation_type = c.type, tenant_id = c.tenant_id\n"
    "FROM {delta} AS d JOIN {conversations} AS c ON c.id = d.conversation_id\n"
    "WHERE t.conversation_id = d.conversation_id";

static const struct pj_stream streams[] = {
    [UNREAD] = {"unread", unread_columns, merge_unread},
    [IMAGE] = {"image", image_columns, merge_image},
    {NULL, NULL, NULL},
};

/* -------------------------------------------------------------------------------------------------------- apply */

static void apply_conversation(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    const struct pj_value *before = change->old_row, *after = change->new_row;
    if (!before || !after) {
        host->dirty(call, before ? &before[CONVERSATION_ID] : &after[CONVERSATION_ID], 1);
        return;
    }
    for (int i = 0; i < CONVERSATION_COLUMNS; i++) {
        if (!pj_equal(before[i], after[i])) {
            host->emit(call, IMAGE, &after[CONVERSATION_ID]);
            return;
        }
    }
}

/* The row, if it can count for anybody: live, with a time, in a conversation. */
static const struct pj_value *countable(const struct pj_value *row)
{
    return row && pj_is_null(row[MESSAGE_DELETED_AT]) && !pj_is_null(row[MESSAGE_CREATED_AT]) &&
                   !pj_is_null(row[MESSAGE_CONVERSATION])
               ? row
               : NULL;
}

static void emit_message(const struct pj_host *host, struct pj_call *call, const struct pj_value *message, int n)
{
    unsigned char count[8];
    struct pj_value row[UNREAD_COLUMNS] = {
        [UNREAD_CONVERSATION] = message[MESSAGE_CONVERSATION],
        [N] = pj_make_int64(n, count),
        [MIN_AT] = message[MESSAGE_CREATED_AT],
        [MAX_AT] = message[MESSAGE_CREATED_AT],
    };
    host->emit(call, UNREAD, row);
}

static void apply_message(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    const struct pj_value *before = countable(change->old_row), *after = countable(change->new_row);
    if (before && after && pj_equal(before[MESSAGE_CONVERSATION], after[MESSAGE_CONVERSATION]) &&
        pj_equal(before[MESSAGE_CREATED_AT], after[MESSAGE_CREATED_AT]))
        return;
    if (before)
        emit_message(host, call, before, -1);
    if (after)
        emit_message(host, call, after, 1);
}

/* One member's row; both, where its key was changed. The key's columns stand first, in the key's order. */
static void apply_member(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    if (change->old_row)
        host->dirty(call, change->old_row, MEMBER_KEY);
    if (change->new_row)
        host->dirty(call, change->new_row, MEMBER_KEY);
}

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    if (change->source == CONVERSATIONS)
        apply_conversation(host, call, change);
    else if (change->source == MESSAGES)
        apply_message(host, call, change);
    else
        apply_member(host, call, change);
    return 0;
}

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC,
    .abi_version = PJ_ABI_VERSION,
    .size = sizeof(struct pj_module),
    .name = "user_conversation_membership",
    .version = 1,
    .description = "each membership with its conversation's title and type, and the number of unread messages",
    .sources = sources,
    .mirror_indexes = mirror_indexes,
    .target = "user_conversation_membership",
    .key = key,
    .target_indexes = target_indexes,
    .fillfactor = 50,
    .definition = definition,
    .streams = streams,
    .options = options,
    .apply = apply,
};

const struct pj_module *pj_module(void)
{
    return &module;
}
