"""Dead letters: a key that cannot be written is parked, all others go on; retried, it is right again."""
import json

import pytest

from harness.cluster import poll
from harness.scenes import SEED
from harness.workload import Workload

NAME = "conversation_summary"
SECRET = "a title that nobody may see in a log"


def identifiers(pair, count=3):
    return [row[0] for row in pair.write_query("SELECT id::text FROM conversations ORDER BY id LIMIT %s", (count,))]


def send(pair, conversation, count=1):
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), %s, i, 'm', now() FROM generate_series(1, %s) i", (conversation, count))


def count(pair):
    return pair.read_value("SELECT count(*) FROM pgprojector.dead_letter")


def letters(pair, *more):
    result = pair.command("deadletters", "list", "--json", *more)
    assert result.code == (6 if result.json["count"] else 0), result
    return result.json["deadLetters"]


@pytest.fixture
def poisoned(streaming):
    """A constraint that one conversation cannot meet."""
    streaming.ids = identifiers(streaming)
    streaming.write_query("UPDATE conversations SET title = %s WHERE id = %s", (SECRET, streaming.ids[0]))
    streaming.catch_up()
    streaming.read_query(f"ALTER TABLE {NAME} ADD CONSTRAINT poison CHECK (message_count < 1000 OR id <> '{streaming.ids[0]}')")
    send(streaming, streaming.ids[0], 1000)
    streaming.catch_up()
    return streaming


def test_a_poison_key_is_parked_and_the_others_go_on(poisoned):
    first, second, _ = poisoned.ids
    assert count(poisoned) == 1
    before = poisoned.read_query(f"SELECT message_count FROM {NAME} WHERE id = %s", (first,))
    send(poisoned, first, 3)
    send(poisoned, second, 3)
    poisoned.catch_up()
    assert poisoned.read_query(f"SELECT message_count FROM {NAME} WHERE id = %s", (first,)) == before
    wanted = poisoned.write_query("SELECT count(*) FROM messages WHERE conversation_id = %s AND deleted_at IS NULL", (second,))
    assert poisoned.read_query(f"SELECT message_count FROM {NAME} WHERE id = %s", (second,)) == wanted
    (letter,) = letters(poisoned)
    assert letter["key"] == first and letter["projection"] == NAME and letter["sqlstate"] == "23514"
    assert "poison" in letter["message"] and letter["attempts"] >= 1 and letter["nextTryAt"]
    assert letters(poisoned, "--sqlstate", "23505") == [] and letters(poisoned, "--key", second) == []
    shown = poisoned.command("deadletters", "show", NAME)
    assert shown.code == 6 and first in shown.out and "SQLSTATE 23514" in shown.out and "attempts" in shown.out, shown
    status = poisoned.command("status")
    assert status.code == 6 and "1 DEAD LETTER (" in status.out, status
    examined = poisoned.command("doctor").out
    assert "keys that could not be written: 1" in examined and "deadletters retry --all" in examined, examined
    assert SECRET not in json.dumps(letter) + shown.out + poisoned.daemon.tail(100000)
    verified = poisoned.command("verify", NAME)
    assert verified.code in (0, 6) and "no difference" in verified.out, verified


def test_values_in_a_servers_message_stay_out_of_log_and_catalog(streaming):
    """What a cast or a function of one's own says of a row it cannot take."""
    pair = streaming
    first = identifiers(pair, 1)[0]
    pair.read_query(f"CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.title LIKE 'a title%%'"
                    f" THEN PERFORM NEW.title::uuid; END IF; RETURN NEW; END $$; CREATE TRIGGER picky BEFORE UPDATE ON {NAME}"
                    " FOR EACH ROW EXECUTE FUNCTION picky()")
    pair.write_query("UPDATE conversations SET title = %s WHERE id = %s", (SECRET, first))
    pair.catch_up()
    (letter,) = letters(pair)
    assert letter["key"] == first and letter["sqlstate"] == "22P02" and "invalid input syntax for type uuid" in letter["message"]
    log = pair.daemon.tail(100000)
    assert "1 key parked: " in log and "invalid input syntax for type uuid" in log
    assert SECRET not in json.dumps(letter) + pair.command("deadletters", "show", NAME).out + log


NOTICE = """CREATE FUNCTION chatter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s
    RAISE NOTICE 'row is now %%', NEW; RAISE LOG 'row is now %%', NEW; RETURN NEW; END $$;
CREATE TRIGGER chatter BEFORE UPDATE ON conversation_summary FOR EACH ROW EXECUTE FUNCTION chatter()"""


@pytest.mark.parametrize("insists", ["", "PERFORM set_config('client_min_messages', 'log', true);"])
def test_what_a_trigger_remarks_stays_out_of_the_log(streaming, insists):
    streaming.read_query(NOTICE % insists)
    streaming.write_query("UPDATE conversations SET title = 'canary-7f3a'")
    streaming.assert_same()
    result = streaming.command("rebuild", "conversation_summary")
    assert result.code == 0 and "row is" not in result.err, result
    log = streaming.daemon.log.read_text()
    assert "canary-7f3a" not in log and "row is" not in log


