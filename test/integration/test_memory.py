"""Memory is bounded by configuration, whatever the source does."""
from harness.history import populate
from harness.scenes import SEED
from harness.schema import Flavour

LIMIT_KIB = 64 * 1024


def sanitized(pair):
    """Built with a sanitizer, memory says nothing."""
    return "-fsanitize" in pair.command("version").out or "asan" in open(f"/proc/{pair.daemon.process.pid}/maps",
                                                                         encoding="utf-8").read()


def test_a_transaction_of_200_000_rows(make_pair):
    """Inserted, updated, and half of it deleted, each in one transaction; peak memory stays below 64 MiB."""
    pair = make_pair(Flavour(odd=False))
    populate(pair, SEED)
    pair.start()
    for sql in ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT md5('big' || i)::uuid,"
                " md5('c' || i % 100)::uuid, i, 'message ' || i || repeat('x', 100), timestamptz '2024-05-05' + i *"
                " interval '1 s' FROM generate_series(1, 200000) i",
                "UPDATE messages SET created_at = created_at + interval '1 day', deleted_at = CASE WHEN sequence_number % 3"
                " = 0 THEN now() END",
                "DELETE FROM messages WHERE sequence_number % 2 = 0"):
        pair.write_query(sql)
        pair.catch_up(120)
    peak = pair.daemon.peak_memory_kib()
    pair.assert_same()
    assert sanitized(pair) or peak < LIMIT_KIB, f"peak memory is {peak} KiB"


def test_texts_of_a_megabyte(make_pair):
    """Larger than what a batch may hold, several in one transaction; unchanged in the next, then changed, then gone."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    populate(pair, SEED)
    pair.start()
    pair.write_query("INSERT INTO messages (id, content) SELECT md5('huge' || i)::uuid, (SELECT string_agg(md5(i || 'x' || j),"
                     " E'\\\\\"\\n€') FROM generate_series(1, 30000) j) FROM generate_series(1, 8) i")
    pair.assert_same("inserted")
    pair.write_query("UPDATE messages SET sequence_number = 1")
    pair.write_query("UPDATE messages SET content = content || 'more' WHERE length(content) > 100000")
    pair.assert_same("changed")
    pair.write_query("DELETE FROM messages")
    pair.assert_same("gone")


def test_a_transaction_is_atomic_whatever_its_size(make_pair):
    """With a tiny cap it is applied in many parts; a reader sees none or all of it."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.start()
    pair.write_query("INSERT INTO conversations (id) SELECT md5('a')::uuid;"
                     " INSERT INTO messages (id, conversation_id) SELECT md5(i::text)::uuid, md5('a')::uuid"
                     " FROM generate_series(1, 50000) i")
    target, seen = pair.written(), set()
    conn = pair.read_connection()
    while pair.applied() < target or not seen:
        with conn.cursor() as cursor:
            cursor.execute("SELECT (SELECT count(*) FROM messages), (SELECT sum(message_count) FROM conversation_summary)")
            seen.add(cursor.fetchone())
        assert pair.daemon.running
    conn.close()
    assert seen <= {(0, None), (50000, 50000)}, seen
    pair.assert_same()
