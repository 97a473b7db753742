"""The write server's successor has its data and its slot, on a timeline of its own: the stream goes on, and nothing is lost or
counted twice. One that lacks something, or has no slot, is in test_gaps.py and test_resync.py.
"""
import pytest

from harness.history import populate
from harness.pair import Pair, Sampler
from harness.scenes import SEED, SEND
from harness.schema import Flavour


def promoted(server):
    """As a standby that has received everything, its slots too, after its primary's end."""
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    server.query("postgres", "SELECT pg_promote(true, 30)")


def timeline(pair):
    return pair.read_value("SELECT timeline FROM pgprojector.checkpoint")


@pytest.fixture
def failing_over(own_clusters):
    with Pair(own_clusters(), own_clusters(), "failover", Flavour(odd=False)) as pair:
        populate(pair, SEED)
        pair.start()
        pair.catch_up()
        yield pair


@pytest.mark.parametrize("daemon", ["stays", "is away"])
def test_a_successor_with_the_slot(failing_over, daemon):
    """Twice in a row. What the daemon had not received before is sent by the successor, from the old timeline's WAL."""
    pair = failing_over
    (slot,) = pair.slots()
    with Sampler(pair):
        for turn in (2, 3):
            if daemon == "is away":
                pair.daemon.kill()
            pair.write_query(SEND, (200,))
            promoted(pair.write)
            pair.write_query(SEND, (100,))
            if daemon == "is away":
                pair.daemon.start()
            pair.daemon.streaming()
            pair.assert_same(f"on timeline {turn}")
            assert timeline(pair) == turn and pair.slots() == [slot]


def test_a_commit_that_is_sent_again_by_the_successor(failing_over):
    """Applied, and not confirmed: the daemon is killed before it could be."""
    pair = failing_over
    pair.write_query(SEND, (50,))
    pair.catch_up()
    pair.daemon.kill()
    promoted(pair.write)
    pair.start()
    pair.write_query(SEND, (1,))
    pair.assert_same("on the new timeline")
    assert timeline(pair) == 2


def test_the_old_primary_comes_back(failing_over):
    """With the slot and all that it had, and what somebody still wrote to it: refused, whatever its position."""
    pair = failing_over
    former = pair.image_of(pair.write)
    promoted(pair.write)
    pair.write_query(SEND, (100,))
    pair.catch_up()
    before = pair.read_query("SELECT lsn::text, timeline FROM pgprojector.checkpoint")
    pair.put_back(pair.write, former)
    pair.write.start()
    pair.write_query(SEND, (1000,))
    pair.daemon.start()
    _, message, hint = pair.daemon.await_state("halted", timeout=30)
    assert "is on timeline 1, an older one than ours (2)" in message and "resync" in hint, (message, hint)
    assert "a former primary? If not" in hint and "restart the daemon" in hint, hint  # a resync would undo the failover
    assert pair.read_query("SELECT lsn::text, timeline FROM pgprojector.checkpoint") == before
