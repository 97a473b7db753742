"""`rebuild NAME --cancel` reaches what is under way, whatever it waits for: it ends soon, and leaves nothing behind."""
import contextlib
import signal
import subprocess

import pytest

from harness.cluster import poll
from harness.daemon import PROGRAM, environment
from harness.history import populate
from harness.modules import Modules
from harness.scenes import SEED

MODULE = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{TABLE, "id", NULL}, {NULL, NULL, NULL}};
static const char *const key[] = {"id", NULL};
static const char *const indexes[] = {"{" TABLE "} (" COLUMN ")", NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "added",
    .version = 1, .description = "added", .sources = sources, .target = "added", .key = key, .mirror_indexes = indexes,
    .definition = "SELECT t.id, t." COLUMN " FROM {" TABLE "} AS t WHERE {keys(t.id)}",
};
const struct pj_module *pj_module(void)
{
    return &module;
}
"""
# a mirror that takes its rows slowly
SLOW = """
    CREATE FUNCTION public.slow_row() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_catalog.pg_sleep(0.01); RETURN NEW; END $$;
    CREATE FUNCTION public.slow_table() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN IF pg_catalog.to_regclass('public.notes') IS NOT NULL THEN
            CREATE TRIGGER slow BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.slow_row(); END IF; END $$;
    CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.slow_table();
"""


@pytest.fixture
def pair(make_pair, tmp_path):
    modules = Modules(tmp_path)
    made = make_pair(config=modules.config)
    made.modules = modules
    populate(made, SEED)
    made.write_query("CREATE TABLE notes (id bigint PRIMARY KEY, body text);"
                     "INSERT INTO notes SELECT i, 'note' FROM generate_series(1, 10000) i")
    made.start()
    made.catch_up()
    return made


def add(pair, table, column):
    pair.modules.build("added", MODULE, defines=[f'-DTABLE="{table}"', f'-DCOLUMN="{column}"'])


@contextlib.contextmanager
def begun(pair, *words):
    """A command that is to be cancelled in the `with`: it then ends by itself, and not as if it had done its work. Without that it
    would go on for a minute at least."""
    process = subprocess.Popen([PROGRAM, "-c", str(pair.config), *words], env=environment(pair.write_url, pair.read_url),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.out, process.err = process.communicate(timeout=20)
        assert process.returncode == 1, (process.returncode, process.out, process.err)
    finally:
        process.kill()


def cancel(pair, name):
    result = pair.command("rebuild", name, "--cancel")
    assert result.code == 0 and "asked to be given up" in result.out, result


def waiting(pair, table):
    return pair.read_value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass(%s)", (table,))


class Lock:
    """A table that nobody else can open, from take() to the end of the `with` or release()."""

    def __init__(self, pair, table):
        self.conn, self.table = pair.read_connection(), table
        self.cursor = self.conn.cursor()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    def take(self):
        self.cursor.execute(f"BEGIN; LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")

    def release(self):
        self.cursor.execute("ROLLBACK")


def sessions(query, purpose):
    return query("SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()",
                 (f"pgprojector {purpose}",))


def assert_nothing_left(pair):
    assert pair.read_query("SELECT name FROM pgprojector.projection WHERE name LIKE 'added%'") == []
    assert pair.read_query("SELECT relname FROM pg_class WHERE relname ~ '^(added|notes)'") == []
    assert pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = 'notes'") == 0
    assert pair.read_query("SELECT kind, name FROM pgprojector.job") == []
    for table in ("dirty_row", "dirty_key"):
        assert pair.read_value(f"SELECT count(*) FROM pgprojector.{table}") == 0
    assert pair.read_value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    pair.assert_same("after the cancellation")


def test_a_mirror_that_is_being_copied(pair):
    pair.read_query(SLOW)
    add(pair, "notes", "body")
    with begun(pair, "module", "add", "added") as process:
        poll(lambda: sessions(pair.read_query, "copy"), 20)
        cancel(pair, "added")
    assert "cancelled" in process.err, (process.out, process.err)
    assert_nothing_left(pair)
    pair.await_end_of("copy")
    pair.read_query("DROP EVENT TRIGGER slow")
    assert pair.command("module", "add", "added").code == 0, "it may be added again"
    assert pair.command("verify").code == 0


def test_a_mirror_of_the_configuration(pair):
    """Nobody has entered a request for it: it is called by its table, and not begun again by itself."""
    pair.read_query(SLOW)
    with open(pair.config, "a", encoding="utf-8") as config:
        config.write("[mirrors]\ntables = notes\n")
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: sessions(pair.read_query, "copy"), 20)
    cancel(pair, "notes")
    poll(lambda: "was cancelled" in pair.daemon.since_start() and not pair.read_value("SELECT count(*) FROM pgprojector.job"))
    assert_nothing_left(pair)


def test_an_index_that_waits_for_an_old_snapshot(pair):
    """`status` says so, and whose it is."""
    add(pair, "conversations", "title")
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pgprojector.checkpoint")
        with begun(pair, "module", "add", "added") as process:
            poll(lambda: pair.read_value("SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"), 20)
            job = f"indexing the mirrors: waiting for pid {conn.info.backend_pid} (postgres, test), in a transaction since"
            poll(lambda: job in pair.command("status").out, 20, "the reason in status")
            cancel(pair, "added")
    assert "cancelled" in process.err, (process.out, process.err)
    assert_nothing_left(pair)


def test_a_removal_that_waits_for_a_reader(pair):
    """The module is removed, its table stays; nobody waits behind."""
    add(pair, "conversations", "title")
    assert pair.command("module", "add", "added").code == 0
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN; SELECT count(*) FROM added")
        with begun(pair, "module", "remove", "added", "--drop-table") as process:
            poll(lambda: waiting(pair, "added"), 20)
            pair.read_query("SET statement_timeout = '20s'; SELECT count(*) FROM added")
            cancel(pair, "added")
    assert "its table public.added stays" in process.err, (process.out, process.err)
    assert pair.read_value("SELECT state FROM pgprojector.projection WHERE name = 'added'") == "retired"
    assert pair.command("module", "remove", "added", "--drop-table").code == 0
    assert pair.read_value("SELECT to_regclass('added') IS NULL")


def test_a_resume_that_waits_for_a_locked_table(pair):
    """It holds up the stream meanwhile. The projection stays paused, and may be resumed again."""
    assert pair.command("pause", "conversation_summary").code == 0
    pair.write_query("UPDATE conversations SET title = 'noted'")
    pair.catch_up()
    with Lock(pair, "conversation_summary") as target:
        target.take()
        with begun(pair, "resume", "conversation_summary") as process:
            poll(lambda: waiting(pair, "conversation_summary"), 20)
            cancel(pair, "conversation_summary")
    assert "is still paused: cancelled" in process.err, (process.out, process.err)
    assert pair.command("resume", "conversation_summary").code == 0
    assert_nothing_left(pair)


def test_a_comparison_in_place(pair):
    with Lock(pair, "pgprojector.dead_letter") as before, Lock(pair, "conversation_summary") as target:
        before.take()  # it looks there before it compares
        with begun(pair, "rebuild", "conversation_summary") as process:
            poll(lambda: waiting(pair, "pgprojector.dead_letter"), 20)
            target.take()
            before.release()
            poll(lambda: waiting(pair, "conversation_summary"), 20)
            cancel(pair, "conversation_summary")
    assert "rebuild conversation_summary was cancelled" in process.err, (process.out, process.err)
    assert_nothing_left(pair)
