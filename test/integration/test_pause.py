"""Pause and resume: a paused projection holds nobody back and loses nothing, whatever is killed when."""
import itertools
import random
import re
import signal
import time

import pytest

from harness import oracle
from harness.beside import Statements
from harness.cluster import poll
from harness.history import populate
from harness.scenes import SEED, SEND
from harness.workload import Workload

NAME, OTHER = "conversation_summary", "user_conversation_membership"


def state(pair, name=NAME):
    return pair.read_value("SELECT state FROM pgprojector.projection WHERE name = %s", (name,))


def dirty(pair):
    return pair.read_value("SELECT count(*) FROM pgprojector.dirty_key")


def content(pair, table=NAME):
    return pair.read_query(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")


def resume(pair, name=NAME):
    result = pair.command("resume", name)
    assert result.code == 0, result
    assert state(pair, name) == "live" and dirty(pair) == 0
    assert pair.read_value("SELECT count(*) FROM pgprojector.job") == 0
    return result


def test_a_paused_projection_stands_still_and_holds_nobody_back(streaming):
    assert streaming.command("pause", NAME).code == 0
    again = streaming.command("pause", NAME)
    assert again.code == 0 and "already" in again.out
    before, other = content(streaming), content(streaming, OTHER)
    streaming.write_query("UPDATE user_conversations SET last_read_at = '2001-01-01'")
    streaming.write_query(SEND, (50,))
    streaming.catch_up()
    assert content(streaming) == before and content(streaming, OTHER) != other
    assert streaming.read_value("SELECT count(*) FROM messages WHERE content = 'sent'") == 50
    assert dirty(streaming) > 0
    status = streaming.command("status")
    assert status.code == 0 and "paused since" in status.out and re.search(r"\d+ changes? noted", status.out), status
    (item,) = [p for p in status_json(streaming)["projections"] if p["name"] == NAME]
    assert item["state"] == "paused" and item["dirtyKeys"] == dirty(streaming)
    verified = streaming.command("verify")
    assert verified.code == 0 and f"{NAME}: paused" in verified.out, verified
    refused = streaming.command("rebuild", NAME)
    assert refused.code == 1 and "resume" in refused.err, refused
    resume(streaming)
    assert "already" in streaming.command("resume", NAME).out
    streaming.assert_same("after resume")


def everything(pair):
    """The ids of what says that all of the projection is to be looked at."""
    return [row[0] for row in pair.read_query("SELECT id FROM pgprojector.dirty_key WHERE key IS NULL AND projection = %s", (NAME,))]


def test_everything_is_noted_once_and_the_latest_counts(streaming):
    """A resume drops what was noted before it began to compare: a later batch must not hide behind an earlier entry."""
    assert streaming.command("pause", NAME).code == 0
    last = 0
    for _ in range(3):
        streaming.write_query("TRUNCATE messages")
        streaming.write_query(SEND, (1,))
        streaming.catch_up()
        (noted,) = everything(streaming)
        assert noted > last
        last = noted
    resume(streaming)
    streaming.assert_same("after resume")


def status_json(pair):
    return pair.command("status", "--json").json


def test_a_pause_outlives_the_daemon(streaming):
    streaming.command("pause", OTHER)
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    streaming.daemon.kill()
    streaming.write_query("DELETE FROM user_conversations WHERE user_id IN (SELECT user_id FROM user_conversations LIMIT 3)")
    streaming.start()
    streaming.catch_up()
    assert state(streaming, OTHER) == "paused"
    streaming.daemon.stop()
    resume(streaming, OTHER)  # without a daemon
    streaming.start()
    streaming.assert_same()


def test_a_batch_that_finds_the_catalog_changed_is_not_applied(streaming):
    """Nothing but inserts: all of it is under way before the daemon learns that the checkpoint was not the one it knew."""
    for _ in range(3):
        streaming.read_query("UPDATE pgprojector.checkpoint SET version = version + 1")
        streaming.write_query(SEND, (1,))
        streaming.catch_up()
    streaming.assert_same("after changes of the catalog")


def test_truncate_while_paused(streaming):
    streaming.command("pause", NAME)
    streaming.write_query("TRUNCATE messages")
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    resume(streaming)
    streaming.assert_same()


def test_pause_and_resume_under_load(pair):
    """Again and again, both projections, with the daemon or the resuming command killed in between."""
    rng = random.Random(SEED)
    populate(pair, SEED)
    pair.start()
    workload = Workload(pair, SEED, 3, None).start()
    for turn in range(6):
        name = (NAME, OTHER)[turn % 2]
        assert pair.command("pause", name).code == 0
        target = workload.committed + 30
        poll(lambda t=target: workload.committed >= t, 30, "the writers' progress")
        if rng.random() < 0.5:
            pair.daemon.kill()
            pair.start()
        process = pair.launch("resume", name)
        if rng.random() < 0.6:
            time.sleep(rng.random() * 0.15)  # a random moment, no condition
            process.send_signal(rng.choice((signal.SIGKILL, signal.SIGINT)))
            process.communicate(timeout=10)
            assert state(pair, name) in ("paused", "live")
        else:
            _, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
        result = pair.command("resume", name)
        assert result.code == 0 and state(pair, name) == "live", result
    workload.stop()
    pair.assert_same(f"seed {SEED}, after pauses under load")
    assert dirty(pair) == 0


def test_a_resume_leaves_it_paused_where_it_was_paused_anew(streaming):
    """What the daemon had paused is being resumed, and somebody wants it paused."""
    streaming.read_query(f"INSERT INTO pgprojector.dirty_key (projection) VALUES ('{NAME}'); UPDATE pgprojector.projection"
                         f" SET state = 'paused', reason = 'it failed' WHERE name = '{NAME}';"
                         " UPDATE pgprojector.checkpoint SET version = version + 1")
    brake = streaming.read_connection()
    with brake.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {NAME} IN ACCESS EXCLUSIVE MODE")
        process = streaming.launch("resume", NAME)
        poll(lambda: streaming.read_value("SELECT count(*) FROM pg_locks JOIN pgprojector.job ON kind = 'resume'"
                                          f" WHERE relation = '{NAME}'::regclass AND NOT granted"), 20, "the resume at work")
        paused = streaming.command("pause", NAME)
        assert paused.code == 0 and "it failed" in paused.out, paused
        cursor.execute("ROLLBACK")
    brake.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "paused anew" in err, err
    assert state(streaming) == "paused" and streaming.command("status").code == 0
    resume(streaming)
    streaming.assert_same()


def test_many_dirty_keys_are_caught_up_with_in_rounds(streaming):
    streaming.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c', 'group', now(), now()"
                          " FROM generate_series(1, 4000)")
    streaming.catch_up()
    streaming.command("pause", NAME)
    streaming.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                          " SELECT gen_random_uuid(), id, 1, 'm', now() FROM conversations")
    streaming.catch_up()
    assert dirty(streaming) >= 4000
    assert len(oracle.differences(streaming)) > 0
    result = resume(streaming)
    assert "keys were caught up with" in result.out
    streaming.assert_same()


