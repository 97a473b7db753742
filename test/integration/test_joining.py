"""Mirrors added while the daemon runs, under changes of all kinds to the very table."""
import contextlib
import itertools
import random
import signal
import threading

import pytest

from harness.beside import Statements
from harness.cluster import poll
from harness.history import populate
from harness.modules import Modules
from harness.pair import lsn
from harness.scenes import SEED
from test_register import settled

REACTIONS = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{"reactions", "kind", NULL}, {NULL, NULL, NULL}};
static const char *const key[] = {"kind", NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "reaction_kinds",
    .version = 1, .description = "reactions by kind", .sources = sources, .target = "reaction_kinds", .key = key,
    .definition = "SELECT r.kind, count(*) AS n, sum(length(r.body)) AS size FROM {reactions} AS r "
                  "WHERE {keys(r.kind)} GROUP BY r.kind",
};
const struct pj_module *pj_module(void)
{
    return &module;
}
"""
DEFINED = "SELECT kind, count(*), sum(length(body)) FROM reactions GROUP BY kind ORDER BY kind"

# the identity is another one than the primary key, and texts are large enough to be left out of updates
TABLES = {
    "key": "CREATE TABLE reactions (id bigint PRIMARY KEY, place bigint NOT NULL, kind text NOT NULL, body text)",
    "index": "CREATE TABLE reactions (id bigint PRIMARY KEY, place bigint NOT NULL UNIQUE, kind text NOT NULL, body text);"
             "ALTER TABLE reactions REPLICA IDENTITY USING INDEX reactions_place_key",
}
ROWS = 20000


class Churn(Statements):
    """Inserts, updates, deletes, changes of keys and identities, now and then a TRUNCATE."""

    def __init__(self, pair, seed, truncate):
        super().__init__(pair, self.statement, 0.001)
        self.random, self.truncate, self.next = random.Random(seed), truncate, 10 * ROWS

    def statement(self):
        self.next += 1
        row, kind = self.random.randrange(2 * ROWS), self.random.choice("abcdef")
        if self.truncate and self.random.random() < 0.002:
            return f"TRUNCATE reactions; INSERT INTO reactions SELECT i, i, 'a', 'new' FROM generate_series(1, 50) i"
        return self.random.choice([
            f"INSERT INTO reactions VALUES ({self.next}, {self.next}, '{kind}', repeat('{kind}', 30))",
            f"UPDATE reactions SET kind = '{kind}' WHERE id = {row}",
            f"UPDATE reactions SET body = body || 'x' WHERE id % 500 = {row % 500}",
            f"DELETE FROM reactions WHERE id = {row}",
            f"UPDATE reactions SET id = {self.next} WHERE id = {row}",
            f"UPDATE reactions SET place = {self.next} WHERE id = {row}",
            # the primary key goes to a new row within one transaction
            f"UPDATE reactions SET id = {self.next} WHERE id = {row};"
            f"INSERT INTO reactions VALUES ({row}, {self.next + 100 * ROWS}, '{kind}', 'taken over') ON CONFLICT DO NOTHING",
        ])


@pytest.fixture
def reacting(request, make_pair, tmp_path):
    modules = Modules(tmp_path)
    pair = make_pair(config=modules.config)
    populate(pair, SEED)
    pair.write_query(TABLES[request.param] + ";INSERT INTO reactions SELECT i, i, chr(97 + i % 6),"
                     f" repeat(md5(i::text), 1 + 90 * (i % 100 = 0)::int) FROM generate_series(1, {ROWS}) i")
    pair.start()
    modules.build("reaction_kinds", REACTIONS)
    return pair


def assert_exact(pair):
    settled(pair)
    pair.catch_up()
    for sql in (DEFINED, "SELECT * FROM reactions ORDER BY id"):
        there = pair.write_query(sql)
        assert there == pair.read_query(sql if "GROUP" not in sql else "SELECT * FROM reaction_kinds ORDER BY kind")
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_row") == 0
    assert pair.read_query("SELECT table_name FROM pgprojector.mirror WHERE state <> 'exact'") == []


@pytest.mark.parametrize("reacting, truncate", [("key", False), ("key", True), ("index", False), ("index", True)],
                         indirect=["reacting"])
def test_a_module_brings_a_mirror_of_its_own(reacting, truncate):
    pair = reacting
    with Churn(pair, SEED, truncate):
        result = pair.command("module", "add", "reaction_kinds")
        assert result.code == 0, f"{result}; {pair.daemon.tail()}"
    assert_exact(pair)
    assert pair.command("verify").code == 0


@pytest.mark.parametrize("reacting", ["index"], indirect=True)
def test_killed_while_a_mirror_is_added(reacting):
    """It is begun again by itself, from nothing; what is served is not touched."""
    pair = reacting
    draw = random.Random(SEED)
    with Churn(pair, SEED, False):
        pair.daemon.signal(signal.SIGHUP)
        for _ in range(4):
            threading.Event().wait(draw.uniform(0.05, 0.8))
            pair.daemon.kill()
            pair.daemon.start()
        poll(lambda: pair.read_query("SELECT 1 FROM pgprojector.projection WHERE name = 'reaction_kinds' AND state = 'live'"),
             60)
    assert_exact(pair)
    pair.assert_same("after a mirror was added")


@pytest.mark.parametrize("reacting", ["key"], indirect=True)
def test_a_table_of_the_configuration(reacting):
    """[mirrors] tables names one more: SIGHUP adds it; so does a start."""
    pair = reacting
    with open(pair.config, "a", encoding="utf-8") as config:
        config.write("[mirrors]\ntables = reactions\n")
    with Churn(pair, SEED, False):
        pair.daemon.signal(signal.SIGHUP)
        poll(lambda: pair.read_query("SELECT 1 FROM pgprojector.mirror WHERE table_name = 'reactions' AND state = 'exact'"),
             30)
    poll(lambda: pair.read_query("SELECT 1 FROM pgprojector.projection WHERE name = 'reaction_kinds' AND state = 'live'"),
         30)
    assert_exact(pair)


@pytest.mark.parametrize("reacting", ["key"], indirect=True)
def test_a_table_in_the_way_is_named_and_nothing_is_changed(reacting):
    pair = reacting
    pair.read_query("CREATE TABLE reactions (mine int)")
    result = pair.command("module", "add", "reaction_kinds")
    assert result.code == 2 and "reactions" in result.err and "exists already" in result.err, result
    assert pair.read_query("SELECT table_name FROM pgprojector.mirror WHERE table_name = 'reactions'") == []
    assert pair.read_query("SELECT * FROM reactions") == []
    pair.assert_same("as before")


# Holds up whoever writes to the mirror `first` as long as somebody has lock 7.
HOLD = """
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(7); RETURN NULL; END $$;
    CREATE FUNCTION public.held() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN IF pg_catalog.to_regclass('public.first') IS NOT NULL THEN
            CREATE OR REPLACE TRIGGER held BEFORE INSERT ON public.first EXECUTE FUNCTION public.hold(); END IF; END $$;
    CREATE EVENT TRIGGER held ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.held();
    SELECT pg_advisory_lock(7);
