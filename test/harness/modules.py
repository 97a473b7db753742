"""Modules that tests write: built into a module directory of a pair's own."""
import os
import shutil
import subprocess

from .daemon import PROGRAM, ROOT

# conversations by id, with whatever the defines say of them
TITLES = """
#include "pgprojector.h"
static const struct pj_source sources[] = {{"conversations", "id", NULL}, SOURCES {NULL, NULL, NULL}};
static const char *const key[] = {"id", NULL};
static const char *const indexes[] = {INDEXES NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "titles",
    .version = VERSION, .description = "titles", .sources = sources, .target = TARGET, .key = key,
    .target_indexes = indexes,
    .definition = "SELECT c.id, " COLUMNS " FROM {conversations} AS c WHERE {keys(c.id)}",
};
const struct pj_module *pj_module(void)
{
    return &module;
}
"""

# Keeps how many messages a conversation has. What `bad` says happens when `when` holds.
SUSPECT = """
#include <stdlib.h>
#include "pgprojector.h"
%(extra)s
static const struct pj_column columns[] = {{"conversation_id", PJ_UUID}, {"content", PJ_TEXT}, {NULL, PJ_ANY}};
static const struct pj_source sources[] = {{"messages", "conversation_id", columns}, {NULL, NULL, NULL}};
static const char *const key[] = {"conversation_id", NULL};

static int is_bad(const struct pj_value *row)
{
    return row && row[1].length == 3 && memcmp(row[1].data, "bad", 3) == 0;
}

static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)
{
    if (%(when)s) {
        %(bad)s
    }
    if (change->old_row)
        host->dirty(call, change->old_row, 1);
    if (change->new_row)
        host->dirty(call, change->new_row, 1);
    return 0;
}

static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "%(name)s",
    .version = %(version)s, .description = "a test's", .sources = sources, .target = "%(name)s", .key = key, .apply = apply,
    .definition = "%(definition)s", %(options)s
};
const struct pj_module *pj_module(void) { %(entry)s return &module; }
"""
COUNT = ("SELECT m.conversation_id, count(*) AS n FROM {messages} AS m WHERE m.conversation_id IS NOT NULL AND"
         " {keys(m.conversation_id)} GROUP BY 1")


class Modules:
    """A module directory: copies of the modules that are deployed by default (where `shipped`), and what is put there."""

    def __init__(self, path, shipped=True):
        self.path = path
        path.chmod(0o755)
        for file in (PROGRAM.parent / "projections").glob("*.so") if shipped else ():
            shutil.copy(file, path)

    @property
    def config(self):
        return f"[pgprojector]\nmodule_dir = {self.path}\n"

    def titles(self, version=1, columns="c.title", sources="", place=True, target="titles", indexes="", name="titles"):
        """The module titles: conversations' ids and some of their columns. place=False: built, but not put there."""
        return self.build(name, TITLES.replace('"titles"', f'"{name}"'), place,
                          [f"-DVERSION={version}", f'-DCOLUMNS="{columns}"', f"-DSOURCES={sources}", f'-DTARGET="{target}"',
                           f"-DINDEXES={indexes}"])

    def build(self, name, text, place=True, defines=()):
        """A module of the given C text."""
        source = self.path / f"{name}.c"
        source.write_text(text)
        built = self.path / f"{name}.built"
        subprocess.run(["cc", "-shared", "-fPIC", *defines, f"-I{ROOT}/engine/include", "-o", built, source], check=True)
        built.chmod(0o755)
        if place:
            os.replace(built, self.path / f"{name}.so")
        return built


def pair_with_titles(make_pair, tmp_path, columns):
    """A pair that streams, with the projection titles alone, of five conversations; its module directory is pair.modules."""
    modules = Modules(tmp_path, shipped=False)
    modules.titles(1, columns)
    pair = make_pair(config=modules.config)
    pair.modules = modules
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'title' || i, 'type' || i"
                     " FROM generate_series(1, 5) i")
    return pair.start()


def suspect(name, version=1, bad="", when="is_bad(change->new_row)", definition=COUNT, extra="", entry="", options=""):
    """The C text of a module that counts a conversation's messages, and does as it is told on a row whose content is 'bad'."""
    return SUSPECT % locals()
