"""`verify --repair`: what was corrupted by hand is found and mended, under load, and nothing else is touched."""
import os
import random
import signal

from harness.beside import Statements
from harness.cluster import poll
from harness.corruption import fill, sow
from harness.history import populate
from harness.scenes import SEED
from harness.schema import Flavour


def test_300_corruptions_under_load(streaming):
    """Changed, missing and extra rows in mirrors and targets, while writers write; verified before without alarm."""
    pair = streaming
    fill(pair)
    pair.catch_up()
    rng = random.Random(f"{SEED}/repair")
    send = ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT gen_random_uuid(),"
            " (SELECT id FROM conversations WHERE id::text NOT IN (SELECT md5('fc' || i)::uuid::text"
            " FROM generate_series(1, 300) i) ORDER BY id LIMIT 1), 1, 'load', now()")
    with Statements(pair, lambda: send, 0.003):
        before = pair.command("verify")
        assert before.code == 0, f"false alarm: {before}"
        sow(pair, rng, 300)
        found = pair.command("verify", "--json")
        assert found.code == 5 and found.json["differences"] >= 300
        mended = pair.command("verify", "--repair", "--keys", "1")
        assert mended.code == 0, mended
        assert "repaired by now" in mended.out
        after = pair.command("verify", "--repair", "--json")
        assert after.code == 0 and after.json["repaired"] == {"mirrorRows": 0, "projectionKeys": 0}
    pair.assert_same("after the repair")


def test_a_repair_touches_only_what_differs(streaming):
    pair = streaming
    xmins = "SELECT id, xmin::text, ctid::text FROM messages ORDER BY id"
    before = dict((row[0], row[1:]) for row in pair.read_query(xmins))
    victim = sorted(before)[0]
    pair.read_query("UPDATE messages SET content = 'forged' WHERE id = %s", (victim,))
    result = pair.command("verify", "--repair")
    assert result.code == 0, result
    after = dict((row[0], row[1:]) for row in pair.read_query(xmins))
    assert {key for key in before if before[key] != after[key]} == {victim}
    pair.assert_same()


def test_awkward_keys_and_types(make_pair):
    """Composite, quoted, text and numeric keys; values that "=" calls alike."""
    pair = make_pair(Flavour())
    populate(pair, SEED)
    pair.write_query("INSERT INTO only_key VALUES ('a,\"b\"', 1), ('{}', 2), (E'back\\\\slash', 3), ('', 4);"
                     " INSERT INTO full_rows (a, b, body, extra) VALUES ('x', 1, 'y', 1.0), ('', 2, NULL, 1.00)")
    pair.start()
    pair.catch_up()
    pair.read_query("DELETE FROM only_key WHERE a IN (1, 2, 3); INSERT INTO only_key VALUES ('none''s', 9);"
                    " UPDATE full_rows SET extra = 1.000 WHERE b IN (1, 2)")
    result = pair.command("verify", "--repair")
    assert result.code == 0, result
    pair.assert_same()


def test_one_name_alone_is_repaired(streaming):
    pair = streaming
    pair.read_query("UPDATE conversation_summary SET message_count = -1; UPDATE users SET display_name = 'forged'")
    result = pair.command("verify", "conversation_summary", "--repair")
    assert result.code == 0, result
    assert pair.read_value("SELECT count(*) FROM conversation_summary WHERE message_count < 0") == 0
    assert pair.read_value("SELECT count(*) FROM users WHERE display_name <> 'forged'") == 0, "users were not asked for"
    assert pair.command("verify", "--repair").code == 0
    pair.assert_same()


def forged_with_a_poison_key(pair):
    """Messages are missing in the mirror, and the targets are right by what is left; for one of two conversations no other count
    can be written. Returns both conversations."""
    ids = [row[0] for row in pair.write_query("SELECT id::text FROM conversations ORDER BY id LIMIT 2")]
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), c::uuid, i, 'm', now() FROM unnest(%s) c, generate_series(1, 7) i", (ids,))
    pair.catch_up()
    pair.read_query("DELETE FROM messages WHERE conversation_id = ANY (%s::uuid[])", (ids,))
    assert pair.command("rebuild", "--all").code == 0
    pair.read_query(f"ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count < 7 OR id <> '{ids[0]}')")
    return ids


def count_of(pair, conversation):
    return pair.read_value("SELECT message_count FROM conversation_summary WHERE id = %s", (conversation,))


