"""What the source's schema may do under a running daemon, and over a restart."""
from harness.scenes import SEND



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
