"""Memory is bounded by configuration, whatever the source does."""
import os
import signal
from contextlib import closing

from harness.cluster import poll
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


WIDE, WIDE_ROWS = 64_000, 1500


def test_old_rows_of_96_megabytes(make_pair):
    """Changed without their texts, which the stream leaves out, and deleted: old rows are not held all at once."""
    pair = make_pair(Flavour(odd=False))
    pair.write_query("INSERT INTO conversations (id) SELECT md5('c' || i)::uuid FROM generate_series(0, 9) i;"
                     " ALTER TABLE messages ALTER content SET STORAGE EXTERNAL;"
                     " INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT md5('w' || i)::uuid,"
                     f" md5('c' || i % 10)::uuid, i, repeat(md5(i::text), {WIDE} / 32), timestamptz '2024-05-05' + i * interval '1 s'"
                     f" FROM generate_series(1, {WIDE_ROWS}) i")
    pair.start()
    pair.read_query("ALTER TABLE messages ALTER content SET STORAGE EXTERNAL")
    touch = "UPDATE messages SET created_at = created_at + interval '1 day'"
    pair.write_query(touch)
    pair.assert_same("in one transaction", 60)
    with pair.write_connection() as conn, conn.cursor() as cursor:
        for i in range(50):
            cursor.execute(f"{touch} WHERE sequence_number % 50 = {i}")
    pair.catch_up(60)
    pair.read_query("ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count <> 151)")
    pair.write_query(f"BEGIN; {touch}; UPDATE messages SET id = md5('moved' || id)::uuid WHERE sequence_number > 500;"
                     " INSERT INTO messages (id, conversation_id) VALUES (md5('one more')::uuid, md5('c0')::uuid); COMMIT")
    pair.catch_up(60)
    assert "with care" in pair.daemon.since_start()
    pair.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    assert pair.command("deadletters", "retry", "--all").code == 0
    pair.assert_same("with care")
    pair.write_query("DELETE FROM messages WHERE sequence_number % 100 <> 7")
    pair.assert_same("deleted", 60)
    peak = pair.daemon.peak_memory_kib()
    print(f"peak memory {peak} KiB")
    assert sanitized(pair) or peak < LIMIT_KIB, f"peak memory is {peak} KiB"


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


