"""The module author's kit: `module new`, `check`, `test`, `record`; and the example without an apply(), deployed.

Every fault is named, all of them at once, with the remedy; nothing is left behind on either database.
"""
import json
import os
import pathlib
import signal
import subprocess
import threading

import pytest

from harness.cluster import poll
from harness.daemon import PROGRAM, ROOT, command
from harness.pair import lsn
from harness.scenes import SEND
from harness.schema import Flavour

SHIPPED = ["chat_mirrors", "conversation_summary", "user_conversation_membership", "conversation_days"]
USER = "00000000-0000-0000-0000-%012x"


def kit(*arguments, **more):
    """`pgprojector module ARGUMENTS` without any database."""
    # a sanitizer must not turn a crash into an exit
    more.setdefault("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0:handle_sigill=0:handle_sigtrap=0")
    return command(["module", *arguments], **more)


def make(directory, *goals, **variables):
    return subprocess.run(["make", "-C", directory, *goals, *[f"{name}={value}" for name, value in variables.items()]],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)


@pytest.fixture
def new(tmp_path):
    """new(name): a fresh module directory, made by the kit."""
    def create(name):
        result = kit("new", name, "--dir", tmp_path)
        assert result.code == 0, result
        return tmp_path / name
    return create


def build(path, name, text):
    """A module of the given C text, as path/name.so."""
    source = path / f"{name}.c"
    source.write_text(text)
    subprocess.run(["cc", "-std=c17", "-fPIC", "-shared", f"-I{ROOT}/engine/include", "-o", path / f"{name}.so", source],
                   check=True)
    (path / f"{name}.so").chmod(0o755)
    return path / f"{name}.so"


MODULE = """
#include <stdlib.h>
#include "pgprojector.h"
%(extra)s
static const struct pj_source sources[] = {%(sources)s {NULL, NULL, NULL}};
static const char *const key[] = {%(key)s, NULL};
static const struct pj_module module = {
    .magic = PJ_MODULE_MAGIC, .abi_version = PJ_ABI_VERSION, .size = sizeof(struct pj_module), .name = "%(name)s",
    .version = 1, .description = "a test's", .sources = sources, .target = "%(name)s", .key = key,
    .definition = "%(definition)s", %(fields)s
};
const struct pj_module *pj_module(void) { return &module; }
"""
GOOD = "SELECT m.sender_id, count(*) AS n FROM {messages} AS m WHERE m.sender_id IS NOT NULL AND {keys(m.sender_id)} GROUP BY 1"
APPLY = ("static int apply(const struct pj_host *host, struct pj_call *call, const struct pj_change *change)"
         " { (void)host; (void)call; (void)change; %s }\n")


def module(path, name="made", sources='{"messages", "sender_id", NULL},', key='"sender_id"', definition=GOOD, extra="",
           fields=""):
    return build(path, name, MODULE % locals())


def checked(pair, *files):
    """`module check --json` with both databases: the modules' entries, by file name."""
    result = pair.command("module", "check", *files, "--json")
    assert result.code in (0, 1), result
    entries = {pathlib.Path(entry["file"]).name: entry for entry in result.json["modules"]}
    assert result.code == (1 if any(entry["faults"] for entry in entries.values()) else 0)
    return entries


def faults(pair, file):
    return [fault["message"] for fault in checked(pair, file)[pathlib.Path(file).name]["faults"]]


def untouched(pair):
    """What a check must leave as it was: the relations and types of both databases, and the slots."""
    relations = ("SELECT count(*), md5(string_agg(c.oid::text || c.relname, ',' ORDER BY c.oid)) FROM pg_class c JOIN"
                 " pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'")
    return pair.write_query(relations), pair.read_query(relations), pair.slots()


# ---------------------------------------------------------------------------------------------------------- new

def test_a_new_module_builds_tests_and_checks(new, pair):
    directory = new("top_senders")
    assert sorted(path.name for path in directory.iterdir()) == [".gitignore", "Makefile", "test.json", "top_senders.c"]
    assert len((directory / "top_senders.c").read_text().splitlines()) <= 60
    result = make(directory, "test", CFLAGS="-Werror -Wconversion -Wshadow")
    assert result.returncode == 0 and "2 passed, 0 failed" in result.stdout, result.stdout
    result = make(directory, "check")
    assert result.returncode == 0 and "no fault" in result.stdout, result.stdout
    assert checked(pair, directory / "top_senders.so")["top_senders.so"] == \
        {"file": str(directory / "top_senders.so"), "faults": [], "notes": []}
    make(directory, "clean")
    assert not (directory / "top_senders.so").exists()


