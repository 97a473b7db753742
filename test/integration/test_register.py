"""Modules registered, exchanged and removed while the daemon runs: the others go on, and nothing is ever half there."""
import contextlib
import os
import random
import shutil
import signal
import threading

import pytest

from harness.beside import Reader, never_fewer
from harness.cluster import poll
from harness.modules import Modules
from harness.pair import Sampler
from harness.scenes import SEED, do
from harness.workload import Workload


def state_of(pair, name):
    rows = pair.read_query("SELECT state, module_version FROM pgprojector.projection WHERE name = %s", (name,))
    return rows[0] if rows else None


def live(pair, name, version=1, timeout=30):
    try:
        poll(lambda: state_of(pair, name) == ("live", version), timeout)
    except TimeoutError:
        raise AssertionError(f"{state_of(pair, name)}; requests {pair.read_query('SELECT * FROM pgprojector.request')};"
                             f" log:\n{pair.daemon.tail()}") from None


def settled(pair):
    """All requests have ended, and what the daemon does by itself: a projection is live before its job is at its end."""
    poll(lambda: not pair.read_query("SELECT id FROM pgprojector.request WHERE state IN ('waiting', 'running') UNION ALL"
                                     " SELECT id FROM pgprojector.job"), 20, "the end of requests and jobs")


def assert_titles(pair, columns="title"):
    expected = pair.write_query(f"SELECT id::text, {columns} FROM conversations ORDER BY id")
    assert pair.read_query(f"SELECT id::text, {columns} FROM titles ORDER BY id") == expected


def no_traces(pair):
    settled(pair)
    assert pair.read_query("SELECT name FROM pgprojector.projection WHERE strpos(name, '.') > 0") == []
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") == 0
    assert pair.read_query("SELECT relname FROM pg_class WHERE relname ~ '__(next|kept)' AND relkind = 'r'") == []


def test_a_new_module_is_added_under_load(registering, modules):
    pair = registering
    workload = Workload(pair, SEED, writers=2, pace=0.002).start()
    modules.titles()
    with Sampler(pair):
        result = pair.command("module", "add", "titles")
        assert result.code == 0 and "titles is registered" in result.out, result
        assert state_of(pair, "titles") == ("live", 1)
        workload.stop()
    pair.assert_same("after a module was added")
    assert_titles(pair)
    no_traces(pair)
    assert pair.command("verify", "titles").code == 0
    listed = {entry["name"]: entry for entry in pair.command("module", "list", "--json").json}
    assert listed["titles"]["state"] == "live" and listed["titles"]["recorded"] == 1, listed
    assert listed["chat_mirrors"]["state"] == "mirrors only"
    assert pair.command("module", "add", "titles").code == 0, "again: nothing is to be done"


def test_a_new_version_is_built_beside_and_swapped_in(registering, modules):
    """By SIGHUP; readers never find the table missing, empty, partial or going back."""
    pair = registering
    modules.titles()
    pair.daemon.signal(signal.SIGHUP)
    live(pair, "titles")
    workload = Workload(pair, SEED, writers=2, pace=0.002, without=("delete_conversation", "change_conversation_key", "truncate", "empty")).start()
    modules.titles(2, "upper(c.title) AS title, c.type")
    with Reader(pair, "SELECT count(*) FROM titles", never_fewer, 0.002):
        pair.daemon.signal(signal.SIGHUP)
        live(pair, "titles", 2)
    workload.stop()
    pair.assert_same("after a new version")
    assert pair.read_query("SELECT id::text, title, type FROM titles ORDER BY id") == \
        pair.write_query("SELECT id::text, upper(title), type FROM conversations ORDER BY id")
    no_traces(pair)


def test_a_file_that_is_overwritten_does_not_concern_what_is_in_memory(registering, modules):
    pair = registering
    built = modules.titles(place=False)
    shutil.copy(built, modules.path / "titles.so")
    assert pair.command("module", "add", "titles").code == 0
    shutil.copyfile(modules.titles(2, "c.type AS title", place=False), modules.path / "titles.so")  # cp: in place
    pair.write_query("UPDATE conversations SET title = 'changed'")
    pair.catch_up()
    assert pair.daemon.running
    assert_titles(pair)
    assert pair.command("module", "add", "titles").code == 0
    assert pair.read_query("SELECT id::text, title FROM titles ORDER BY id") == \
        pair.write_query("SELECT id::text, type FROM conversations ORDER BY id")