def test_a_key_that_cannot_be_written_is_parked_and_all_others_are_mended(streaming):
    pair = streaming
    first, second = forged_with_a_poison_key(pair)
    pair.read_query("UPDATE conversation_summary SET title = 'forged' WHERE id = %s", (second,))
    result = pair.command("verify", "--repair")
    assert result.code == 6 and "projection conversation_summary: 1 key parked" in result.err, result
    assert count_of(pair, first) < 7 <= count_of(pair, second)
    assert pair.read_query("SELECT projection, key FROM pgprojector.dead_letter") == [("conversation_summary", first)]
    assert pair.command("verify").code == 6, "nothing else is left"
    pair.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    assert pair.command("deadletters", "retry", "--all").code == 0
    pair.assert_same()


def test_what_may_not_miss_a_row_is_paused_where_it_cannot_be_mended(make_pair):
    """on_error = halt. The mirrors beneath are mended, so that it would be wrong."""
    pair = make_pair(config="[module conversation_summary]\non_error = halt\n")
    populate(pair, SEED)
    pair.start()
    forged_with_a_poison_key(pair)
    result = pair.command("verify", "--repair")
    assert "projection conversation_summary is paused" in result.err and "resume conversation_summary" in result.err, result
    assert pair.read_value("SELECT state FROM pgprojector.projection WHERE name = 'conversation_summary'") == "paused"
    assert pair.command("status").code == 4
    pair.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    assert pair.command("resume", "conversation_summary").code == 0
    pair.assert_same()


