"""`rebuild --fresh`, `--rollback` and `--keep-old` through a running daemon, under load, and killed on the way: readers see nothing
of it, it goes on or has been undone, and nothing is left over."""
import contextlib
import signal

import pytest

from harness.cluster import poll
from harness.modules import Modules, suspect
from harness.scenes import SEED, SEND
from harness.watch import Watcher
from harness.workload import Workload
from test_register import live, no_traces, state_of

NAME = "conversation_summary"

# Holds up whoever calls it in a snapshot of his own (the fill does, the stream does not) as long as somebody has lock 7.
HOLD = """
    CREATE FUNCTION hold(title text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM pg_advisory_xact_lock_shared(7);
        END IF;
        RETURN title;
    END $$"""
# Holds up every DROP TABLE as long as somebody has lock 8.
BRAKE = """
    CREATE FUNCTION brake() RETURNS event_trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(8); END';
    CREATE EVENT TRIGGER brake ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION brake()"""


@contextlib.contextmanager
def locked(pair, number):
    conn = pair.read_connection()
    with contextlib.closing(conn), conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (number,))
        yield


def finished(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out, err


def oid(pair, name=NAME):
    return pair.read_value("SELECT to_regclass(%s)::oid::bigint", (name,))


def job(pair):
    jobs = pair.command("status", "--json").json["jobs"]
    return jobs[0] if jobs else {"phase": ""}


def await_lock(pair, number):
    """Somebody waits for it."""
    poll(lambda: pair.read_value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted",
                                 (number,)), 20, f"somebody at lock {number}")


def restart(pair):
    pair.daemon.kill()
    pair.start()


def test_under_load(registering):
    """Anew, anew with the former kept, back: 4 writers, a reader that compares table and mirrors all the time."""
    pair = registering
    workload = Workload(pair, SEED, writers=4, pace=0.002).start()
    with Watcher(pair):
        for words, said in ((["--fresh"], "built anew"), (["--fresh", "--keep-old"], "is kept"), (["--rollback"], "rolled back")):
            former, kept = oid(pair), oid(pair, f"{NAME}__kept")
            result = pair.command("rebuild", NAME, *words)
            assert result.code == 0 and said in result.out, result
            assert oid(pair) != former and (kept is None or oid(pair) == kept)
            assert oid(pair, f"{NAME}__kept") == (former if "--keep-old" in words else None)
        workload.stop()
    pair.assert_same("after three swaps")
    assert pair.command("verify").code == 0
    no_traces(pair)


def test_given_up_or_killed_while_it_fills(registering):
    """--cancel from elsewhere, Ctrl-C, SIGKILL of the daemon: in the midst of the INSERT."""
    pair = registering
    pair.read_query(HOLD)
    pair.modules.titles(1, "c.type")
    assert pair.command("module", "add", "titles").code == 0
    pair.modules.titles(1, "public.hold(c.title) AS title")
    in_place = pair.command("rebuild", "titles")
    assert in_place.code == 1 and "rebuild titles --fresh" in in_place.err, in_place
    assert pair.command("module", "add", "titles").code == 0
    former = oid(pair, "titles")

    def fill():
        process = pair.launch("rebuild", "titles", "--fresh", "--no-verify")
        await_lock(pair, 7)
        seen = poll(lambda: job(pair) if job(pair)["phase"] == "filling" else None, what="the fill")
        assert seen["kind"] == "build" and seen["running"], seen
        return process

    def following(process):
        """It shows how far it is."""
        assert any("build titles: filling" in line for line in process.stderr)
    with locked(pair, 7):
        process = fill()
        following(process)
        assert pair.command("rebuild", "titles", "--cancel").code == 0
        assert "cancelled" in finished(process, 1)[1]
        no_traces(pair)
        process = fill()
        process.send_signal(signal.SIGINT)
        assert "cancelled" in finished(process, 1)[1]
        no_traces(pair)
        assert oid(pair, "titles") == former
        process = fill()
        restart(pair)  # what it has left at work holds the table, and waits for the lock
        await_lock(pair, 7)
        pair.write_query("UPDATE conversations SET title = 'meanwhile'")
        pair.catch_up()
        process.kill()  # nobody follows the request; it goes on
        process.communicate()
        process = pair.launch("rebuild", "titles", "--cancel")
        finished(process)
        restart(pair)  # cancelled, but nobody has undone it
        poll(lambda: not pair.read_query("SELECT id FROM pgprojector.request WHERE state = 'running'"), 20)
        no_traces(pair)
        process = fill()
        restart(pair)
    out, err = finished(process)
    assert "built anew" in out, (out, err)
    assert oid(pair, "titles") != former
    assert pair.read_query("SELECT DISTINCT title FROM titles") == [("meanwhile",)]
    assert pair.command("verify").code == 0
    no_traces(pair)


def test_a_daemon_that_does_not_come_back_is_not_waited_for_for_ever(registering):
    pair = registering
    pair.read_query(HOLD)
    pair.modules.titles(1, "public.hold(c.title) AS title")
    with locked(pair, 7):
        process = pair.launch("module", "add", "titles")
        await_lock(pair, 7)
        pair.daemon.kill()
        out, err = finished(process, 4)
        assert "no daemon is running" in err and "pgprojector run" in err and "rebuild titles --cancel" in err, err
    pair.start()  # it goes on with what was asked for
    poll(lambda: pair.read_query("SELECT name FROM pgprojector.projection WHERE name = 'titles' AND state = 'live'"), 20)
    no_traces(pair)