# Whoever is to remove what was noted, and does not keep the stream from noting, does so when everything has been noted again.
AGAIN = """
    CREATE FUNCTION public.again() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE last bigint := (SELECT max(id) FROM pgprojector.dirty_key WHERE key IS NULL); BEGIN
        IF last IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE relation = 'pgprojector.checkpoint'::regclass
                                            AND pid = pg_catalog.pg_backend_pid()) THEN
            WHILE NOT EXISTS (SELECT FROM pgprojector.dirty_key WHERE key IS NULL AND id > last) LOOP
                PERFORM pg_catalog.pg_sleep(0.001);
            END LOOP;
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER again BEFORE DELETE ON pgprojector.dirty_key EXECUTE FUNCTION public.again()
"""


def test_the_log_of_a_long_pause_does_not_grow_for_ever(streaming):
    pair = streaming
    assert pair.command("pause", "conversation_summary").code == 0
    pair.read_query("INSERT INTO pgprojector.dirty_key (projection, key) SELECT 'conversation_summary',"
                    " ARRAY[md5(i::text)::uuid::text] FROM generate_series(1, 150000) i")
    pair.write_query("UPDATE conversations SET title = title || '!'")
    pair.catch_up()
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") < 10, 40, "the log is short again")
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key WHERE key IS NULL") == 1
    assert pair.command("resume", "conversation_summary").code == 0
    pair.assert_same()


@pytest.mark.parametrize("words", [["resume", "titles"], ["rebuild", "titles", "--fresh"]], ids=["resume", "swap"])
def test_everything_noted_with_each_batch_does_not_keep_it_from_going_live(registering, words):
    pair = registering
    pair.modules.titles(columns="c.title, (SELECT count(*) FROM {users} WHERE display_name > 'm') AS n", sources='{"users",NULL,NULL},')
    assert pair.command("module", "add", "titles").code == 0
    if words[0] == "resume":
        assert pair.command("pause", "titles").code == 0
    pair.read_query(AGAIN)
    numbers = itertools.count()
    # titles, too, lest all rows be right all the time
    with Statements(pair, lambda: f"UPDATE users SET display_name = 'n{next(numbers)}' WHERE id = (SELECT min(id::text)::uuid FROM users);"
                    "UPDATE conversations SET title = title || 'x' WHERE id = (SELECT min(id::text)::uuid FROM conversations)", 0.001):
        result = pair.command(*words)
    assert result.code == 0 and state(pair, "titles") == "live", result
    pair.catch_up()
    assert dirty(pair) == 0
    assert pair.command("verify").code == 0


def test_usage(streaming):
    for words in (["pause"], ["resume"], ["pause", "nothing"], ["resume", "conversation_sumary"], ["pause", NAME, OTHER]):
        result = streaming.command(*words)
        assert result.code == 2 and result.err, (words, result)
