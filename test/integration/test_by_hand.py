"""What somebody changes by hand in a projection's table is that projection's matter, and nobody else's."""
import pytest

from harness.scenes import SEND, do

NAME, OTHER = "conversation_summary", "user_conversation_membership"


def send(pair):
    """Some messages more, in the mirror and in the other projections; verify agrees with all that is live."""
    before = pair.read_value("SELECT count(*) FROM messages")
    pair.write_query(SEND, (3,))
    pair.catch_up()
    assert pair.read_value("SELECT count(*) FROM messages") == before + 3
    do(pair, "verify")


def standing(pair):
    return dict(pair.read_query("SELECT name, state FROM pgprojector.projection"))


def test_a_column_added_to_a_projections_table_is_left_alone(registering):
    pair = registering
    pair.read_query(f"ALTER TABLE {NAME} ADD COLUMN mine integer; UPDATE {NAME} SET mine = 7")
    pair.modules.titles()
    do(pair, "module", "add", "titles")
    send(pair)
    pair.daemon.stop()
    pair.start()
    pair.read_query(f"UPDATE {NAME} SET message_count = 99")
    do(pair, "rebuild", NAME)
    send(pair)
    assert set(standing(pair).values()) == {"live"}
    assert pair.read_query(f"SELECT DISTINCT mine FROM {NAME}") == [(7,)]


def stands_alone(pair):
    send(pair)
    others = standing(pair)
    assert others.pop(NAME) == "paused" and set(others.values()) == {"live"}, others
    reason = pair.read_value("SELECT reason FROM pgprojector.projection WHERE name = %s", (NAME,))
    assert "message_count" in reason, reason
    assert "message_count" in do(pair, "status", code=4).out
    assert f"pgprojector resume {NAME}" in pair.daemon.tail()


@pytest.mark.parametrize("remedy", ["put back", "built anew"])
def test_one_whose_column_is_dropped_stands_still_alone(registering, remedy):
    """While the daemon runs, and from the start on; the stream goes on, and another module is registered all the same."""
    pair = registering
    pair.read_query(f"ALTER TABLE {NAME} DROP COLUMN message_count")
    stands_alone(pair)
    pair.modules.titles()
    do(pair, "module", "add", "titles")
    pair.daemon.stop()
    pair.read_query("UPDATE pgprojector.projection SET state = 'live', reason = NULL")
    pair.start()
    stands_alone(pair)
    if remedy == "put back":
        pair.read_query(f"ALTER TABLE {NAME} ADD COLUMN message_count bigint")
        do(pair, "resume", NAME)
    else:
        do(pair, "rebuild", NAME, "--fresh")
    send(pair)
    assert set(standing(pair).values()) == {"live"}
    if remedy == "built anew":
        pair.assert_same()
