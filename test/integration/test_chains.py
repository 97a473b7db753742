"""Chains: projections that read other projections' tables stay exact in the same transaction, whatever is killed, paused,
parked, rebuilt or repaired upstream or downstream.
"""
import random

import pytest

from harness.cluster import poll
from harness.history import populate
from harness.scenes import SEED, do, load
from harness.schema import Flavour

UP, DOWN = "user_conversation_membership", "user_unread"
PLAIN = Flavour(odd=False, chained=True)
TINY = Flavour(odd=False, chained=True, batch_bytes=65536)


@pytest.fixture
def chained(make_pair):
    pair = make_pair(PLAIN)
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    return pair


def state(pair, name):
    return pair.read_value("SELECT state FROM pgprojector.projection WHERE name = %s", (name,))


def dirty(pair):
    return pair.read_value("SELECT count(*) FROM pgprojector.dirty_key")


def parked(pair, name=None):
    return pair.read_value("SELECT count(*) FROM pgprojector.dead_letter WHERE projection = coalesce(%s, projection)", (name,))


def a_user(pair):
    """Somebody with memberships of conversations that are there."""
    return pair.read_value(f"SELECT user_id::text FROM {UP} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1")


def unread(pair, user):
    """Gives a user more to read, and everybody in those conversations."""
    pair.write_query("UPDATE user_conversations SET last_read_at = '2001-01-01' WHERE user_id = %s", (user,))
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), conversation_id, 1, 'm', now() FROM user_conversations WHERE user_id = %s",
                     (user,))


@pytest.mark.parametrize("flavour", [TINY, PLAIN], ids=["tiny batches", "plain"])
def test_killed_while_it_streams(make_pair, flavour):
    pair = make_pair(flavour)
    populate(pair, SEED)
    pair.start()
    rng = random.Random(f"{SEED}/chain kills")
    with load(pair, 2) as workload:
        for _ in range(6):
            target = workload.committed + rng.randrange(30)
            poll(lambda t=target: workload.committed >= t, 30, "the writers' progress")
            pair.daemon.kill()
            pair.start()
    pair.assert_same("after the kills")


def test_one_transaction_shows_both(chained):
    """A transaction in many parts, with a TRUNCATE in it; and readers never see one table without the other."""
    user = a_user(chained)
    chained.write_query("BEGIN; TRUNCATE messages; INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                        " SELECT gen_random_uuid(), conversation_id, i, repeat('x', 400), now() FROM user_conversations,"
                        " generate_series(1, 600) i; COMMIT")
    torn = ("SELECT count(*) FROM (SELECT user_id, sum(unread_count) AS n FROM {0} GROUP BY 1) m JOIN {1} u USING (user_id)"
            " WHERE u.unread_messages <> m.n").format(UP, DOWN)
    target = chained.written()
    while chained.applied() < target:
        assert chained.read_value(torn) == 0
    chained.assert_same("after a transaction in parts")
    unread(chained, user)
    chained.write_query("TRUNCATE user_conversations")
    chained.assert_same("after TRUNCATE")


def test_tenants_change(chained):
    """The day's rows of both tenants: what the upstream deletes is told by its old key."""
    for tenant in ("'00000000-0000-0000-0000-0000000000f1'", "NULL", "'00000000-0000-0000-0000-0000000000f2'"):
        chained.write_query(f"UPDATE conversations SET tenant_id = {tenant} WHERE id IN (SELECT id FROM conversations LIMIT 4)")
        chained.assert_same(f"tenant {tenant}")


def test_pauses_under_load(make_pair):
    """Upstream and downstream are paused and resumed in turn, the one while the other is."""
    pair = make_pair(TINY)
    populate(pair, SEED)
    pair.start()
    with load(pair, 3) as workload:
        def some_more():
            target = workload.committed + 15
            poll(lambda: workload.committed >= target, 30, "the writers' progress")
        for paused in ([UP], [DOWN], [UP, DOWN], [DOWN, UP], ["conversation_days", "messages_per_day"]):
            for name in paused:
                do(pair, "pause", name)
                some_more()
            for name in paused:
                do(pair, "resume", name)
                some_more()
    pair.assert_same(f"seed {SEED}, after pauses under load")
    assert dirty(pair) == 0


def test_a_paused_upstream_changes_nothing_below(chained):
    user = a_user(chained)
    do(chained, "pause", UP)
    before = chained.read_query(f"SELECT * FROM {DOWN} WHERE user_id = %s", (user,))
    unread(chained, user)
    chained.catch_up()
    assert chained.read_query(f"SELECT * FROM {DOWN} WHERE user_id = %s", (user,)) == before
    do(chained, "verify", DOWN)
    do(chained, "pause", DOWN)
    do(chained, "resume", UP)
    assert state(chained, DOWN) == "paused" and dirty(chained) > 0, "what the resumption touched is noted"
    do(chained, "resume", DOWN)
    chained.assert_same("after both are back")


