/*
 * The chat schema as mirrors (messages by another name), and random changes to it: a handful of keys, so that they meet.
 * What is drawn follows from `state` alone.
 */
#ifndef PJ_TEST_CHAT_CHANGES_H
#define PJ_TEST_CHAT_CHANGES_H

#include "reference/server_fixture.h"

#include "base/buf.h"
#include "wire/table.h"

#define COLUMN(column, kind)                                                                                           \
    {                                                                                                                  \
        .name = (char *)(uintptr_t)(column), .type = (kind), .type_sql = (char *)(uintptr_t) "?"                       \
    }

static struct pj_table_column users_columns[] = {COLUMN("id", PJ_UUID), COLUMN("username", PJ_TEXT),
                                                 COLUMN("display_name", PJ_TEXT)};
static struct pj_table_column conversations_columns[] = {
    COLUMN("id", PJ_UUID),  COLUMN("tenant_id", PJ_UUID),         COLUMN("title", PJ_TEXT),
    COLUMN("type", PJ_ANY), COLUMN("created_at", PJ_TIMESTAMPTZ), COLUMN("updated_at", PJ_TIMESTAMPTZ)};
static struct pj_table_column messages_columns[] = {COLUMN("id", PJ_UUID),
                                                    COLUMN("Conversation Id", PJ_UUID),
                                                    COLUMN("sender_id", PJ_UUID),
                                                    COLUMN("sequence_number", PJ_INT8),
                                                    COLUMN("client_message_id", PJ_TEXT),
                                                    COLUMN("content", PJ_TEXT),
                                                    COLUMN("created_at", PJ_TIMESTAMPTZ),
                                                    COLUMN("deleted_at", PJ_TIMESTAMPTZ)};
static struct pj_table_column members_columns[] = {COLUMN("user_id", PJ_UUID), COLUMN("conversation_id", PJ_UUID),
                                                   COLUMN("joined_at", PJ_TIMESTAMPTZ),
                                                   COLUMN("last_read_at", PJ_TIMESTAMPTZ)};

#define TABLE(i, table, sql_name, cols)                                                                                \
    {                                                                                                                  \
        .schema = (char *)(uintptr_t) "public", .name = (char *)(uintptr_t)(table),                                    \
        .mirror_sql = (char *)(uintptr_t)(sql_name), .index = (i), .ncolumns = (int)(sizeof(cols) / sizeof *(cols)),   \
        .columns = (cols)                                                                                              \
    }

static const struct pj_table tables[] = {
    TABLE(0, "users", "\"public\".\"users\"", users_columns),
    TABLE(1, "conversations", "\"public\".\"conversations\"", conversations_columns),
    TABLE(2, "Odd Messages", "\"public\".\"Odd Messages\"", messages_columns),
    TABLE(3, "user_conversations", "\"public\".\"user_conversations\"", members_columns),
};

enum { TABLES = 4 };

static const char *const table_names[][2] = {{"messages", "Odd Messages"}, {NULL, NULL}};
static const char *const column_names[][2] = {{"messages.conversation_id", "Conversation Id"}, {NULL, NULL}};
static const char *const count_all[][2] = {{"null_last_read", "all"}, {NULL, NULL}};

static const char schema[] =
    "CREATE TYPE public.kind AS ENUM ('group', 'direct');"
    "CREATE TABLE public.users (id uuid PRIMARY KEY, username text, display_name text);"
    "CREATE TABLE public.conversations (id uuid PRIMARY KEY, tenant_id uuid, title text, type public.kind,"
    "    created_at timestamptz, updated_at timestamptz);"
    "CREATE TABLE public.\"Odd Messages\" (id uuid PRIMARY KEY, \"Conversation Id\" uuid, sender_id uuid,"
    "    sequence_number bigint, client_message_id text, content text, created_at timestamptz, deleted_at timestamptz);"
    "CREATE TABLE public.user_conversations (user_id uuid, conversation_id uuid, joined_at timestamptz,"
    "    last_read_at timestamptz, PRIMARY KEY (user_id, conversation_id));"
    "CREATE SCHEMA pgprojector; CREATE TABLE pgprojector.projection (name text PRIMARY KEY, module_version bigint,"
    "    target_schema text, target_table text, key text[], definition text, state text, since timestamptz);";

/* ---------------------------------------------------------------------------------------------------------- changes */

static unsigned state;

static inline unsigned pick(unsigned below)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 10) % below;
}

/* uuids of small numbers; the kind keeps the tables' keys apart. */
static inline const char *id(char space[40], const char *kind, unsigned number)
{
    snprintf(space, 40, "'00000000-0000-0000-000%s-%012u'", kind, number);
    return space;
}

