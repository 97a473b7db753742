"""Corruptions sown by hand into mirrors and targets: rows changed, missing and extra, in rows that the load leaves alone."""

CORRUPT = {
    # what is done to a row of the read side, by table
    "messages": ("UPDATE {t} SET content = coalesce(content, '') || 'x', deleted_at = CASE WHEN deleted_at IS NULL THEN now()"
                 " END", "DELETE FROM {t}",
                 "INSERT INTO {t} (id, conversation_id, sequence_number, content, created_at) SELECT gen_random_uuid(),"
                 " conversation_id, sequence_number, 'never sent', created_at FROM {t}"),
    "user_conversations": ("UPDATE {t} SET last_read_at = '2020-02-02'", "DELETE FROM {t}",
                           "INSERT INTO {t} (user_id, conversation_id) SELECT gen_random_uuid(), conversation_id FROM {t}"),
    "conversation_summary": ("UPDATE {t} SET message_count = message_count + 7", "DELETE FROM {t}",
                             "INSERT INTO {t} (id, message_count) SELECT gen_random_uuid(), 3 FROM {t}"),
    "user_conversation_membership": ("UPDATE {t} SET unread_count = unread_count - 1", "DELETE FROM {t}",
                                     "INSERT INTO {t} (user_id, conversation_id, unread_count)"
                                     " SELECT gen_random_uuid(), conversation_id, 1 FROM {t}"),
}


def fill(pair, messages=10000, members=3000):
    """Rows that the load does not touch, so that it cannot meet a corrupted one and halt the daemon."""
    pair.write_query(
        "INSERT INTO conversations (id, title) SELECT md5('fc' || i)::uuid, 'c' || i FROM generate_series(1, 300) i;"
        " INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT md5('fm' || i)::uuid,"
        " md5('fc' || i %% 300 + 1)::uuid, i, 'm' || i, timestamptz '2024-05-05' + i * interval '1 s'"
        " FROM generate_series(1, %s) i; INSERT INTO user_conversations SELECT md5('fu' || i)::uuid,"
        " md5('fc' || i %% 300 + 1)::uuid, now(), '2024-05-05 03:00' FROM generate_series(1, %s) i", (messages, members))


KEYS = {"messages": "id", "conversation_summary": "id"}
BOTH = "user_id, conversation_id"


def victims(pair, table):
    """Keys of rows that may be corrupted, as texts. Mirrors' and targets' are of different conversations, so that none makes
    another one good: what is wrong with a target is judged by the mirrors."""
    mirror, key = table in ("messages", "user_conversations"), KEYS.get(table, BOTH)
    conversation = "id" if table == "conversation_summary" else "conversation_id"
    return sorted(row[0] for row in pair.read_query(
        f"SELECT ({key})::text FROM {table} WHERE {conversation} IN (SELECT md5('fc' || i)::uuid"
        f" FROM generate_series({1 if mirror else 2}, 300, 2) i)"))


def sow(pair, rng, number):
    """Corrupts `number` rows of tables and kinds drawn at random; each row of its own. Returns {(table, key's values as
    texts)} of what is wrong then."""
    rows = {table: victims(pair, table) for table in sorted(CORRUPT)}
    sown = set()
    conn = pair.read_connection()
    with conn, conn.cursor() as cursor:
        for _ in range(number):
            table = rng.choice(sorted(CORRUPT))
            key = KEYS.get(table, BOTH)
            victim = rows[table].pop(rng.randrange(len(rows[table])))
            cursor.execute(rng.choice(CORRUPT[table]).format(t=table) + f" WHERE ({key})::text = %s RETURNING {key}", (victim,))
            sown.add((table, frozenset(str(value) for value in cursor.fetchone())))
    conn.close()
    assert len(sown) == number
    return sown
