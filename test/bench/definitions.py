"""What the tables must contain: plain SQL over the source tables, and the comparison by it.

Written from the requirement, not taken from the projections, so that a mistake in a module's definition shows.
"""

MIRRORS = {
    "users": "SELECT id, username, display_name FROM public.users",
    "conversations": "SELECT id, tenant_id, title, type, created_at, updated_at FROM public.conversations",
    "messages": "SELECT id, conversation_id, sender_id, sequence_number, client_message_id, content, created_at, deleted_at"
                " FROM public.messages",
    "user_conversations": "SELECT user_id, conversation_id, joined_at, last_read_at FROM public.user_conversations",
}

TARGETS = {
    "conversation_summary": """
        SELECT c.id, c.title, c.type, c.tenant_id, c.created_at, c.updated_at, coalesce(m.n, 0) AS message_count,
               m.last_message_at, m.last_sequence_number
        FROM public.conversations c LEFT JOIN (
            SELECT conversation_id, count(*) AS n, max(created_at) AS last_message_at, max(sequence_number) AS last_sequence_number
            FROM public.messages WHERE deleted_at IS NULL GROUP BY conversation_id) m ON m.conversation_id = c.id""",
    "user_conversation_membership": """
        SELECT u.user_id, u.conversation_id, u.joined_at, u.last_read_at, c.title AS conversation_title,
               c.type AS conversation_type, c.tenant_id, coalesce(m.n, 0) AS unread_count
        FROM public.user_conversations u JOIN public.conversations c ON c.id = u.conversation_id
        LEFT JOIN (
            SELECT u.user_id, u.conversation_id, count(*) AS n
            FROM public.user_conversations u JOIN public.messages m
              ON m.conversation_id = u.conversation_id AND m.deleted_at IS NULL AND m.created_at > u.last_read_at
            GROUP BY 1, 2) m ON m.user_id = u.user_id AND m.conversation_id = u.conversation_id""",
}

COLUMNS = {
    "conversation_summary": "id, title, type, tenant_id, created_at, updated_at, message_count, last_message_at,"
                            " last_sequence_number",
    "user_conversation_membership": "user_id, conversation_id, joined_at, last_read_at, conversation_title,"
                                    " conversation_type, tenant_id, unread_count",
}


def checksum(query):
    """Row count and an order-independent sum over the rows' texts."""
    return ("SELECT count(*), coalesce(sum(('x' || substr(md5(q::text), 1, 15))::bit(60)::bigint), 0)"
            f" FROM ({query}) q")


def expected(cursor):
    """The checksums of all tables, computed on the write database."""
    sums = {}
    for name, query in {**MIRRORS, **TARGETS}.items():
        cursor.execute(checksum(query))
        sums[name] = cursor.fetchone()
    return sums


def differing(cursor, sums, targets):
    """The tables of a read database that do not equal `sums`, with both figures."""
    wrong = []
    for name, query in MIRRORS.items():
        cursor.execute(checksum(query))
        wrong += compare(name, cursor.fetchone(), sums)
    for name in TARGETS if targets else ():
        cursor.execute(checksum(f"SELECT {COLUMNS[name]} FROM public.{name}"))
        wrong += compare(name, cursor.fetchone(), sums)
    return wrong


def compare(name, found, sums):
    return [] if found == sums[name] else [f"{name}: {found[0]} rows, expected {sums[name][0]};"
                                           f" checksums {found[1]} and {sums[name][1]}"]
