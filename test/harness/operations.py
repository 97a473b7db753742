"""What writers do: each operation draws values and yields statements. The number is its weight among the others."""

OPERATIONS = []
ODD_OPERATIONS = []


def operation(weight, odd=False):
    def register(function):
        (ODD_OPERATIONS if odd else OPERATIONS).append((function, weight))
        return function
    return register


INSERT_MESSAGE = """INSERT INTO messages (id, conversation_id, sender_id, sequence_number, client_message_id, content,
    created_at, deleted_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT """
REPLACE_MESSAGE = """(id) DO UPDATE SET conversation_id = excluded.conversation_id, content = excluded.content,
    sequence_number = excluded.sequence_number, created_at = excluded.created_at, deleted_at = excluded.deleted_at"""


def message_row(d):
    return (d.message(), d.or_null(d.conversation(), 0.03), d.or_null(d.user()), d.or_null(d.rng.randrange(500), 0.05),
            d.or_null(d.text()), d.or_null(d.text()), d.or_null(d.time(), 0.03), d.or_null(d.time(), 0.9))


# ------------------------------------------------------------------------------------------------------ messages

@operation(30)
def send(d, _flavour):
    for _ in range(d.rng.randrange(1, 4)):
        yield INSERT_MESSAGE + "DO NOTHING", message_row(d)


@operation(6)
def send_or_replace(d, _flavour):
    yield INSERT_MESSAGE + REPLACE_MESSAGE, message_row(d)


@operation(4)
def send_long(d, _flavour):
    sql, values = d.long_text()
    yield ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) VALUES (%s, %s, %s, "
           + sql + ", %s) ON CONFLICT (id) DO UPDATE SET content = excluded.content",
           (d.message(), d.conversation(), d.rng.randrange(500), *values, d.time()))


@operation(1)
def send_many(d, _flavour):
    """Keys of their own, so that a big transaction has many rows; a later one of the same number replaces them."""
    yield ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
           " SELECT overlay(md5(%s || i)::text PLACING '0' FROM 1 FOR 1)::uuid, %s, i, 'many ' || i,"
           " timestamptz '2024-05-05 00:00+00' + i * interval '1 min' FROM generate_series(1, %s) i"
           " ON CONFLICT (id) DO UPDATE SET content = excluded.content || '!'",
           (f"batch {d.rng.randrange(4)} ", d.conversation(), d.pick((10, 50, 200))))


@operation(8)
def soft_delete(d, _flavour):
    yield "UPDATE messages SET deleted_at = %s WHERE id = %s", (d.time(), d.message())


@operation(3)
def delete_softly_all_of_a_conversation(d, _flavour):
    yield "UPDATE messages SET deleted_at = %s WHERE conversation_id = %s", (d.or_null(d.time(), 0.5), d.conversation())


@operation(8)
def undelete(d, _flavour):
    yield "UPDATE messages SET deleted_at = NULL WHERE id = %s", (d.message(),)


@operation(8)
def hard_delete(d, _flavour):
    yield "DELETE FROM messages WHERE id = %s", (d.message(),)


@operation(6)
def delete_newest(d, _flavour):
    how = d.pick(("DELETE FROM messages", "UPDATE messages SET deleted_at = now()"))
    order = d.pick(("created_at DESC NULLS LAST", "sequence_number DESC NULLS LAST"))
    yield (f"{how} WHERE id = (SELECT id FROM messages WHERE conversation_id = %s AND deleted_at IS NULL"
           f" ORDER BY {order}, id LIMIT 1)", (d.conversation(),))


@operation(6)
def edit_time(d, _flavour):
    yield "UPDATE messages SET created_at = %s WHERE id = %s", (d.or_null(d.time(), 0.05), d.message())


@operation(3)
def renumber(d, _flavour):
    yield "UPDATE messages SET sequence_number = %s WHERE id = %s", (d.or_null(d.rng.randrange(500)), d.message())


@operation(8)
def move(d, _flavour):
    yield "UPDATE messages SET conversation_id = %s WHERE id = %s", (d.or_null(d.conversation(), 0.05), d.message())


