"""The daemon is killed, and both servers are stopped at once, at random moments under load. Afterwards nothing differs,
nothing counted twice, the checkpoint never fell back, the slot never confirmed more than the checkpoint, and there is
exactly one slot.
"""
import os
import pathlib
import random
import signal
import subprocess
import time

import psycopg2
import pytest

from harness.cluster import poll, run_as_server
from harness.daemon import command
from harness.history import populate
from harness.pair import Pair, Sampler
from harness.scenes import SEED, SEND
from harness.schema import Flavour
from harness.workload import Workload

MANY = 60000


def fill(pair, messages=MANY):
    """Enough rows that a first start takes a while."""
    pair.write_query(
        "INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
        " SELECT md5('fill' || i)::uuid, md5('c' || i %% 50)::uuid, i, 'message ' || i,"
        " timestamptz '2024-05-05' + i * interval '1 s' FROM generate_series(1, %s) i;"
        " INSERT INTO conversations (id, title) SELECT md5('c' || i)::uuid, 'c' || i FROM generate_series(0, 49) i;"
        " INSERT INTO user_conversations SELECT md5('u' || i)::uuid, md5('c' || i %% 50)::uuid, now(),"
        " timestamptz '2024-05-05 06:00' FROM generate_series(0, 499) i", (messages,))


@pytest.fixture(params=[Flavour(batch_bytes=65536), Flavour(odd=False)], ids=["tiny batches", "plain"])
def loaded(request, make_pair):
    """A pair that streams, with writers that go on until the test ends them."""
    pair = make_pair(request.param)
    populate(pair, SEED)
    pair.start()
    workload = Workload(pair, SEED, writers=2, pace=0.002, tolerant=True).start()
    yield pair, workload
    workload.stopping = True


def finish(pair, workload, about):
    workload.stop()
    if not pair.daemon.running:
        pair.daemon.start()
    pair.assert_same(about)
    assert len(pair.slots()) == 1


def test_killed_while_it_streams(loaded):
    """25 kills (50 in both flavours), a moment after it began to stream, or well before that."""
    pair, workload = loaded
    rng = random.Random(f"{SEED}/kills")
    with Sampler(pair):
        for number in range(25):
            if rng.random() < 0.7:
                pair.daemon.streaming()
            time.sleep(rng.random() * 0.15)
            pair.daemon.kill()
            pair.daemon.start()
            if number % 8 == 7:
                with workload.pause():
                    pair.assert_same(f"after kill {number + 1}")
        finish(pair, workload, "after the kills")


def test_killed_during_the_first_start(make_pair):
    """Each attempt a little longer than the one before, so that kills fall everywhere between its start and its end."""
    pair = make_pair()
    fill(pair)
    workload = Workload(pair, SEED, writers=1, pace=0.01).start()
    kills = 0
    for attempt in range(60):
        pair.daemon.start()
        time.sleep(0.02 * attempt if attempt < 40 else 0.8 * 1.2 ** (attempt - 40))
        if pair.daemon.row() and pair.applied() is not None:
            break
        pair.daemon.kill()
        kills += 1
        assert len(pair.slots()) <= 1, "an attempt left its slot behind, and the next one made another"
    assert kills >= 5
    pair.daemon.streaming(60)
    finish(pair, workload, f"after {kills} kills")


def test_stopped_gently_during_the_first_start(make_pair):
    """SIGTERM in the midst of the copy: exit code 0 within 10 s, and the next start begins again."""
    pair = make_pair()
    fill(pair)
    pair.daemon.start()
    poll(pair.slots, what="the slot", interval=0.001)
    assert pair.daemon.stop() == 0
    assert pair.applied() is not None or pair.slots() == [], "a first start that was given up leaves no slot"
    pair.start()
    pair.assert_same()
    assert len(pair.slots()) == 1


def terminated(pid):
    """Whether a process that is frozen was told to end."""
    (pending,) = [line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("ShdPnd")]
    return int(pending.split()[1], 16) >> signal.SIGTERM - 1 & 1


@pytest.mark.parametrize("verb", ["init", "resync"])
def test_stopped_gently_while_the_slot_is_made(streaming, make_pair, verb):
    """Also where the server comes to obey only later, no slot is left that holds back WAL and belongs to nobody."""
    pair = make_pair() if verb == "init" else streaming
    assert pair.daemon.stop() in (0, None)
    writer = pair.write_connection()
    with writer.cursor() as writing:
        writing.execute("BEGIN; SELECT txid_current()")    # the slot waits for it
        process = pair.launch(verb)
        ((walsender,),) = poll(lambda: pair.write_query("SELECT active_pid FROM pg_replication_slots WHERE active_pid > 0"
                                                        " AND confirmed_flush_lsn IS NULL AND database = current_database()"))
        os.kill(walsender, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGTERM)
            poll(lambda: terminated(walsender) or process.poll() is not None, what="the end of the slot, or of who made it")
            assert process.poll() is None, "it has gone, and its slot has not"
        finally:
            os.kill(walsender, signal.SIGCONT)
        _, err = process.communicate(timeout=20)
    writer.close()
    assert pair.slots() == [], err


def stop_at_random(pair, victim, workload, stops):
    """Immediate stops of one server; the daemon stays up all the time and finds its way back."""
    rng = random.Random(f"{SEED}/{victim.name}")
    for number in range(stops):
        time.sleep(rng.random() * 0.3)
        victim.stop_immediately()
        time.sleep(rng.random() * 0.1)
        victim.start()
        if rng.random() < 0.5:
            pair.daemon.streaming(45)
        if number % 4 == 3:
            with workload.pause():
                pair.assert_same(f"after stop {number + 1} of {victim.name}", timeout=45)