@pytest.mark.parametrize("name", ["", "Top", "1st", "a-b", "a b", "../x", "naïve", "x" * 49])
def test_a_bad_name_is_refused(tmp_path, name):
    result = kit("new", name, "--dir", tmp_path)
    assert result.code == 2 and "cannot be a module's name" in result.err and "hint" in result.err
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_touched(new, tmp_path):
    before = (new("twice") / "twice.c").stat()
    result = kit("new", "twice", "--dir", tmp_path)
    assert result.code == 2 and "exists already" in result.err
    assert (tmp_path / "twice" / "twice.c").stat() == before
    (tmp_path / "file").touch()
    assert kit("new", "file", "--dir", tmp_path).code == 2


def test_a_directory_that_is_not_there(tmp_path):
    result = kit("new", "x", "--dir", tmp_path / "no" / "such")
    assert result.code == 2 and "--dir" in result.err


def test_an_installed_kit_builds_modules(tmp_path):
    """From an installation alone: header, module.mk, pgprojector.pc."""
    root = tmp_path / "root"
    result = make(ROOT, "install", PREFIX=root)
    assert result.returncode == 0, result.stdout
    unit = (root / "lib/systemd/system/pgprojector.service").read_text()
    assert f"ExecStart={root}/bin/pgprojector run\n" in unit and "RestartPreventExitStatus=2\n" in unit, unit
    subprocess.run([root / "bin" / "pgprojector", "module", "new", "mine", "--dir", tmp_path], check=True)
    assert str(root) in (tmp_path / "mine" / "Makefile").read_text()
    result = make(tmp_path / "mine", "test")
    assert result.returncode == 0 and "2 passed" in result.stdout and f"-I{root}" in result.stdout, result.stdout
    result = make(tmp_path / "mine", "install")
    assert result.returncode == 0 and (root / "lib/pgprojector/modules/mine.so").exists(), result.stdout
    (tmp_path / "own.mk").write_text("MODULES := mine\ninclude $(shell pkg-config --variable=modulemk pgprojector)\n")
    result = subprocess.run(["make", "-f", tmp_path / "own.mk", "-C", tmp_path / "mine", "-B"], text=True, check=False,
                            env={**os.environ, "PKG_CONFIG_PATH": str(root / "lib/pkgconfig")}, capture_output=True)
    assert result.returncode == 0, result


# --------------------------------------------------------------------------------------------------------- test

@pytest.mark.parametrize("name", SHIPPED)
def test_the_fixtures_of_the_shipped_modules(name):
    result = kit("test", ROOT / "projections" / name)
    assert result.code == 0 and " 0 failed" in result.out, result


def fixture(path, *cases):
    path.write_text(json.dumps(list(cases)))
    return path


def sent(user, **more):
    return {"table": "messages", "old": None, "new": {"sender_id": USER % user}, **more}


def test_a_case_that_fails_is_shown(new, tmp_path):
    directory = new("top_senders")
    make(directory)
    wrong = fixture(tmp_path / "wrong.json", {"name": "one too few", "changes": [sent(1), sent(2)],
                                              "expect": {"dirty_keys": [{"sender_id": USER % 1}, {"sender_id": USER % 3}]}})
    result = kit("test", directory, wrong)
    assert result.code == 1 and "FAIL  one too few" in result.out, result
    assert f'+ dirty_keys: sender_id="{USER % 2}" came and was not expected' in result.out
    assert f'- dirty_keys: sender_id="{USER % 3}" was expected and did not come' in result.out