@operation(2)
def merge_conversations(d, _flavour):
    yield "UPDATE messages SET conversation_id = %s WHERE conversation_id = %s", (d.conversation(), d.conversation())


@operation(6)
def edit(d, _flavour):
    yield "UPDATE messages SET content = %s WHERE id = %s", (d.text(), d.message())


@operation(3)
def edit_beside_long(d, _flavour):
    yield ("UPDATE messages SET client_message_id = %s WHERE id IN"
           " (SELECT id FROM messages ORDER BY length(content) DESC NULLS LAST, id LIMIT 3)", (d.text(),))


@operation(5)
def change_message_key(d, _flavour):
    yield "UPDATE messages SET id = %s, content = content WHERE id = %s", (d.message(), d.message())


@operation(4)
def swap_messages(d, _flavour):
    one, two, aside = d.message(), d.message(), d.key("message", 10000 + d.rng.randrange(10**6) * 6)
    for new, old in ((aside, one), (one, two), (two, aside)):
        yield "UPDATE messages SET id = %s WHERE id = %s", (new, old)


@operation(3)
def insert_and_delete(d, _flavour):
    row = message_row(d)
    yield "DELETE FROM messages WHERE id = %s", row[:1]
    yield INSERT_MESSAGE + "DO NOTHING", row
    if d.chance(0.6):
        yield "DELETE FROM messages WHERE id = %s", row[:1]
    if d.chance(0.5):
        yield INSERT_MESSAGE + "DO NOTHING", (row[0], *message_row(d)[1:])


@operation(3)
def take_back(d, _flavour):
    """A newest message that comes and goes within the transaction; where batches are small, in different parts of it."""
    message, conversation = d.message(), d.conversation()
    yield (INSERT_MESSAGE + REPLACE_MESSAGE,
           (message, conversation, None, 600, None, d.text(), "2030-01-01 00:00+00", None))
    if d.chance(0.5):
        yield from d.pick((join, leave, read))(d, _flavour)
    yield ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
           " SELECT overlay(md5(%s || i)::text PLACING '0' FROM 1 FOR 1)::uuid, %s, i, repeat('between ', 60),"
           " timestamptz '2024-05-05 00:00+00' + i * interval '1 s' FROM generate_series(1, %s) i ON CONFLICT DO NOTHING",
           (f"between {d.rng.randrange(4)} ", d.pick((conversation, d.conversation())), d.pick((10, 150))))
    if d.chance(0.5):
        yield from d.pick((join, leave, read))(d, _flavour)
    yield from d.pick((
        [("DELETE FROM messages WHERE id = %s", (message,))],
        [("UPDATE messages SET deleted_at = now() WHERE id = %s", (message,))],
        [("UPDATE messages SET conversation_id = %s WHERE id = %s", (d.conversation(), message))],
        [("UPDATE messages SET created_at = %s, sequence_number = 0 WHERE id = %s", (d.time(), message))]))


# ------------------------------------------------------------------------------------- conversations and members

@operation(12)
def open_conversation(d, _flavour):
    yield ("INSERT INTO conversations VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
           (d.conversation(), d.tenant(), d.or_null(d.text()), d.pick(("direct", "group", None)), d.time(), d.time()))


@operation(6)
def rename_conversation(d, _flavour):
    yield "UPDATE conversations SET title = %s, updated_at = %s WHERE id = %s", (d.or_null(d.text()), d.time(),
                                                                               d.conversation())


@operation(8)
def touch_conversation(d, _flavour):
    yield "UPDATE conversations SET updated_at = %s WHERE id = %s", (d.time(), d.conversation())


@operation(3)
def retype_conversation(d, _flavour):
    yield ("UPDATE conversations SET type = %s, tenant_id = %s WHERE id = %s",
           (d.pick(("direct", "group", "channel")), d.tenant(), d.conversation()))


@operation(3)
def long_title(d, _flavour):
    sql, values = d.long_text()
    yield f"UPDATE conversations SET title = {sql} WHERE id = %s", (*values, d.conversation())


