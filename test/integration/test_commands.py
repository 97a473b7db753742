"""The commands: what they print, their exit codes, and that `verify` finds exactly what is wrong."""
import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

from harness.beside import Statements
from harness.cluster import poll
from harness.daemon import PROGRAM, command, environment
from harness.history import populate
from harness.scenes import SEED, SEND
from harness.schema import Flavour
from harness.workload import Workload

VERBS = ("init", "run", "status", "mirror", "slot", "verify", "wait", "doctor", "version")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command(verb):
    result = command([verb, "--help"])
    assert result.code == 0 and verb in result.out and "Exit codes" in result.out and not result.err


def test_help_lists_the_commands():
    result = command(["--help"])
    assert result.code == 0 and all(verb in result.out for verb in VERBS)
    assert "WRITE_DATABASE_URL" in result.out


def test_version():
    assert command(["version"]).code == 0
    assert command(["version", "--json"]).json["version"] in command(["--version"]).out


def test_init_is_idempotent(pair):
    populate(pair, SEED)
    first = pair.command("init")
    assert first.code == 0, first
    (slot,) = pair.slots()
    before = pair.read_query("SELECT instance, slot, lsn FROM pgprojector.checkpoint")
    again = pair.command("init")
    assert again.code == 0, again
    assert pair.slots() == [slot] and pair.applied() is not None
    assert pair.read_query("SELECT instance, slot, lsn FROM pgprojector.checkpoint") == before
    pair.write_query(SEND, (5,))
    pair.start()
    pair.assert_same("after init, then run")
    assert pair.slots() == [slot]


def test_init_beside_a_running_daemon(streaming):
    result = streaming.command("init")
    assert result.code == 0, result
    streaming.write_query(SEND, (5,))
    streaming.assert_same()


def test_a_reader_in_a_transaction_holds_up_no_start(streaming):
    """Nor do readers meet a starting daemon in a deadlock: where the catalog is as it should be, no table of it is locked.
    What somebody dropped is made again."""
    with streaming.read_connection() as conn, conn.cursor() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pgprojector.applied_lsn();"
                       " SELECT count(*) FROM pgprojector.projection")
        streaming.daemon.kill()
        streaming.start()
        streaming.write_query(SEND, (1,))
        streaming.catch_up()
        reader.execute("ROLLBACK")
    streaming.daemon.stop()
    streaming.read_query("DROP TABLE pgprojector.fence")
    streaming.start()
    assert streaming.command("verify").code == 0


def test_apply_does_not_stand_still_for_a_transaction_that_has_been_open_for_long(streaming):
    """`verify` waits until it is over, and only then asks the daemon to hold."""
    pair = streaming
    pair.read_query("CREATE TABLE fences (id bigint); CREATE FUNCTION public.seen() RETURNS trigger LANGUAGE plpgsql AS"
                    " 'BEGIN INSERT INTO public.fences VALUES (NEW.id); RETURN NULL; END';"
                    " CREATE TRIGGER seen AFTER INSERT ON pgprojector.fence FOR EACH ROW EXECUTE FUNCTION public.seen()")
    asked = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgprojector verify' AND query LIKE '%keeps a new slot%'"
    with pair.write_connection() as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id(), pg_backend_pid()")
        pid = cursor.fetchone()[1]
        poll(lambda: pair.write_value("SELECT clock_timestamp() - xact_start > interval '1 second' FROM pg_stat_activity"
                                      " WHERE pid = %s", (pid,)), what="an old transaction")
        process = pair.launch("verify")
        poll(lambda: pair.write_query(asked), what="verify looks who is in the way")
        assert pair.read_value("SELECT count(*) FROM fences") == 0
        cursor.execute("ROLLBACK")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, (out, err)
    assert pair.read_value("SELECT count(*) FROM fences") == 1


def test_the_slot_is_named_after_the_read_database(streaming):
    instance = streaming.read_value("SELECT instance FROM pgprojector.checkpoint")
    assert streaming.slots() == [f"pgprojector_{instance}"]


def test_another_slot_in_the_configuration_is_ignored_aloud(streaming):
    streaming.daemon.stop()
    config = streaming.configure("[pgprojector]\nslot = another\n")
    streaming.daemon.words[1:1] = ["-c", str(config)]
    streaming.start()
    assert "slot = another is ignored" in streaming.daemon.since_start()
    assert "another" not in streaming.slots()


