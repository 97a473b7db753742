"""Modules that misbehave: what each of them does to itself, and that it does nothing to the others.

Whatever one does, the mirrors and the other projections stay live and right, the slot moves, log and status name it; once it is
mended, its table is right again.
"""
import os
import pathlib
import signal

import pytest

from harness import oracle
from harness.cluster import poll
from harness.history import populate
from harness.modules import Modules
from harness.modules import suspect as text_of
from harness.pair import lsn
from harness.scenes import SEED

# The count, but not for a conversation that has a message 'worse'.
PICKY = ("SELECT m.conversation_id, count(*) / min(CASE WHEN m.content = 'worse' THEN 0 ELSE 1 END) AS n FROM {messages} AS m"
         " WHERE m.conversation_id IS NOT NULL AND {keys(m.conversation_id)} GROUP BY 1")
NAME = "suspect"


class Suspect:
    """The module's file, which a test may have built anew."""

    def __init__(self, directory):
        self.modules = Modules(directory, shipped=False)
        self.file = directory / f"{NAME}.so"

    def build(self, **what):
        self.modules.build(NAME, text_of(NAME, **what))  # a daemon that has loaded the former one keeps it


@pytest.fixture
def suspect(tmp_path, monkeypatch):
    monkeypatch.setitem(oracle.DEFINITIONS, NAME, "SELECT conversation_id, count(*) FROM messages"
                                                  " WHERE conversation_id IS NOT NULL GROUP BY 1")
    monkeypatch.setitem(oracle.TARGETS, NAME, "conversation_id, n")
    return Suspect(tmp_path)


@pytest.fixture
def deploy(make_pair, suspect):
    """deploy(settings, section, **module): the module beside the shipped ones, and a daemon that has caught up."""
    def do(settings="", section="", **module):
        suspect.build(**module)
        pair = make_pair(config=f"[pgprojector]\nmodules = chat_mirrors, conversation_summary, user_conversation_membership,"
                                f" {suspect.file}\napply_timeout = 500ms\n{settings}\n[module {NAME}]\n{section}\n")
        populate(pair, SEED)
        pair.ids = [row[0] for row in pair.write_query("SELECT id::text FROM conversations ORDER BY id LIMIT 3")]
        pair.start()
        pair.catch_up()
        return pair
    return do


def send(pair, content="good", conversation=0):
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " VALUES (gen_random_uuid(), %s, 1, %s, now())", (pair.ids[conversation], content))


def others_are_right(pair):
    pair.catch_up()
    found = [line for line in pair.differences() if not line.startswith(NAME)]
    assert not found, found


def standing(pair):
    return pair.read_query("SELECT state, apply_off, reason FROM pgprojector.projection WHERE name = %s", (NAME,))[0]


def confirmed(pair):
    return lsn(pair.write_value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s",
                                (pair.slots()[0],)))


def is_socket(link):
    try:
        return os.readlink(link).startswith("socket:")
    except FileNotFoundError:  # closed since it was listed
        return False


def sockets(process):
    return sum(is_socket(link) for link in pathlib.Path(f"/proc/{process.pid}/fd").iterdir())


def goes_on(pair):
    """The others are live and right, and the slot moves."""
    before = confirmed(pair)
    for _ in range(3):
        send(pair, "bad")
        send(pair, "good", 1)
    others_are_right(pair)
    poll(lambda: send(pair) or confirmed(pair) > before, 20, "the slot's progress", interval=0.05)


def is_paused(pair, words):
    """It is, for that reason, which everybody is told who looks; and its apply() is not called any more."""
    poll(lambda: standing(pair)[1], 30, "the pause")
    state, _, reason = standing(pair)
    assert state == "paused" and words in reason and f"pgprojector resume {NAME}" in reason, reason
    goes_on(pair)
    log = pair.daemon.since_start()
    assert log.count("has restarted itself") == 1 and f"projection {NAME} is paused" in log and words in log, log
    status = pair.command("status")
    assert status.code == 4 and f"not healthy: projection {NAME} is not kept up" in status.out and words in status.out, status
    assert "bad" not in log.replace("bad file", "")  # no row values