def test_record_prints_what_can_be_pasted(new, tmp_path):
    directory = new("top_senders")
    make(directory)
    bare = fixture(tmp_path / "bare.json", {"name": "a", "changes": [sent(1)]}, {"name": "b", "changes": [sent(2)]})
    assert kit("test", directory, bare).code == 2, "without an expectation"
    result = kit("test", directory, bare, "--record")
    assert result.code == 0 and result.json[1]["expect"] == {"dirty_keys": [{"sender_id": USER % 2}]}, result
    other = fixture(tmp_path / "other.json", {"changes": 5}, {"name": "c", "changes": [sent(3)]})
    both = kit("test", directory, other, bare, "--record")
    assert both.code == 2 and [case["name"] for case in both.json] == ["c", "a", "b"] and '"changes" is not' in both.err, both
    (tmp_path / "full.json").write_text(result.out)
    assert kit("test", directory, tmp_path / "full.json").code == 0


@pytest.mark.parametrize("body,words", [
    ("*(volatile int *)0 = 0; return 0;", "crashed: signal 11"),
    ("exit(0);", "ended the process (exit code 0)"),
    ("return 7;", "refused without a word"),
    ('host->fail(call, "a poison row"); return 1;', "a poison row"),
    ("host->emit(call, 3, NULL); return 0;", "emit to stream 3"),
    ("static int calls; if (calls++) host->dirty_all(call); return 0;", "the same changes again"),
])
def test_an_apply_that_misbehaves_is_named_and_the_others_go_on(tmp_path, body, words):
    file = module(tmp_path, extra=APPLY % body, fields=".apply = apply")
    cases = fixture(tmp_path / "cases.json", {"name": "first", "changes": [{"table": "messages", "new": {}}], "expect": {}},
                    {"name": "second", "changes": [], "expect": {}})
    result = kit("test", file, cases)
    assert result.code == 1 and words in result.out and "FAIL  first" in result.out, result
    assert "ok    second" in result.out and "1 passed, 1 failed" in result.out


def test_an_apply_that_never_returns(tmp_path):
    file = module(tmp_path, extra=APPLY % "for (volatile int i = 0;; i++) ; return 0;", fields=".apply = apply")
    fixture(tmp_path / "cases.json", {"name": "endless", "changes": [{"table": "messages", "new": {}}], "expect": {}})
    result = kit("test", tmp_path)
    assert result.code == 1 and "did not return within 10 s" in result.out, result
    assert file.exists()


def test_a_module_without_a_fixture(tmp_path):
    result = kit("test", module(tmp_path))
    assert result.code == 2 and "no fixture" in result.err and "module record" in result.err


def test_a_directory_without_a_module(tmp_path):
    result = kit("test", tmp_path)
    assert result.code == 2 and "no module" in result.err and "make -C" in result.err
    module(tmp_path, "one")
    module(tmp_path, "two")
    result = kit("test", tmp_path)
    assert result.code == 2 and "holds 2 modules" in result.err


def test_a_fixture_that_is_ill_formed(tmp_path):
    file = module(tmp_path)
    (tmp_path / "half.json").write_text('[{"changes": [')
    result = kit("test", file, tmp_path / "half.json")
    assert result.code == 2 and "half.json, line 1" in result.err, result
    result = kit("test", file, tmp_path / "none.json")
    assert result.code == 2 and "none.json" in result.err, result
    result = kit("test", file, fixture(tmp_path / "odd.json", {"changes": [{"table": "mesages", "new": {}}]}))
    assert result.code == 2 and 'reads no table "mesages"' in result.out and "it reads: messages" in result.out, result


# -------------------------------------------------------------------------------------------------------- check

def test_the_shipped_modules_have_no_fault(pair):
    before = untouched(pair)
    entries = checked(pair, *SHIPPED)
    assert [entry["faults"] for entry in entries.values()] == [[]] * 4
    assert untouched(pair) == before


def test_modules_that_read_other_projections_tables(pair, tmp_path):
    entries = checked(pair, "user_unread", "messages_per_day")
    for name, upstream in (("user_unread.so", "user_conversation_membership"), ("messages_per_day.so", "conversation_days")):
        assert entries[name]["faults"] == [], entries
        assert any(f"is the table of projection {upstream}" in note["message"] for note in entries[name]["notes"]), entries
    result = pair.command("module", "record", "messages_per_day", "--seconds", "1")
    assert result.code == 2 and "nothing to record" in result.err, result
    case = fixture(tmp_path / "case.json", {"changes": [{"table": "conversation_days", "new": {}}]})
    result = kit("test", "messages_per_day", case)
    assert result.code == 2 and "another projection's table" in result.out, result


