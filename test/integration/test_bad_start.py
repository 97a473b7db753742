"""A daemon that is started with modules that cannot serve: the others go on, and status says what to do about these."""
import contextlib
import signal

import pytest

from harness.cluster import poll
from harness.history import populate
from harness.modules import Modules
from harness.scenes import SEED
from harness.workload import Workload

MODULE = """
#include "pgprojector.h"
#include <stdlib.h>
static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    CRASH;
    if (change->old_row)
        host->dirty(call, change->old_row, 1);
    if (change->new_row)
        host->dirty(call, change->new_row, 1);
    return 0;
}
static const struct pj_column columns[] = {{COLUMN, PJ_ANY}, {NULL, PJ_ANY}};
static const struct pj_source sources[] = {{SOURCE, COLUMN, columns}, {NULL, NULL, NULL}};
static const char *const key[] = {COLUMN, NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = NAME,
    .version = VERSION, .description = NAME, .sources = sources, .target = NAME, .key = key, .definition = DEFINITION,
    .apply = apply,
};
const struct pj_module *pj_module(void)
{
    return &module;
}
"""


class Kit(Modules):
    def module(self, name, version, source, key, definition, crash=""):
        values = {"NAME": name, "SOURCE": source, "COLUMN": key, "DEFINITION": definition}
        self.build(name, MODULE, defines=[*(f'-D{word}="{value}"' for word, value in values.items()), f"-DVERSION={version}",
                                          f"-DCRASH={crash}"])

    def names(self, version=1, key="id", crash=""):
        definition = ("SELECT c.id, c.title, c.type FROM {conversations} AS c WHERE {keys(c.id)}" if key == "id" else
                      "SELECT c.title, count(*) AS n FROM {conversations} AS c WHERE {keys(c.title)} GROUP BY c.title")
        self.module("names", version, "conversations", key, definition, crash)

    def lengths(self):
        self.module("lengths", 1, "names", "id", "SELECT n.id, length(n.title) AS length FROM {names} AS n WHERE {keys(n.id)}")


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path)


@pytest.fixture
def pair(make_pair, kit):
    kit.names()
    kit.lengths()
    made = make_pair(config=kit.config)
    populate(made, SEED)
    made.start()
    made.catch_up()
    return made


def reasons(pair):
    return {entry["name"]: entry["reason"] for entry in pair.command("status", "--json").json["projections"]}


def state(pair, name):
    return pair.read_value("SELECT state FROM pgprojector.projection WHERE name = %s", (name,))


def assert_others_go_on(pair):
    pair.write_query("UPDATE conversations SET updated_at = now()")
    pair.assert_same("the others go on")


def test_a_file_that_does_not_load(pair, kit):
    pair.daemon.stop()
    (kit.path / "names.so").write_text("no module")
    pair.start()
    assert "does not load" in reasons(pair)["names"] and "names" in reasons(pair)["lengths"], reasons(pair)
    assert_others_go_on(pair)
    kit.names()
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: {state(pair, "names"), state(pair, "lengths")} == {"live"}, 20)
    assert pair.command("verify").code == 0


def test_a_new_version_that_what_reads_it_does_not_fit(pair, kit):
    """The new upstream is built; what reads it says why it stands still, and goes on when it has its table again."""
    pair.daemon.stop()
    kit.names(2, "title")
    pair.start()
    assert "does not fit the table that it reads" in reasons(pair)["lengths"], reasons(pair)
    assert_others_go_on(pair)
    poll(lambda: pair.read_value("SELECT module_version = 2 AND state = 'live' FROM pgprojector.projection"
                                 " WHERE name = 'names'"), 20)
    assert state(pair, "lengths") == "paused" and "is not in the key (title)" in reasons(pair)["lengths"], reasons(pair)
    kit.names(3)
    pair.daemon.signal(signal.SIGHUP)
    poll(lambda: pair.read_value("SELECT count(*) = 2 FROM pgprojector.projection WHERE state = 'live'"
                                 " AND name IN ('names', 'lengths')"), 20)
    assert pair.command("verify").code == 0


def test_a_new_version_that_crashes(pair, kit):
    """Found at a start, it is tried once; the table stands still, and both log and status say what to do."""
    pair.daemon.stop()
    kit.names(2, crash="abort()")
    workload = Workload(pair, SEED, writers=2, pace=0.002).start()
    with contextlib.closing(pair.read_connection()) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT FROM public.names LIMIT 1")  # so that its table cannot take the name before a change comes
        pair.start()
        poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.request WHERE name = 'names' AND state = 'failed'"), 30)
    workload.stop()
    pair.daemon.streaming()
    pair.assert_same("the others go on")
    reason, failed = reasons(pair)["names"], "its apply() crashed with signal 6"
    assert "stands still" in reason and failed in reason and "mend and replace the module" in reason, reason
    assert f"projection names {reason}" in pair.daemon.since_start(), pair.daemon.tail()
    shown = pair.command("status").out
    assert "hint: mend and replace the module, then `pgprojector module add names`" in shown, shown
    for again in (lambda: pair.daemon.signal(signal.SIGHUP), lambda: (pair.daemon.kill(), pair.start())):
        again()
        poll(lambda: "its table is not built by itself" in pair.daemon.since_start().rpartition("restarted itself")[2], 20)
        assert pair.read_value("SELECT count(*) FROM pgprojector.request WHERE name = 'names'") == 1, "nobody has asked"
    assert failed in reasons(pair)["names"] and failed in pair.command("module", "list").out.rpartition("lengths")[2], reasons(pair)
    kit.names(3)
    assert pair.command("module", "add", "names").code == 0
    poll(lambda: {state(pair, "names"), state(pair, "lengths")} == {"live"}, 20)
    assert "build names" not in pair.command("status").out, "a success ends the failure"
    assert pair.command("verify").code == 0
