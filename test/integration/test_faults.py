"""Faults that need a particular order of things: large transactions under care, splits, a backlog, columns that come back."""
import pathlib
import signal
import subprocess
import tempfile

import pytest

from harness.cluster import PG_BIN, poll
from harness.history import populate
from harness.pair import Pair
from harness.scenes import SEED, SEND
from harness.schema import Flavour
from harness.workload import Workload

TARGET = "SELECT s::text FROM conversation_summary s ORDER BY id"


@pytest.fixture
def tiny(make_pair):
    """Batches so small that a few thousand rows are several parts."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    return pair


def test_a_key_that_fails_in_a_late_part_keeps_its_last_good_row(tiny):
    """What earlier parts of the transaction would have made of it never was, and is never shown."""
    tiny.read_query("ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count < 3000)")
    before = tiny.read_query(TARGET)
    tiny.write_query(SEND, (6000,))
    tiny.catch_up()
    assert tiny.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 1
    assert tiny.read_query(TARGET) == before
    tiny.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    assert tiny.command("deadletters", "retry", "--all").code == 0
    tiny.assert_same("after the retry")


def test_a_projection_paused_in_a_late_part_stays_as_it_was(tiny):
    """TRUNCATE makes everything dirty; when that cannot be written, the projection is paused as a whole."""
    tiny.read_query("ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count < 3000)")
    before = tiny.read_query(TARGET)
    tiny.write_query(f"BEGIN; {SEND}; TRUNCATE messages; {SEND}; DELETE FROM messages WHERE random() < 0.3; COMMIT", (5000, 8000))
    tiny.catch_up()
    assert tiny.read_value("SELECT state FROM pgprojector.projection WHERE name = 'conversation_summary'") == "paused"
    assert tiny.read_query(TARGET) == before
    status = tiny.command("status")
    assert status.code == 4 and "because: " in status.out and "poison" in status.out, status
    tiny.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    assert tiny.command("resume", "conversation_summary").code == 0
    assert "because: " not in tiny.command("status").out
    tiny.assert_same("after resume")


def test_what_one_part_adds_and_the_next_removes(streaming):
    """A TRUNCATE of another table splits the transaction; the newest message comes before it and goes behind it."""
    streaming.write_query(
        "BEGIN; INSERT INTO users VALUES (gen_random_uuid(), 'u');"
        " INSERT INTO messages (id, conversation_id, sequence_number, created_at)"
        " SELECT gen_random_uuid(), id, 100000, now() + interval '100 years' FROM conversations; TRUNCATE users;"
        " DELETE FROM messages WHERE sequence_number = 100000; COMMIT")
    streaming.assert_same()


def test_a_long_backlog_in_large_batches(streaming):
    """Thousands of transactions in a few batches, TRUNCATE among them: what small batches never combine."""
    streaming.daemon.signal(signal.SIGSTOP)
    Workload(streaming, 100, writers=1, transactions=1500).start().join()
    streaming.daemon.signal(signal.SIGCONT)
    streaming.assert_same()


AGAIN = "ALTER TABLE messages DROP COLUMN deleted_at; ALTER TABLE messages ADD COLUMN deleted_at timestamptz DEFAULT now()"


def test_a_column_dropped_and_added_again(streaming):
    """The same name and type, other values, none of them in the stream."""
    streaming.write_query(AGAIN)
    state = streaming.daemon.await_state("halted", timeout=20)
    assert "deleted_at was dropped and added again" in state[1] and "resync" in state[2], state


def test_a_column_dropped_and_added_again_while_nobody_looks(streaming):
    streaming.daemon.stop()
    streaming.write_query(AGAIN)
    streaming.daemon.start()
    poll(lambda: not streaming.daemon.running or "halted" in streaming.daemon.since_start(), 30, "the daemon's refusal")
    assert "deleted_at of the source was dropped and added again" in streaming.daemon.since_start()


# ------------------------------------------------------------------------------------------------ logical messages

def emit(pair, prefix, *contents):
    """Logical messages as an outbox writes them, within a transaction and outside of one."""
    for content in contents:
        for transactional in (False, True):
            pair.write_query("SELECT pg_logical_emit_message(%s, %s, %s)", (transactional, prefix, content))
    pair.write_query(SEND, (3,))


@pytest.mark.parametrize("prefix", ["outbox", "pgprojector"])
def test_logical_messages_may_hold_any_bytes(streaming, prefix):
    emit(streaming, prefix, b"\xc3", b'\x00\xff"\xfe', "text")
    streaming.assert_same()


@pytest.fixture
def older_plugin(own_clusters):
    """A server whose wal2json does not know the option that leaves messages out."""
    libraries = subprocess.run([PG_BIN / "pg_config", "--pkglibdir"], stdout=subprocess.PIPE, text=True, check=True)
    plugin = (pathlib.Path(libraries.stdout.strip()) / "wal2json.so").read_bytes()
    assert b"add-msg-prefixes" in plugin
    with tempfile.TemporaryDirectory() as directory:  # not where the servers' files are: nothing may be executed there
        pathlib.Path(directory).chmod(0o755)
        (pathlib.Path(directory) / "wal2json.so").write_bytes(plugin.replace(b"add-msg-prefixes", b"xxx-msg-prefixes"))
        yield own_clusters(dynamic_library_path=directory)


def test_a_plugin_that_cannot_leave_messages_out(older_plugin, read_cluster):
    with Pair(older_plugin, read_cluster, "older_plugin") as pair:
        populate(pair, SEED)
        pair.start()
        emit(pair, "outbox", b"\xc3", "text")
        pair.assert_same()
        assert 'is unknown' in older_plugin.log.read_text()