def test_beside_a_running_daemon(streaming):
    before = untouched(streaming)
    assert not any(entry["faults"] for entry in checked(streaming, *SHIPPED).values())
    assert untouched(streaming) == before
    streaming.write_query(SEND, (5,))
    streaming.assert_same()


def test_all_faults_of_one_module_at_once(pair, tmp_path):
    file = module(
        tmp_path, "many",
        extra=APPLY % "return 0;" + """
static const struct pj_column of_messages[] = {{"sender_id", PJ_INT8}, {"colour", PJ_ANY}, {NULL, PJ_ANY}};
static const struct pj_column of_users[] = {{"shoe_size", PJ_ANY}, {NULL, PJ_ANY}};
static const struct pj_stream_column sums[] = {{"sender_id", PJ_UUID, PJ_KEY}, {"n", PJ_INT8, PJ_SUM}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {
    {"first", sums, "UPDATE {target} AS t SET weight = d.n FROM {delta} AS d WHERE t.sender_id = d.sender_id"},
    {"second", sums, "UPDTE {target} FROM {delta}"},
    {"third", sums, "DELETE FROM {target} USING {delta} AS d, {tenants} AS x WHERE false"},
    {"fourth", sums, "DELETE FROM {target} WHERE false"}, {NULL, NULL, NULL}};
static const char *const target_indexes[] = {"(height)", NULL};
static const char *const mirror_indexes[] = {"{messages} (depth)", "messages (sender_id)", NULL};
""",
        sources='{"messages", "sender_id", of_messages}, {"users", "user_id", of_users}, {"ghosts", NULL, NULL},',
        key='"sender_id", "day"',
        fields=".apply = apply, .streams = streams, .target_indexes = target_indexes, .mirror_indexes = mirror_indexes,"
               " .fillfactor = 5")
    said = "\n".join(faults(pair, file))
    for words in ["fillfactor is 5", "ghosts", "sender_id is of type uuid, and the module wants bigint", '"colour"',
                  '"shoe_size"', '"user_id"', "merge of stream fourth: {delta} does not occur"]:
        assert words in said, f"{words} is not in:\n{said}"
    # with the missing table out of the way, the SQL's faults show as well
    pair.write_query("CREATE TABLE ghosts (id int PRIMARY KEY)")
    said = "\n".join(faults(pair, file))
    for words in ['has no column "day", which is in the key', '"weight"', "UPDTE", "{tenants}: not one of the module's sources",
                  '"height"', '"depth"', 'names no {table}', "fillfactor is 5", '"colour"']:
        assert words in said, f"{words} is not in:\n{said}"


@pytest.mark.parametrize("definition,words", [
    ("SELEC", "definition: read database: syntax error"),
    ("SELECT m.sender_id, m.nope FROM {messages} AS m", "column m.nope does not exist"),
    ("SELECT m.sender_id FROM {mesages} AS m", "{mesages}: not one of the module's sources"),
    ("SELECT m.sender_id FROM {messages} AS m WHERE {keys(m.nope)}", "with {keys(…)} for routing keys"),
    ("SELECT m.sender_id FROM {messages} AS m WHERE {keys(a, b)}", "{keys(…)} with 2 expressions; the key has 1"),
    ("SELECT m.sender_id FROM {messages} AS m WHERE {option:limit}::int > 0", "{option:limit}: the module declares no such"),
    ("SELECT m.id FROM {messages} AS m", 'has no column \\"sender_id\\", which is in the key'),
    ("SELECT m.sender_id::text FROM {messages} AS m", "is of type"),
    ("SELECT m.sender_id FROM {messages} AS m; DROP TABLE x", 'syntax error at or near ";"'),
    (GOOD + ";", "syntax error at or near"),
    ("SELECT 1/0 AS one, m.sender_id FROM {messages} AS m", "division by zero"),
])
def test_a_definition_that_is_wrong(pair, tmp_path, definition, words):
    before = untouched(pair)
    found = faults(pair, module(tmp_path, definition=definition))
    assert words.replace('\\"', '"') in "\n".join(found), found
    assert untouched(pair) == before