"""


@contextlib.contextmanager
def held_up(pair, *tables):
    """The configuration names the tables, in this order, and within the block the copy of `first` waits."""
    with open(pair.config, "a", encoding="utf-8") as config:
        config.write(f"[mirrors]\ntables = {', '.join(tables)}\n")
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute(HOLD)
        pair.daemon.signal(signal.SIGHUP)
        poll(lambda: pair.read_value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 20)
        yield
        cursor.execute("DROP EVENT TRIGGER held")


def test_a_lost_lock_is_noticed(registering):
    """A table rewritten after the snapshot and before it is copied looks empty to it; neither is that in the stream."""
    pair = registering
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY); INSERT INTO first VALUES (1);"
                     "CREATE TABLE second (id bigint PRIMARY KEY); INSERT INTO second SELECT generate_series(1, 100)")
    with held_up(pair, "first", "second"):
        assert pair.write_query("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE relation = 'second'::regclass") == [(True,)]
        pair.write_query("SET lock_timeout = '10s'; ALTER TABLE second ADD COLUMN volatile float DEFAULT random()")
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'second' AND state = 'exact'"), 30)
    assert "hold the tables' locks" in pair.daemon.since_start()
    pair.catch_up()
    assert pair.read_value("SELECT count(*) FROM second") == 100


def not_compared(pair, *names):
    result = pair.command("verify", "--json", *names)
    assert result.code == 0, result
    return {(table["kind"], table["name"]): table["notCompared"] for table in result.json["tables"] if "notCompared" in table}


def test_a_mirror_that_is_not_compared_is_named(with_first):
    """While it is being added, and when its source is gone and nothing asks for it any more."""
    pair = with_first
    with held_up(pair, "first"):
        assert not_compared(pair) == {("mirror", "public.first"): "it is still being added"}
        assert not_compared(pair, "messages") == {}
        assert "mirror public.first: it is still being added, not compared" in pair.command("verify").out
        for name in ("first", "public.first"):
            result = pair.command("verify", name)
            assert result.code == 4 and "public.first is still being added (copying)" in result.err, result
            assert "status" in result.err and "ask again" in result.err, result
    poll(lambda: pair.read_value("SELECT state = 'exact' FROM pgprojector.mirror WHERE table_name = 'first'"), 30)
    assert not_compared(pair) == {}
    assert pair.command("verify", "first").code == 0
    pair.daemon.stop()
    pair.config.write_text("# without it\n")
    pair.write_query("DROP TABLE first")
    pair.start()
    assert not_compared(pair) == {("mirror", "public.first"): "its source is gone"}
    result = pair.command("verify", "first")
    assert result.code == 2 and "mirror public.first: its source is gone" in result.err, result


def test_it_is_begun_again_when_a_halted_daemon_streams(registering):
    """It has come to its fence while the daemon was halted, for what is mended by then."""
    pair = registering
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY); INSERT INTO first VALUES (1)")
    with held_up(pair, "first"):
        pair.read_query("ALTER TABLE users ADD CONSTRAINT poison CHECK (username <> 'poison')")
        pair.write_query("INSERT INTO users (id, username) VALUES (gen_random_uuid(), 'poison')")
        pair.daemon.await_state("halted")
        pair.read_query("ALTER TABLE users DROP CONSTRAINT poison")
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'first' AND state = 'exact'"), 30)
    assert "its state is halted" in pair.daemon.since_start()
    assert pair.command("verify").code == 0


def test_the_locks_outlast_the_copy(registering):
    """Whoever holds them is idle in its transaction all the while, longer than the server lets others be."""
    pair = registering
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY); INSERT INTO first VALUES (1)")
    pair.write_query(f"ALTER DATABASE {pair.name} SET idle_in_transaction_session_timeout = '100ms'")
    with held_up(pair, "first"):
        # the guard waits, or somebody has ended it
        poll(lambda: pair.write_value("SELECT bool_and(state_change < clock_timestamp() - interval '300 ms') IS NOT FALSE"
                                      " FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'first'::regclass"), 20)
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'first' AND state = 'exact'"), 30)
    assert "hold the tables' locks" not in pair.daemon.since_start()


class AtStandby:
    """Statements whose COMMIT waits for a synchronous standby that is not there: written, streamed, and not visible until the end
    of the `with`."""

    def __init__(self, pair):
        self.pair, self.threads, self.over = pair, [], threading.Event()

    def __enter__(self):
        self.set("'nobody'")
        self.threads.append(threading.Thread(target=self.try_until_it_waits))
        self.threads[-1].start()
        self.await_waiting()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.set("''")
        for thread in self.threads:
            thread.join(20)

    def set(self, names):
        self.pair.write.query("postgres", f"ALTER SYSTEM SET synchronous_standby_names = {names}")
        self.pair.write.query("postgres", "SELECT pg_reload_conf()")

    def try_until_it_waits(self):
        """The server reads its settings anew in its own time."""
        while not self.over.is_set() and not self.waiting():
            self.pair.write_query("SELECT pg_logical_emit_message(true, 'test', 'does it wait?')")

    def waiting(self):
        return self.pair.write_value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    def await_waiting(self):
        poll(lambda: self.waiting() == len(self.threads), 20, "the wait for a standby")

    def run(self, sql):
        self.threads.append(threading.Thread(target=self.pair.write_query, args=(sql,)))
        self.threads[-1].start()
        self.await_waiting()


@pytest.fixture
def with_first(make_pair, own_clusters):
    """A write server of the test's own, with `first` in it, which is not mirrored yet."""
    pair = make_pair(write=own_clusters(), config="# to be added to\n")
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY, n int); INSERT INTO first VALUES (1, 0), (2, 0), (3, 0)")
    pair.start()
    pair.catch_up()
    return pair