@pytest.mark.parametrize("way", ["at once", "kept", "back"])
def test_killed_after_the_swap(registering, way):
    """What is committed is not done a second time: a rollback rolled back, a kept table replaced by its successor."""
    pair = registering
    first = oid(pair)
    if way == "back":
        assert pair.command("rebuild", NAME, "--fresh", "--keep-old").code == 0
    former, kept = oid(pair), oid(pair, f"{NAME}__kept")
    pair.read_query(BRAKE)
    with locked(pair, 8):
        process = pair.launch("rebuild", NAME, {"at once": "--fresh", "kept": "--fresh", "back": "--rollback"}[way],
                                *(["--keep-old"] if way == "kept" else []))
        poll(lambda: oid(pair) != former, 20, "the swap", interval=0.001)
        if way != "kept":
            await_lock(pair, 8)
        swapped = oid(pair)
        pair.daemon.kill()
        pair.read_query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        pair.write_query(SEND, (3,))
    pair.start()
    finished(process)
    assert oid(pair) == swapped and (way != "back" or swapped == kept == first)
    assert oid(pair, f"{NAME}__kept") == (former if way == "kept" else None)
    pair.assert_same("after it went on")
    if way == "kept":
        assert pair.command("rebuild", NAME, "--drop-kept").code == 0
    no_traces(pair)


def test_a_removal_is_killed_before_it_drops(registering):
    """Its mirror is known until it is dropped."""
    pair = registering
    pair.write_query("CREATE TABLE further (id uuid PRIMARY KEY); INSERT INTO further SELECT gen_random_uuid()")
    pair.modules.titles(sources='{"further", "id", NULL},')
    assert pair.command("module", "add", "titles").code == 0
    pair.read_query(BRAKE)
    with locked(pair, 8):
        process = pair.launch("module", "remove", "titles", "--drop-table")
        await_lock(pair, 8)
        pair.daemon.kill()
        pair.read_query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    pair.start()
    finished(process)
    assert state_of(pair, "titles")[0] == "retired" and oid(pair, "titles") is None and oid(pair, "further") is None
    assert pair.read_query("SELECT * FROM pgprojector.discarded") == []
    assert pair.command("module", "add", "titles").code == 0
    live(pair, "titles")
    assert pair.read_value("SELECT count(*) FROM further") == 1
    no_traces(pair)


def test_a_request_is_heard_while_the_daemon_writes_its_row(registering):
    """The NOTIFY then comes with the answer to another statement, and does not show at the socket any more."""
    pair = registering
    pair.modules.titles()
    blocker = pair.read_connection()
    blocker.autocommit = False
    with contextlib.closing(blocker), blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE pgprojector.daemon")
        poll(lambda: pair.read_value("SELECT count(*) FROM pg_locks WHERE relation = 'pgprojector.daemon'::regclass"
                                     " AND NOT granted"), 20, "the daemon at its row", interval=0.001)
        pair.read_query("INSERT INTO pgprojector.request (kind, name) VALUES ('build', 'titles');"
                        "NOTIFY pgprojector, 'request'")
    live(pair, "titles")


def test_a_new_version_that_crashes_is_not_built_again(registering):
    """The daemon restarts itself once; the version that served goes on serving, from memory; asked again, it tries again."""
    pair = registering
    pair.modules.build("counts", suspect("counts"))
    assert pair.command("module", "add", "counts").code == 0
    pair.modules.build("counts", suspect("counts", 2, bad="abort();", when="1"))
    workload = Workload(pair, SEED, writers=2, pace=0.002).start()
    for words in (["module", "add", "counts"], ["rebuild", "counts", "--fresh"]):
        with contextlib.closing(pair.read_connection()) as reader:    # there is no swap before a message has come
            reader.autocommit = False
            reader.cursor().execute("SELECT FROM counts")
            result = pair.command(*words)
        assert result.code == 2 and "crashed with signal 6" in result.err and "mend" in result.err, result
        poll(lambda: "the build of counts.next is given up" in pair.daemon.since_start())
        no_traces(pair)
        assert state_of(pair, "counts") == ("live", 1)
    workload.stop()
    pair.daemon.streaming()
    pair.assert_same("the good version goes on")
    assert pair.daemon.tail(100000).count("has restarted itself") == 2
    counts = "SELECT conversation_id::text, count(*) FROM messages WHERE conversation_id IS NOT NULL GROUP BY 1 ORDER BY 1"
    assert pair.read_query("SELECT conversation_id::text, n FROM counts ORDER BY 1") == pair.write_query(counts)
    pair.modules.build("counts", suspect("counts", 2))
    assert pair.command("module", "add", "counts").code == 0
    assert state_of(pair, "counts") == ("live", 2)
    no_traces(pair)


def test_it_is_filled_with_the_servers_ordinary_plans(make_pair, tmp_path):
    """What the stream's statements are prepared with (no hash joins, no sequential scans, generic plans) is not what a table is
    filled with. The definition tells the settings that it was run with."""
    modules = Modules(tmp_path, shipped=False)
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations (id, title) VALUES (gen_random_uuid(), 'a')")
    modules.titles(1, "c.title")
    pair.start()
    settings = "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "plan_cache_mode"
    modules.titles(2, ", ".join(f"current_setting('{name}') AS {name}" for name in settings))
    result = pair.command("rebuild", "titles", "--fresh", "--no-verify")
    assert result.code == 0, result
    assert pair.read_query(f"SELECT {', '.join(settings)} FROM titles") == [("on", "on", "on", "auto")]
