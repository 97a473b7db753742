"""Full disks, and others that cannot be written: real ones, of a few megabytes. Nothing is lost, parked or paused, the log says
it once, and all goes on when there is room. Disks can be mounted by root alone; where that may not be, these tests are skipped
(harness/disk.py)."""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from harness.cluster import poll, run_as_server
from harness.daemon import PROGRAM, Daemon, environment
from harness.disk import FrailDisk, SmallDisk, limit_files
from harness.history import populate
from harness.modules import Modules
from harness.pair import Pair, Sampler
from harness.scenes import SEED, SEND, do
from harness.schema import Flavour

PLAIN = Flavour(odd=False)
FULL, NO_WRITING = "its disk is full", "it cannot write its files"
TABLES = ("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace IN"
          " ('public'::regnamespace, 'pgprojector'::regnamespace) AND relname !~ '^(daemon|job|request)'")


@pytest.fixture(scope="module")
def disk(scratch):
    disk = SmallDisk(scratch.path / "small", 64)
    yield disk
    disk.close()


@pytest.fixture(scope="module")
def small_cluster(scratch, disk):
    """A read server whose databases lie on the small disk, with all that belongs to them; its WAL does not. After a vacuum of the
    catalog new sessions would have to write a file first, and not come about."""
    cluster = scratch.cluster("onsmall", fresh=True, autovacuum="off").start()
    cluster.query("postgres", f"CREATE TABLESPACE small LOCATION '{disk.path}'")
    cluster.database_options = "TABLESPACE small"
    yield cluster
    disk.make_room()
    cluster.discard()