INVISIBLE = "UPDATE first SET n = 1 WHERE id = 1; DELETE FROM first WHERE id = 2; INSERT INTO first VALUES (4, 0)"


def assert_first_joins(pair):
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'first' AND state = 'exact'"), 30)
    pair.catch_up()
    assert pair.read_query("SELECT * FROM first ORDER BY id") == [(1, 1), (3, 0), (4, 0)]
    assert pair.command("verify").code == 0


def await_waiting(pair):
    """For whoever is open on the source."""
    poll(lambda: pair.read_query("SELECT 1 FROM pgprojector.job WHERE kind = 'mirror' AND phase LIKE 'waiting: %'"), 30,
         "the joining to wait")


def test_a_commit_that_is_noted_before_it_is_visible(with_first):
    pair = with_first
    with contextlib.ExitStack() as until_it_waits:
        with held_up(pair, "first"):
            standby = until_it_waits.enter_context(AtStandby(pair))
            standby.run(INVISIBLE)
            poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.dirty_row") == 3, 20, "three notes")
        await_waiting(pair)
    assert_first_joins(pair)


def test_a_commit_that_is_streamed_before_the_noting_and_visible_later(with_first):
    pair = with_first
    with AtStandby(pair) as standby:
        standby.run(INVISIBLE)
        end = lsn(pair.write_value("SELECT pg_current_wal_flush_lsn()::text"))
        poll(lambda: pair.applied() >= end, 20, "the stream to pass it")
        with open(pair.config, "a", encoding="utf-8") as config:
            config.write("[mirrors]\ntables = first\n")
        pair.daemon.signal(signal.SIGHUP)
        await_waiting(pair)
    assert_first_joins(pair)


