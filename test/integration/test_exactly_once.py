"""Two daemons, frozen daemons, outcomes that are not known, positions: each brought to where it would count twice or lose.

Gaps, at which the daemon must halt, are in test_gaps.py.
"""
import contextlib
import signal
import time

import psycopg2
import pytest

from harness.beside import Statements
from harness.cluster import poll
from harness.daemon import Daemon
from harness.pair import Sampler, lsn
from harness.scenes import SEED, SEND, contents
from harness.workload import Workload


def second_daemon(pair):
    return Daemon(pair, pair.config, log=pair.scratch.path / f"{pair.name}.second.log")


# ---------------------------------------------------------------------------------------------------- two daemons

def test_of_two_daemons_one_works_and_one_waits(streaming):
    pair = streaming
    other = second_daemon(pair).start()
    try:
        poll(lambda: "pid" in other.tail(), what="the second one's word on who works")
        pair.write_query(SEND, (10,))
        pair.assert_same("with two daemons")
        assert pair.daemon.running and other.running and len(pair.slots()) == 1
        pair.daemon.kill()
        pair.daemon, other = other, pair.daemon
        pair.daemon.streaming()
        pair.write_query(SEND, (10,))
        pair.assert_same("after the first one's death")
    finally:
        other.stop()


def test_a_frozen_daemon_changes_nothing_when_it_thaws(streaming):
    """Its sessions are ended while it stands still, as a network would that gave up on it; another takes over."""
    pair = streaming
    frozen = pair.daemon
    frozen.signal(signal.SIGSTOP)
    pair.read_query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                    (pair.name,))
    pair.write_query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid > 0"
                     " AND database = %s", (pair.name,))
    pair.write_query(SEND, (1000,))  # not before: a walsender that cannot send to the frozen one does not end either
    pair.daemon = second_daemon(pair).start()
    pair.daemon.streaming()
    pair.assert_same("after the take-over")
    before = contents(pair)
    frozen.signal(signal.SIGCONT)
    poll(lambda: not frozen.running or "pid" in frozen.tail(400), what="the thawed daemon's end or stand-by")
    assert contents(pair) == before
    with Sampler(pair):
        pair.write_query(SEND, (10,))
        pair.assert_same("beside the thawed daemon")
    frozen.stop()
    assert pair.daemon.row()[0] == "streaming"


def test_a_frozen_daemon_under_load(streaming):
    """Freezing and thawing alone, at random moments, is no fault at all."""
    pair = streaming
    workload = Workload(pair, SEED, writers=2, pace=0.002).start()
    with Sampler(pair):
        for _ in range(10):
            time.sleep(0.05)
            pair.daemon.signal(signal.SIGSTOP)
            time.sleep(0.05)
            pair.daemon.signal(signal.SIGCONT)
        workload.stop()
        pair.assert_same()


# ---------------------------------------------------------------------------------- outcomes that are not known

def test_backends_ended_at_random(streaming):
    """A COMMIT whose answer is lost is read back under a lock; what it did is not done again."""
    pair = streaming
    workload = Workload(pair, SEED, writers=2, pace=0.001).start()
    with Sampler(pair):
        for number in range(20):
            server = pair.read_query if number % 2 else pair.write_query
            server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                   " AND application_name LIKE 'pgprojector%%'", (pair.name,))
            time.sleep(0.1)
            if number % 5 == 4:
                pair.daemon.streaming()
        workload.stop()
        pair.assert_same("after the lost sessions")


def test_ended_while_it_commits(streaming):
    """A slow deferred trigger holds COMMIT open; the backend is ended in its midst, again and again."""
    pair = streaming
    pair.read_query("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;"
                    " CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON pgprojector.checkpoint DEFERRABLE INITIALLY DEFERRED"
                    " FOR EACH ROW EXECUTE FUNCTION slow()")
    end = ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND state = 'active'"
           " AND application_name LIKE 'pgprojector%%' AND pid <> pg_backend_pid()")
    with Sampler(pair):
        for turn in range(15):
            pair.write_query(SEND, (3,))
            if turn == 0:  # not just at some moment
                poll(lambda: pair.read_query(end + " AND wait_event = 'PgSleep'", (pair.name,)), what="a COMMIT", interval=0.001)
            time.sleep(0.03)
            pair.read_query(end, (pair.name,))
        pair.read_query("DROP TRIGGER slow ON pgprojector.checkpoint")
        pair.assert_same("after the lost commits", timeout=60)


def test_a_deferred_constraint_that_fails_does_not_lose_the_batch(streaming):
    """It fails at COMMIT unless asked before. Whatever the daemon makes of it: nothing may be confirmed or skipped."""
    pair = streaming
    pair.read_query("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
                    " CREATE CONSTRAINT TRIGGER no AFTER INSERT ON public.messages DEFERRABLE INITIALLY DEFERRED"
                    " FOR EACH ROW EXECUTE FUNCTION no()")
    with Sampler(pair):
        before = pair.read_value("SELECT count(*) FROM messages")
        pair.write_query(SEND, (3,))
        pair.daemon.await_state("halted", "waiting")
        assert pair.read_value("SELECT count(*) FROM messages") == before
        pair.read_query("DROP TRIGGER no ON public.messages")
        pair.daemon.stop()
        pair.start()
        pair.assert_same("after the constraint was dropped")