@pytest.fixture
def poisoned(chained):
    """One user's row downstream cannot be written."""
    chained.user = a_user(chained)
    chained.read_query(f"ALTER TABLE {DOWN} ADD CONSTRAINT poison CHECK (user_id <> '{chained.user}') NOT VALID")
    return chained


def test_a_poison_key_downstream(poisoned):
    unread(poisoned, poisoned.user)
    poisoned.catch_up()
    assert (parked(poisoned, DOWN), parked(poisoned)) == (1, 1) and state(poisoned, UP) == state(poisoned, DOWN) == "live"
    do(poisoned, "verify", code=6)
    unread(poisoned, poisoned.user)
    poisoned.read_query(f"ALTER TABLE {DOWN} DROP CONSTRAINT poison")
    do(poisoned, "deadletters", "retry", "--all")
    unread(poisoned, poisoned.user)
    poisoned.assert_same("after the retry")


def test_a_poison_key_upstream(chained):
    """Parked, its rows stand still, and downstream's with them; the retry, by hand or by the daemon, brings both up."""
    user = a_user(chained)
    conversation = chained.read_value(f"SELECT conversation_id::text FROM {UP} WHERE user_id = %s ORDER BY 1 LIMIT 1", (user,))
    for by_hand in (True, False):
        chained.read_query(f"ALTER TABLE {UP} ADD CONSTRAINT poison CHECK (conversation_id <> '{conversation}') NOT VALID")
        unread(chained, user)
        chained.catch_up()
        assert (parked(chained, UP), parked(chained)) == (1, 1) and state(chained, DOWN) == "live"
        do(chained, "verify", DOWN)
        chained.read_query(f"ALTER TABLE {UP} DROP CONSTRAINT poison")
        if by_hand:
            do(chained, "deadletters", "retry", UP)
        else:
            chained.read_query("UPDATE pgprojector.dead_letter SET next_try_at = now()")
        poll(lambda: parked(chained) == 0, 25, "the healing")
        chained.assert_same("after the healing")


def spoil(pair):
    """Corrupts both tables by hand, and what they are made of."""
    pair.read_query(f"UPDATE {UP} SET unread_count = unread_count + 7; DELETE FROM conversation_days;"
                    " UPDATE messages SET deleted_at = now() WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 5)")


def test_work_beside_the_daemon_reaches_downstream(chained):
    """rebuild of the upstream alone; repair; resync."""
    chained.read_query(f"UPDATE {UP} SET unread_count = unread_count + 7; DELETE FROM conversation_days")
    do(chained, "rebuild", UP, "conversation_days")
    chained.assert_same("after the rebuild")
    chained.read_query(f"UPDATE {DOWN} SET unread_messages = 99")
    do(chained, "rebuild", "--all")
    chained.assert_same("after the rebuild of all")
    spoil(chained)
    do(chained, "verify", "--repair")
    chained.assert_same("after the repair")
    chained.daemon.stop()
    spoil(chained)
    do(chained, "resync")
    chained.start()
    chained.assert_same("after the resync")


def test_what_cannot_be_written_downstream_holds_no_rebuild_back(poisoned):
    poisoned.read_query(f"UPDATE {UP} SET unread_count = unread_count + 7")
    do(poisoned, "rebuild", UP)
    assert (parked(poisoned, DOWN), parked(poisoned)) == (1, 1)
    do(poisoned, "verify", UP)
    poisoned.read_query(f"ALTER TABLE {DOWN} RENAME TO mislaid; UPDATE {UP} SET unread_count = unread_count + 7")
    do(poisoned, "rebuild", UP)
    assert state(poisoned, DOWN) == "paused" and dirty(poisoned) > 0
    poisoned.read_query(f"ALTER TABLE mislaid RENAME TO {DOWN}; ALTER TABLE {DOWN} DROP CONSTRAINT poison")
    do(poisoned, "resume", DOWN)
    do(poisoned, "deadletters", "retry", DOWN)
    poisoned.assert_same("after it is back")


def test_a_table_that_is_made_anew(chained):
    """Upstream's, without the daemon: downstream follows in the same transaction."""
    chained.daemon.stop()
    chained.write_query("UPDATE user_conversations SET last_read_at = '2001-01-01'")
    chained.read_query(f"DROP TABLE {UP}; UPDATE {DOWN} SET unread_messages = 99")
    result = do(chained, "rebuild", UP)
    assert "created and filled" in result.out
    chained.start()
    chained.assert_same("after it was made anew")