def test_a_merge_without_its_conflict_index(pair, tmp_path):
    """Shows in planning only."""
    found = faults(pair, module(tmp_path, fields=".apply = apply, .streams = streams", extra=APPLY % "return 0;" + """
static const struct pj_stream_column sums[] = {{"sender_id", PJ_UUID, PJ_KEY}, {"n", PJ_INT8, PJ_SUM}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"sums", sums,
    "INSERT INTO {target} SELECT d.sender_id, d.n FROM {delta} AS d ON CONFLICT (n) DO NOTHING"}, {NULL, NULL, NULL}};"""))
    assert len(found) == 1 and "no unique or exclusion constraint matching" in found[0], found


def test_notes_tell_what_is_dear(pair, tmp_path):
    file = module(tmp_path, sources='{"messages", NULL, NULL},', definition="SELECT m.sender_id FROM {messages} AS m")
    entry = checked(pair, file)["made.so"]
    assert not entry["faults"], entry
    notes = " ".join(note["message"] for note in entry["notes"])
    assert "no {keys(…)}" in notes and "source messages has no key" in notes


def test_what_the_configuration_says_is_heeded(pair, tmp_path):
    pair.write_query("ALTER TABLE messages RENAME TO posts; ALTER TABLE posts RENAME sender_id TO author")
    file = module(tmp_path)
    assert "messages" in "\n".join(faults(pair, file))
    pair.config = pair.configure("[module made]\ntable.messages = public.posts\ncolumn.messages.sender_id = author\n")
    assert faults(pair, file) == []
    pair.config = pair.configure("[module made]\ntable.messages = public.posts\nlimit = 3\n")
    assert 'no option "limit"' in "\n".join(faults(pair, file))


def test_without_databases_what_can_be_said_is_said(tmp_path):
    bad = module(tmp_path, "bad", fields=".fillfactor = 5")
    good = module(tmp_path, "good")
    result = kit("check", bad, good)
    assert result.code == 1 and "fillfactor is 5" in result.out and "WRITE_DATABASE_URL is not set" in result.out, result
    assert "good.so: no fault" in result.out and "were not looked at" in result.out
    assert kit("check", good).code == 0


def test_with_one_database_only(pair, tmp_path):
    """The write database shows tables and columns; a read database alone, where mirrors are, the SQL as well."""
    file = module(tmp_path, sources='{"messages", "colour", NULL},', definition=GOOD + "!")
    only_write = command(["module", "check", file], pair.write_url)
    assert only_write.code == 1 and '"colour"' in only_write.out and "needs a read database" in only_write.out, only_write
    only_read = command(["module", "check", file], None, pair.read_url)
    assert only_read.code == 0 and "no mirror on the read database yet" in only_read.out, only_read
    pair.start()
    only_read = command(["module", "check", file], None, pair.read_url)
    assert only_read.code == 1 and '"colour"' in only_read.out and "syntax error" in only_read.out, only_read


def test_a_database_that_is_down_is_a_note(tmp_path):
    result = command(["module", "check", module(tmp_path)], f"postgresql:///x?host={tmp_path}",
                     f"postgresql:///y?host={tmp_path}")
    assert result.code == 0 and "write database" in result.out and "read database" in result.out, result


def test_files_that_are_no_modules(tmp_path):
    (tmp_path / "text.so").write_text("no module")
    none = build(tmp_path, "none", "int x;")
    loose = module(tmp_path, "loose")
    loose.chmod(0o777)
    other = build(tmp_path, "other", MODULE.replace("PJ_ABI_VERSION", "99") % {
        "name": "other", "extra": "", "sources": "", "key": '"x"', "definition": "", "fields": ""})
    result = kit("check", tmp_path / "text.so", none, loose, other, tmp_path / "gone.so")
    assert result.code == 1 and "5 modules checked, 5 with faults" in result.out, result
    for words in ["cannot load module", "no symbol pj_module", "writable by others", "chmod go-w", "ABI version 99",
                  "No such file"]:
        assert words in result.out, (words, result)


@pytest.mark.parametrize("text,words", [
    ("const void *pj_module(void) { return *(void *volatile *)0; }", "crashes: signal 11"),
    ("__attribute__((constructor)) static void early(void) { __builtin_trap(); }", "crashes: signal"),
    ("const void *pj_module(void) { for (volatile int i = 0;; i++) ; }", "did not end within 10 s"),
])
def test_a_module_that_crashes_on_being_loaded(tmp_path, text, words):
    result = kit("check", build(tmp_path, "crash", text), module(tmp_path))
    assert result.code == 1 and words in result.out and "made.so: no fault" in result.out, result