def test_remove_and_add_again(registering, modules):
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    result = pair.command("module", "remove", "titles")
    assert result.code == 0 and "its table stays" in result.out, result
    assert state_of(pair, "titles") == ("retired", 1)
    before = pair.read_query("SELECT * FROM titles ORDER BY id")
    pair.write_query("UPDATE conversations SET title = 'after'")
    pair.assert_same("without titles")
    assert pair.read_query("SELECT * FROM titles ORDER BY id") == before
    pair.daemon.signal(signal.SIGHUP)  # its file is still there, but it was removed
    assert pair.command("module", "add", "titles").code == 0
    assert_titles(pair)
    assert pair.command("module", "remove", "titles", "--drop-table").code == 0
    assert pair.read_value("SELECT to_regclass('titles') IS NULL")
    named = {entry["name"]: (entry["schema"], entry["table"]) for entry in pair.command("status", "--json").json["projections"]}
    assert named["titles"] == (None, None) and named["conversation_summary"] == ("public", "conversation_summary"), named
    assert "titles (no table): retired since" in pair.command("status").out
    listed = {entry["name"]: entry.get("table") for entry in pair.command("module", "list", "--json").json}
    assert listed["titles"] is None, "what is gone is not named among what is there to be dropped"
    pair.daemon.stop()
    pair.start()
    assert state_of(pair, "titles")[0] == "retired", "a restart does not bring it back"
    assert pair.command("module", "add", "titles").code == 0
    assert_titles(pair)
    no_traces(pair)
    for words in (["remove", "chat_mirrors"], ["remove", "nobody"], ["add", "nobody"], ["remove"], ["add", "titles", "--drop-table"],
                  ["remove", "titles", "--keep-old"]):
        result = pair.command("module", *words)
        assert result.code == 2 and result.err, result


def test_the_directory_of_the_daemon_is_named(registering, modules):
    """Not that of the program which happens to ask."""
    pair, other = registering, modules.path / "other"
    other.mkdir(mode=0o755)
    elsewhere, mixed_up = other / "titles.so", {"PGPROJECTOR_MODULE_DIR": str(other)}
    shutil.copy(modules.titles(place=False), elsewhere)
    for operand in ("titles", elsewhere):
        result = pair.command("module", "add", operand, **mixed_up)
        assert result.code == 2 and f"in the module directory, {modules.path}\n" in result.err, result
    modules.titles()
    result = pair.command("module", "add", elsewhere, **mixed_up)
    assert result.code == 2 and f"is loaded from {modules.path}/titles.so: copy it there" in result.err, result
    assert state_of(pair, "titles") is None
    assert pair.command("module", "add", modules.path / "titles.so", **mixed_up).code == 0
    pair.daemon.stop()
    result = pair.command("module", "add", elsewhere)
    assert result.code == 2 and f"is loaded from {modules.path}/titles.so" in result.err, result


def test_a_new_version_may_keep_the_former_table(registering, modules):
    """There is a way back then."""
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    modules.titles(2, "c.type AS title")
    kept = pair.command("module", "add", "titles", "--keep-old")
    assert kept.code == 0 and "is kept" in kept.out and state_of(pair, "titles") == ("live", 2), kept
    pair.write_query("UPDATE conversations SET title = 'after'")
    modules.titles()
    back = pair.command("rebuild", "titles", "--rollback")
    assert back.code == 0 and state_of(pair, "titles") == ("live", 1), back
    pair.catch_up()
    assert_titles(pair)