# ------------------------------------------------------------------------------------------- positions and waiting

def test_the_witness_is_kept(streaming):
    """The checkpoint names the last transaction applied; a restart finds it among those sent again."""
    pair = streaming
    for _ in range(5):
        pair.write_query(SEND, (3,))
        pair.catch_up()
        pair.daemon.kill()
        xid, at = pair.read_query("SELECT witness_xid, witness_lsn::text FROM pgprojector.checkpoint")[0]
        assert xid and lsn(at) <= pair.applied()
        pair.start()
    pair.assert_same()


def test_an_idle_slot_moves_on(streaming):
    """WAL that concerns no mirrored table is confirmed all the same, within a second or so."""
    pair = streaming
    with Sampler(pair):
        pair.write_query("CREATE TABLE of_no_concern AS SELECT i, repeat('x', 500) FROM generate_series(1, 40000) i")
        target = pair.written()
        (slot,) = pair.slots()
        poll(lambda: lsn(pair.write_value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
                                          " WHERE slot_name = %s", (slot,))) >= target - (32 << 20),
             timeout=15, what="the slot's advance")
        pair.catch_up(15)


def test_idle_checkpoints_do_not_call_forth_each_other(make_pair, write_cluster):
    """Both databases in one cluster: a checkpoint is WAL, WAL is a keepalive, a keepalive is a checkpoint …"""
    pair = make_pair()
    name = f"{pair.name}_read"
    write_cluster.create_database(name)
    pair.read_url = write_cluster.url(name)

    def commits():
        """Of those that have written. A session tells statistics when it likes; the next number is known at once."""
        return write_cluster.value(name, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    try:
        pair.daemon.start()
        poll(lambda: write_cluster.value(name, "SELECT to_regclass('pgprojector.daemon') IS NOT NULL"), what="the catalog")
        poll(lambda: "streaming from slot" in pair.daemon.since_start(), 60, "streaming")
        time.sleep(3)
        before, began = commits(), time.monotonic()
        time.sleep(4)
        made, seconds = commits() - before, time.monotonic() - began
        assert 0 < made < 5 * seconds, f"{made} commits in {seconds} s"
    finally:
        pair.daemon.stop()
        write_cluster.drop_database(name)


def test_wait_for_is_answered_at_once(streaming):
    """Taken from a write database that is at rest: within a second (mostly: the machine may be busy); behind a commit: as soon as
    that is there."""
    pair = streaming
    waited = []
    for _ in range(5):
        at = pair.write_value("SELECT pg_current_wal_insert_lsn()::text")
        started = time.monotonic()
        assert pair.read_value("SELECT pgprojector.wait_for(%s, '20 s')", (at,))
        waited.append(time.monotonic() - started)
    assert sorted(waited)[2] < 1.5, waited
    for number in range(20):
        pair.write_query("UPDATE conversations SET title = %s", (f"title {number}",))
        at = pair.write_value("SELECT pg_current_wal_insert_lsn()::text")
        assert pair.read_value("SELECT pgprojector.wait_for(%s, '20 s')", (at,))
        assert pair.read_value("SELECT bool_and(title = %s) FROM conversation_summary", (f"title {number}",))


def test_wait_for_times_out_and_refuses(streaming):
    pair = streaming
    pair.daemon.kill()
    assert pair.read_value("SELECT pgprojector.wait_for('FFFF/0', '50 ms')") is False
    for null in ("NULL, '1 s'", "'FFFF/0', NULL"):
        with pytest.raises(psycopg2.Error, match="is NULL"):
            pair.read_query(f"SET statement_timeout = '5 s'; SELECT pgprojector.wait_for({null})")
    with pytest.raises(psycopg2.Error, match="READ COMMITTED"):
        pair.read_query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pgprojector.wait_for('0/1', '1 s')")


def test_every_commit_on_the_read_side_is_a_state_of_the_write_side(streaming):
    """A transaction that moves a message between conversations keeps the sum; a reader must never see it broken."""
    pair = streaming
    pair.write_query("DELETE FROM messages; DELETE FROM conversations;"
                     " INSERT INTO conversations (id, title) SELECT md5(i::text)::uuid, i FROM generate_series(1, 5) i;"
                     " INSERT INTO messages (id, conversation_id, created_at)"
                     " SELECT md5('m' || i)::uuid, md5((1 + i % 5)::text)::uuid, now() FROM generate_series(1, 50) i")
    pair.catch_up()
    move = "UPDATE messages SET conversation_id = md5((1 + floor(random() * 5))::text)::uuid WHERE random() < 0.3"
    conn = pair.read_connection()
    with Statements(pair, lambda: move), contextlib.closing(conn), conn.cursor() as cursor:
        for _ in range(200):
            cursor.execute("SELECT (SELECT sum(message_count) FROM conversation_summary), count(*) FROM messages")
            assert cursor.fetchone() == (50, 50)
    pair.assert_same()
