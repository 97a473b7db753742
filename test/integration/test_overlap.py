"""Receiving goes on while a batch is being applied, up to the bound and no further.

Apply is held up by a lock on the read side, so nothing depends on how fast either half is.
"""
import contextlib

import pytest

from harness.cluster import poll
from harness.history import populate
from harness.pair import lsn
from harness.scenes import SEED, SEND
from harness.schema import Flavour

BATCH_BYTES = 65536  # the least there is


@pytest.fixture
def tiny(make_pair):
    pair = make_pair(Flavour(odd=False, batch_bytes=BATCH_BYTES))
    populate(pair, SEED)
    pair.start()
    pair.write_query(SEND, (1,))  # past the checkpoint: what follows is known to be new before its end is seen
    pair.catch_up()
    return pair


@contextlib.contextmanager
def apply_held_up(pair):
    """A batch with messages is begun, and cannot be written."""
    conn = pair.read_connection()
    with contextlib.closing(conn), conn.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE public.messages IN ACCESS EXCLUSIVE MODE")
        pair.write_query(SEND, (1,))
        poll(lambda: held_up(pair), 20, "the applying session at the lock")
        yield
        assert held_up(pair), "the daemon has given up"


def held_up(pair):
    """The applying session waits for the table, in a transaction that has written: its row is the checkpoint's, locked.

    Whoever else may wait there says nothing of a batch: a keepalive could still move the checkpoint before it.
    """
    return pair.read_value("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                           " WHERE l.relation = 'public.messages'::regclass AND NOT l.granted"
                           " AND a.application_name = 'pgprojector apply' AND a.backend_xid IS NOT NULL")


def scene(pair):
    """What is to be known where the checkpoint has moved all the same."""
    rows = pair.read_query("SELECT pid, application_name, backend_type, state, backend_xid, xact_start, pg_blocking_pids(pid),"
                           " left(query, 80) FROM pg_stat_activity WHERE datname = current_database()")
    return "\n".join(map(str, rows)) + f"\nlog: {pair.daemon.tail()}"


def figure(pair, name):
    """What the daemon says of itself, once a second."""
    return pair.read_value("SELECT figures->>%s FROM pgprojector.daemon", (name,))


def received(pair):
    return lsn(figure(pair, "received")) or 0


def buffered(pair):
    return int(figure(pair, "buffered_bytes"))


def test_transactions_are_received_while_one_is_applied(tiny):
    """One after the other: each is there though the one before is not applied."""
    with apply_held_up(tiny):
        before = tiny.applied()
        for _ in range(2):
            tiny.write_query(SEND, (1,))
            end = tiny.written()
            poll(lambda e=end: received(tiny) >= e, 20, "the transaction's arrival")
        assert tiny.applied() == before, scene(tiny)
    tiny.assert_same("after the lock")


def test_the_rest_of_a_transaction_is_received_while_a_part_of_it_is_applied(tiny):
    """Larger than a batch: what has begun to be written is one part, and the batch beside it is filled."""
    conn = tiny.read_connection()
    with contextlib.closing(conn), conn.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE public.messages IN ACCESS EXCLUSIVE MODE")
        begin = tiny.written()
        tiny.write_query(SEND, (3000,))
        end = tiny.written()
        poll(lambda: held_up(tiny), 20, "the applying session at the lock")
        before = tiny.applied()  # not sooner: while the server reads the transaction its keepalives still move it
        poll(lambda: held_up(tiny) and buffered(tiny) >= BATCH_BYTES, 20, "a full batch beside the part")
        assert begin <= received(tiny) < end and buffered(tiny) < 2 * BATCH_BYTES
        assert tiny.applied() == before, scene(tiny)
    tiny.assert_same("after the lock")


def test_no_more_is_received_than_there_is_room_for(tiny):
    """Some eight of these fill a batch. One is made ready, another one collects, and the rest stays with the server."""
    with apply_held_up(tiny):
        ends = []
        for _ in range(40):
            tiny.write_query(SEND, (30,))
            ends.append(tiny.written())
        poll(lambda: received(tiny) >= ends[11] and buffered(tiny) >= BATCH_BYTES, 20, "a full batch behind another")
        assert received(tiny) < ends[23] and buffered(tiny) < 2 * BATCH_BYTES
    tiny.assert_same("after the lock")
