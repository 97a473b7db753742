"""`resync`: the read side made equal to a fresh snapshot in place, whatever became of the stream; killed at any moment
readers keep what they had, and calling it again completes it. And `on_gap = resync`, with which the daemon does it.
"""
import contextlib
import random
import time

import pytest

from harness.cluster import poll
from harness.history import populate
from harness.pair import Pair, lsn
from harness.scenes import SEED, SEND, contents
from harness.schema import Flavour

PLAIN = Flavour(odd=False)
ON_GAP = "[pgprojector]\non_gap = resync\n"
CHANGE = ("DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 7);"
          " UPDATE conversations SET title = title || '!' WHERE id IN (SELECT id FROM conversations ORDER BY id LIMIT 3);"
          " UPDATE user_conversations SET last_read_at = now()")


def fill(pair, messages):
    pair.write_query(
        "INSERT INTO conversations (id, title) SELECT md5('fc' || i)::uuid, 'c' || i FROM generate_series(0, 99) i;"
        " INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT md5('fm' || i)::uuid,"
        " md5('fc' || i %% 100)::uuid, i, 'm' || i, timestamptz '2024-05-05' + i * interval '1 s'"
        " FROM generate_series(1, %s) i", (messages,))


def lose_slot(pair):
    """The slot goes, and what is committed then is not in any stream."""
    slot = pair.drop_slot()
    pair.write_query(SEND, (10,))
    pair.write_query(CHANGE)
    return slot


def resync(pair):
    """The daemon halts, or the slot is useless; after the resync it streams, and everything is right."""
    assert pair.daemon.stop() in (0, None)
    result = pair.command("resync")
    assert result.code == 0, result
    assert "resynced at LSN" in result.out
    assert len(pair.slots()) == 1
    pair.start()
    pair.assert_same("after the resync")
    pair.write_query(SEND, (10,))
    pair.assert_same("streaming from the new slot")