def test_what_is_too_slow_for_the_time_limit_is_mended_in_smaller_chunks(streaming):
    """Every row written takes 10 ms, and the limit of the read database is half a second instead of thirty. One key that takes
    longer than that by itself is named, with what to do."""
    pair = streaming
    fill(pair, 130, 1)
    pair.catch_up()
    pair.read_query("CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'")
    slow = "CREATE TRIGGER slow BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION slowly()"
    pair.read_query(slow.format("conversation_summary") + "; " + slow.format("messages"))
    pair.read_query("ALTER TABLE conversation_summary DISABLE TRIGGER slow; ALTER TABLE messages DISABLE TRIGGER slow;"
                    " UPDATE messages SET content = 'forged'; UPDATE conversation_summary SET title = 'forged' WHERE id IN"
                    " (SELECT conversation_id FROM messages);"
                    " ALTER TABLE conversation_summary ENABLE TRIGGER slow; ALTER TABLE messages ENABLE TRIGGER slow")
    pair.read_query(f"ALTER DATABASE {pair.name} SET statement_timeout = '500ms'")
    result = pair.command("verify", "--repair", "--keys", "0")
    assert result.code == 0, result
    pair.read_query("ALTER TABLE messages DISABLE TRIGGER slow; UPDATE conversation_summary SET title = 'forged' WHERE id ="
                    " (SELECT min(id::text)::uuid FROM conversation_summary); CREATE OR REPLACE FUNCTION slowly()"
                    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(5); RETURN NEW; END'")
    result = pair.command("verify", "--repair", "--keys", "0")
    assert result.code == 1 and "projection conversation_summary" in result.err and "rebuild" in result.err, result
    pair.read_query(f"ALTER DATABASE {pair.name} RESET statement_timeout; DROP FUNCTION slowly() CASCADE")
    assert pair.command("verify", "--repair", "--keys", "0").code == 0
    pair.assert_same()


def test_without_a_daemon(streaming):
    pair = streaming
    pair.daemon.stop()
    assert pair.command("verify", "--repair").code == 4


def tables(result):
    return {table["name"].rpartition(".")[2]: table for table in result.json["tables"]}


def test_a_sample(streaming):
    """Half of all rows wrong: a sample of a tenth finds some, compares about as many as asked, and says so; a sample that covers
    everything finds all; what a sample found is mended."""
    pair = streaming
    fill(pair, 20000, 9000)
    pair.catch_up()
    pair.read_query("ANALYZE")
    pair.write_query("ANALYZE")
    clean = pair.command("verify", "--sample", "1000", "--json")
    assert clean.code == 0, f"false alarm: {clean}"
    assert clean.json["sample"] == 1000 and clean.json["of"] > 25000 > 7000 > clean.json["rows"]
    for table in tables(clean).values():
        assert table["rows"] <= 1300 and table["of"] >= table["rows"], table
    assert tables(clean)["messages"]["rows"] >= 500 and 15000 < tables(clean)["messages"]["of"] < 25000
    assert tables(clean)["user_conversation_membership"]["rows"] >= 500
    pair.read_query("UPDATE messages SET content = 'forged' WHERE sequence_number % 2 = 0 AND content LIKE 'm%';"
                    " UPDATE user_conversation_membership SET unread_count = -1 WHERE hashtext(user_id::text) % 2 = 0")
    found = pair.command("verify", "--sample", "1000", "--json")
    assert found.code == 5, found
    for name in ("messages", "user_conversation_membership"):
        assert 100 < tables(found)[name]["differences"] < tables(found)[name]["rows"], tables(found)[name]
    text = pair.command("verify", "--sample", "1000", "messages")
    assert text.code == 5 and "of about 2" in text.out and "a sample" in text.out, text
    wrong = "SELECT count(*) FROM messages WHERE content = 'forged'"
    before = pair.read_value(wrong)
    pair.command("verify", "--sample", "1000", "--repair", "--keys", "0")
    assert before / 2 < pair.read_value(wrong) < before - 100, "what was found is mended, and nothing else"
    whole = pair.command("verify", "--sample", "1000000", "--json")
    assert whole.code == 5 and tables(whole)["messages"]["differences"] == pair.read_value(wrong)
    assert pair.command("verify", "--sample", "1000000", "--repair").code == 0
    assert pair.command("verify").code == 0


def test_a_sample_finds_missing_and_extra_rows(streaming):
    pair = streaming
    fill(pair, 9000, 5000)
    pair.catch_up()
    pair.read_query("DELETE FROM messages WHERE sequence_number % 3 = 0 AND content LIKE 'm%'; INSERT INTO user_conversations"
                    " SELECT gen_random_uuid(), conversation_id FROM user_conversations;"
                    " DELETE FROM user_conversation_membership WHERE hashtext(user_id::text) % 3 = 0; ANALYZE")
    found = pair.command("verify", "--sample", "500", "--json")
    faults = {name: {key["fault"] for key in table.get("keys", [])} for name, table in tables(found).items()}
    assert "missing" in faults["messages"] and "extra" in faults["user_conversations"], faults
    assert "missing" in faults["user_conversation_membership"], faults


def test_the_cost_of_a_sample_follows_the_sample(streaming):
    """The pages of the mirror that are read: of four times the rows not four times as many."""
    pair = streaming
    read = "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relname = 'messages'"

    def read_so_far():
        """A session tells what it has read when it ends, and else when it likes; it may end after its client."""
        pair.daemon.stop()
        pair.await_end_of()
        return pair.read_value(read)

    def cost():
        pair.read_query("ANALYZE messages")
        pair.write_query("ANALYZE messages")
        pair.read_query("SELECT pg_stat_force_next_flush()")  # what ANALYZE has read
        before = read_so_far()
        pair.start()
        assert pair.command("verify", "--sample", "200", "messages").code == 0
        after = read_so_far()
        pair.start()
        return after - before
    fill(pair, 10000, 30)
    pair.catch_up()
    small = cost()
    pair.write_query("INSERT INTO messages (id, conversation_id, content) SELECT gen_random_uuid(), conversation_id, content"
                     " FROM messages, generate_series(1, 3) WHERE sequence_number IS NOT NULL")
    pair.catch_up()
    assert 0 < small and cost() < 2 * small + 200


def test_a_sample_is_a_number_of_rows(streaming):
    for word in ("0", "-1", "many", "1.5", "99999999"):
        result = streaming.command("verify", "--sample", word)
        assert result.code == 2 and "--sample" in result.err, result


def test_a_large_transaction_beyond_the_fence_leaves_the_checkpoint_row_free(make_pair):
    """Met while apply advances to the fence's position, no part of it is applied before the fence is let go: a repair
    takes the row's lock at that moment."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.start()
    pair.catch_up()
    fence = pair.read_value("INSERT INTO pgprojector.fence DEFAULT VALUES RETURNING id")
    state = lambda: pair.read_value("SELECT state FROM pgprojector.fence WHERE id = %s", (fence,))
    pair.read_query("NOTIFY pgprojector")
    poll(lambda: state() == "held", what="standing still")
    walsender = pair.write_value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (pair.slots()[0],))
    os.kill(walsender, signal.SIGSTOP)  # or a keepalive may come before the large one, and reach the position
    try:
        pair.write_query("INSERT INTO conversations (id) VALUES (md5('before')::uuid)")
        target = pair.write_value("SELECT pg_create_restore_point('fence')")
        pair.write_query("INSERT INTO messages (id) SELECT md5(i::text)::uuid FROM generate_series(1, 20000) i")
    finally:
        os.kill(walsender, signal.SIGCONT)
    pair.read_query("UPDATE pgprojector.fence SET state = 'advance', target = %s WHERE id = %s", (target, fence))
    pair.read_query("NOTIFY pgprojector")
    poll(lambda: state() == "reached", what="the position")
    pair.read_query("SELECT FROM pgprojector.checkpoint FOR UPDATE NOWAIT")
    assert pair.read_query("SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM messages)") == [(1, 0)]
    pair.read_query("DELETE FROM pgprojector.fence")
    pair.assert_same("when it has been let go")