def test_mirrors_have_their_read_indexes(streaming):
    found = " ".join(row[0] for row in streaming.read_query("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"))
    for index in ("messages USING btree (conversation_id, sequence_number DESC)", "WHERE (deleted_at IS NULL)",
                  "messages USING btree (sender_id, created_at DESC)", "messages USING btree (created_at DESC)",
                  "conversations USING btree (tenant_id, updated_at DESC)"):
        assert index in found


# ------------------------------------------------------------------------------------------------------ bad settings

ON_PROJECTIONS = (["rebuild", "--all"], ["rebuild", "conversation_summary", "--fresh"],
                  ["rebuild", "conversation_summary", "--rollback"], ["rebuild", "--all", "--cancel"],
                  ["resume", "conversation_summary"], ["deadletters", "retry", "--all"])


@pytest.mark.parametrize("fault", ["write", "read", "option"])
def test_a_setting_that_is_wrong_is_named_by_the_commands_on_projections(streaming, fault):
    """A database that does not exist, an option that no module has: one line each, and exit code 2."""
    if fault == "option":
        words = "nosuch"
        streaming.config = streaming.configure("[module conversation_summary]\nnosuch = 3\n")
    else:
        words = "no_such_db"
        setattr(streaming, f"{fault}_url", getattr(streaming, fault).url("no_such_db"))
    for command_line in ON_PROJECTIONS:
        result = streaming.command(*command_line)
        if result.code == 0 and fault == "write":  # it needs the read database alone
            continue
        assert result.code == 2 and words in result.err and not result.out, (command_line, result)
    result = streaming.command("status")
    assert fault == "option" or (result.code == 2 and "hint: check the role, password" in result.out), result


def test_a_daemon_that_would_stand_by_says_at_once_what_is_wrong(streaming):
    """Not when it is to take over."""
    config = streaming.configure("[module user_conversation_membership]\nnull_last_read = al\n")
    result = command(["-c", config, "run"], streaming.write_url, streaming.read_url, timeout=20)
    assert result.code == 2 and f"{config}:2: module user_conversation_membership: option null_last_read" in result.err, result
    assert "may be one of: none, all" in result.err and 'HINT: did you mean "all"?' in result.err, result


# --------------------------------------------------------------------------------------------------------- status

def test_status_of_a_streaming_daemon(streaming):
    result = streaming.command("status")
    assert result.code == 0 and "streaming" in result.out, result
    result = streaming.command("status", "--json")
    assert result.code == 0 and "streaming" in json.dumps(result.json), result
    assert streaming.slots()[0] in result.out
    assert result.json["healthy"] is True and 0 <= result.json["replication"]["lagSeconds"] < 5


def test_status_without_a_daemon(streaming):
    streaming.daemon.stop()
    assert streaming.command("status").code == 4
    assert streaming.command("status", "--json").json["healthy"] is False


def test_status_before_init(pair):
    result = pair.command("status")
    assert result.code == 4 and "no catalog" in result.out, result


def test_status_of_a_killed_daemon(streaming):
    """Its row still says "streaming"; the heartbeat tells."""
    streaming.daemon.kill()
    streaming.write_query(SEND, (10,))
    poll(lambda: streaming.command("status").code == 4, timeout=15, what="status without a daemon", interval=0.2)


def test_status_of_a_first_start_that_is_not_complete(streaming):
    """The heartbeat alone is no health."""
    streaming.daemon.stop()
    streaming.read_query("UPDATE pgprojector.checkpoint SET lsn = NULL")
    streaming.read_query("UPDATE pgprojector.daemon SET state = 'streaming', heartbeat_at = clock_timestamp()")
    result = streaming.command("status", "--json")
    assert result.code == 4 and result.json["reason"] == "the first start is not complete", result


def test_status_of_a_slot_that_nobody_reads(streaming):
    streaming.daemon.stop()
    streaming.idle_slot()
    streaming.read_query("UPDATE pgprojector.daemon SET state = 'streaming', heartbeat_at = clock_timestamp()")
    result = streaming.command("status", "--json")
    assert result.code == 4 and result.json["reason"] == "the slot is not active", result