def mend(pair, suspect, **module):
    suspect.build(**module)
    assert pair.daemon.stop() == 0
    pair.start()
    resumed = pair.command("resume", NAME)
    assert resumed.code == 0, resumed
    assert standing(pair) == ("live", False, None)
    send(pair, "bad")
    pair.assert_same("after mending")
    verified = pair.command("verify")
    assert verified.code == 0, verified
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") == 0


# ------------------------------------------------------------------------------------- it crashes, or never returns

BAD_ENDS = [
    ("*(volatile int *)0 = 0;", "", "crashed with signal 11"),
    ("abort();", "", "crashed with signal 6"),
    ("volatile int zero = 0; return 7 / zero;", "", "crashed with signal 8"),
    # no stack left
    ("return (int)deep(change);", "static long deep(const void *x) { volatile char big[4096]; big[0] = 1;"
     " return deep((const void *)big) + big[0]; }", "crashed with signal 11"),
    ("exit(0);", "", "ended the process"),
    ("for (volatile int i = 0;; i++) ;", "", "did not return within 0.5 s"),
]


def test_an_apply_that_does_not_come_back(deploy, suspect):
    """One way after the other, each paused and resumed."""
    pair = deploy()
    for body, extra, words in BAD_ENDS:
        suspect.build(bad=body, extra=extra)
        pair.daemon.stop()
        pair.start()
        if standing(pair)[0] == "paused":
            assert pair.command("resume", NAME).code == 0
        process, before = pair.daemon.process, sockets(pair.daemon.process)
        send(pair, "bad")
        is_paused(pair, words)
        assert process.poll() is None, "the same process"
        poll(lambda p=process, b=before: sockets(p) <= b + 2, what="no connection of the former program being left open")
        assert "on a change of messages" in standing(pair)[2]
    mend(pair, suspect)


def test_what_is_guilty_stays_paused_over_restarts_and_resumed_too_early_is_paused_again(deploy, suspect):
    pair = deploy(bad="abort();")
    send(pair, "bad")
    is_paused(pair, "signal 6")
    pair.daemon.kill()
    pair.start()
    goes_on(pair)
    assert standing(pair)[:2] == ("paused", True) and "restarted itself" not in pair.daemon.since_start()
    resumed = pair.command("resume", NAME)
    assert resumed.code == 0 and f"{NAME}: its module is still the file of which its apply() crashed" in resumed.err, resumed
    send(pair, "bad")
    poll(lambda: standing(pair)[1], 30, "the second pause")
    goes_on(pair)
    mend(pair, suspect)


def test_a_resume_has_the_mended_file_loaded(deploy, suspect):
    """Nobody has to restart the daemon for it. A new version is built, and that makes it live."""
    pair = deploy(bad="abort();")
    for version, words in (1, "is live, "), (2, "is live: the table of its new version is in place"):
        suspect.build(bad="abort();")
        assert version == 1 or pair.command("module", "add", NAME).code == 0
        send(pair, "bad")
        poll(lambda: standing(pair)[1], 30, "the pause")
        suspect.build(version=version)
        resumed = pair.command("resume", NAME)
        assert resumed.code == 0 and words in resumed.out and "still the file" not in resumed.err, resumed
        assert standing(pair) == ("live", False, None)
        send(pair, "bad")
        pair.assert_same(f"version {version}")
    assert pair.daemon.since_start().count("has restarted itself") == 2
    assert pair.command("verify").code == 0