def test_a_quiet_stretch_between_two_parts(make_pair):
    """The read server ends what is idle in a transaction for a minute, as the careful way is between two parts of one. A
    daemon that waits for the next part is heard of."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.start()
    pair.read_query("ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count < 10);"
                    "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                    " IF current_setting('application_name') = 'pgprojector careful' THEN"
                    " PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); END IF; RETURN NULL; END $$;"
                    "CREATE TRIGGER hold BEFORE INSERT ON messages EXECUTE FUNCTION hold()")
    session = f"FROM pg_stat_activity WHERE datname = '{pair.name}' AND application_name = 'pgprojector careful'"
    with closing(pair.read_connection()) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        pair.write_query("INSERT INTO conversations (id) VALUES (md5('a')::uuid);"
                         " INSERT INTO messages (id, conversation_id) SELECT md5(i::text)::uuid, md5('a')::uuid"
                         " FROM generate_series(1, 40000) i")
        poll(lambda: pair.read_query(f"SELECT 1 {session} AND wait_event_type = 'Lock'"), what="the first part, with care")
        walsender = pair.write_value("SELECT active_pid FROM pg_replication_slots WHERE database = %s AND active", (pair.name,))
        os.kill(walsender, signal.SIGSTOP)
    try:
        (quiet,), = poll(lambda: pair.read_query(f"SELECT state_change::text {session} AND state = 'idle in transaction'"
                                                 " AND state_change < clock_timestamp() - interval '1 s'"), what="quiet")
        poll(lambda: pair.read_query(f"SELECT 1 {session} AND state_change > %s", (quiet,)), what="a sign of life")
    finally:
        os.kill(walsender, signal.SIGCONT)
    pair.catch_up(60)
    assert pair.read_value("SELECT count(*) FROM messages") == 40000


BETWEEN = ("INSERT INTO messages (id, conversation_id, created_at) SELECT gen_random_uuid(), md5('other')::uuid, now()"
           " FROM generate_series(1, 1000)")
NEWEST = ("INSERT INTO messages (id, conversation_id, sequence_number, created_at)"
          " VALUES (md5('newest')::uuid, md5('a')::uuid, 1000, '2030-01-01')")
TAKEN_BACK = {
    "deleted": ["DELETE FROM messages WHERE id = md5('newest')::uuid"],
    "deleted softly": ["UPDATE messages SET deleted_at = now() WHERE id = md5('newest')::uuid"],
    "deleted with the one before": ["DELETE FROM messages WHERE sequence_number >= 20"],
    "moved": ["UPDATE messages SET conversation_id = md5('other')::uuid WHERE id = md5('newest')::uuid"],
    "back-dated": ["UPDATE messages SET created_at = '2020-01-01' WHERE id = md5('newest')::uuid"],
    "renumbered": ["UPDATE messages SET sequence_number = 0 WHERE id = md5('newest')::uuid"],
    "deleted and made again": ["DELETE FROM messages WHERE id = md5('newest')::uuid", NEWEST],
    "read by one": ["UPDATE user_conversations SET last_read_at = '2030-01-02' WHERE user_id = md5('1')::uuid"],
    "left by one": ["DELETE FROM user_conversations WHERE user_id = md5('1')::uuid"],
    "read, deleted, and read by another": [
        "UPDATE user_conversations SET last_read_at = '2025-01-01' WHERE user_id = md5('1')::uuid",
        "DELETE FROM messages WHERE id = md5('newest')::uuid",
        "UPDATE user_conversations SET last_read_at = NULL WHERE user_id = md5('2')::uuid"],
    "joined by one": ["INSERT INTO user_conversations VALUES (md5('9')::uuid, md5('a')::uuid, now(), '2020-01-01')"],
    "renamed around it": ["UPDATE conversations SET title = 'renamed' WHERE id = md5('a')::uuid",
                          "DELETE FROM messages WHERE id = md5('newest')::uuid"],
    "gone with its conversation": ["DELETE FROM conversations WHERE id = md5('a')::uuid"],
    "in a conversation made anew": ["DELETE FROM conversations WHERE id = md5('a')::uuid",
                                    "DELETE FROM messages WHERE id = md5('newest')::uuid",
                                    "INSERT INTO conversations (id) VALUES (md5('a')::uuid)"],
}


def test_what_one_part_brings_and_a_later_one_takes_away(make_pair):
    """The deltas of a transaction are combined over its parts: a message may have come and gone in them."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.start()
    for what, statements in TAKEN_BACK.items():
        pair.write_query("TRUNCATE users, conversations, messages, user_conversations;"
                         " INSERT INTO conversations (id) VALUES (md5('a')::uuid), (md5('other')::uuid);"
                         " INSERT INTO messages (id, conversation_id, sequence_number, created_at) SELECT md5('m' || i)::uuid,"
                         " md5('a')::uuid, i, timestamptz '2024-05-05' + i * interval '1 s' FROM generate_series(1, 20) i;"
                         " INSERT INTO user_conversations SELECT md5(i::text)::uuid, md5('a')::uuid, now(), timestamptz"
                         " '2024-05-05' + i * 5 * interval '1 s' FROM generate_series(1, 5) i")
        pair.catch_up()
        pair.write_query(f"; {BETWEEN}; ".join([NEWEST, *statements, "SELECT"]))
        pair.assert_same(what)


def test_deltas_of_more_keys_than_can_be_held(make_pair):
    """They are merged with the part at which they have grown too large, and those of later parts are added to them."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.write_query("INSERT INTO conversations (id) SELECT md5(i::text)::uuid FROM generate_series(1, 800) i;"
                     " INSERT INTO user_conversations SELECT md5('u')::uuid, id, now(), '2024-05-05' FROM conversations")
    pair.start()
    send = ("INSERT INTO messages (id, conversation_id, sequence_number, created_at) SELECT md5(%s || i)::uuid,"
            " md5(i::text)::uuid, %s, timestamptz '2024-05-05' + %s * interval '1 s' FROM generate_series(1, 800) i")
    with pair.write_connection() as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN")
        for turn in range(1, 5):
            cursor.execute(send, (f"turn {turn} ", turn, turn))
        cursor.execute("DELETE FROM messages WHERE sequence_number = 4; COMMIT")
    pair.assert_same()


def test_messages_of_a_conversation_are_written_together(make_pair):
    """Most indexes of the mirror begin with conversation_id: in its order a batch's rows are inserted."""
    pair = make_pair(Flavour(odd=False))
    pair.start()
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number) SELECT gen_random_uuid(),"
                     " md5((i % 10)::text)::uuid, i FROM generate_series(1, 1000) i")
    pair.catch_up()
    written = pair.read_query("SELECT conversation_id, sequence_number FROM messages ORDER BY ctid")
    assert written == sorted(written)


def test_logical_messages_of_others_are_not_even_sent(make_pair):
    """They concern nobody here; the server would make six bytes of each of these."""
    pair = make_pair(Flavour(odd=False))
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    before = pair.daemon.peak_memory_kib()
    for transactional in ("true", "false"):
        pair.write_query(f"SELECT pg_logical_emit_message({transactional}, 'outbox', repeat(E'\\x01', 10000000))")
    pair.catch_up()
    grown = pair.daemon.peak_memory_kib() - before
    assert sanitized(pair) or grown < 8 * 1024, f"{grown} KiB more"