@operation(5)
def delete_conversation(d, _flavour):
    conversation = d.conversation()
    yield "DELETE FROM conversations WHERE id = %s", (conversation,)
    if d.chance(0.3):
        yield "DELETE FROM messages WHERE conversation_id = %s", (conversation,)


@operation(4)
def change_conversation_key(d, _flavour):
    yield "UPDATE conversations SET id = %s WHERE id = %s", (d.conversation(), d.conversation())


@operation(12)
def join(d, _flavour):
    yield ("INSERT INTO user_conversations VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
           (d.user(), d.conversation(), d.or_null(d.time()), d.or_null(d.time(), 0.3)))


@operation(5)
def leave(d, _flavour):
    yield "DELETE FROM user_conversations WHERE user_id = %s AND conversation_id = %s", (d.user(), d.conversation())


@operation(12)
def read(d, _flavour):
    yield ("UPDATE user_conversations SET last_read_at = %s WHERE user_id = %s AND conversation_id = %s",
           (d.or_null(d.time(), 0.15), d.user(), d.conversation()))


@operation(3)
def all_read(d, _flavour):
    yield "UPDATE user_conversations SET last_read_at = %s WHERE user_id = %s", (d.time(), d.user())


@operation(4)
def change_membership_key(d, _flavour):
    yield ("UPDATE user_conversations SET user_id = %s, conversation_id = %s WHERE user_id = %s AND conversation_id = %s",
           (d.user(), d.conversation(), d.user(), d.conversation()))


@operation(6)
def sign_up(d, _flavour):
    yield ("INSERT INTO users VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (d.user(), d.text(), d.or_null(d.text())))


@operation(4)
def rename_user(d, _flavour):
    yield "UPDATE users SET display_name = %s WHERE id = %s", (d.text(), d.user())


@operation(2)
def delete_user(d, _flavour):
    yield "DELETE FROM users WHERE id = %s", (d.user(),)


# ----------------------------------------------------------------------------------------------- of the whole base

@operation(1)
def truncate(d, flavour):
    """Amid other changes of the same tables."""
    yield INSERT_MESSAGE + "DO NOTHING", message_row(d)
    names = [flavour.table(name) for name in d.pick((("messages",), ("user_conversations",), ("conversations", "messages"),
                                                     ("users",)))]
    yield "TRUNCATE " + ", ".join(names), ()
    for _ in range(3):
        yield INSERT_MESSAGE + "DO NOTHING", message_row(d)


@operation(1)
def new_identities(d, flavour):
    """Where another index than the primary key is the identity: that changes, for many rows or one."""
    if flavour.identity == "index":
        table = flavour.table(d.pick(("users", "conversations", "user_conversations")))
        yield f"UPDATE {table} SET row_no = row_no + 1000000", ()
        yield f"UPDATE {table} SET row_no = row_no - 1000000 WHERE row_no % 2 = 0", ()


@operation(2)
def new_partition(d, flavour):
    if flavour.partitioned:
        number = d.rng.randrange(3, 6)
        sql = flavour.partition_ddl(number).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
        yield "SELECT pg_advisory_xact_lock(1)", ()
        yield sql, ()
        yield INSERT_MESSAGE + "DO NOTHING", message_row(d)


@operation(2)
def empty(_d, _flavour):
    yield "SELECT pg_current_xact_id()", ()


@operation(3)
def emit_message(d, _flavour):
    prefix, content = d.pick((d.text(), "pgprojector")), d.pick((d.text(), b"\xc3", b'\xff"\x00\xfe'))
    yield "SELECT pg_logical_emit_message(%s, %s, %s)", (d.chance(0.5), prefix, content)


@operation(3)
def noise(d, flavour):
    if flavour.odd:
        yield "INSERT INTO noise SELECT i, %s FROM generate_series(1, %s) i", (d.text(), d.pick((1, 20)))
        yield ("INSERT INTO other.messages VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET content = excluded.content",
               (d.message(), d.conversation(), d.text()))
    yield "INSERT INTO tick VALUES (1)", ()
