"""What the source's schema may do under a running daemon, and over a restart."""
import pytest

from harness.cluster import poll
from harness.scenes import SEND

DAYS = """CREATE TABLE days (id integer, day integer, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)"""



def test_a_column_added_to_a_source_is_ignored_over_restarts(streaming):
    streaming.write_query("ALTER TABLE users ADD COLUMN later integer DEFAULT 5")
    streaming.write_query("ALTER TABLE messages ADD COLUMN later text DEFAULT 'x'")
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    assert streaming.daemon.stop() == 0
    streaming.write_query(SEND, (6,))
    streaming.start()
    streaming.catch_up()
    count = streaming.write_value("SELECT count(*) FROM messages")
    assert streaming.read_value("SELECT count(*) FROM public.messages") == count
    verified = streaming.command("verify", "conversation_summary", "user_conversation_membership")
    assert verified.code == 0, verified
    verified = streaming.command("verify")
    assert verified.code == 0, verified
    doctor = streaming.command("doctor")
    assert "later" in doctor.out, doctor


def test_a_needed_column_that_goes_halts_and_is_named(streaming):
    streaming.write_query("ALTER TABLE messages RENAME COLUMN content TO body")
    streaming.write_query("INSERT INTO messages (id, conversation_id, sender_id, sequence_number, created_at)"
                          " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, now()")
    row = streaming.daemon.await_state("halted")
    assert "content" in str(row)
    streaming.write_query("ALTER TABLE messages RENAME COLUMN body TO content")
    streaming.daemon.stop()
    resynced = streaming.command("resync")
    assert resynced.code == 0, resynced
    streaming.start()
    streaming.assert_same("after the column has its name back")


@pytest.fixture
def partitioned(make_pair):
    """A source that is partitioned by day, and a partition made after the first start, with a row."""
    pair = make_pair(config="[mirrors]\ntables = public.days\n")
    pair.write_query(DAYS)
    pair.start()
    pair.write_query("CREATE TABLE days_2 PARTITION OF days FOR VALUES IN (2)")
    pair.write_query("INSERT INTO days VALUES (1, 1), (2, 2)")
    pair.catch_up()
    assert pair.read_value("SELECT count(*) FROM public.days") == 2
    return pair


def test_a_late_partition_that_is_dropped_halts_and_is_named(partitioned):
    partitioned.write_query("DROP TABLE days_2")
    state, message, hint = partitioned.daemon.await_state("halted", timeout=30)
    assert "days" in message and "resync" in hint
    partitioned.daemon.stop()
    assert partitioned.command("resync").code == 0
    partitioned.start()
    partitioned.catch_up()
    assert partitioned.read_query("SELECT id FROM public.days") == [(1,)]


def test_a_late_partition_that_is_dropped_while_nobody_looks(partitioned):
    partitioned.daemon.stop()
    partitioned.write_query("DROP TABLE days_2")
    partitioned.daemon.start()
    poll(lambda: not partitioned.daemon.running or "halted: " in partitioned.daemon.since_start(), 30, "the refusal")
    assert "resync" in partitioned.daemon.since_start()