@pytest.mark.parametrize("side", ["write", "read"])
def test_a_server_stops_immediately(own_clusters, side):
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "stops", Flavour(odd=False)) as pair:
        populate(pair, SEED)
        pair.start()
        pid = pair.daemon.process.pid
        workload = Workload(pair, SEED, writers=2, pace=0.002, tolerant=True).start()
        with Sampler(pair):
            stop_at_random(pair, write if side == "write" else read, workload, 10)
            finish(pair, workload, f"after the stops of the {side} server")
        assert pair.daemon.process.pid == pid


def test_both_servers_and_the_daemon(own_clusters):
    """Whatever dies, in whatever order."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "mayhem", Flavour(odd=False, batch_bytes=65536)) as pair:
        populate(pair, SEED)
        pair.start()
        workload = Workload(pair, SEED, writers=2, pace=0.002, tolerant=True).start()
        rng = random.Random(f"{SEED}/mayhem")
        with Sampler(pair):
            for _ in range(12):
                time.sleep(rng.random() * 0.3)
                victims = rng.sample([write, read, pair.daemon], rng.randrange(1, 4))
                for victim in victims:
                    end = victim.kill if victim is pair.daemon else victim.stop_immediately
                    end()
                rng.shuffle(victims)
                for victim in victims:
                    victim.start()
            finish(pair, workload, "after the mayhem")


def test_the_write_server_shuts_down_right_after_a_commit(own_clusters):
    """Of all that it has sent only the last transaction is not confirmed: what would follow it comes after the restart."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "last", Flavour(odd=False)) as pair:
        populate(pair, SEED)
        pair.start()
        for turn in range(3):
            pair.write_query(SEND, (10,))
            end = pair.written()
            poll(lambda e=end: pair.applied() >= e, what="the last transaction", interval=0.001)
            write.stop(timeout=20)
            write.start()
            pair.daemon.streaming()
            pair.assert_same(f"after shutdown {turn + 1}")


@pytest.fixture
def german(scratch, own_clusters, monkeypatch):
    """german(): a server that speaks German. The locale is made for it alone, and found by the environment."""
    try:
        run_as_server("localedef", "-i", "de_DE", "-f", "UTF-8", scratch.path / "de_DE.UTF-8")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no German locale can be made: {error}")
    monkeypatch.setenv("LOCPATH", str(scratch.path))

    def make():
        cluster = own_clusters(lc_messages="de_DE.UTF-8")
        try:
            cluster.query("postgres", "SELECT 1 / 0")
        except psycopg2.Error as error:
            if "Division durch Null" not in str(error):
                pytest.skip("the server's messages are not translated")
        return cluster
    return make


def test_a_write_server_that_speaks_german_shuts_down(german, own_clusters):
    """It is the SQLSTATE that says so, and what else keeps a connection from being made."""
    write, read = german(), own_clusters()
    with Pair(write, read, "german", Flavour(odd=False)) as pair:
        populate(pair, SEED)
        refused = command(["init"], write.url(pair.name, "nobody"), pair.read_url)
        assert refused.code == 2 and "»nobody«" in refused.err and "WRITE_DATABASE_URL" in refused.err, refused
        pair.start()
        pair.write_query(SEND, (10,))
        end = pair.written()
        poll(lambda: pair.applied() >= end, what="the last transaction", interval=0.001)
        write.stop(timeout=20)
        assert "fährt herunter" in pair.daemon.since_start()
        write.start()
        pair.daemon.streaming()
        pair.assert_same("after the shutdown")


def test_the_write_server_shuts_down_while_apply_is_stuck(own_clusters):
    """A fast shutdown waits for the consumer: the daemon must let go within 30 s."""
    write, read = own_clusters(), own_clusters()
    with Pair(write, read, "stuck", Flavour(odd=False)) as pair:
        populate(pair, SEED)
        pair.start()
        blocker = pair.read_connection()
        with blocker.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE public.messages IN ACCESS EXCLUSIVE MODE")
        fill(pair, 20000)
        started = time.monotonic()
        write.stop(timeout=40)
        assert time.monotonic() - started < 35
        blocker.close()
        write.start()
        pair.daemon.streaming(45)
        pair.assert_same("after the shutdown", timeout=60)


def test_a_first_start_that_loses_its_locks(make_pair):
    """A table emptied after the snapshot and before it is copied would look empty. The copy does not count, and is made again."""
    pair = make_pair(Flavour(odd=False))
    populate(pair, SEED)
    fill(pair, 2000)
    writer, reader = pair.write_connection(), pair.read_connection()
    with writer.cursor() as writing, reader.cursor() as reading:
        writing.execute("BEGIN; SELECT txid_current()")    # the slot waits for it; the mirrors are there by then
        pair.daemon.start()
        poll(lambda: pair.slots(), what="the slot")
        reading.execute("BEGIN; LOCK TABLE public.messages")    # the largest, copied first
        writing.execute("COMMIT")
        poll(lambda: pair.read_value("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
                                     " AND relation = 'public.messages'::regclass"), what="the copy, waiting")
        pair.write_query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%snapshot guard'")
        pair.write_query("SET lock_timeout = '10s'; TRUNCATE users")
        reading.execute("COMMIT")
    writer.close()
    reader.close()
    pair.daemon.streaming(30)
    assert "hold the tables' locks" in pair.daemon.since_start()
    pair.assert_same("after a second first start")