@pytest.fixture
def small(make_pair, small_cluster, disk, modules):
    """A pair whose read database may run out of room; the daemon is not started."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536), modules.config + "batch_bytes = 64kB\n", read=small_cluster)
    populate(pair, SEED)
    pair.modules = modules
    pair.read_query("SELECT 1")  # once in a database a session writes a file, without which it does not begin
    yield pair
    disk.make_room()


def reconnects(pair):
    return pair.read_value("SELECT coalesce((figures ->> 'reconnects')::int, 0) FROM pgprojector.daemon")


def meet_full_disk(pair, attempts=2):
    """Waits until the daemon has met the full disk several times, and says so."""
    poll(lambda: reconnects(pair) >= attempts, 20, "several attempts")
    state, message, hint = pair.daemon.await_state("waiting")
    assert state == "waiting" and FULL in message and "make room on the disk of the read database" in hint, (message, hint)


def assert_unharmed(pair):
    assert pair.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 0
    assert pair.read_query("SELECT DISTINCT state FROM pgprojector.projection") == [("live",)]


@pytest.mark.parametrize("several", (False, True), ids=("one large", "many small"))
def test_no_room_while_it_streams(small, disk, several):
    pair = small.start()
    pair.catch_up()
    begun = time.monotonic()
    with Sampler(pair) as sampler:
        disk.fill()
        pair.daemon.signal(signal.SIGSTOP)
        for _ in range(40 if several else 1):
            pair.write_query(SEND, (250 if several else 10000,))
        pair.daemon.signal(signal.SIGCONT)
        meet_full_disk(pair, attempts=3)
        status = pair.command("status")
        assert status.code == 4 and FULL in status.out and "make room" in status.out, status
        assert_unharmed(pair)
        disk.make_room()
        pair.assert_same("with room again", timeout=60)
    assert not sampler.faults, sampler.faults
    assert_unharmed(pair)
    log, took = pair.daemon.since_start(), time.monotonic() - begun
    assert log.count(FULL) <= 1 + took // 60 and "going on, after" in log, log
    assert pair.command("status").code == 0


def test_no_room_while_a_key_is_parked(small, disk):
    """The full disk is nobody's fault; what the key's own fault is, is found when there is room."""
    pair = small.start()
    pair.catch_up()
    pair.read_query("ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (message_count < 3000)")
    disk.fill()
    pair.write_query(SEND, (6000,))
    meet_full_disk(pair)
    assert_unharmed(pair)
    disk.make_room()
    pair.catch_up(60)
    assert pair.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 1
    assert pair.read_query("SELECT DISTINCT state FROM pgprojector.projection") == [("live",)]
    pair.read_query("ALTER TABLE conversation_summary DROP CONSTRAINT poison")
    do(pair, "deadletters", "retry", "--all")
    pair.assert_same("after the retry")


def move_wal(cluster, disk):
    run_as_server("mv", cluster.data / "pg_wal", disk.path / "wal")
    run_as_server("ln", "-s", disk.path / "wal", cluster.data / "pg_wal")


@pytest.fixture
def wal_cluster(scratch, disk):
    """A read server whose WAL alone lies on the small disk."""
    cluster = scratch.cluster("walonsmall", fresh=True)
    move_wal(cluster, disk)
    yield cluster.start()
    disk.make_room()
    cluster.discard()
    run_as_server("rm", "-rf", disk.path / "wal")


def test_no_room_for_the_wal(write_cluster, wal_cluster, disk):
    """The server ends itself, and does not start until there is room."""
    with Pair(write_cluster, wal_cluster, "wal", PLAIN) as pair:
        populate(pair, SEED)
        pair.start().catch_up()
        disk.fill()
        pair.write_query(SEND, (50000,))
        poll(lambda: wal_cluster.process.poll() is not None, 30, "the server's end")
        poll(lambda: "cannot connect" in pair.daemon.since_start(), 10)
        assert pair.command("status").code == 3
        disk.make_room()
        wal_cluster.stop()
        wal_cluster.start()
        pair.assert_same("with room again", timeout=60)
        assert_unharmed(pair)


def test_no_room_for_a_first_start(small, disk):
    small.write_query(SEND, (60000,))
    disk.fill(spare=3000)
    result = small.command("init")
    assert result.code == 1 and FULL in result.err and "first start" in result.err and "messages" in result.err, result
    assert small.slots() == []
    disk.make_room()
    do(small, "init")
    assert len(small.slots()) == 1
    small.start().assert_same()


def test_no_room_for_a_daemons_first_start(small, disk):
    small.write_query(SEND, (60000,))
    disk.fill(spare=3000)
    small.daemon.start()
    poll(lambda: small.daemon.since_start().count("first start: copying") >= 2, 30, "a second attempt")
    assert small.daemon.since_start().count(FULL) == 1, small.daemon.tail()
    disk.make_room()
    small.daemon.streaming(60)
    small.assert_same()
    assert len(small.slots()) == 1


def test_no_room_for_a_table_beside(small, disk):
    """It is given up instead of being begun again and again, which would leave the stream no room either."""
    small.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 't', 'group', now(), now()"
                      " FROM generate_series(1, 30000)")
    small.start().catch_up()
    before = small.read_value(TABLES)
    disk.fill(spare=1000)
    result = small.command("rebuild", "conversation_summary", "--fresh")
    assert result.code == 1 and FULL in result.err and "make room" in result.err, result
    small.write_query(SEND, (10,))
    small.assert_same("after the failed build", timeout=60)
    poll(lambda: small.read_value(TABLES) == before, 10, "no table left")
    assert_unharmed(small)
    disk.make_room()
    do(small, "rebuild", "conversation_summary", "--fresh")
    small.assert_same("after the build")
    assert small.read_value(TABLES) == before


def refuse_for_want_of_room(pair, disk, *words):
    disk.fill()
    result = pair.command(*words)
    assert result.code == 1 and FULL in result.err and "make room" in result.err, result
    disk.make_room()


def test_no_room_for_a_resync_a_rebuild_a_comparison(small, disk):
    small.write_query(SEND, (60000,))
    small.start().catch_up()
    small.daemon.stop()
    small.read_query("UPDATE messages SET content = 'wrong'; UPDATE conversation_summary SET message_count = 7")
    wrong = small.read_value("SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM messages m")
    refuse_for_want_of_room(small, disk, "resync")
    assert small.read_value("SELECT md5(string_agg(m::text, '' ORDER BY id)) FROM messages m") == wrong
    do(small, "resync")
    small.start()
    refuse_for_want_of_room(small, disk, "verify")
    small.read_query("UPDATE conversation_summary SET message_count = 7")
    refuse_for_want_of_room(small, disk, "rebuild", "--all")
    do(small, "rebuild", "--all")
    small.assert_same()
    assert len(small.slots()) == 1


def paused(pair):
    return pair.read_query("SELECT name FROM pgprojector.projection WHERE state = 'paused' AND reason IS NULL")


CONVERSATIONS = ("INSERT INTO conversations SELECT md5('c' || n)::uuid, md5('t' || n)::uuid, 't', 'group', now(), now()"
                 " FROM generate_series(1, %s) AS n")


def test_no_room_for_the_keys_of_a_paused_projection(small, disk):
    """Only what is noted takes room: the mirror has some of its own, left by the same rows before."""
    pair = small.start()
    pair.write_query(CONVERSATIONS, (30000,))
    pair.write_query("DELETE FROM conversations WHERE title = 't'")
    pair.catch_up()
    for _ in range(2):  # pages of indexes may be used again when no transaction is left that could be on its way to them
        pair.read_query("VACUUM (TRUNCATE false) conversations")
        pair.read_query("SELECT txid_current()")
    do(pair, "pause", "conversation_summary")
    disk.fill()
    pair.write_query(CONVERSATIONS, (15000,))
    meet_full_disk(pair)
    assert paused(pair) == [("conversation_summary",)]
    (file,) = re.findall(r"/(\d+)\"", pair.daemon.row()[1])
    relation = pair.read_value("SELECT relname FROM pg_class WHERE relfilenode = %s", (file,))
    assert relation.startswith("dirty_key"), relation
    disk.make_room()
    pair.catch_up(60)
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") >= 15000
    refuse_for_want_of_room(pair, disk, "resume", "conversation_summary")
    assert paused(pair) == [("conversation_summary",)]
    do(pair, "resume", "conversation_summary")
    pair.assert_same()


# ----------------------------------------------------------------------------------------- other reasons not to write

@pytest.fixture
def frail(scratch):
    """frail(wal): a read server of which the databases, or the WAL, lie on a disk that can turn read-only."""
    made = []

    def make(wal):
        disk = FrailDisk(scratch.path / f"frail{wal:d}", 256)
        cluster = scratch.cluster(f"onfrail{wal:d}", fresh=True, fsync="on", full_page_writes="on")
        made.extend((cluster, disk))
        cluster.disk = disk
        if wal:
            move_wal(cluster, disk)
        else:
            run_as_server("mkdir", disk.path / "databases")
        cluster.start()
        if not wal:
            cluster.query("postgres", f"CREATE TABLESPACE frail LOCATION '{disk.path}/databases'")
            cluster.database_options = "TABLESPACE frail"
        return cluster
    yield make
    for thing in made:
        thing.discard() if thing is made[0] else thing.close()


@pytest.mark.parametrize("wal", (False, True), ids=("data", "wal"))
def test_a_disk_that_turns_read_only(write_cluster, frail, wal):
    """Without its WAL the server ends its sessions and recovers, again and again, and is met in one state and in another."""
    read = frail(wal)
    with Pair(write_cluster, read, f"frail{wal:d}", PLAIN, "[pgprojector]\nlog_level = debug\n") as pair:
        populate(pair, SEED)
        pair.start().catch_up()
        with Sampler(pair) as sampler:
            read.disk.turn_read_only()
            pair.write_query(SEND, (20000,))
            poll(lambda: pair.daemon.since_start().count("-> backoff") >= 4, 30, "several attempts")
            status, verified = pair.command("status"), pair.command("verify")
            assert status.code in (3, 4) and (wal or "Read-only file system" in status.out), status
            assert verified.code in (1, 3), verified
            log = pair.daemon.since_start()
            assert pair.daemon.running and "halted" not in log, log
            said = [line.partition("WARNING")[2] for line in log.splitlines() if " WARNING " in line and "HINT" not in line]
            assert said and len(set(said)) == len(said), "\n".join(said)
            read.stop_immediately()
            read.disk.repair()
            read.start()
            pair.assert_same("with its file system repaired", timeout=60)
        assert not sampler.faults, sampler.faults
        assert_unharmed(pair)
        assert pair.command("status").code == 0


@contextlib.contextmanager
def limited(cluster, megabytes):
    limit_files(cluster, megabytes)
    try:
        yield
    finally:
        limit_files(cluster, None)


def test_files_that_may_not_grow(own_clusters, make_pair, modules):
    """What PostgreSQL has no code for, such as a quota: in the stream, a table beside, and a first start. No disk is needed."""
    read = own_clusters(fresh=True, wal_segsize=1, min_wal_size="2MB")
    pair = make_pair(PLAIN, modules.config, read=read)
    populate(pair, SEED)
    with limited(read, 2):
        pair.write_query(SEND, (30000,))
        pair.daemon.start()
        poll(lambda: pair.daemon.since_start().count("first start: copying") >= 2, 30, "a second attempt")
        assert pair.daemon.since_start().count(NO_WRITING) == 1 and pair.slots() == [], pair.daemon.tail()
    pair.daemon.streaming(60)
    pair.catch_up()
    with limited(read, 2):
        pair.write_query(SEND, (1000,))
        poll(lambda: reconnects(pair) >= 2, 20, "several attempts")
        state, message, hint = pair.daemon.await_state("waiting")
        assert NO_WRITING in message and "File too large" in message and "quota" in hint, (message, hint)
        assert pair.daemon.since_start().count(NO_WRITING) == 2, pair.daemon.tail()
        assert_unharmed(pair)
    pair.write_query(CONVERSATIONS, (30000,))
    pair.assert_same("when files may grow again", timeout=60)
    before = pair.read_value(TABLES)
    with limited(read, 2):
        result = pair.command("rebuild", "conversation_summary", "--fresh")
        assert result.code == 1 and NO_WRITING in result.err and "given up" in result.err, result
    poll(lambda: pair.read_value(TABLES) == before, 10, "no table left")
    pair.assert_same("after the failed build")
    assert_unharmed(pair)


# ---------------------------------------------------------------------------------------- where output cannot be written

def test_no_room_for_a_new_module(disk):
    words = [PROGRAM, "module", "new", "thing", "--dir", disk.path]
    disk.fill()
    result = subprocess.run(words, env=environment(None, None), capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "No space left on device" in result.stderr, result
    assert not (disk.path / "thing").exists(), "half a module"
    disk.make_room()
    assert subprocess.run(words, env=environment(None, None), capture_output=True, check=False).returncode == 0


def test_output_that_cannot_be_written(streaming):
    """An answer that nobody gets is no success. Everywhere: no disk is needed."""
    for words in (("--help",), ("version",), ("version", "--json"), ("status",), ("status", "--json"), ("doctor",),
                  ("verify",), ("verify", "--json"), ("deadletters", "list"), ("module", "list"), ("module", "list", "--json"),
                  ("status", "--watch"), ("init",)):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([PROGRAM, *words], env=environment(streaming.write_url, streaming.read_url), stdout=full,
                                    stderr=subprocess.PIPE, text=True, timeout=30, check=False)
        assert result.returncode == 1 and "the output could not be written" in result.stderr, (words, result)


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_a_log_on_a_full_disk(make_pair, disk):
    """What cannot be logged is lost; the daemon neither ends nor spins for it, and logs again when there is room."""
    pair = make_pair(config="[pgprojector]\nlog_level = debug\n")
    populate(pair, SEED)
    pair.daemon = Daemon(pair, pair.config, log=disk.path / "log")
    pair.start().catch_up()

    def length():
        return pair.daemon.log.stat().st_size

    def have_it_log():
        pair.read_query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND application_name LIKE 'pgprojector %'")
        pair.write_query(SEND, (1,))
        pair.catch_up()
    disk.fill()
    process, before = pair.daemon.process, cpu_seconds(pair.daemon.process)
    poll(lambda: have_it_log() or length() % os.sysconf("SC_PAGE_SIZE") == 0, 30, "the end of the last page of the log")
    full = length()
    have_it_log()
    pair.assert_same("without a log")
    assert process.poll() is None and length() == full and cpu_seconds(process) - before < 2
    disk.make_room()
    have_it_log()
    poll(lambda: length() > full, 10, "the log to go on")
    assert pair.daemon.stop() == 0


def test_a_slot_that_fills_the_write_databases_disk(own_clusters, make_pair):
    """What it may hold back is said while there is time, and what has become of it afterwards."""
    write = own_clusters(max_slot_wal_keep_size="96MB", min_wal_size="32MB", max_wal_size="32MB")
    pair = make_pair(PLAIN, write=write)
    populate(pair, SEED)
    pair.start().catch_up()
    assert "hint" not in pair.command("status").out
    pair.daemon.stop()
    for _ in range(4):
        pair.write_query(SEND, (1,))
        pair.write_query("SELECT pg_switch_wal()")
    status, doctor = pair.command("status"), pair.command("doctor")
    assert "more until it is lost" in status.out and "max_slot_wal_keep_size" in status.out, status
    assert "may be lost" in doctor.out and "max_slot_wal_keep_size" in doctor.out, doctor
    pair.start()
    pair.assert_same()
