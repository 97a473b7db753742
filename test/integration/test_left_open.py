"""Tables of ours that are to go while somebody has them open: nothing is begun anew for that, and nobody else waits."""
import contextlib
import signal

import pytest

from harness.cluster import poll
from harness.modules import pair_with_titles
from test_fresh import finished, oid


@pytest.fixture
def pair(make_pair, tmp_path):
    pair = pair_with_titles(make_pair, tmp_path, "c.title")
    pair.catch_up()
    return pair


@contextlib.contextmanager
def reader(pair, table):
    """A transaction that has read it; its pid."""
    with contextlib.closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute(f"BEGIN; SELECT count(*) FROM {table}")
        yield conn.info.backend_pid


def module(pair, name):
    pair.modules.titles(name=name, target=name)


def gone(pair, *tables):
    """They are dropped in the daemon's next rest."""
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: not any(oid(pair, table) for table in tables), 20, f"the end of {tables}")
    assert pair.read_query("SELECT * FROM pgprojector.discarded") == []


def says(pair, pid):
    """`status` names the session that is waited for."""
    return poll(lambda: f"pid {pid}" in pair.command("status").out, 20, "a reason in status")


def test_the_table_kept_of_the_last_swap_is_read(pair):
    """One more that is kept gets another name; the table is built once."""
    assert pair.command("rebuild", "titles", "--fresh", "--keep-old").code == 0
    first, second = oid(pair, "titles__kept"), oid(pair, "titles")
    with reader(pair, "titles__kept"):
        result = pair.command("rebuild", "titles", "--fresh", "--keep-old")
        assert result.code == 0, result
        assert (oid(pair, "titles__kept"), oid(pair, "titles__kept2")) == (first, second)
        assert pair.daemon.since_start().count("its table is being built beside") == 2, pair.daemon.tail()
    gone(pair, "titles__kept")
    result = pair.command("rebuild", "titles", "--rollback")
    assert result.code == 0 and oid(pair, "titles") == second, result
    assert pair.command("verify").code == 0
    assert pair.command("rebuild", "titles", "--fresh", "--keep-old").code == 0
    pair.read_query("CREATE VIEW former AS SELECT * FROM titles__kept")
    assert pair.command("rebuild", "titles", "--fresh").code == 0
    poll(lambda: "drop what depends on it" in pair.daemon.since_start(), 20, "a word of the view")
    assert pair.read_value("SELECT count(*) FROM former") == 5


def test_a_table_beside_is_read(pair):
    """A daemon was killed while it built, or before it dropped what was replaced: its own module's request waits, says for whom,
    and may be given up, all others are served."""
    pair.daemon.stop()
    for suffix, state, reason in ("next", "building", None), ("kept", "retired", "replaced"):
        pair.read_query(f"CREATE TABLE titles__{suffix} AS SELECT * FROM titles; INSERT INTO pgprojector.projection (name,"
                        f" module_version, target_schema, target_table, key, definition, state, reason) SELECT 'titles.{suffix}',"
                        f" module_version, target_schema, 'titles__{suffix}', key, definition, '{state}', %s"
                        " FROM pgprojector.projection WHERE name = 'titles'", (reason,))
    with reader(pair, "titles__kept"), reader(pair, "titles__next") as pid:
        pair.start()
        given_up = pair.launch("rebuild", "titles", "--fresh")
        says(pair, pid)
        module(pair, "others")
        assert pair.command("module", "add", "others").code == 0
        assert pair.command("rebuild", "titles", "--cancel").code == 0
        assert "cancelled" in finished(given_up, 1)[1]
        process = pair.launch("rebuild", "titles", "--fresh")
    gone(pair, "titles__next", "titles__kept")
    finished(process)
    pair.write_query("UPDATE conversations SET title = 'other'")
    pair.catch_up()
    assert pair.command("verify").code == 0


def test_a_table_that_is_to_be_dropped_is_read(pair):
    """The module is removed once, however often the drop is tried."""
    module(pair, "removed")
    assert pair.command("module", "add", "removed").code == 0
    roster = pair.read_value("SELECT roster FROM pgprojector.checkpoint")
    with reader(pair, "removed") as pid:
        process = pair.launch("module", "remove", "removed", "--drop-table")
        says(pair, pid)
        module(pair, "others")
        assert pair.command("module", "add", "others").code == 0
        assert oid(pair, "removed")
    gone(pair, "removed")
    finished(process)
    assert pair.read_value("SELECT roster FROM pgprojector.checkpoint") == roster + 2, "one removed, one added"


def test_a_mirror_that_was_never_finished_is_read(pair):
    """Of a daemon that was killed while it copied a table that the configuration names."""
    pair.write_query("CREATE TABLE further (id uuid PRIMARY KEY); INSERT INTO further SELECT gen_random_uuid()")
    pair.daemon.stop()
    with open(pair.config, "a", encoding="utf-8") as config:
        config.write("[mirrors]\ntables = further\n")
    pair.read_query("CREATE TABLE further (id uuid); INSERT INTO pgprojector.mirror (schema_name, table_name, source_oid, columns,"
                    " types, key, identity, state) VALUES ('public', 'further', 1, '{id}', '{uuid}', '{id}', '{id}', 'joining')")
    with reader(pair, "further") as pid:
        pair.start()
        says(pair, pid)
        module(pair, "others")
        assert pair.command("module", "add", "others").code == 0
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: pair.read_query("SELECT state FROM pgprojector.mirror WHERE table_name = 'further'") == [("exact",)], 20, "it")
    assert pair.read_value("SELECT count(*) FROM further") == 1
