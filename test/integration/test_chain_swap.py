"""Tables that others are chained on are swapped, and the others registered, exchanged and removed, while the daemon runs."""
import os
import random
import shutil
import signal
import threading

import pytest

from harness.beside import Reader, never_fewer
from harness.daemon import ROOT
from harness.history import populate
from harness.modules import Modules
from harness.scenes import SEED, do, load
from harness.schema import example
from test_register import live, no_traces, settled, state_of

UP, DOWN = "user_conversation_membership", "user_unread"
EMPTYING = ("delete_conversation", "change_conversation_key", "truncate", "empty")  # left out where readers count rows

# Conversations by title, and the titles' lengths, of which the second reads the first one's table.
NAMES = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{"conversations", ROUTE, NULL}, {NULL, NULL, NULL}};
static const char *const key[] = {KEY, NULL};
#ifdef MERGE
static const struct pj_column columns[] = {{"id", PJ_UUID}, {NULL, PJ_ANY}};
static const struct pj_source told[] = {{"conversations", "id", columns}, {NULL, NULL, NULL}};
static const struct pj_stream_column delta[] = {{"id", PJ_UUID, PJ_KEY}, {"n", PJ_INT8, PJ_SUM}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"s", delta, MERGE}, {NULL, NULL, NULL}};
static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    const struct pj_value *row = change->new_row ? change->new_row : change->old_row;
    host->dirty(call, row, 1);
    return 0;
}
#endif
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "names",
    .version = VERSION, .description = "names", .target = "names", .key = key,
#ifdef MERGE
    .sources = told, .streams = streams, .apply = apply,
#else
    .sources = sources,
#endif
    .definition = "SELECT " COLUMNS " FROM {conversations} AS c",
};
const struct pj_module *pj_module(void) { return &module; }
"""
LENGTHS = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{"names", "id", NULL}, {NULL, NULL, NULL}};
static const char *const key[] = {"id", NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "lengths",
    .version = 1, .description = "lengths", .sources = sources, .target = "lengths", .key = key,
    .definition = "SELECT n.id, length(n.name) AS n, n.kind FROM {names} AS n WHERE {keys(n.id)}",
};
const struct pj_module *pj_module(void) { return &module; }
"""
TWICE = ("WITH more AS (INSERT INTO {target} SELECT id, 'x', 'y' FROM {delta} AS d ON CONFLICT DO NOTHING)"
         " UPDATE {target} AS t SET name = 'x' FROM {delta} AS d WHERE t.id = d.id")


class ChainModules(Modules):
    def names(self, version=1, columns="c.id, c.title AS name, c.type AS kind", key='"id"', route='"id"', merge=None):
        self.build("names", NAMES, defines=[f"-DVERSION={version}", f'-DCOLUMNS="{columns}"', f"-DKEY={key}",
                                            f"-DROUTE={route}",
                                            *([f'-DMERGE="{merge}"'] if merge else [])])

    def lengths(self):
        self.build("lengths", LENGTHS)

    def memberships(self, version):
        """Another version of the memberships, by which who has read nothing has all unread, or none."""
        text = (ROOT / "projections" / UP / f"{UP}.c").read_text()
        was = '{"null_last_read", "none"'
        assert was in text and ".version = 1" in text
        self.build(UP, text.replace(was, was.replace("none", "all" if version % 2 == 0 else "none"))
                   .replace(".version = 1", f".version = {version}"))

    def unread(self):
        shutil.copy(example(DOWN), self.path)


@pytest.fixture
def modules(tmp_path):
    return ChainModules(tmp_path)


@pytest.fixture
def registering(registering):
    """With members who have read nothing, by which the versions of the memberships differ."""
    registering.write_query("UPDATE user_conversations SET last_read_at = NULL WHERE conversation_id IN"
                            " (SELECT conversation_id FROM messages WHERE deleted_at IS NULL)")
    return registering


@pytest.fixture
def chained(registering, modules):
    """With a projection chained on a live one."""
    modules.unread()
    do(registering, "module", "add", DOWN)
    return registering


@pytest.fixture
def named(registering, modules):
    """The modules names and lengths are there, and not registered."""
    modules.names()
    modules.lengths()
    return registering


def exact(pair, *names):
    pair.catch_up()
    do(pair, "verify", *(names or (UP, DOWN)))


