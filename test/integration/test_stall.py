"""What stands still on the read database, without an error that would tell of it, is named."""
import contextlib

from harness.cluster import poll
from harness.scenes import SEND


def test_somebody_holds_a_lock_that_apply_needs(streaming):
    """Command line and log name who it is; when that is over, the daemon goes on by itself."""
    pair = streaming
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE conversation_summary")
        holder = f"pid {conn.info.backend_pid} "
        pair.write_query(SEND, (3,))

        def told():
            status = pair.command("status", "--json")
            stall = status.json["daemon"]["stall"]
            return status if stall and holder in (status.json["reason"] or "") else None
        status = poll(told, 20, "the holder in status")
        assert status.code == 4 and status.json["daemon"]["running"], status
        assert holder in pair.command("doctor").out
        late = pair.command("wait", "--timeout", "100ms")
        assert late.code == 4 and holder in late.err and "pg_terminate_backend" in late.err, late
        poll(lambda: holder in pair.daemon.since_start(), 20, "the holder in the log")
        conn.rollback()
    pair.assert_same("after the lock")
    assert pair.command("status", "--json").json["daemon"]["stall"] is None