def test_status_of_tables_that_cannot_be_mirrored(streaming):
    """Why, and that the daemon looks again on SIGHUP. Nobody else is concerned."""
    def unfit():
        return {entry["table"]: entry["reason"] for entry in streaming.command("status", "--json").json["unfitMirrors"]}
    streaming.daemon.stop()
    streaming.write_query("CREATE TABLE nopk (id int)")
    streaming.config = streaming.configure("[mirrors]\ntables = nopk, misspelt\n")
    streaming.daemon.words[1:1] = ["-c", str(streaming.config)]
    streaming.start()
    poll(lambda: set(unfit()) == {"nopk", "misspelt"}, 20)
    assert "has no primary key" in unfit()["nopk"], unfit()
    result = streaming.command("status")
    assert result.code == 0 and "not mirrored public.misspelt: " in result.out, result
    assert "ADD PRIMARY KEY (…); then send the daemon SIGHUP" in result.out, result
    streaming.write_query("ALTER TABLE nopk ADD PRIMARY KEY (id); CREATE TABLE misspelt (id int PRIMARY KEY)")
    result = streaming.command("doctor")
    assert result.code == 0 and result.out.count("is not mirrored yet") == 2 and "SIGHUP" in result.out, result
    streaming.daemon.signal(signal.SIGHUP)
    poll(lambda: not unfit() and streaming.read_value("SELECT count(*) FROM pgprojector.mirror WHERE state = 'exact' AND"
                                                      " table_name IN ('nopk', 'misspelt')") == 2, 20)
    assert streaming.command("verify").code == 0


# ----------------------------------------------------------------------------------------------------------- wait

def test_wait(streaming):
    streaming.write_query(SEND, (1000,))
    assert streaming.command("wait", "--timeout", "10").code == 0
    assert streaming.read_value("SELECT count(*) FROM messages") == streaming.write_value("SELECT count(*) FROM messages")
    assert streaming.command("wait", "--lsn", "0/1", "--json").code == 0
    result = streaming.command("wait", "--lsn", "FFFF/0", "--timeout", "1", "--json", timeout=20)
    assert result.code == 4 and result.seconds > 0.9 and result.json, result


def test_commands_beside_a_halted_daemon_say_what_it_has_halted_for(streaming):
    streaming.drop_slot()
    streaming.daemon.await_state("halted", timeout=30)
    for words, told in (["verify"], "its state is halted ("), (["wait", "--lsn", "FFFF/0", "--timeout", "0"], ": the daemon is halted: "):
        result = streaming.command(*words)
        assert result.code == 4 and told in result.err and "attempt" not in result.err, result
        assert "Stop the daemon, run `pgprojector resync`" in result.err, result
    result = streaming.command("rebuild", "conversation_summary", "--cancel")
    assert result.code == 0 and "nothing is under way" in result.out, result


# --------------------------------------------------------------------------------------------------------- doctor

def test_a_message_longer_than_status_shows_is_cut_between_characters(streaming):
    assert streaming.daemon.stop() == 0
    streaming.read_query("UPDATE pgprojector.daemon SET state = 'waiting', message = 'x' || repeat('\u00fc', 1000)")
    shown = streaming.command("status", "--json").json
    assert shown["daemon"]["message"].startswith("x\u00fc\u00fc"), shown


def test_wait_for_what_nobody_has_flushed(streaming):
    """A record that belongs to no commit is not sent before something else is flushed, on an idle server up to 15 s later."""
    def not_flushed(cursor):
        cursor.execute("BEGIN; SELECT pg_logical_emit_message(false, 'test', 'not flushed'); ROLLBACK")
        cursor.execute("SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()")
        return cursor.fetchone()[0]
    for _ in range(3):
        with streaming.write_connection() as conn, conn.cursor() as cursor:
            poll(lambda c=cursor: not_flushed(c), what="a record that nobody else has flushed")
        assert streaming.command("wait", "--timeout", "4").code == 0


def test_doctor_finds_nothing_wrong(streaming):
    result = streaming.command("doctor")
    assert result.code == 0, result
    assert streaming.command("doctor", "--json").json


def test_doctor_before_init(pair):
    result = pair.command("doctor")
    assert result.code == 0, result
    assert pair.slots() == []


def test_doctor_names_what_is_wrong(pair):
    pair.write_query("ALTER TABLE messages REPLICA IDENTITY NOTHING")
    result = pair.command("doctor")
    assert result.code == 1 and "messages" in result.out + result.err, result
    pair.write_url = pair.write.url("no_such_db")
    result = pair.command("doctor", "--json")
    assert result.code == 1 and "no_such_db" in result.out, result


# --------------------------------------------------------------------------------------------------------- verify

def test_verify_finds_nothing(streaming):
    result = streaming.command("verify")
    assert result.code == 0, result
    result = streaming.command("verify", "--json")
    assert result.code == 0 and "conversation_summary" in result.out, result


def test_verify_without_a_daemon(streaming):
    streaming.daemon.stop()
    result = streaming.command("verify")
    assert result.code == 4, result


