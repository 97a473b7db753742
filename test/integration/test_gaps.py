"""Gaps in the stream that cannot be ruled out: the daemon halts, names the remedy, and changes nothing.

Invariant 7 of the design. Each case ends with what the read side showed before still there.
"""
import pytest

from harness.cluster import poll
from harness.history import populate
from harness.pair import Pair, lsn
from harness.scenes import SEED, SEND, contents
from harness.schema import Flavour

PLAIN = Flavour(odd=False)


def assert_halts(pair, *words):
    """The daemon halts, says why and what to do, and nothing is written from then on."""
    state, message, hint = pair.daemon.await_state("halted", timeout=30)
    text = f"{message} {hint}".lower()
    assert "resync" in hint.lower() or "resync" in message.lower(), f"no remedy named: {message} / {hint}"
    for word in words:
        assert word.lower() in text, f"{word!r} is not in: {message} / {hint}"
    return state


def assert_refuses(pair):
    """Halts, or ends with 1 where it shows before anything runs; in both cases the remedy is named."""
    poll(lambda: not pair.daemon.running or "halted: " in pair.daemon.since_start(), 30, "the daemon's refusal")
    assert pair.daemon.running or pair.daemon.process.returncode == 1, pair.daemon.tail()
    assert "resync" in pair.daemon.since_start(), pair.daemon.tail()


def test_a_dropped_slot(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = pair.drop_slot()
    pair.write_query(SEND, (10,))
    before = contents(pair)
    pair.daemon.start()
    assert_halts(pair, slot)
    assert pair.slots() == [], "a slot was silently made anew beside a checkpoint"
    assert contents(pair) == before
    assert pair.command("status").code == 4


def test_a_slot_dropped_and_made_again(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = pair.drop_slot()
    pair.write_query(SEND, (10,))
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (slot,))
    pair.write_query(SEND, (10,))
    before = pair.applied()
    pair.daemon.start()
    assert_halts(pair, slot)
    assert pair.applied() == before


def test_a_slot_advanced_by_hand(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = pair.idle_slot()
    pair.write_query(SEND, (10,))
    pair.write_query("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (slot,))
    pair.write_query(SEND, (10,))
    before = pair.applied()
    pair.daemon.start()
    assert_halts(pair, slot)
    assert pair.applied() == before


def test_a_slot_of_another_plugin(streaming):
    pair = streaming
    pair.daemon.stop()
    slot = pair.drop_slot()
    pair.write_query("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (slot,))
    pair.daemon.start()
    assert_halts(pair, "test_decoding")


def test_a_slot_dropped_while_it_streams(streaming):
    pair = streaming
    slot = pair.drop_slot()
    assert_halts(pair, slot)
    assert pair.slots() == []


def test_another_server_in_the_place_of_the_write_database(streaming, own_clusters):
    """Of another system identifier, with the same tables, and a slot of the same name."""
    pair = streaming
    pair.daemon.stop()
    (slot,) = pair.slots()
    other = own_clusters(fresh=True)
    other.create_database(pair.name)
    other.query(pair.name, PLAIN.ddl())
    other.query(pair.name, "SELECT pg_create_logical_replication_slot(%s, 'wal2json')", (slot,))
    before = pair.applied()
    pair.write_url = other.url(pair.name)
    pair.daemon.start()
    assert_refuses(pair)
    assert pair.applied() == before


def restored(pair, image, more):
    """Puts the write server's image back and, for `more`, writes on until its WAL is ahead of the checkpoint again."""
    pair.put_back(pair.write, image)
    pair.write.start()
    if more:
        before = pair.applied()
        while pair.written() <= before + (1 << 20):
            pair.write_query(SEND, (1000,))


@pytest.mark.parametrize("ahead", [False, True], ids=["behind", "written on until ahead"])
def test_the_write_server_restored_from_an_older_image(own_clusters, ahead):
    """Its identifier, timeline and slot are right; only its history is another one."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "restored", PLAIN) as pair:
        populate(pair, SEED)
        pair.start()
        image = pair.image_of(write)
        pair.write_query(SEND, (500,))
        pair.catch_up()
        before = pair.read_value("SELECT count(*) FROM messages")
        restored(pair, image, ahead)
        pair.daemon.start()
        assert_halts(pair)
        assert pair.read_value("SELECT count(*) FROM messages") == before


def test_the_read_server_restored_from_an_older_image(own_clusters):
    """What it has lost, the slot has confirmed: that cannot be had again from the stream."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "older", PLAIN) as pair:
        populate(pair, SEED)
        pair.start()
        image = pair.image_of(read)
        checkpoint = pair.applied()
        for _ in range(3):
            pair.write_query(SEND, (500,))
            pair.catch_up()
        poll(lambda: lsn(pair.write_value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")) > checkpoint,
             what="the slot's confirmation")
        pair.put_back(read, image)
        read.start()
        pair.daemon.start()
        assert_halts(pair)


def test_a_halted_daemon_keeps_the_lock(streaming):
    """Also where the session that has it is lost, as when the server is restarted."""
    pair = streaming
    pair.drop_slot()
    pair.daemon.await_state("halted", timeout=30)
    holder = ("SELECT min(pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
              " WHERE l.locktype = 'advisory' AND a.application_name = 'pgprojector halted'")
    first = poll(lambda: pair.read_value(holder), 20, "the halted daemon's lock")
    pair.read_query("SELECT pg_terminate_backend(%s)", (first,))
    poll(lambda: pair.read_value(holder) not in (None, first), 20, "its lock once more")
    refused = pair.command("resync")
    assert refused.code == 1 and "another daemon" in refused.err, refused
    assert pair.daemon.stop() == 0
    assert pair.command("resync").code == 0
    pair.start()
    pair.assert_same("after the resync")