static inline const char *moment(char space[40])
{
    unsigned which = pick(14);
    if (which == 0)
        return "NULL";
    if (which == 1)
        return pick(2) ? "'infinity'" : "'-infinity'";
    snprintf(space, 40, "'2025-01-01 00:00:%02u.%u'", which, pick(3));
    return space;
}

static inline void change_conversation(struct pj_buf *text)
{
    char a[40], b[40], c[40];
    const char *one = id(a, "1", pick(6)), *other = id(b, "1", pick(6));
    switch (pick(5)) {
    case 0:
        pj_buf_printf(
            text, "INSERT INTO conversations VALUES (%s, NULL, 'new', 'group', now(), now()) ON CONFLICT DO NOTHING",
            one);
        break;
    case 1:
        pj_buf_printf(text, "DELETE FROM conversations WHERE id = %s", one);
        break;
    case 2:
        pj_buf_printf(text, "UPDATE conversations SET title = %s, type = %s WHERE id = %s",
                      pick(3) ? "title || 'x'" : "NULL", pick(2) ? "'direct'" : "NULL", one);
        break;
    case 3:
        pj_buf_printf(text, "UPDATE conversations SET updated_at = %s WHERE id = %s", moment(c), one);
        break;
    default:
        pj_buf_printf(
            text,
            "UPDATE conversations SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM conversations WHERE id = %s)",
            other, one, other);
    }
}

static inline void change_message(struct pj_buf *text)
{
    char a[40], b[40], c[40], d[40];
    const char *one = id(a, "2", pick(40)), *other = id(b, "2", pick(40)), *conversation = id(c, "1", pick(6));
    switch (pick(10)) {
    case 0:
    case 1:
    case 2:
        pj_buf_printf(
            text,
            "INSERT INTO \"Odd Messages\" VALUES (%s, %s, NULL, %s, NULL, 'hello', %s, %s) ON CONFLICT DO NOTHING", one,
            pick(12) ? conversation : "NULL", pick(10) ? (pick(2) ? "7" : "8") : "NULL", moment(d),
            pick(6) ? "NULL" : "now()");
        break;
    case 3:
        pj_buf_printf(text, "DELETE FROM \"Odd Messages\" WHERE id = %s", one);
        break;
    case 4:
        pj_buf_printf(text, "UPDATE \"Odd Messages\" SET deleted_at = %s WHERE id = %s", pick(2) ? "now()" : "NULL",
                      one);
        break;
    case 5:
        pj_buf_printf(text, "UPDATE \"Odd Messages\" SET \"Conversation Id\" = %s WHERE id = %s", conversation, one);
        break;
    case 6:
        pj_buf_printf(text, "UPDATE \"Odd Messages\" SET created_at = %s WHERE id = %s", moment(d), one);
        break;
    case 7:
        pj_buf_printf(text, "UPDATE \"Odd Messages\" SET sequence_number = %u WHERE id = %s", pick(9), one);
        break;
    case 8:
        pj_buf_printf(text, "UPDATE \"Odd Messages\" SET content = content || '!' WHERE id = %s", one);
        break;
    default:
        pj_buf_printf(text,
                      "UPDATE \"Odd Messages\" SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM \"Odd Messages\" "
                      "WHERE id = %s)",
                      other, one, other);
    }
}

static inline void change_member(struct pj_buf *text)
{
    char a[40], b[40], c[40], d[40];
    const char *user = id(a, "3", pick(4)), *conversation = id(b, "1", pick(6)), *other = id(c, "1", pick(6));
    switch (pick(5)) {
    case 0:
    case 1:
        pj_buf_printf(text, "INSERT INTO user_conversations VALUES (%s, %s, now(), %s) ON CONFLICT DO NOTHING", user,
                      conversation, moment(d));
        break;
    case 2:
        pj_buf_printf(text, "DELETE FROM user_conversations WHERE (user_id, conversation_id) = (%s, %s)", user,
                      conversation);
        break;
    case 3:
        pj_buf_printf(text,
                      "UPDATE user_conversations SET last_read_at = %s WHERE (user_id, conversation_id) = (%s, %s)",
                      moment(d), user, conversation);
        break;
    default:
        pj_buf_printf(text,
                      "UPDATE user_conversations SET conversation_id = %s WHERE (user_id, conversation_id) = (%s, %s) "
                      "AND NOT EXISTS (SELECT FROM user_conversations WHERE (user_id, conversation_id) = (%s, %s))",
                      other, user, conversation, user, other);
    }
}

static inline void change_something(void)
{
    struct pj_buf text = {0};
    unsigned which = pick(10);
    if (which < 2)
        change_conversation(&text);
    else if (which < 8)
        change_message(&text);
    else
        change_member(&text);
    sql(text.data);
    pj_buf_free(&text);
}

#endif