def test_a_pause_acknowledges_what_the_daemon_has_paused(deploy, suspect):
    """It is no longer held against the daemon, and apply() stays off."""
    pair = deploy(bad="abort();")
    send(pair, "bad")
    is_paused(pair, "signal 6")
    for words in ("paused by the daemon", "signal 6"), ("already",):
        paused = pair.command("pause", NAME)
        assert paused.code == 0 and all(word in paused.out for word in words), paused
        status = pair.command("status")
        assert status.code == 0 and "signal 6" not in status.out, status
        assert standing(pair) == ("paused", True, None)
    goes_on(pair)
    pair.daemon.kill()
    pair.start()
    goes_on(pair)
    assert pair.command("status").code == 0 and "has restarted itself" not in pair.daemon.since_start()
    mend(pair, suspect)


def test_a_paused_one_that_hangs_on_noting(deploy, suspect):
    """Paused by hand, its apply() still says which keys are touched: until it does not return."""
    pair = deploy(bad="for (volatile int i = 0;; i++) ;")
    assert pair.command("pause", NAME).code == 0
    send(pair, "bad")
    is_paused(pair, "did not return within 0.5 s")
    mend(pair, suspect)


def test_one_that_crashes_while_its_batch_is_applied_with_care(deploy, suspect):
    pair = deploy(bad="static int calls; if (calls++) abort();")
    pair.read_query(f"ALTER TABLE {NAME} ADD CONSTRAINT poison CHECK (conversation_id <> '{pair.ids[0]}') NOT VALID")
    send(pair, "bad")
    is_paused(pair, "signal 6")
    pair.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    mend(pair, suspect)


def test_a_daemon_that_is_asked_to_stop_while_a_call_hangs_stops(deploy):
    pair = deploy("", bad="for (volatile int i = 0;; i++) ;")
    pair.daemon.stop()
    pair.config = pair.configure(pair.config.read_text().replace("apply_timeout = 500ms", "apply_timeout = 0"))
    pair.start()
    send(pair, "bad")
    poll(lambda: busy(pair.daemon.process), 20, "the endless call")
    assert pair.daemon.stop() == 0 and "stopping without projection suspect" in pair.daemon.since_start()


def busy(process):
    """Whether it has used a processor for most of some time."""
    def ticks():
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    started = ticks()
    poll(lambda: ticks() >= started + 20, 20, "work")
    return True


def test_a_crash_elsewhere_is_a_crash(deploy):
    pair = deploy()
    pair.daemon.signal(signal.SIGSEGV)
    assert pair.daemon.wait() != 0
    assert standing(pair)[0] == "live"


@pytest.mark.parametrize("modules", [[
    ({"entry": "abort();"}, "crashes: signal 6"),
    ({"extra": "__attribute__((constructor)) static void early(void) { abort(); }"}, "crashes: signal 6"),
    ({"extra": "__attribute__((constructor)) static void early(void) { exit(0); }"}, "ends the process"),
], [
    ({"definition": "SELECT nonsense"}, "nonsense"),
    ({"definition": "SELECT m.sender_id AS n FROM {messages} AS m"}, "conversation_id"),
    ({"definition": "SELECT m.conversation_id, m.colour FROM {messages} AS m"}, "colour"),
]], ids=["crashes on being loaded", "definition"])
def test_a_module_that_cannot_work_is_refused_at_the_start(make_pair, suspect, modules):
    pair = make_pair(config=f"[pgprojector]\nmodules = {suspect.file}\n")
    for module, words in modules:
        suspect.build(**module)
        result = pair.command("run", timeout=20)
        assert result.code in (1, 2) and NAME in result.err and words in result.err and "HINT" in result.err, result
        assert not pair.slots()


# --------------------------------------------------------------------------------------- it fails, always or on one key

REFUSE = 'host->fail(call, "a row that it cannot digest"); return 1;'


def figures(pair):
    return pair.command("status", "--json").json["daemon"]["figures"]