def test_two_modules_that_cannot_live_together(pair, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = module(tmp_path / "a", "same"), module(tmp_path / "b", "same")
    result = pair.command("module", "check", first, second)
    assert result.code == 1 and "module same is also in" in result.out and "table same is also in" in result.out, result


def test_a_target_whose_place_is_not_free(registering, tmp_path):
    """What would keep the module from being added, or a first start from being made, is said before."""
    registering.read_query("CREATE TABLE reports (id int)")
    before = untouched(registering)
    for target, words in {"messages": "is a table that the module reads", "users": "is a mirror",
                          "conversation_summary": "is the table of module conversation_summary, too",
                          "reports": "pgprojector did not make it", "pgprojector.checkpoint": "pgprojector did not make it",
                          "no.such": 'no schema "no"', "free": None}.items():
        made = module(tmp_path, fields=".target_indexes = NULL,").with_suffix(".c")
        text = made.read_text().replace('.target = "made"', f'.target = "{target}"')
        found = faults(registering, build(tmp_path, "made", text))
        assert not found if words is None else any(words in fault for fault in found), (target, found)
    assert untouched(registering) == before
    registering.modules.titles(target="no.such")
    result = registering.command("module", "add", "titles")
    assert result.code == 2 and 'CREATE SCHEMA "no"' in result.err, result


# ------------------------------------------------------------------------------------------------------- record

def recorded(pair, name, statements, *options):
    """Records while the statements run; gives the fixture."""
    results = []
    thread = threading.Thread(target=lambda: results.append(pair.command("module", "record", name, *options)))
    thread.start()
    poll(lambda: pair.write_query("SELECT 1 FROM pg_replication_slots WHERE database = %s AND temporary"
                                  " AND confirmed_flush_lsn IS NOT NULL", (pair.name,)), what="the temporary slot")
    for statement in statements:
        pair.write_query(statement)
    thread.join(60)
    assert results[0].code == 0, results[0]
    return results[0]


def test_a_recording_has_exact_rows_and_replays(pair, tmp_path):
    """Old rows in full, though the stream carries only the key; TOAST that did not change is there; rows change once."""
    pair.write_query(f"INSERT INTO conversations (id, tenant_id, title) VALUES ('{USER % 0xc}', '{USER % 0xf}', repeat('long ', 5000));"
                     f"INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) VALUES"
                     f" ('{USER % 1}', '{USER % 0xc}', 1, 'x', '2026-01-01 10:00:00.25+00'),"
                     f" ('{USER % 2}', '{USER % 0xc}', 2, 'x', '2026-01-01 11:00:00+00')")
    result = recorded(pair, "conversation_summary", [
        f"UPDATE messages SET deleted_at = '2026-01-02 00:00:00+00' WHERE id = '{USER % 1}'",
        f"UPDATE messages SET content = 'y' WHERE id = '{USER % 1}'",
        f"DELETE FROM messages WHERE id = '{USER % 2}'",
        f"UPDATE conversations SET type = 'group' WHERE id = '{USER % 0xc}'",
    ], "--changes", "4")
    changes = {(change["table"], (change["old"] or change["new"]).get("sequence_number")): change
               for change in result.json["changes"]}
    assert len(changes) == 3
    first = changes["messages", 1]
    assert first["old"] == {"conversation_id": USER % 0xc, "created_at": "2026-01-01 10:00:00.25+00", "sequence_number": 1,
                            "deleted_at": None}
    assert first["new"] == {**first["old"], "deleted_at": "2026-01-02 00:00:00+00"}
    assert changes["messages", 2]["new"] is None and changes["messages", 2]["old"]["sequence_number"] == 2
    renamed = changes["conversations", None]
    assert renamed["old"]["title"] == renamed["new"]["title"] == "long " * 5000 and renamed["new"]["type"] == "group"
    assert result.json["expect"]["streams"]["changes"][0]["n"] == -2
    (tmp_path / "recorded.json").write_text(result.out)
    replayed = kit("test", "conversation_summary", tmp_path / "recorded.json")
    assert replayed.code == 0 and "1 passed" in replayed.out, replayed


@pytest.mark.parametrize("flavour", [
    Flavour(odd=False, identity="full"), Flavour(odd=False, identity="index"), Flavour(odd=False, partitioned=True),
    Flavour(odd=False, generated=True), Flavour(odd=False, renamed=True)], ids=str)
def test_check_and_record_on_every_kind_of_source(make_pair, flavour, tmp_path):
    pair = make_pair(flavour)
    names = SHIPPED[1:3]
    assert [entry["faults"] for entry in checked(pair, *names).values()] == [[], []]
    path = f"SET search_path = {flavour.search_path}; "
    pair.write_query(path + f"INSERT INTO conversations (id, title) VALUES ('{USER % 0xc}', 'old')")
    pair.write_query(path + f"INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) VALUES"
                     f" ('{USER % 1}', '{USER % 0xc}', 1, 'x', '2026-01-01 10:00:00.25+00')")
    result = recorded(pair, "conversation_summary", [
        path + f"UPDATE messages SET sequence_number = 5 WHERE id = '{USER % 1}'",
        path + f"UPDATE conversations SET title = 'new' WHERE id = '{USER % 0xc}'"], "--changes", "2")
    assert [(change["table"], list((change["old"][column], change["new"][column]) for column in ("title", "sequence_number")
                                   if column in change["old"])) for change in result.json["changes"]] == \
        [("conversations", [("old", "new")]), ("messages", [(1, 5)])], result
    (tmp_path / "recorded.json").write_text(result.out)
    assert kit("test", "conversation_summary", tmp_path / "recorded.json").code == 0


def test_a_recording_of_a_module_without_apply(pair, tmp_path):
    pair.write_query(f"INSERT INTO conversations (id, tenant_id) VALUES ('{USER % 0xc}', '{USER % 0xf}')")
    result = recorded(pair, "conversation_days",
                      [f"UPDATE conversations SET tenant_id = '{USER % 0xe}' WHERE id = '{USER % 0xc}'"], "--changes", "1")
    assert result.json["expect"] == {"dirty_keys": [{"conversation_id": USER % 0xc}]}
    (tmp_path / "recorded.json").write_text(result.out)
    assert kit("test", "conversation_days", tmp_path / "recorded.json").code == 0


def test_a_recording_that_is_interrupted(pair):
    """What was recorded is printed, with the old rows, which are read then."""
    pair.write_query(f"INSERT INTO conversations (id, tenant_id, title) VALUES ('{USER % 0xc}', '{USER % 0xf}', 'old')")
    process = pair.launch("module", "record", "conversation_summary")
    slot = ("SELECT confirmed_flush_lsn::text, a.query_start::text FROM pg_replication_slots JOIN pg_stat_activity a"
            " ON pid = active_pid WHERE database = current_database() AND temporary AND confirmed_flush_lsn IS NOT NULL")
    poll(lambda: pair.write_query(slot), what="the temporary slot")
    pair.write_query(f"UPDATE conversations SET title = 'new' WHERE id = '{USER % 0xc}'")
    end = pair.written()
    ((_, asked),) = poll(lambda: [row for row in pair.write_query(slot) if lsn(row[0]) >= end], what="the recording")
    poll(lambda: pair.write_query(slot)[0][1] > asked, what="the next question")  # the answer to this one has been taken
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    (change,) = json.loads(out or "{}").get("changes", [None])
    assert process.returncode == 0 and (change["old"]["title"], change["new"]["title"]) == ("old", "new"), (out, err)


def test_a_recording_passes_over_logical_messages(pair):
    """Whatever bytes they hold, and under whatever prefix."""
    result = recorded(pair, "conversation_summary", [
        *(f"SELECT pg_logical_emit_message(true, '{prefix}', '\\xc3'::bytea)" for prefix in ("outbox", "pgprojector")),
        f"INSERT INTO conversations (id, title) VALUES ('{USER % 1}', 'x')"], "--changes", "1")
    assert len(result.json["changes"]) == 1


def test_a_recording_ends_without_a_trace(pair):
    result = pair.command("module", "record", "conversation_summary", "--seconds", "1")
    assert result.code == 1 and "nothing that module conversation_summary reads has changed" in result.err, result
    poll(lambda: not pair.write_query("SELECT slot_name FROM pg_replication_slots WHERE database = %s", (pair.name,)),
         what="the end of the temporary slot, which goes with its walsender")


def test_a_recording_that_cannot_begin(pair):
    result = command(["module", "record", "conversation_summary"])
    assert result.code == 2 and "WRITE_DATABASE_URL is not set" in result.err, result
    assert pair.command("module", "record", "no_such_module").code == 2
    pair.write_query("DROP TABLE messages")
    result = pair.command("module", "record", "conversation_summary")
    assert result.code == 2 and "messages" in result.err, result


# -------------------------------------------------------------------------------------------------------- usage

@pytest.mark.parametrize("arguments,words", [
    ([], "module --help"), (["nwe"], "module new"), (["new"], "needs an argument"), (["new", "a", "b"], "one argument too many"),
    (["check"], "needs an argument"), (["test"], "needs an argument"), (["record"], "needs an argument"),
    (["test", "x", "--json"], "no option --json"), (["check", "x", "--record"], "no option --record"),
    (["new", "x", "--changes", "3"], "no option --changes"), (["test", "x", "--seconds", "3"], "no option --seconds"),
    (["check", "x", "--dir", "/"], "no option --dir"), (["record", "x", "--changes", "0"], "a number from 1"),
    (["record", "x", "--seconds", "many"], "a number from 1"), (["test", "no_such_module"], "there is no module"),
])
def test_wrong_usage(arguments, words):
    result = kit(*arguments, timeout=20)
    assert result.code == 2 and words in result.err, result


def test_a_configuration_that_cannot_be_read(tmp_path):
    result = command(["-c", tmp_path / "none.ini", "module", "check", module(tmp_path)])
    assert result.code == 2 and "none.ini" in result.err, result


def test_help():
    result = kit("--help")
    assert result.code == 0 and all(f"  {word}" in result.out for word in ("new NAME", "check FILE", "test DIR", "record NAME"))


# ------------------------------------------------------------------------------------------- the example, deployed

PER_DAY = ("SELECT c.tenant_id::text, (m.created_at AT TIME ZONE 'UTC')::date, count(*) FROM conversations c JOIN messages m"
           " ON m.conversation_id = c.id WHERE m.deleted_at IS NULL AND c.tenant_id IS NOT NULL AND m.created_at IS NOT NULL"
           " GROUP BY 1, 2 ORDER BY 1, 2")


def test_messages_per_day_follows(make_pair):
    examples = PROGRAM.resolve().parent / "examples"
    pair = make_pair(config=f"[pgprojector]\nmodules = {examples}/messages_per_day.so, {examples}/conversation_days.so,"
                     " conversation_summary\n")
    pair.write_query(f"INSERT INTO conversations (id, tenant_id) SELECT ('{USER % 0}'::text)::uuid, '{USER % 0xf}'")

    def same():
        pair.catch_up()
        assert pair.read_query("SELECT tenant_id::text, day, messages FROM messages_per_day ORDER BY 1, 2") == \
            pair.write_query(PER_DAY)
    pair.start()
    same()
    for statement in [
            SEND % 3,
            "UPDATE messages SET created_at = '2026-03-01 23:59:59.999999+00'",
            "UPDATE messages SET created_at = '2026-03-02 00:00:00+00' WHERE id = (SELECT min(id::text)::uuid FROM messages)",
            "UPDATE messages SET created_at = '2026-03-02 05:00:00+05:45' WHERE id = (SELECT max(id::text)::uuid FROM messages)",
            "UPDATE messages SET deleted_at = now() WHERE id = (SELECT min(id::text)::uuid FROM messages)",
            "UPDATE messages SET deleted_at = NULL",
            f"UPDATE conversations SET tenant_id = '{USER % 0xe}'",
            "UPDATE conversations SET tenant_id = NULL",
            f"UPDATE conversations SET tenant_id = '{USER % 0xf}'",
            "DELETE FROM messages WHERE id = (SELECT min(id::text)::uuid FROM messages)",
            "DELETE FROM conversations", "TRUNCATE messages"]:
        pair.write_query(statement)
        same()
    result = pair.command("verify", "messages_per_day")
    assert result.code == 0 and "no difference" in result.out, result