ONE = {"messages": "(SELECT id FROM messages ORDER BY id LIMIT 1)",
       "conversations": "(SELECT id FROM conversations ORDER BY id LIMIT 1)"}
CORRUPTIONS = {
    "a changed value in a mirror": ("messages", "id", "UPDATE messages SET content = 'sown' WHERE id = {one} RETURNING id"),
    "a row missing in a mirror": ("messages", "id", "DELETE FROM messages WHERE id = {one} RETURNING id"),
    "a row too many in a mirror": ("users", "id", "INSERT INTO users VALUES (gen_random_uuid(), 'x', 'x') RETURNING id"),
    "NULL instead of empty": ("users", "id", "UPDATE users SET display_name = nullif(display_name, '') WHERE id = (SELECT"
                              " id FROM users WHERE display_name = '' LIMIT 1) RETURNING id"),
    "a changed count": ("conversation_summary", "id", "UPDATE conversation_summary SET message_count = message_count + 1"
                        " WHERE id = {one} RETURNING id"),
    "a time that is off by a microsecond": (
        "conversation_summary", "id", "UPDATE conversation_summary SET last_message_at = '2001-01-01 00:00:00.000001+00'"
        " WHERE id = {one} RETURNING id"),
    "a row missing in a target": ("user_conversation_membership", "user_id", "DELETE FROM user_conversation_membership"
                                  " WHERE ctid = (SELECT min(ctid) FROM user_conversation_membership) RETURNING user_id"),
    "a row too many in a target": ("conversation_summary", "id", "INSERT INTO conversation_summary (id, message_count)"
                                   " VALUES (gen_random_uuid(), 0) RETURNING id"),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_verify_finds(streaming, what):
    """Each corruption by its key, in the table where it was sown, and exit code 5."""
    table, column, sql = CORRUPTIONS[what]
    if what.startswith("NULL"):
        streaming.write_query("INSERT INTO users VALUES (gen_random_uuid(), 'empty', '')")
        streaming.catch_up()
    one = ONE["messages" if table == "messages" else "conversations"]
    (key,) = streaming.read_query(sql.format(one=one))[0]
    result = streaming.command("verify", "--json")
    assert result.code == 5, result
    assert key in result.out and f'"{column}"' in result.out.replace("\\", ""), result
    text = streaming.command("verify", table)
    assert text.code == 5 and key in text.out and table in text.out, text


def test_verify_counts_all_and_shows_some(streaming):
    streaming.write_query(SEND, (500,))
    streaming.catch_up()
    changed = len(streaming.read_query("UPDATE messages SET content = 'sown' WHERE content = 'sent' RETURNING 1"))
    result = streaming.command("verify", "messages", "--keys", "3")
    assert result.code == 5 and str(changed) in result.out, result
    assert len(result.out.splitlines()) < 20


@pytest.mark.parametrize("flavour", [Flavour(), Flavour(identity="index", renamed=True)], ids=["plain", "renamed"])
def test_verify_under_load(make_pair, flavour):
    """20 times in all, with writers that never rest: no false alarm."""
    pair = make_pair(flavour)
    populate(pair, SEED)
    pair.start()
    workload = Workload(pair, SEED, writers=2, pace=0.002).start()
    try:
        for _ in range(10):
            result = pair.command("verify")
            assert result.code == 0, result.out + result.err
    finally:
        workload.stop()
    pair.assert_same()


def test_verify_beside_truncates(streaming):
    """Tables emptied in an order that is not verify's, all the time: no deadlock for either, and no false alarm, though a
    snapshot taken before a TRUNCATE sees the table empty after it (PostgreSQL's own caveat)."""
    everything = ("BEGIN; INSERT INTO users SELECT gen_random_uuid() FROM generate_series(1, 50);"
                  " INSERT INTO user_conversations SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 50);"
                  " TRUNCATE user_conversations; TRUNCATE messages; TRUNCATE conversations; TRUNCATE users;"
                  " INSERT INTO users SELECT gen_random_uuid() FROM generate_series(1, 9); COMMIT")
    with Statements(streaming, lambda: everything, 0.08):
        for _ in range(4):
            result = streaming.command("verify")
            assert result.code == 0, result
    streaming.assert_same()


# ------------------------------------------------------------------------------------------------------- stopping

def test_sigterm_beside_a_server_that_does_not_answer(streaming):
    """Each wait is bounded. (That their sum is, too, test_signals tells.)"""
    pair = streaming
    pids = [row[0] for row in pair.read_query("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                              " AND application_name LIKE 'pgprojector%%'")]
    assert pids

    def tell(number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # one of the first start's that was just going
                os.kill(pid, number)
    try:
        tell(signal.SIGSTOP)
        pair.write_query(SEND, (10,))
        began = time.monotonic()
        assert pair.daemon.stop() == 0
        assert time.monotonic() - began < 10
    finally:
        tell(signal.SIGCONT)
    pair.start()
    pair.assert_same()


def test_sigterm_under_load(streaming):
    """Exit code 0 within 10 s; what was applied is confirmed; the next start goes on from there."""
    workload = Workload(streaming, SEED, writers=2).start()
    for _ in range(3):
        time.sleep(0.2)
        assert streaming.daemon.stop() == 0
        streaming.start()
    workload.stop()
    streaming.assert_same()


def test_the_slot_is_shown_and_dropped(streaming):
    name = streaming.read_value("SELECT slot FROM pgprojector.checkpoint")
    shown = streaming.command("slot")
    assert shown.code == 0 and name in shown.out and "plugin wal2json" in shown.out, shown
    assert json.loads(streaming.command("slot", "--json").out)["active"] is True
    refused = streaming.command("slot", "drop")
    assert refused.code == 1 and "stop the daemon first" in refused.err, refused
    streaming.daemon.stop()
    dropped = streaming.command("slot", "drop")
    assert dropped.code == 0 and name in dropped.out, dropped
    assert streaming.write_value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", (name,)) == 0
    gone = streaming.command("slot")
    assert gone.code == 4 and "does not exist" in gone.err and "resync" in gone.err, gone
    assert streaming.command("slot", "drop").code == 0
    assert streaming.command("slot", "paint").code == 2


def test_a_slot_that_is_not_ours_is_not_dropped(streaming):
    name = streaming.read_value("SELECT slot FROM pgprojector.checkpoint")
    streaming.daemon.stop()
    streaming.write_query("SELECT pg_drop_replication_slot(%s)", (name,))
    streaming.write_query("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (name,))
    refused = streaming.command("slot", "drop")
    assert refused.code == 2 and "test_decoding" in refused.err, refused
    streaming.write_query("SELECT pg_drop_replication_slot(%s)", (name,))


def test_there_is_no_slot_before_the_first_start(pair):
    for words in (["slot"], ["slot", "drop"]):
        shown = pair.command(*words)
        assert shown.code == 4 and "nothing has been started" in shown.err, shown


# --------------------------------------------------------------------------------------- descriptors of the process

NOWHERE = environment("host=/nonexistent dbname=x", "host=/nonexistent dbname=x")


def shell(line):
    return subprocess.run(["sh", "-c", line], env={**NOWHERE, "PROGRAM": str(PROGRAM)}, stdout=subprocess.PIPE, timeout=30,
                          stderr=subprocess.PIPE, text=True, check=False)


def test_a_closed_descriptor_is_nobody_elses():
    """What is opened first would take its place: the log would be written into the descriptor that asks for the stop."""
    process = subprocess.Popen(["sh", "-c", 'exec "$0" status --watch <&- >&- 2>&-', PROGRAM], env=NOWHERE)
    try:
        links = [f"/proc/{process.pid}/fd/{number}" for number in range(3)]
        poll(lambda: all(os.path.lexists(link) and os.readlink(link) == "/dev/null" for link in links), 10, "/dev/null")
    finally:
        process.kill()
        process.wait()


def test_who_closes_the_output_wants_none():
    assert shell('"$PROGRAM" version >&-').returncode == 0
    assert shell('"$PROGRAM" status >&-').returncode == 3


@pytest.mark.parametrize("words", ["status", "status --watch --json"])
def test_a_reader_that_goes_away_is_no_full_disk(words):
    result = shell(f'{{ "$PROGRAM" {words}; echo "exit $?" >&2; }} | true')
    assert result.stderr == "exit 1\n", result


def test_names_that_are_not_utf8_leave_json_whole():
    env = {**{os.fsencode(name): os.fsencode(value) for name, value in NOWHERE.items()},
           b"READ_DATABASE_URL": b"host=/tmp/n\xff dbname=x"}
    result = subprocess.run([PROGRAM, "status", "--json"], env=env, stdout=subprocess.PIPE, timeout=30, check=False)
    assert result.returncode == 3 and "/tmp/n?" in json.loads(result.stdout)["read"]["error"], result
    result = subprocess.run([PROGRAM, "doctor", "--json"], env=env, stdout=subprocess.PIPE, timeout=30, check=False)
    report = json.loads(result.stdout)
    assert report["failed"] == sum(check["level"] == "fail" for check in report["checks"]) > 0, report