def test_what_is_not_compared_or_kept_up_is_said(registering, modules):
    """A live projection whose file is not to be had, and one that was removed, while the daemon runs."""
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    (modules.path / "titles.so").rename(modules.path / "aside")
    result = pair.command("verify")
    assert result.code == 0 and "projection titles: its module's file is missing" in result.out, result
    assert "notCompared" in {key for table in pair.command("verify", "--json").json["tables"] for key in table}
    for verb in ("verify", "rebuild", "resume"):
        result = pair.command(verb, "titles")
        assert result.code == 2 and "file is missing" in result.err and "module add titles" in result.err, result
    (modules.path / "aside").rename(modules.path / "titles.so")
    assert pair.command("verify", "titles").code == 0
    modules.titles(2, "c.type AS title")
    for words, code in (([], 0), (["titles"], 2)):
        result = pair.command("verify", *words)
        said = "projection titles: its module's file is of another version or definition than its table"
        assert result.code == code and said in result.out + result.err, result
    assert "module add titles" in result.err, result
    modules.titles()
    assert pair.command("module", "remove", "titles").code == 0
    for verb, code in (("verify", 2), ("rebuild", 2), ("pause", 1), ("resume", 1)):
        result = pair.command(verb, "titles")
        assert result.code == code and "module add titles" in result.err, result
    result = pair.command("rebuild", "--all")
    assert result.code == 0 and "titles" not in result.out, result


def test_broken_ones_change_nothing(registering, modules):
    pair = registering
    streams = pair.daemon.since_start().count("streaming from slot")
    (modules.path / "titles.so").write_text("no module")
    assert pair.command("module", "add", "titles").code == 2
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: "it is left out" in pair.daemon.since_start())
    modules.titles(1, "c.nothing")
    result = pair.command("module", "add", "titles")
    assert result.code == 2 and "nothing" in result.out + result.err, result
    modules.titles()
    pair.read_query("CREATE TABLE titles (id uuid)")
    result = pair.command("module", "add", "titles")
    assert result.code == 2 and "already a table" in result.err and "drop or rename" in result.err, result
    pair.read_query("DROP TABLE titles")
    modules.titles(sources='{"further", "id", NULL},')
    result = pair.command("module", "add", "titles")
    assert result.code == 2 and "further" in result.err and "does not exist" in result.err, result
    assert state_of(pair, "titles") is None
    assert [request["state"] for request in pair.command("status", "--json").json["requests"]] == ["failed"]
    put_away = pair.command("rebuild", "titles", "--cancel")
    assert put_away.code == 0 and "what had failed is forgotten" in put_away.out, put_away
    assert pair.command("status", "--json").json["requests"] == []
    assert pair.daemon.since_start().count("streaming from slot") == streams, "nobody else has noticed"
    (modules.path / "titles.so").write_text("no module")
    pair.daemon.stop()
    pair.start()  # a broken file that was never registered keeps nobody from starting
    no_traces(pair)
    pair.assert_same("after all that")


def test_without_its_module_a_projection_stands_still(registering, modules):
    """A file that vanished retires nothing: it goes on in memory; after a restart it stands still, until it comes back."""
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    os.rename(modules.path / "titles.so", modules.path / "titles.away")
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: "goes on as it is in memory" in pair.daemon.since_start())
    pair.write_query("UPDATE conversations SET title = 'still maintained'")
    pair.catch_up()
    assert_titles(pair)
    pair.daemon.stop()
    pair.start()
    assert state_of(pair, "titles")[0] == "paused"
    status = pair.command("status", "--json")
    reasons = {entry["name"]: entry["reason"] for entry in status.json["projections"]}
    assert "stands still" in reasons["titles"], reasons
    assert status.code == 4 and status.json["healthy"] is False and "titles is not kept up" in status.json["reason"], status
    (noted,) = pair.read_query("SELECT id FROM pgprojector.dirty_key WHERE projection = 'titles' AND key IS NULL")
    pair.daemon.stop()
    pair.start()
    (again,) = pair.read_query("SELECT id FROM pgprojector.dirty_key WHERE projection = 'titles' AND key IS NULL")
    assert again > noted, "it was noted behind an entry that a resume under way may be about to drop"
    pair.write_query("UPDATE conversations SET title = 'nobody notes this'")
    pair.catch_up()
    os.rename(modules.path / "titles.away", modules.path / "titles.so")
    pair.daemon.signal(signal.SIGHUP)
    live(pair, "titles")
    assert pair.command("status").code == 0
    assert_titles(pair)
    no_traces(pair)


def test_what_stands_still_and_is_acknowledged_stays_paused(registering, modules):
    pair = registering
    modules.titles()
    do(pair, "module", "add", "titles")
    pair.daemon.stop()
    os.rename(modules.path / "titles.so", modules.path / "titles.away")
    pair.start()
    assert pair.command("status").code == 4
    assert "stands still" in do(pair, "pause", "titles").out
    do(pair, "status")
    pair.write_query("UPDATE conversations SET title = 'nobody notes this'")
    os.rename(modules.path / "titles.away", modules.path / "titles.so")
    do(pair, "module", "add", "titles")
    assert state_of(pair, "titles")[0] == "paused", "its module is back, but somebody wants it paused"
    do(pair, "resume", "titles")
    assert_titles(pair)
    no_traces(pair)