# Whoever removes notes, and does not keep the stream from noting, goes on when "all rows" has been noted again; but not for
# ever: a TRUNCATE may wait for the lock of the very round that waits here.
AGAIN = """
    CREATE FUNCTION public.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE relation = 'pgprojector.checkpoint'::regclass
                       AND pid = pg_catalog.pg_backend_pid()) AND EXISTS (SELECT FROM gone) THEN
            FOR patience IN 1..300 LOOP
                EXIT WHEN EXISTS (SELECT FROM pgprojector.dirty_row WHERE identity IS NULL);
                PERFORM pg_catalog.pg_sleep(0.001);
            END LOOP;
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER again AFTER DELETE ON pgprojector.dirty_row REFERENCING OLD TABLE AS gone EXECUTE FUNCTION public.again()
"""


def test_a_table_that_is_emptied_all_the_time(registering):
    """Each round of catching up ends with the table emptied once more."""
    pair = registering
    numbers = itertools.count(2)
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY)")
    pair.read_query(AGAIN)

    def empty():
        catching_up = pair.read_query("SELECT 1 FROM pgprojector.job WHERE kind = 'mirror' AND phase <> 'copying'")
        return f"TRUNCATE first; INSERT INTO first VALUES ({next(numbers)})" if catching_up else "SELECT"

    with contextlib.ExitStack() as until_it_has_joined:
        with held_up(pair, "first"):
            pair.write_query("INSERT INTO first VALUES (1)")
            poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.dirty_row"), 20, "a note")
            until_it_has_joined.enter_context(Statements(pair, empty, 0.005))
        poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'first' AND state = 'exact'"), 30)
    pair.catch_up()
    assert pair.read_query("SELECT id FROM first") == pair.write_query("SELECT id FROM first")


def lose_what_is_written(pair):
    """The slot goes, and what is committed then is in no stream."""
    pair.drop_slot()
    pair.write_query("UPDATE first SET n = 1 WHERE id = 1; DELETE FROM first WHERE id = 2; INSERT INTO first VALUES (4, 0)")


@pytest.fixture
def beginning(make_pair):
    """`first`, which is not mirrored yet; the daemon closes gaps by itself."""
    pair = make_pair(config="[pgprojector]\non_gap = resync\n")
    pair.write_query("CREATE TABLE first (id bigint PRIMARY KEY, n int); INSERT INTO first VALUES (1, 0), (2, 0), (3, 0)")
    pair.start()
    pair.catch_up()
    return pair


def test_a_resync_beside_makes_it_begin_anew(beginning):
    pair = beginning
    with held_up(pair, "first"):
        lose_what_is_written(pair)
        poll(lambda: "resync complete" in pair.daemon.since_start(), 30, "the resync")
        pair.daemon.await_state("streaming")
    assert_first_joins(pair)


def test_a_resync_after_a_kill_does_not_forget_what_is_left(beginning):
    pair = beginning
    with held_up(pair, "first"):
        pair.daemon.kill()
        lose_what_is_written(pair)
    result = pair.command("resync")
    assert result.code == 0, result
    assert pair.read_query("SELECT table_name, state FROM pgprojector.mirror WHERE table_name = 'first'") == [("first", "joining")]
    pair.start()
    assert_first_joins(pair)


def test_a_table_that_does_not_fit_does_not_hold_back_the_others(registering):
    pair = registering
    pair.write_query("CREATE TABLE fit (id bigint PRIMARY KEY); INSERT INTO fit VALUES (7); CREATE TABLE keyless (id bigint)")
    with open(pair.config, "a", encoding="utf-8") as config:
        config.write("[mirrors]\ntables = keyless, fit, absent\n")
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'fit' AND state = 'exact'"), 20)
    pair.catch_up()
    assert pair.read_query("SELECT id FROM fit") == [(7,)]
    poll(lambda: all(f"public.{name}" in pair.daemon.since_start() for name in ("keyless", "absent")), 10)