def test_swaps_under_load(registering, modules):
    """A downstream is added to a live projection, removed, added again; then what it reads is exchanged under it."""
    pair = registering
    modules.unread()
    with load(pair, tolerant=True, without=EMPTYING):
        do(pair, "module", "add", DOWN)
        do(pair, "module", "remove", DOWN)
        do(pair, "module", "add", DOWN)
        assert state_of(pair, DOWN) == ("live", 1)
        with Reader(pair, f"SELECT (count(*) > 0)::int FROM {DOWN}", never_fewer, 0.002):
            modules.memberships(2)
            do(pair, "module", "add", UP)
            assert (state_of(pair, UP), state_of(pair, DOWN)) == (("live", 2), ("live", 1))
            do(pair, "rebuild", UP, "--fresh", "--keep-old")
            do(pair, "rebuild", UP, "--rollback")
            do(pair, "rebuild", DOWN, "--fresh")
            assert (state_of(pair, UP), state_of(pair, DOWN)) == (("live", 2), ("live", 1))
    exact(pair)
    no_traces(pair)


def test_readers_of_what_is_chained_see_all_of_it(chained, modules):
    """Nobody's row goes while the table that it is made of is exchanged."""
    pair = chained
    with Reader(pair, f"SELECT (SELECT count(*) FROM {DOWN}), (SELECT count(*) FROM {UP})", never_fewer, 0.002):
        for version in (2, 3):
            modules.memberships(version)
            do(pair, "module", "add", UP)
    exact(pair)
    before = pair.read_query(f"SELECT * FROM {DOWN} ORDER BY 1")
    pair.daemon.stop()
    modules.memberships(4)
    do(pair, "module", "add", UP)  # the same without a daemon
    assert state_of(pair, DOWN) == ("live", 1)
    assert pair.read_query(f"SELECT * FROM {DOWN} ORDER BY 1") != before
    pair.read_query(f"UPDATE {UP} SET unread_count = 0; UPDATE {DOWN} SET unread_messages = 7")
    do(pair, "rebuild", UP, "--fresh")
    assert state_of(pair, DOWN) == ("live", 1)
    pair.start()
    exact(pair)
    no_traces(pair)


def test_killed_around_the_swap(chained, modules):
    pair, rng = chained, random.Random(f"{SEED}/chain swap")
    with load(pair, 1, tolerant=True):
        for version in range(2, 6):
            modules.memberships(version)
            pair.daemon.signal(signal.SIGHUP)
            threading.Event().wait(rng.random() * 0.5)
            pair.daemon.kill()
            pair.start()
            live(pair, UP, version)
            live(pair, DOWN)
    exact(pair)
    no_traces(pair)


def test_what_was_left_to_be_caught_up_is_resumed(chained, modules):
    """As a kill right after the swap's commit leaves it; a projection that somebody paused stays so."""
    pair = chained
    pair.daemon.kill()
    pair.read_query(f"UPDATE {DOWN} SET unread_messages = 99; INSERT INTO pgprojector.dirty_key (projection) VALUES ('{DOWN}');"
                    f" UPDATE pgprojector.projection SET state = 'paused', reason = 'catching up: x' WHERE name = '{DOWN}'")
    pair.start()
    live(pair, DOWN)
    exact(pair)
    do(pair, "pause", DOWN)
    pair.write_query("UPDATE conversations SET title = 'x'")
    exact(pair, UP)
    modules.memberships(2)
    do(pair, "module", "add", UP)
    assert state_of(pair, DOWN)[0] == "paused"
    do(pair, "resume", DOWN)
    exact(pair)


def test_what_was_acknowledged_is_not_resumed(chained):
    """Of two that are left to be caught up with, the one that comes first by name is taken over."""
    pair, first = chained, "conversation_summary"
    pair.daemon.kill()
    for name in (first, DOWN):
        pair.read_query(f"INSERT INTO pgprojector.dirty_key (projection) VALUES ('{name}');"
                        f" UPDATE pgprojector.projection SET state = 'paused', reason = 'catching up: x' WHERE name = '{name}'")
    assert "catching up" in do(pair, "pause", first).out
    pair.start()
    live(pair, DOWN)
    assert state_of(pair, first)[0] == "paused"
    do(pair, "resume", first)
    exact(pair, first)


def test_without_the_module_upstream_both_stand_still(chained, modules):
    """Its file is gone at a start: that is no reason not to start. When it is back, even in another version, both are made right."""
    pair = chained
    for version in (1, 2):
        pair.daemon.stop()
        os.rename(modules.path / f"{UP}.so", modules.path / "away")
        pair.start()
        reasons = {entry["name"]: entry["reason"] for entry in do(pair, "status", "--json", code=4).json["projections"]}
        assert f"reads the table of projection {UP}, whose module is not there" in reasons[DOWN], reasons
        assert "stands still" in reasons[UP] and state_of(pair, "conversation_summary") == ("live", 1), reasons
        result = do(pair, "module", "add", DOWN, code=2)
        assert f"module {DOWN} reads the table of projection {UP}" in result.err and f"module add {UP}" in result.err, result
        pair.write_query("UPDATE user_conversations SET last_read_at = '2001-01-01' WHERE user_id IN"
                         " (SELECT user_id FROM user_conversations LIMIT 9)")
        os.rename(modules.path / "away", modules.path / f"{UP}.so")
        if version > 1:
            modules.memberships(version)
        pair.daemon.signal(signal.SIGHUP)
        live(pair, UP, version)
        live(pair, DOWN)
        exact(pair)
    no_traces(pair)