def test_a_new_version_found_at_the_start_is_built_meanwhile(registering, modules):
    pair = registering
    modules.titles()
    assert pair.command("module", "add", "titles").code == 0
    pair.daemon.stop()
    pair.write_query("UPDATE conversations SET title = 'while nobody looked'")
    modules.titles(2, "lower(c.title) AS title")
    pair.start()
    live(pair, "titles", 2)
    pair.catch_up()
    assert pair.read_query("SELECT id::text, title FROM titles ORDER BY id") == \
        pair.write_query("SELECT id::text, lower(title) FROM conversations ORDER BY id")
    no_traces(pair)


def test_without_a_daemon_the_command_does_it(registering, modules):
    pair = registering
    pair.catch_up()
    pair.daemon.stop()
    modules.titles()
    result = pair.command("module", "add", "titles")
    assert result.code == 0 and state_of(pair, "titles") == ("live", 1), result
    modules.titles(2, "c.type AS title")
    assert pair.command("module", "add", "titles").code == 0 and state_of(pair, "titles") == ("live", 2)
    pair.start()
    pair.write_query("UPDATE conversations SET type = 'other'")
    pair.catch_up()
    assert pair.read_query("SELECT DISTINCT title FROM titles") == [("other",)]
    pair.daemon.stop()
    assert pair.command("module", "remove", "titles", "--drop-table").code == 0
    assert pair.read_value("SELECT to_regclass('titles') IS NULL")
    no_traces(pair)


@pytest.mark.parametrize("lasting", ["control", "apply"])
def test_a_daemon_that_has_just_stopped_is_not_asked(registering, modules, lasting):
    """The server may end its sessions after the process, the one with the lock last or not. Whoever took it for running would
    wait for its answer."""
    pair = registering
    keys = pair.read_query("SELECT classid::int, objid::int FROM pg_locks WHERE locktype = 'advisory' AND database ="
                           " (SELECT oid FROM pg_database WHERE datname = current_database())")[0]
    pair.daemon.stop()
    modules.titles()
    with contextlib.closing(pair.read_connection()) as last, last.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s); SELECT set_config('application_name', %s, false)",
                       (*keys, f"pgprojector {lasting}"))
        process = pair.launch("module", "add", "titles")
        poll(lambda: pair.read_query("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                     " AND application_name = 'pgprojector module' AND query ~ 'pgprojector control|Who holds|pg_try_advisory'"),
             what="a look for the daemon", interval=0.001)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and state_of(pair, "titles") == ("live", 1), (out, err)
    assert pair.read_query("SELECT id FROM pgprojector.request") == [], "the daemon was asked"


def test_killed_at_any_stage_it_goes_on(registering, modules):
    pair, rng = registering, random.Random(SEED)
    workload = Workload(pair, SEED, writers=1, pace=0.005, tolerant=True).start()
    for version in range(1, 7):
        modules.titles(version, f"c.title || '{version}' AS title")
        pair.daemon.signal(signal.SIGHUP)
        moment = rng.random() * 0.6
        threading.Event().wait(moment)
        pair.daemon.kill()
        pair.start()
        live(pair, "titles", version)
    workload.stop()
    pair.assert_same("after kills")
    assert pair.read_query("SELECT id::text, title FROM titles ORDER BY id") == \
        pair.write_query("SELECT id::text, title || '6' FROM conversations ORDER BY id")
    no_traces(pair)


def test_settings_are_read_again(registering, modules):
    pair = registering
    pair.config.write_text(modules.config + "log_level = debug\nbatch_bytes = 1MB\n")
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: "batch_bytes has changed, which takes effect when the daemon is started again"
         in pair.daemon.since_start())
    assert "log_level has changed" in pair.daemon.since_start()
    pair.config.write_text("[pgprojector]\nnonsense = 1\n")
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: "the former one stays in force: " in pair.daemon.since_start() and "nonsense" in pair.daemon.since_start())
    pair.assert_same("after reloading")