def test_one_that_always_fails_is_served_by_its_definition(deploy):
    pair = deploy(bad=REFUSE, when="1")
    goes_on(pair)
    pair.assert_same()
    assert standing(pair) == ("live", False, None)
    log = pair.daemon.since_start()
    assert log.count("a row that it cannot digest") == 1 and f"projection {NAME}: apply()" in log, log
    assert "with care" not in log, "nobody else has to wait for it"
    assert pair.command("verify").code == 0
    poll(lambda: figures(pair)["refused_rows"].get(NAME, 0) > 6, 20, "the count, which is told once a second")
    assert figures(pair)["reconnects"] == 0, figures(pair)
    status = pair.command("status")
    assert status.code == 0 and "its apply() has refused" in status.out, status


# It emits instead of marking keys: a message 'bad' counts for more than a bigint holds twice.
SUMMING = {"extra": '''static const struct pj_stream_column of_counts[] = {
    {"conversation_id", PJ_UUID, PJ_KEY}, {"n", PJ_INT8, PJ_SUM}, {NULL, PJ_ANY, PJ_KEY}};
static const struct pj_stream streams[] = {{"counts", of_counts, "INSERT INTO {target} AS t SELECT * FROM {delta} AS d"
    " ON CONFLICT (conversation_id) DO UPDATE SET n = t.n + excluded.n"}, {NULL, NULL, NULL}};''',
           "options": ".streams = streams,", "when": "change->new_row && !change->old_row",
           "bad": '''unsigned char space[8];
        struct pj_value row[] = {change->new_row[0],
            pj_make_int64(is_bad(change->new_row) ? INT64_MAX : 1, space)};
        host->emit(call, 0, row);
        return 0;'''}


def test_a_sum_beyond_bigint_is_mended_from_the_definition(deploy):
    pair = deploy(**SUMMING)
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), %s, i, 'bad', now() FROM generate_series(1, 2) i", (pair.ids[0],))
    others_are_right(pair)
    pair.assert_same()
    assert standing(pair) == ("live", False, None)
    assert "a sum is out of bigint's range" in pair.daemon.since_start()


def test_one_that_fails_on_one_key_has_it_parked(deploy, suspect):
    pair = deploy(bad=REFUSE, definition=PICKY)
    send(pair, "worse")
    goes_on(pair)
    (letter,) = pair.command("deadletters", "list", "--json").json["deadLetters"]
    assert letter["projection"] == NAME and letter["key"] == pair.ids[0] and letter["sqlstate"] == "22012", letter
    assert pair.command("status").code == 6
    pair.write_query("UPDATE messages SET content = 'better' WHERE content = 'worse'")
    pair.catch_up()
    assert pair.command("deadletters", "retry", "--all").code == 0
    pair.assert_same()


def test_a_definition_that_contradicts_apply_is_found_by_verify(deploy, suspect):
    """apply() forgets a change."""
    pair = deploy(bad="return 0;")
    send(pair, "bad")
    others_are_right(pair)
    verified = pair.command("verify", NAME)
    assert verified.code == 5 and NAME in verified.out, verified
    rebuilt = pair.command("rebuild", NAME)
    assert rebuilt.code == 0, rebuilt
    pair.assert_same()


@pytest.mark.parametrize("key", ["{(const unsigned char *)\"short\", 5}", "{change->new_row[0].data, -7}"])
def test_a_dirty_key_that_is_none_is_refused(deploy, key):
    """No server takes it, so it could not be recomputed, noted or parked. The rows' own keys are recomputed instead."""
    pair = deploy(bad=f"struct pj_value none = {key}; host->dirty(call, &none, 1); return 0;")
    send(pair, "bad")
    goes_on(pair)
    pair.assert_same()
    assert standing(pair) == ("live", False, None)
    assert "dirty: for key column conversation_id" in pair.daemon.since_start()
    assert pair.command("pause", NAME).code == 0  # its keys are noted, then
    send(pair, "bad")
    goes_on(pair)
    assert pair.command("resume", NAME).code == 0
    pair.assert_same()