def test_retry_heals(poisoned):
    failed = poisoned.command("deadletters", "retry", NAME)
    assert failed.code == 6 and "0 healed, 1 failed again" in failed.out, failed
    assert letters(poisoned)[0]["attempts"] >= 2
    poisoned.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    send(poisoned, poisoned.ids[0], 2)
    healed = poisoned.command("deadletters", "retry", "--all")
    assert healed.code == 0 and "1 healed" in healed.out and count(poisoned) == 0, healed
    assert letters(poisoned) == []
    send(poisoned, poisoned.ids[0], 2)
    poisoned.assert_same("after the retry")
    assert poisoned.command("status").code == 0


def test_the_daemon_retries_by_itself(poisoned):
    poisoned.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    poisoned.read_query("UPDATE pgprojector.dead_letter SET next_try_at = now()")
    poll(lambda: count(poisoned) == 0, 25, "the healing")
    send(poisoned, poisoned.ids[0], 2)
    poisoned.assert_same("after the automatic retry")


def test_attempts_are_limited(poisoned):
    poisoned.read_query("UPDATE pgprojector.dead_letter SET attempts = 9")
    poisoned.command("deadletters", "retry", "--key", poisoned.ids[0])
    (letter,) = letters(poisoned)
    assert letter["attempts"] == 10 and letter["nextTryAt"] is None
    assert "by hand only" in poisoned.command("deadletters", "list").out


def test_discard_forgets_and_rebuild_mends(poisoned):
    usage = poisoned.command("deadletters", "discard")
    assert usage.code == 2 and count(poisoned) == 1
    result = poisoned.command("deadletters", "discard", NAME, "--key", poisoned.ids[0])
    assert result.code == 0 and "1 discarded" in result.out and "rebuild" in result.err, result
    assert letters(poisoned) == [] and poisoned.command("verify", NAME).code == 5
    rebuilt = poisoned.command("rebuild", NAME)
    assert rebuilt.code == 6 and "1 key is a dead letter" in rebuilt.out, rebuilt
    poisoned.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    rebuilt = poisoned.command("rebuild", NAME)
    assert rebuilt.code == 0 and count(poisoned) == 0, rebuilt
    poisoned.assert_same("after the rebuild")


def test_a_key_of_several_rows_fails_once(streaming):
    """All memberships of one conversation cannot be written: one key, one attempt."""
    conversation = streaming.write_value(
        "SELECT conversation_id::text FROM user_conversations GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1")
    streaming.read_query("DELETE FROM user_conversation_membership WHERE conversation_id = %s", (conversation,))
    streaming.read_query(f"ALTER TABLE user_conversation_membership ADD CONSTRAINT poison CHECK (conversation_id <> '{conversation}') NOT VALID")
    result = streaming.command("rebuild", "user_conversation_membership", "--no-verify")
    assert result.code == 6, result
    assert [letter["attempts"] for letter in letters(streaming)] == [1]


def test_resume_parks_what_it_cannot_write(poisoned):
    poisoned.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    assert poisoned.command("deadletters", "retry", "--all").code == 0
    assert poisoned.command("pause", NAME).code == 0
    for conversation in poisoned.ids:
        send(poisoned, conversation, 2000)
    poisoned.catch_up()
    poisoned.read_query(f"ALTER TABLE {NAME} ADD CONSTRAINT poison CHECK (message_count < 1500) NOT VALID")
    result = poisoned.command("resume", NAME)
    assert result.code == 6 and "3 keys could not be written" in result.out, result
    assert count(poisoned) == 3
    poisoned.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    assert poisoned.command("deadletters", "retry", NAME).code == 0
    poisoned.assert_same()


def test_dead_letters_under_load(streaming):
    """Rows of many keys fail and heal while writers go on."""
    workload = Workload(streaming, SEED, 3, 80).start()
    for _ in range(2):
        streaming.read_query(f"ALTER TABLE {NAME} ADD CONSTRAINT poison CHECK (message_count < 5) NOT VALID")
        target = workload.committed + 40
        poll(lambda t=target: workload.committed >= t or workload.finished(), 30, "the writers' progress")
        streaming.command("deadletters", "retry", "--all")
        streaming.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
        streaming.command("deadletters", "retry", "--all")
    workload.join()
    streaming.catch_up()
    # a TRUNCATE concerns every key: where it met the constraint, the projection was paused as a whole
    assert streaming.command("resume", NAME).code == 0
    result = streaming.command("deadletters", "retry", "--all")
    assert result.code == 0 and count(streaming) == 0, result
    streaming.assert_same(f"seed {SEED}")


def test_usage(streaming):
    for words in (["list"], ["show"], ["retry"], ["discard"]):
        result = streaming.command("deadletters", *words, "nosuch")
        assert result.code == 2 and "no projection" in result.err, result
    for words in (["deadletters"], ["deadletters", "lst"], ["deadletters", "retry"], ["deadletters", "list", NAME, "more"]):
        result = streaming.command(*words)
        assert result.code == 2 and result.err, (words, result)
