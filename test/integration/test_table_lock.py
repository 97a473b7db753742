"""Tables that are to go while somebody reads them: neither the stream nor other readers wait behind that."""
import contextlib
import subprocess

import pytest

from harness.cluster import poll
from harness.daemon import PROGRAM, environment

KEPT = "conversation_summary__kept"
# A session that has the checkpoint row's lock (its table's, in that mode) and waits for a table at the same time.
HOLDS_UP = ("SELECT count(*) FROM pg_locks w JOIN pg_locks h USING (pid) WHERE NOT w.granted AND h.granted"
            " AND w.relation = to_regclass(%s) AND h.relation = 'pgprojector.checkpoint'::regclass AND h.mode = 'RowShareLock'")
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass(%s)"


@contextlib.contextmanager
def reader(pair, table):
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute(f"BEGIN; SELECT count(*) FROM {table}")
        yield cursor.connection.info.backend_pid


@pytest.fixture
def kept(streaming):
    result = streaming.command("rebuild", "conversation_summary", "--fresh", "--keep-old")
    assert result.code == 0, result
    return streaming


def watch(pair, table, *words):
    """Runs a command to its end; how often it waited for the table, and how often it did so with the stream behind it."""
    process = subprocess.Popen([PROGRAM, *words], env=environment(pair.write_url, pair.read_url), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    waited = held_up = 0
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        while process.poll() is None:
            for sql in (WAITS, HOLDS_UP):
                cursor.execute(sql, (table,))
                found = int(cursor.fetchone()[0])
                waited, held_up = waited + (found if sql is WAITS else 0), held_up + (found if sql is HOLDS_UP else 0)
    return process, waited, held_up


def test_dropping_a_kept_table_that_is_read(kept):
    with reader(kept, KEPT) as pid:
        process, waited, held_up = watch(kept, KEPT, "rebuild", "conversation_summary", "--drop-kept")
    out, err = process.communicate()
    assert waited and not held_up, (waited, held_up)
    assert process.returncode == 1 and f"pid {pid}" in err and KEPT in err, (out, err)
    result = kept.command("rebuild", "conversation_summary", "--drop-kept")
    assert result.code == 0 and "was dropped" in result.out, result
    assert kept.read_value("SELECT to_regclass(%s) IS NULL", (KEPT,))


def test_rolling_back_to_a_table_that_is_read(kept):
    """The kept table gets another name for that. The reader leaves in time."""
    with reader(kept, KEPT):
        process = subprocess.Popen([PROGRAM, "rebuild", "conversation_summary", "--rollback"], text=True,
                                   env=environment(kept.write_url, kept.read_url), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        poll(lambda: kept.read_value(WAITS, (KEPT,)), 20)
        assert not kept.read_value(HOLDS_UP, (KEPT,))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    kept.assert_same("after the rollback")