def test_a_stream_whose_key_is_of_another_type_is_refused(make_pair, suspect):
    suspect.build(**{**SUMMING, "extra": SUMMING["extra"].replace("PJ_UUID", "PJ_TEXT")})
    pair = make_pair(config=f"[pgprojector]\nmodules = {suspect.file}\n")
    result = pair.command("run", timeout=20)
    assert result.code == 2 and "stream counts" in result.err and "conversation_id" in result.err, result
    assert "as uuid" in result.err and not pair.slots()


# ------------------------------------------------------------------------------------------------------------ on_error

def halts(pair, *words):
    """The daemon says whose fault it is and what to do, and neither applies nor confirms anything any more."""
    _, message, hint = pair.daemon.await_state("halted", timeout=30)
    for word in (f"projection {NAME}", *words):
        assert word in message, (word, message)
    assert "on_error = park" in hint and f"pgprojector pause {NAME}" in hint, hint
    assert pair.daemon.since_start().count("halted: ") == 1
    pair.idle_slot()  # what it said last may still be on its way
    before = pair.applied(), confirmed(pair)
    send(pair, "good", 1)
    status = pair.command("status")
    assert status.code == 4 and f"projection {NAME}" in status.out + status.err, status
    assert (pair.applied(), confirmed(pair)) == before
    assert pair.read_value("SELECT count(*) FROM pgprojector.dead_letter") == 0


@pytest.mark.parametrize("settings,section", [("on_error = halt", ""), ("", "on_error = halt")])
def test_halt_on_a_row_that_is_refused(deploy, suspect, settings, section):
    pair = deploy(settings, section, bad=REFUSE)
    send(pair, "bad", 2)
    halts(pair, "a row that it cannot digest", f"key {pair.ids[2]}", "change of messages")
    suspect.build()
    assert pair.daemon.stop() == 0
    pair.start()
    pair.assert_same("once it is mended")


def test_halt_on_a_key_that_cannot_be_written(deploy):
    pair = deploy("on_error = park", "on_error = halt")
    pair.read_query(f"ALTER TABLE {NAME} ADD CONSTRAINT poison CHECK (n < 1000 OR conversation_id <> '{pair.ids[1]}')")
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                     " SELECT gen_random_uuid(), c.id, i, 'm', now() FROM conversations c, generate_series(1, 1000) i"
                     " WHERE c.id::text = ANY (%s)", (pair.ids,))
    halts(pair, f"key {pair.ids[1]}", "poison", "23514")
    assert pair.command("pause", NAME).code == 0  # one remedy
    pair.daemon.stop()
    pair.start()
    goes_on(pair)
    pair.read_query(f"ALTER TABLE {NAME} DROP CONSTRAINT poison")
    assert pair.command("resume", NAME).code == 0
    pair.assert_same()


def test_halt_is_for_one_projection(deploy):
    """Another one's fault is parked."""
    pair = deploy("", "on_error = halt")
    pair.read_query(f"ALTER TABLE conversation_summary ADD CONSTRAINT poison CHECK (id <> '{pair.ids[0]}') NOT VALID")
    send(pair)
    pair.catch_up()
    assert pair.read_query("SELECT projection FROM pgprojector.dead_letter") == [("conversation_summary",)]
    assert not [line for line in pair.differences() if line.startswith(NAME)]


def test_settings_that_are_wrong(make_pair, suspect):
    suspect.build()
    pair = make_pair()
    for text, words in (("on_error = ignore\n", 'on_error = "ignore" is not park or halt'),
                        ("apply_timeout = 5ms\n", "at least 100ms"),
                        (f"[module {NAME}]\non_error = stop\n", 'on_error = "stop" is not park or halt')):
        pair.config = pair.configure(f"[pgprojector]\nmodules = {suspect.file}\n{text}")
        result = pair.command("run", timeout=20)
        assert result.code == 2 and words in result.err, result
    suspect.build(extra='static const struct pj_option options[] = {{"on_error", "x", "x", NULL}, {NULL, NULL, NULL, NULL}};',
                  options=".options = options")
    result = pair.command("module", "check", suspect.file)
    assert result.code == 1 and "pgprojector's own" in result.out, result
