"""What the read side must show: evaluated on the write database, by queries written here by hand.

Rows are compared as text, each value as PostgreSQL prints it under fixed settings. Nothing of the product is used but
the names of its tables.
"""
import collections

from .schema import CHAT

DEFINITIONS = {
    "conversation_summary": """
        SELECT c.id, c.title, c.type, c.tenant_id, c.created_at, c.updated_at,
               (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id AND m.deleted_at IS NULL) AS message_count,
               (SELECT max(created_at) FROM messages m WHERE m.conversation_id = c.id AND m.deleted_at IS NULL)
                   AS last_message_at,
               (SELECT max(sequence_number) FROM messages m WHERE m.conversation_id = c.id AND m.deleted_at IS NULL)
                   AS last_sequence_number
        FROM conversations c""",
    "user_conversation_membership": """
        SELECT u.user_id, u.conversation_id, u.joined_at, u.last_read_at, c.title AS conversation_title,
               c.type AS conversation_type, c.tenant_id,
               (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id AND m.deleted_at IS NULL
                AND m.created_at > u.last_read_at) AS unread_count
        FROM user_conversations u JOIN conversations c ON c.id = u.conversation_id""",
    "user_unread": """
        SELECT u.user_id, count(*) FILTER (WHERE unread > 0) AS unread_conversations,
               coalesce(sum(unread), 0)::bigint AS unread_messages
        FROM (SELECT w.user_id, (SELECT count(*) FROM messages m JOIN conversations c ON c.id = m.conversation_id
              WHERE c.id = w.conversation_id AND m.deleted_at IS NULL AND m.created_at > w.last_read_at) AS unread
              FROM user_conversations w) u
        GROUP BY u.user_id""",
    "conversation_days": """
        SELECT c.id, c.tenant_id, (m.created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS messages
        FROM conversations c JOIN messages m ON m.conversation_id = c.id
        WHERE m.deleted_at IS NULL AND c.tenant_id IS NOT NULL AND m.created_at IS NOT NULL GROUP BY 1, 2, 3""",
    "messages_per_day": """
        SELECT c.tenant_id, (m.created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS messages
        FROM conversations c JOIN messages m ON m.conversation_id = c.id
        WHERE m.deleted_at IS NULL AND c.tenant_id IS NOT NULL AND m.created_at IS NOT NULL GROUP BY 1, 2""",
}
TARGETS = {
    "conversation_summary": "id, title, type, tenant_id, created_at, updated_at, message_count, last_message_at,"
                            " last_sequence_number",
    "user_conversation_membership": "user_id, conversation_id, joined_at, last_read_at, conversation_title,"
                                    " conversation_type, tenant_id, unread_count",
    "user_unread": "user_id, unread_conversations, unread_messages",
    "conversation_days": "conversation_id, tenant_id, day, messages",
    "messages_per_day": "tenant_id, day, messages",
}
REQUIRED = ("conversation_summary", "user_conversation_membership")

SOURCE_COLUMNS = """
    SELECT quote_ident(attname), format_type(atttypid, atttypmod)
    FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


def rows(conn, sql):
    """A bag of rows, each the text of a record."""
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT q::text FROM ({sql}) q")
        return collections.Counter(row[0] for row in cursor)


def columns(conn, table):
    with conn.cursor() as cursor:
        cursor.execute(SOURCE_COLUMNS, (table,))
        return cursor.fetchall()


def compare(name, expected, found, shown=4):
    """Differences of two bags in words."""
    missing, extra = expected - found, found - expected
    lines = [f"{name}: missing {row[:600]}" for row in sorted(missing)[:shown]]
    lines += [f"{name}: too many {row[:600]}" for row in sorted(extra)[:shown]]
    if lines:
        lines.insert(0, f"{name}: {sum(missing.values())} rows missing, {sum(extra.values())} too many,"
                        f" of {sum(expected.values())}")
    return lines


def mirror_differences(write, read, table):
    there, here = columns(write, table), columns(read, table)
    if there != here:
        return [f"{table}: columns are {here}, should be {there}"]
    sql = f"SELECT {', '.join(name for name, _ in there)} FROM {table}"
    return compare(table, rows(write, sql), rows(read, sql))


def target_names(read):
    with read.cursor() as cursor:
        cursor.execute("SELECT name FROM pgprojector.projection WHERE state IN ('live', 'failing')")
        return {name for (name,) in cursor if name in DEFINITIONS} | set(REQUIRED)


def differences(pair, mirrors=None):
    """All that differs now. The write database must be at rest and the read side caught up."""
    write, read = pair.write_connection(), pair.read_connection()
    try:
        for conn in (write, read):
            conn.autocommit = False
            conn.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with write.cursor() as cursor:
            cursor.execute(f"SET search_path = {pair.flavour.search_path}")
        found = []
        for table in pair.flavour.mirrored if mirrors is None else mirrors:
            found += mirror_differences(write, read, table)
        for name in sorted(target_names(read)):
            found += compare(name, rows(write, DEFINITIONS[name]), rows(read, f"SELECT {TARGETS[name]} FROM public.{name}"))
        return found
    finally:
        write.close()
        read.close()


def sizes(pair):
    """Rows of the chat tables on the write side: what a comparison was about."""
    with pair.write_connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"(SELECT count(*) FROM {pair.flavour.table(name)})" for name in CHAT))
        return dict(zip(CHAT, cursor.fetchone()))