def test_the_slot_is_gone(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = lose_slot(pair)
    pair.read_query("CREATE VIEW dependent AS SELECT count(*) AS n FROM messages; CREATE ROLE reader_of_resync;"
                    " GRANT SELECT ON messages TO reader_of_resync")
    try:
        pair.daemon.start().await_state("halted")
        resync(pair)
        assert pair.slots() == [slot]
        assert pair.read_value("SELECT n FROM dependent") == pair.write_value("SELECT count(*) FROM messages")
        assert pair.read_value("SELECT has_table_privilege('reader_of_resync', 'messages', 'SELECT')")
    finally:
        pair.read_query("DROP OWNED BY reader_of_resync; DROP ROLE reader_of_resync")


def test_the_slot_was_made_again_by_hand(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = lose_slot(pair)
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (slot,))
    pair.write_query(SEND, (10,))
    resync(pair)


def test_the_slot_was_advanced_by_hand(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = pair.idle_slot()
    pair.write_query(CHANGE)
    pair.write_query("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (slot,))
    resync(pair)


def test_a_slot_of_another_plugin_is_not_dropped(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = lose_slot(pair)
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (slot,))
    result = pair.command("resync")
    assert result.code == 2 and slot in result.err
    assert pair.slots() == [slot]
    pair.write_query("SELECT pg_drop_replication_slot(%s)", (slot,))
    resync(pair)


def test_the_slot_has_lost_wal(own_clusters):
    write, read = own_clusters(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB"), own_clusters()
    with Pair(write, read, "lost", PLAIN) as pair:
        populate(pair, SEED)
        pair.start()
        pair.catch_up()
        pair.daemon.stop()

        def lost():
            pair.write_query(SEND, (100,))
            pair.write_query("SELECT pg_switch_wal()")
            pair.write_query("CHECKPOINT")
            return pair.write_value("SELECT wal_status FROM pg_replication_slots") == "lost"
        poll(lost, 30, "loss of the slot's WAL")
        pair.daemon.start()
        assert "resync" in pair.daemon.await_state("halted")[2]
        resync(pair)


@pytest.mark.parametrize("how", ["restored", "written on", "promoted"])
def test_the_write_server_is_behind(own_clusters, how):
    """An older image in its place: behind the checkpoint; ahead of it again; promoted, on a timeline of its own."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "behind", PLAIN) as pair:
        populate(pair, SEED)
        pair.start()
        image = pair.image_of(write)
        pair.write_query(SEND, (500,))
        pair.write_query(CHANGE)
        pair.catch_up()
        before = pair.applied()
        pair.put_back(write, image)
        if how == "promoted":
            (write.data / "standby.signal").touch()
        write.start()
        if how == "promoted":
            write.query("postgres", "SELECT pg_promote(true, 30)")
        while how == "written on" and pair.written() <= before + (1 << 20):
            pair.write_query(SEND, (1000,))
        pair.daemon.start()
        assert "resync" in pair.daemon.await_state("halted")[2]
        resync(pair)


def test_another_cluster_with_a_dump_of_the_tables(streaming, own_clusters):
    """Other identifier, other oids, a timeline and positions of its own; smaller ones."""
    pair = streaming
    pair.daemon.stop()
    other = own_clusters(fresh=True)
    other.create_database(pair.name)
    other.query(pair.name, "CREATE TABLE to_shift_oids (n int); " + PLAIN.ddl())
    former, pair.write, pair.write_url = pair.write, other, other.url(pair.name)
    try:
        pair.write_query("INSERT INTO conversations (id, title) VALUES (gen_random_uuid(), 'new')")
        pair.write_query(SEND, (20,))
        resync(pair)
        assert pair.read_value("SELECT count(*) FROM messages") == 30
    finally:
        pair.daemon.stop()
        pair.write = former
        other.drop_database(pair.name)


def test_the_read_server_is_an_old_copy(own_clusters):
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "old", PLAIN) as pair:
        populate(pair, SEED)
        pair.start()
        image = pair.image_of(read)
        checkpoint = pair.applied()
        for _ in range(3):
            pair.write_query(SEND, (200,))
            pair.write_query(CHANGE)
            pair.catch_up()
        poll(lambda: lsn(pair.write_value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")) > checkpoint,
             what="the slot's confirmation")
        pair.put_back(read, image)
        read.start()
        resync(pair)


def test_everything_that_can_be_mirrored(make_pair):
    """All awkward tables and types, with what "=" overlooks, in every table something missing, extra and changed."""
    pair = make_pair(Flavour())
    populate(pair, SEED)
    fill(pair, 5000)
    pair.write_query("INSERT INTO full_rows (a, b, body, extra) VALUES ('x', 1, 'y', 1.0), ('', 2, NULL, 1.00)")
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    lose_slot(pair)
    pair.write_query("DELETE FROM messages WHERE sequence_number % 500 = 0; UPDATE messages SET content = 'edited'"
                     " WHERE sequence_number % 400 = 1; UPDATE full_rows SET extra = 1.000; DELETE FROM swaps;"
                     " UPDATE \"Odd Schema\".\"Größe \"\"Tabelle\"\"\" SET num = num + 0.0, other = NULL")
    resync(pair)


def test_columns_of_short_names(make_pair):
    """Statements that compare and mend have short names for their tables, and a column may have the same."""
    pair = make_pair(PLAIN)
    pair.write_query("ALTER TABLE users ADD m text, ADD s text, ADD d text, ADD t text")
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    lose_slot(pair)
    pair.write_query("UPDATE users SET m = 'one', s = 'two', d = 'three', t = 'four'")
    resync(pair)
    assert pair.read_query("SELECT DISTINCT m, s, d, t FROM users") == [("one", "two", "three", "four")]


def test_targets_that_disagree_with_their_mirrors_are_healed(streaming):
    """Rows that no difference of the mirrors touches: a read side may be put together from copies of different ages."""
    pair = streaming
    pair.catch_up()
    pair.daemon.stop()
    pair.read_query("UPDATE conversation_summary SET message_count = message_count + 1 WHERE id IN (SELECT id FROM"
                    " conversation_summary ORDER BY id LIMIT 3);"
                    " DELETE FROM user_conversation_membership WHERE conversation_id IN (SELECT conversation_id FROM"
                    " user_conversation_membership ORDER BY 1 DESC LIMIT 2)")
    resync(pair)


def test_what_mended_rows_touch_and_what_was_wrong_already(make_pair):
    """Keys that mirrors' differences touch, keys of which only the target is wrong, and keys of both, hundreds of each."""
    pair = make_pair(PLAIN)
    populate(pair, SEED)
    fill(pair, 3000)
    pair.write_query("INSERT INTO conversations (id, title) SELECT md5('fc' || i)::uuid, 'c' || i"
                     " FROM generate_series(100, 2999) i")
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    lose_slot(pair)
    pair.write_query("UPDATE conversations SET title = 'new' WHERE id::text < '4'")
    pair.read_query("UPDATE conversation_summary SET message_count = message_count + 1 WHERE id::text BETWEEN '2' AND '6';"
                    " DELETE FROM user_conversation_membership WHERE conversation_id::text BETWEEN '2' AND '6'")
    wrong = pair.read_value("SELECT count(*) FROM conversation_summary WHERE id::text BETWEEN '2' AND '6'")
    assert wrong > 400
    resync(pair)


MUCH_DIFFERS = ("UPDATE messages SET conversation_id = md5('fc' || (sequence_number + 1) % 100)::uuid WHERE sequence_number % 3 = 0;"
                " UPDATE messages SET deleted_at = now() WHERE sequence_number % 3 = 1; DELETE FROM messages WHERE"
                " sequence_number % 3 = 2; UPDATE conversations SET title = title || '?'; UPDATE user_conversations SET"
                " joined_at = now(), last_read_at = now(); INSERT INTO messages (id, conversation_id, sequence_number, created_at)"
                " SELECT gen_random_uuid(), id, 1, now() FROM conversations;")
SPOILT_TARGETS = ("UPDATE conversation_summary SET message_count = 7, title = 'x' WHERE id::text < 'a';"
                  " DELETE FROM conversation_summary WHERE id::text > 'a'; UPDATE user_conversation_membership SET"
                  " unread_count = 77; INSERT INTO user_conversation_membership (user_id, conversation_id) VALUES"
                  " (gen_random_uuid(), gen_random_uuid())")


def filled(make_pair, messages=5000):
    """Messages in 100 conversations and more, everything caught up, the daemon stopped, the slot lost."""
    pair = make_pair(PLAIN)
    populate(pair, SEED)
    fill(pair, messages)
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    lose_slot(pair)
    return pair


def options(pair):
    return pair.read_query("SELECT relname, ARRAY(SELECT unnest(reloptions) ORDER BY 1) FROM pg_class"
                           " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1")


def test_all_rows_differ_and_targets_are_spoilt(make_pair):
    """Rows moved, gone, too many and otherwise, thousands of each; the tables' own storage options stay what they were."""
    pair = filled(make_pair)
    pair.read_query(MUCH_DIFFERS + SPOILT_TARGETS)
    pair.read_query("ALTER TABLE messages SET (fillfactor = 95, autovacuum_enabled = off)")
    before = options(pair)
    resync(pair)
    assert options(pair) == before


def test_rows_are_mended_where_they_are_and_new_ones_go_behind(make_pair):
    """What is updated stays on its page; what is missing does not fill the room of a few rows that others have left there."""
    pair = filled(make_pair, 15000)
    pair.read_query("UPDATE messages SET content = upper(content) WHERE sequence_number % 50 = 0;"
                    " DELETE FROM messages WHERE sequence_number % 10 = 1")
    pair.read_query("VACUUM messages")
    page = "SELECT id, split_part(btrim(ctid::text, '()'), ',', 1)::int AS page FROM messages"
    before = dict(pair.read_query(page))
    pages = pair.read_value("SELECT pg_relation_size('messages') / 8192")
    resync(pair)
    after = dict(pair.read_query(page))
    updated = [row for row, in pair.read_query("SELECT id FROM messages WHERE sequence_number % 50 = 0")]
    assert len([row for row in updated if after[row] == before.get(row)]) > 0.9 * len(updated)
    missing = [number for row, number in after.items() if row not in before]
    assert len(missing) > 1000 and len([number for number in missing if number >= pages - 1]) > 0.5 * len(missing)


def hold(pair, sql):
    conn = pair.read.connect(pair.name)
    conn.autocommit = False
    conn.cursor().execute(sql)
    return conn


@pytest.mark.parametrize("by", ["a lock", "a trigger"])
def test_where_a_mirror_cannot_be_altered(make_pair, by):
    """A VACUUM at work has such a lock; a deferred trigger has events pending. Then rows go where there is room."""
    pair = filled(make_pair)
    pair.read_query(MUCH_DIFFERS)
    if by == "a trigger":
        pair.read_query("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                        " CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE OR DELETE ON messages"
                        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing()")
        return resync(pair)
    holder = hold(pair, "LOCK TABLE messages IN SHARE UPDATE EXCLUSIVE MODE")
    try:
        resync(pair)
    finally:
        holder.close()


@contextlib.contextmanager
def stopped_before_comparing(pair):
    """A resync that waits for a mirror. It has looked at all of them before, so the lock is taken while its new slot waits for
    an open transaction."""
    writer, reader = pair.write_connection(), pair.read_connection()
    with writer, reader, writer.cursor() as writing, reader.cursor() as reading:
        writing.execute("SELECT pg_current_xact_id()")
        process = pair.launch("resync")
        poll(lambda: pair.write_value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%'"
                                      " AND wait_event_type = 'Lock'") == 1, what="the slot, waiting")
        reading.execute("LOCK TABLE public.conversations")    # the first to be compared
        writer.commit()
        yield process


def test_a_lost_lock_is_noticed(streaming):
    """Without its lock a table can be emptied after the snapshot and before it is read, and would look empty."""
    pair = streaming
    pair.daemon.stop()
    lose_slot(pair)
    with stopped_before_comparing(pair) as process:
        poll(lambda: pair.read_value("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
                                     " AND relation = 'public.conversations'::regclass"), what="the resync, waiting")
        guard = pair.write_value("SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%resync guard'")
        pair.write_query("SELECT pg_terminate_backend(%s)", (guard,))
        pair.write_query("SET lock_timeout = '10s'; TRUNCATE messages")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "locks" in err, err
    resync(pair)


@pytest.mark.parametrize("how", ["its session is lost", "a stop is asked"])
def test_comparing_ahead_ends_early(streaming, how):
    """Where mirrors and sources disagree is found by a thread with sessions of its own; what becomes of it is heard of."""
    pair = streaming
    pair.daemon.stop()
    lose_slot(pair)
    before = contents(pair)
    with stopped_before_comparing(pair) as process:
        waiting = poll(lambda: pair.read_query("SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid"
                                               " WHERE NOT granted AND a.application_name = 'pgprojector resync compare'"),
                       what="the comparison, waiting")
        if how == "a stop is asked":
            process.terminate()
        else:
            pair.read_query("SELECT pg_terminate_backend(%s)", waiting[0])
        _, err = process.communicate(timeout=10)
    assert process.returncode != 0 and "resync: " in err, err
    assert contents(pair) == before
    resync(pair)


def standing(pair, name="conversation_summary"):
    return pair.read_value("SELECT state FROM pgprojector.projection WHERE name = %s", (name,))


def test_keys_that_cannot_be_written_are_parked(streaming):
    """One was parked before, and stays so; another is found by the resync."""
    pair = streaming
    first, second = [row[0] for row in pair.write_query("SELECT id::text FROM conversations ORDER BY id LIMIT 2")]
    pair.read_query(f"ALTER TABLE conversation_summary ADD CONSTRAINT first CHECK (title <> 'bad' OR id <> '{first}')")
    pair.write_query("UPDATE conversations SET title = 'bad' WHERE id = %s", (first,))
    pair.catch_up()
    assert pair.read_query("SELECT key FROM pgprojector.dead_letter") == [(first,)]
    pair.daemon.stop()
    lose_slot(pair)
    pair.write_query("UPDATE conversations SET title = 'worse' WHERE id = %s", (second,))
    pair.read_query(f"ALTER TABLE conversation_summary ADD CONSTRAINT second CHECK (title <> 'worse' OR id <> '{second}')")
    result = pair.command("resync")
    assert result.code == 0 and "conversation_summary: 1 key parked" in result.err and second not in result.err, result
    assert sorted(pair.read_query("SELECT key FROM pgprojector.dead_letter")) == [(first,), (second,)]
    pair.start()
    pair.catch_up()
    assert standing(pair) in ("live", "failing")
    found = pair.command("verify")
    assert found.code == 6 and "no difference" in found.out, found
    pair.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT first, DROP CONSTRAINT second")
    assert pair.command("deadletters", "retry", "--all").code == 0
    pair.assert_same()


def test_a_target_that_cannot_be_written_is_paused(streaming):
    """A privilege, say: no key is at fault."""
    pair = streaming
    pair.daemon.stop()
    lose_slot(pair)
    pair.read_query("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not allowed'"
                    " USING ERRCODE = '42501'; END $$; CREATE TRIGGER refuse BEFORE UPDATE ON conversation_summary"
                    " FOR EACH ROW EXECUTE FUNCTION refuse()")
    result = pair.command("resync")
    assert result.code == 0 and "conversation_summary is paused" in result.err and "not allowed" in result.err, result
    pair.start()
    pair.catch_up()
    status = pair.command("status")
    assert status.code == 4 and "conversation_summary is not kept up" in status.out and "not allowed" in status.out, status
    stale = pair.read_query("TABLE conversation_summary ORDER BY id")
    assert pair.daemon.stop() == 0
    lose_slot(pair)
    pair.read_query("ALTER TABLE conversation_summary DISABLE TRIGGER refuse")
    resync_leaves = pair.command("resync")
    assert resync_leaves.code == 0 and pair.read_query("TABLE conversation_summary ORDER BY id") == stale, resync_leaves
    pair.start()
    assert pair.command("resume", "conversation_summary").code == 0
    assert pair.command("status").code == 0
    pair.assert_same()


@pytest.mark.parametrize("kept_away", ["INSERT", "UPDATE", "DELETE"])
def test_rows_that_a_trigger_keeps_away_are_no_success(streaming, kept_away):
    pair = streaming
    pair.daemon.stop()
    lose_slot(pair)
    table = {"INSERT": "messages", "UPDATE": "conversations", "DELETE": "messages"}[kept_away]
    before = pair.read_value("SELECT lsn FROM pgprojector.checkpoint")
    pair.read_query("CREATE FUNCTION keep_away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
                    f" CREATE TRIGGER keep_away BEFORE {kept_away} ON {table} FOR EACH ROW EXECUTE FUNCTION keep_away()")
    result = pair.command("resync")
    assert result.code == 1 and "rows were to be written, 0 were" in result.err and "trigger" in result.err, result
    assert pair.read_value("SELECT lsn FROM pgprojector.checkpoint") == before
    pair.read_query(f"DROP TRIGGER keep_away ON {table}")
    resync(pair)


def test_a_running_daemon_is_named(streaming):
    pair = streaming
    result = pair.command("resync")
    assert result.code == 1 and str(pair.daemon.process.pid) in result.err, result
    assert "stop it first" in result.err
    pair.assert_same()


def test_before_the_first_start(pair):
    result = pair.command("resync")
    assert result.code == 1 and "first start" in result.err, result
    assert pair.slots() == []


def test_columns_that_no_longer_fit_are_named(streaming):
    pair = streaming
    pair.daemon.stop()
    (slot,) = pair.slots()
    pair.write_query("ALTER TABLE users ALTER display_name TYPE varchar(100)")
    before = contents(pair)
    result = pair.command("resync")
    assert result.code in (1, 2) and "users" in result.err and "display_name" in result.err, result
    assert contents(pair) == before
    assert pair.slots() == [slot], "the slot was dropped before it was known that a resync can be made"


def test_killed_at_random(make_pair):
    """Ten times, at moments between its beginning and its end; what was served stays served, nothing is left behind."""
    pair = make_pair(PLAIN)
    populate(pair, SEED)
    fill(pair, 30000)
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    lose_slot(pair)
    pair.write_query("UPDATE messages SET content = 'edited' WHERE sequence_number % 3 = 0")
    rng = random.Random(f"{SEED}/killed resync")
    served, tables = contents(pair), "SELECT array_agg(c.oid::regclass::text ORDER BY c.oid) FROM pg_class c" \
        " WHERE relkind = 'r' AND relpersistence <> 't' AND relnamespace <> 'pg_catalog'::regnamespace" \
        " AND relnamespace <> 'information_schema'::regnamespace"
    before = pair.read_value(tables)
    begun = time.monotonic()
    assert pair.command("resync").code == 0
    whole = time.monotonic() - begun
    pair.read_query("UPDATE messages SET content = 'stale' WHERE sequence_number % 3 = 0")
    served = contents(pair)
    for _ in range(10):
        process = pair.launch("resync")
        time.sleep(rng.random() * whole)
        process.kill()
        process.communicate(timeout=10)
        pair.await_end_of()
        if contents(pair) != served:  # its COMMIT was faster
            assert pair.read_value("SELECT resync_at IS NULL FROM pgprojector.checkpoint")
            pair.read_query("UPDATE messages SET content = 'stale' WHERE sequence_number % 3 = 0")
            served = contents(pair)
        assert len(pair.slots()) <= 1
        assert pair.read_value(tables) == before
        if not pair.read_value("SELECT resync_at IS NULL FROM pgprojector.checkpoint") and rng.random() < 0.4:
            pair.daemon.start()
            assert "resync" in pair.daemon.await_state("halted")[2]
            pair.daemon.stop()
            assert contents(pair) == served
    resync(pair)
    assert pair.read_value(tables) == before


def test_a_resync_that_waited_makes_no_first_start(make_pair, own_clusters):
    read = own_clusters()
    pair = make_pair(PLAIN, read=read)
    read.stop()
    process = pair.launch("resync", "--wait", "60s")
    while "waiting: " not in (line := process.stderr.readline()):
        assert line, "it has not waited"
    read.start()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "nothing to resync" in err and not out, (out, err)
    assert pair.slots() == [] and pair.read_value("SELECT to_regclass('messages') IS NULL")


def test_on_gap_resync(make_pair):
    """The daemon finds the gap at its start, and again in the middle of streaming, where it then halts: too soon."""
    pair = make_pair(PLAIN, ON_GAP)
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    slot = lose_slot(pair)
    pair.start()
    pair.assert_same("after the automatic resync")
    assert "gap:" in pair.daemon.tail(5000) and "resync complete" in pair.daemon.tail(5000)
    assert pair.drop_slot() == slot
    assert "resync" in pair.daemon.await_state("halted")[2]
    assert pair.slots() == []
    pair.daemon.stop()
    pair.start()
    pair.assert_same("a new start, and a resync of its own")


def test_on_gap_resync_that_is_refused_halts(make_pair):
    pair = make_pair(PLAIN, ON_GAP)
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    pair.daemon.stop()
    slot = lose_slot(pair)
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (slot,))
    pair.daemon.start()
    pair.daemon.await_state("halted")
    assert "another plugin" in pair.daemon.tail(5000)
    assert pair.slots() == [slot]
