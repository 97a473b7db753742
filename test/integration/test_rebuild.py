"""Rebuild in place: what is wrong is found and mended beside the stream; readers never notice; interrupted, it goes on."""
import re
import signal
import time

import pytest

from harness.beside import Reader
from harness.cluster import poll
from harness.daemon import command
from harness.modules import Modules
from harness.pair import lsn
from harness.scenes import SEED, SEND
from harness.workload import Workload

SPOIL = """
    UPDATE conversation_summary SET message_count = message_count + 7, title = 'spoilt' WHERE ctid IN
        (SELECT ctid FROM conversation_summary ORDER BY id LIMIT 5);
    DELETE FROM conversation_summary WHERE ctid IN (SELECT ctid FROM conversation_summary ORDER BY id DESC LIMIT 2);
    INSERT INTO conversation_summary (id, message_count) VALUES (gen_random_uuid(), 3);
    UPDATE user_conversation_membership SET unread_count = 1000 WHERE ctid IN
        (SELECT ctid FROM user_conversation_membership ORDER BY user_id LIMIT 9);
    DELETE FROM user_conversation_membership WHERE ctid IN
        (SELECT ctid FROM user_conversation_membership ORDER BY user_id DESC LIMIT 3)
"""
MANY = 3000


def no_traces(pair):
    assert pair.read_value("SELECT count(*) FROM pgprojector.job") == 0
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") == 0
    assert pair.read_value("SELECT count(*) FROM pg_class WHERE relname ~ '^pj_|pgprojector_' AND relkind = 'r'") == 0


def populate_many(pair, conversations=MANY):
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c' || i, 'group', now(), now()"
                     " FROM generate_series(1, %s) i", (conversations,))
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), id, n, 'm', now() FROM conversations, generate_series(1, 3) n")


SUMMARIES = ("SELECT pgprojector.applied_lsn()::text, (SELECT count(*) FROM conversation_summary),"
             " (SELECT count(*) FROM conversations)")


def at_most_two_missing(row, before):
    """SPOIL deletes two rows itself."""
    if row[1] < row[2] - 2:
        return f"{row[1]} rows of {row[2]}"
    if before and lsn(row[0]) < lsn(before[0]):
        return f"position {row[0]} after {before[0]}"
    return None


def test_rebuild_mends_exactly_what_differs(streaming):
    streaming.read_query(SPOIL)
    before = streaming.read_query("SELECT id, xmin::text FROM conversation_summary ORDER BY id")
    result = streaming.command("rebuild", "--all")
    assert result.code == 0 and "conversation_summary: 8 rows differed, 8 mended, verified" in result.out, result
    assert "user_conversation_membership: 12 rows differed, 12 mended, verified" in result.out, result
    streaming.assert_same("after the rebuild")
    after = dict(streaming.read_query("SELECT id, xmin::text FROM conversation_summary"))
    assert sum(after.get(row) == xmin for row, xmin in before) == len(before) - 6, "rows that were right are not touched"
    again = streaming.command("rebuild", "conversation_summary")
    assert again.code == 0 and "no row differed" in again.out, again
    no_traces(streaming)


def test_rebuild_under_load(streaming):
    populate_many(streaming)
    streaming.catch_up()
    workload = Workload(streaming, SEED, 3, None)
    with Reader(streaming, SUMMARIES, at_most_two_missing):
        workload.start()
        for turn in range(3):
            # with the checkpoint row's lock, or the stream, which meets the rows in another order, and this could wait for each other
            streaming.read_query("SELECT FROM pgprojector.checkpoint FOR UPDATE; " + SPOIL)
            streaming.read_query("SELECT FROM pgprojector.checkpoint FOR UPDATE; UPDATE conversation_summary SET message_count = -1"
                                 " WHERE title ~ '^c[0-9]*%s$'", (turn,))
            result = streaming.command("rebuild", "--all")
            assert result.code == 0, result
        workload.stop()
        streaming.assert_same("after rebuilds under load")
    no_traces(streaming)


def test_rebuild_without_a_daemon(streaming):
    streaming.daemon.stop()
    streaming.read_query(SPOIL)
    assert streaming.command("rebuild", "conversation_summary").code == 0
    streaming.start()
    result = streaming.command("rebuild", "user_conversation_membership", "--no-verify")
    assert result.code == 0 and "12 mended\n" in result.out, result
    streaming.assert_same()