def test_module_check_knows_the_other_modules_table(named, modules):
    """In the directory of the file; nothing of it is there on the databases."""
    file = str(modules.path / "lengths.so")
    assert "is the table of projection names" in do(named, "module", "check", file).out
    modules.names(columns="c.id, c.title AS name, c.type AS other")
    assert "column n.kind does not exist" in do(named, "module", "check", file, code=1).out
    modules.names(columns="c.id AS key, c.title AS name, c.type AS kind", key='"key"')
    assert '"id" is not in the key (key)' in do(named, "module", "check", file, code=1).out


def test_on_error_halt_parks_nothing_beside_the_daemon(make_pair, modules):
    """What a rebuild upstream cannot write downstream: its projection is paused, with its reason."""
    modules.unread()
    pair = make_pair(config=modules.config + f"[module {DOWN}]\non_error = halt\n")
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    pair.read_query(f"ALTER TABLE {DOWN} ADD CONSTRAINT poison CHECK (unread_messages < 0) NOT VALID;"
                    f" UPDATE {UP} SET unread_count = unread_count + 7; UPDATE {DOWN} SET unread_messages = -1")
    do(pair, "rebuild", UP)
    assert pair.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 0 and state_of(pair, DOWN)[0] == "paused"
    pair.read_query(f"ALTER TABLE {DOWN} DROP CONSTRAINT poison")
    do(pair, "resume", DOWN)
    exact(pair)


def test_what_is_built_beside_is_told_of_what_a_command_touches(chained):
    """As another process leaves it that is building the downstream anew."""
    pair = chained
    pair.daemon.stop()
    for version, key in (("module_version", "user_id::text"), ("module_version + 1", "NULL")):
        pair.read_query(f"DELETE FROM pgprojector.dirty_key; DELETE FROM pgprojector.projection WHERE name = '{DOWN}.next';"
                        " INSERT INTO pgprojector.projection (name, module_version, definition, target_schema, target_table, key, state)"
                        f" SELECT name || '.next', {version}, definition, target_schema, target_table || '__next', key, 'building'"
                        f" FROM pgprojector.projection WHERE name = '{DOWN}'; UPDATE {UP} SET unread_count = unread_count + 1")
        do(pair, "rebuild", UP)
        noted = pair.read_query(f"SELECT DISTINCT key[1] FROM pgprojector.dirty_key WHERE projection = '{DOWN}.next' ORDER BY 1")
        assert noted == pair.read_query(f"SELECT DISTINCT {key} FROM {UP} ORDER BY 1")
    pair.start()
    exact(pair)


def test_both_are_new(named):
    """Found at once, by names that are in the other order than they have to be built in."""
    named.daemon.signal(signal.SIGHUP)
    live(named, "names")
    live(named, "lengths")
    settled(named)
    exact(named, "names", "lengths")


def test_a_table_that_those_downstream_could_not_read_is_refused(named, modules):
    pair = named
    do(pair, "module", "add", "names")
    do(pair, "module", "add", "lengths")
    before = pair.read_query("SELECT * FROM lengths ORDER BY id")
    for version, options, words in [
            (2, {"columns": "c.id, c.title AS name"}, "kind"),
            (3, {"columns": "c.id, c.title AS name, length(c.type) AS kind"}, "column kind of"),
            (4, {"columns": "c.id::text AS id, c.title AS name, c.type AS kind", "route": "NULL"}, "id would be of type"),
            (5, {"columns": "c.id AS key, c.title AS name, c.type AS kind", "key": '"key"'}, '"id" is not in the key'),
            (6, {"merge": TWICE}, "writes more than once")]:
        modules.names(version, **options)
        result = do(pair, "module", "add", "names", code=2)
        assert words in result.err and ("lengths" in result.err or version == 6), result
        assert (state_of(pair, "names"), state_of(pair, "lengths")) == (("live", 1), ("live", 1))
    no_traces(pair)
    do(pair, "module", "remove", "lengths")
    do(pair, "module", "add", "names")  # nobody is chained on it now
    result = do(pair, "module", "add", "lengths", code=2)
    assert "merge of stream s" in result.err and "writes more than once" in result.err, result
    assert pair.read_query("SELECT * FROM lengths ORDER BY id") == before
    modules.names(7, merge="INSERT INTO {target} SELECT id, 'x', 'y' FROM {delta} AS d ON CONFLICT (id) DO NOTHING")
    do(pair, "module", "add", "names")
    do(pair, "module", "add", "lengths")
    exact(pair, "names", "lengths")
    assert do(pair, "module", "remove", "names", code=2).err.count("lengths")