@pytest.mark.parametrize("beside", [True, False], ids=["beside the daemon", "without"])
def test_a_table_that_is_wrong_all_over(streaming, beside):
    """Where most rows differ, whole routing keys are recomputed, with rows that are missing and rows too many."""
    pair = streaming
    populate_many(pair)
    pair.write_query("INSERT INTO user_conversations SELECT md5('w' || i)::uuid, c.id, now(), '-infinity'"
                     " FROM generate_series(1, 12) i, (SELECT id FROM conversations ORDER BY id LIMIT 200) c")
    pair.catch_up()
    if not beside:
        pair.daemon.stop()
    pair.read_query("UPDATE user_conversation_membership SET unread_count = -1;"
                    " DELETE FROM user_conversation_membership WHERE user_id = md5('w1')::uuid;"
                    " INSERT INTO user_conversation_membership (conversation_id, user_id, unread_count)"
                    " SELECT md5('n' || i)::uuid, md5('m' || i % 7)::uuid, 3 FROM generate_series(1, 50) i")
    result = pair.command("rebuild", "user_conversation_membership")
    assert result.code == 0 and "mended, verified" in result.out, result
    if not beside:
        pair.start()
    pair.assert_same()
    no_traces(pair)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_rebuild_interrupted_goes_on(streaming, ending):
    populate_many(streaming)
    streaming.catch_up()
    streaming.read_query("UPDATE conversation_summary SET message_count = -1")
    wrong = "SELECT count(*) FROM conversation_summary WHERE message_count = -1"
    process = streaming.launch("rebuild", "conversation_summary", "--max-rate", "200", "--chunk", "20")
    poll(lambda: streaming.read_value(wrong) < MANY - 200, what="the first chunks")
    job = poll(lambda: [job for job in streaming.command("status", "--json").json["jobs"] if job["percent"]], what="progress")[0]
    assert job["kind"] == "rebuild" and job["phase"] == "mending" and job["running"] and 0 < job["percent"] < 100, job
    assert re.search(r"rebuild +conversation_summary, mending, \d+ of \d+ keys", streaming.command("status").out)
    process.send_signal(ending)
    _, err = process.communicate(timeout=20)
    streaming.await_end_of("rebuild")
    left = streaming.read_value(wrong)
    assert process.returncode != 0 and 0 < left < MANY - 100, (left, err)
    if ending == signal.SIGINT:
        assert "start it again" in err, err
        assert not any(job["running"] for job in streaming.command("status", "--json").json["jobs"])
    else:
        assert not streaming.command("status", "--json").json["jobs"][0]["running"]
    result = streaming.command("rebuild", "conversation_summary")
    assert result.code == 0 and f"{left} rows differed" in result.out, result
    streaming.assert_same()
    no_traces(streaming)


def test_the_stream_goes_on_meanwhile(streaming):
    """A rebuild holds the stream up for moments only: not for a noteworthy part of the time that it takes itself."""
    populate_many(streaming)
    streaming.catch_up()
    streaming.read_query("UPDATE conversation_summary SET message_count = -1")
    process = streaming.launch("rebuild", "conversation_summary")
    waits, begun = [], time.monotonic()
    while process.poll() is None:
        began = time.monotonic()
        streaming.write_query(SEND, (1,))
        streaming.catch_up()
        waits.append(time.monotonic() - began)
    whole = time.monotonic() - begun
    process.communicate(timeout=20)
    assert process.returncode == 0 and waits and sorted(waits)[len(waits) // 2] < whole / 5, (waits, whole)
    streaming.assert_same()


def test_another_version_of_the_module(streaming):
    """Another option is another definition: without a daemon, rebuild in place makes the table fit."""
    streaming.daemon.stop()
    streaming.config = streaming.configure("[module user_conversation_membership]\nnull_last_read = all\n")
    config, streaming.config = streaming.config, None
    old = streaming.start()
    streaming.config = config
    refused = streaming.command("rebuild", "user_conversation_membership")
    assert refused.code == 1 and "a daemon is running" in refused.err and "--fresh" in refused.err, refused
    old.daemon.stop()
    before = streaming.read_value("SELECT sum(unread_count) FROM user_conversation_membership")
    result = streaming.command("rebuild", "user_conversation_membership")
    assert result.code == 0 and "now of version" in result.out, result
    assert streaming.read_value("SELECT sum(unread_count) FROM user_conversation_membership") > before
    streaming.daemon.words[1:1] = ["-c", str(config)]
    streaming.start()
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    assert streaming.command("verify").code == 0


def test_a_table_that_is_gone(streaming):
    """Dropped by hand, or of a module that was added later: rebuild creates and fills it while no daemon runs."""
    streaming.daemon.stop()
    streaming.read_query("DROP TABLE conversation_summary")
    streaming.read_query("DROP TABLE user_conversation_membership")
    streaming.read_query("DELETE FROM pgprojector.projection WHERE name = 'user_conversation_membership'")
    result = streaming.command("rebuild", "--all")
    assert result.code == 0 and result.out.count("created and filled") == 2, result
    streaming.start()
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    streaming.assert_same()
    no_traces(streaming)


def test_a_shape_that_changed_is_refused(make_pair, tmp_path):
    modules = Modules(tmp_path, shipped=False)
    modules.titles()
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c', 'group' FROM generate_series(1, 5)")
    pair.start().daemon.stop()
    modules.titles(2, "upper(c.title) AS title")
    result = pair.command("rebuild", "--all")
    assert result.code == 0 and "5 mended" in result.out and "version 2" in result.out, result
    assert pair.read_value("SELECT count(*) FROM titles WHERE title = 'C'") == 5
    modules.titles(3, "c.title, c.type")
    result = pair.command("rebuild", "titles")
    assert result.code == 2 and "the shape has changed" in result.err and "--fresh" in result.err, result
    result = pair.command("rebuild", "titles", "--fresh")
    assert result.code == 0 and pair.read_value("SELECT count(type) FROM titles") == 5, result


def test_usage(streaming):
    for words in (["rebuild"], ["rebuild", "--all", "conversation_summary"], ["rebuild", "conversation_sumary"],
                  ["rebuild", "conversation_summary", "conversation_sumary"], ["rebuild", "--all", "--chunk", "0"]):
        result = streaming.command(*words)
        assert result.code == 2 and result.err, (words, result)
    assert "did you mean conversation_summary" in streaming.command("rebuild", "conversation_sumary").err


@pytest.mark.parametrize("verb", ["rebuild", "pause", "resume", "deadletters"])
def test_help(verb):
    result = command([verb, "--help"])
    assert result.code == 0 and verb in result.out and "Exit codes" in result.out and not result.err
