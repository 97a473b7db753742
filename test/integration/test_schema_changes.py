"""What the source's schema may do under a running daemon, and over a restart."""
import pytest

from harness.cluster import poll
from harness.scenes import SEND

DAYS = """CREATE TABLE days (id integer, day integer, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)"""


def test_a_column_added_to_a_source_is_ignored_over_restarts(streaming):
    streaming.write_query("ALTER TABLE users ADD COLUMN later integer DEFAULT 5")
    streaming.write_query("ALTER TABLE messages ADD COLUMN later text DEFAULT 'x'")
    streaming.write_query(SEND, (5,))
    streaming.catch_up()
    assert streaming.daemon.stop() == 0
    streaming.write_query(SEND, (6,))
    streaming.start()
    streaming.catch_up()
    count = streaming.write_value("SELECT count(*) FROM messages")
    assert streaming.read_value("SELECT count(*) FROM public.messages") == count
    verified = streaming.command("verify", "conversation_summary", "user_conversation_membership")
    assert verified.code == 0, verified
    verified = streaming.command("verify")
    assert verified.code == 0, verified
    doctor = streaming.command("doctor")
    assert "later" in doctor.out, doctor


def test_mirrors_take_up_what_their_sources_have_gained(streaming):
    assert streaming.command("mirror", "refresh").out.startswith("no mirror lacks a column")
    streaming.write_query("CREATE TYPE mood AS ENUM ('calm', 'cross')")
    streaming.write_query("ALTER TABLE messages ADD COLUMN mood mood DEFAULT 'calm', ADD COLUMN \"Edited\" timestamptz")
    streaming.write_query("ALTER TABLE users ADD COLUMN shoe integer DEFAULT 5")
    streaming.write_query(SEND, (5,))
    running = streaming.command("mirror", "refresh", "messages")
    assert running.code == 1 and "stop it first" in running.err, running
    streaming.daemon.stop()
    assert streaming.command("mirror", "refresh", "nonsense").code == 2
    refreshed = streaming.command("mirror", "refresh", "public.messages")
    assert refreshed.code == 0 and "column mood is new" in refreshed.out and "Edited" in refreshed.out, refreshed
    assert "shoe" not in refreshed.out
    streaming.start()
    streaming.write_query("UPDATE messages SET mood = 'cross', \"Edited\" = now() WHERE sequence_number = 5")
    streaming.catch_up()
    counted = "SELECT count(*), count(*) FILTER (WHERE mood = 'calm'), count(\"Edited\") FROM public.messages"
    assert streaming.read_query(counted) == streaming.write_query(counted)
    assert streaming.command("verify").code == 0
    assert streaming.read_value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.users'::regclass"
                                " AND attname = 'shoe'") == 0
    doctor = streaming.command("doctor")
    assert "users.shoe" in doctor.out and "mirror refresh" in doctor.out and "messages.mood" not in doctor.out, doctor


def test_a_needed_column_that_goes_halts_and_is_named(streaming):
    streaming.write_query("ALTER TABLE messages RENAME COLUMN content TO body")
    streaming.write_query("INSERT INTO messages (id, conversation_id, sender_id, sequence_number, created_at)"
                          " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, now()")
    row = streaming.daemon.await_state("halted")
    assert "content" in str(row)
    streaming.write_query("ALTER TABLE messages RENAME COLUMN body TO content")
    streaming.daemon.stop()
    resynced = streaming.command("resync")
    assert resynced.code == 0, resynced
    streaming.start()
    streaming.assert_same("after the column has its name back")


def refusal(pair):
    """What the daemon says where it is started and does not go on."""
    pair.daemon.start()
    poll(lambda: not pair.daemon.running or "halted: " in pair.daemon.since_start(), 30, "the refusal")
    pair.daemon.stop()
    return pair.daemon.since_start()


@pytest.mark.parametrize("change, written", [('RENAME COLUMN display_name TO "Shown"', '"Shown"'),
                                             ("DROP COLUMN display_name", "username")], ids=["renamed", "dropped"])
def test_a_mirrored_column_that_went_while_nobody_looked(streaming, change, written):
    streaming.daemon.stop()
    streaming.write_query(f"ALTER TABLE users {change}")
    for _ in range(2):  # and again where somebody starts it anew and hopes
        said = refusal(streaming)
        assert "column display_name of the source is gone" in said and "resync" in said
    doctor = streaming.command("doctor")
    assert doctor.code != 0 and "display_name of the source is gone" in doctor.out, doctor
    refused = streaming.command("resync")
    assert refused.code in (1, 2) and 'DROP COLUMN "display_name"' in refused.err, refused
    streaming.read_query(f"ALTER TABLE users {change}")
    assert "column display_name of the source is gone" in refusal(streaming), "rows may have come in between"
    streaming.write_query(f"UPDATE users SET {written} = 'x' || id")
    assert streaming.command("resync").code == 0
    streaming.start()
    streaming.write_query("INSERT INTO users SELECT (jsonb_populate_record(u, jsonb_build_object('id', gen_random_uuid(),"
                          f" '{written.strip(chr(34))}', 'later'))).* FROM users u LIMIT 1")
    streaming.catch_up()
    shown = f"SELECT id, {written} FROM users ORDER BY 1"
    assert streaming.read_query(shown) == streaming.write_query(shown)


def test_a_label_added_to_an_enum_halts_with_the_remedy(make_pair):
    pair = make_pair(config="[mirrors]\ntables = moods\n")
    pair.write_query("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE moods (id int PRIMARY KEY, mood mood)")
    pair.start()
    pair.write_query("ALTER TYPE mood ADD VALUE 'bad'")
    pair.write_query("INSERT INTO moods VALUES (1, 'good'), (2, 'bad')")
    _, message, hint = pair.daemon.await_state("halted")
    assert "public.mood" in message and "ALTER TYPE … ADD VALUE" in hint, (message, hint)
    pair.read_query("ALTER TYPE mood ADD VALUE 'bad'")
    pair.daemon.stop()
    pair.start()
    pair.catch_up()
    assert pair.read_query("SELECT id, mood::text FROM moods ORDER BY id") == [(1, "good"), (2, "bad")]


@pytest.fixture
def partitioned(make_pair):
    """A source that is partitioned by day, and a partition made after the first start, with a row."""
    pair = make_pair(config="[mirrors]\ntables = public.days\n")
    pair.write_query(DAYS)
    pair.start()
    pair.write_query("CREATE TABLE days_2 PARTITION OF days FOR VALUES IN (2)")
    pair.write_query("INSERT INTO days VALUES (1, 1), (2, 2)")
    pair.catch_up()
    assert pair.read_value("SELECT count(*) FROM public.days") == 2
    return pair


def test_a_late_partition_that_is_dropped_halts_and_is_named(partitioned):
    partitioned.write_query("DROP TABLE days_2")
    state, message, hint = partitioned.daemon.await_state("halted", timeout=30)
    assert "days" in message and "resync" in hint
    partitioned.daemon.stop()
    assert partitioned.command("resync").code == 0
    partitioned.start()
    partitioned.catch_up()
    assert partitioned.read_query("SELECT id FROM public.days") == [(1,)]


def test_a_late_partition_that_is_dropped_while_nobody_looks(partitioned):
    partitioned.daemon.stop()
    partitioned.write_query("DROP TABLE days_2")
    assert "resync" in refusal(partitioned)


def test_a_partition_that_could_not_be_noted_when_it_was_met(partitioned):
    """The connection is opened anew, and the partition known by then."""
    pair = partitioned
    pair.read_query("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now' USING ERRCODE = '40001'; END $$;"
                    "CREATE TRIGGER no BEFORE UPDATE ON pgprojector.mirror EXECUTE FUNCTION public.no()")
    pair.write_query("CREATE TABLE days_3 PARTITION OF days FOR VALUES IN (3); INSERT INTO days VALUES (3, 3)")
    poll(lambda: "not now" in pair.daemon.since_start(), 20, "the failure")
    pair.read_query("DROP TRIGGER no ON pgprojector.mirror")
    pair.catch_up()
    pair.daemon.kill()
    pair.write_query("DROP TABLE days_3")
    assert "resync" in refusal(pair)


ATTACHED = {
    "a table": ("CREATE TABLE late (LIKE days INCLUDING ALL)", "ALTER TABLE days ATTACH PARTITION late FOR VALUES IN (9)"),
    "a partitioned table": (
        "CREATE TABLE late (LIKE days INCLUDING ALL) PARTITION BY LIST (day); CREATE TABLE late_9 PARTITION OF late FOR VALUES IN (9)",
        "ALTER TABLE days ATTACH PARTITION late FOR VALUES IN (9)"),
    "beneath a partition": (
        "CREATE TABLE days_9 PARTITION OF days FOR VALUES IN (9) PARTITION BY LIST (day); CREATE TABLE late (LIKE days INCLUDING ALL)",
        "ALTER TABLE days_9 ATTACH PARTITION late FOR VALUES IN (9)"),
}


@pytest.mark.parametrize("made, attached", ATTACHED.values(), ids=ATTACHED.keys())
def test_a_filled_table_that_is_attached_and_written_to_at_once(make_pair, made, attached):
    """Filled before the daemon looked; the stream names it before the schema is looked at again."""
    pair = make_pair(config="[mirrors]\ntables = public.days\n")
    pair.write_query(f"{DAYS}; {made}; INSERT INTO late VALUES (1, 9), (2, 9)")
    pair.start()
    pair.write_query(f"{attached}; INSERT INTO days VALUES (3, 9)")
    state, message, hint = pair.daemon.await_state("halted", timeout=30)
    assert "attached" in message and "resync" in hint, message
    pair.daemon.stop()
    assert pair.command("resync").code == 0
    pair.start()
    pair.write_query("INSERT INTO days VALUES (4, 9)")
    pair.catch_up()
    assert pair.read_query("SELECT id FROM public.days ORDER BY id") == [(1,), (2,), (3,), (4,)]


def test_a_partition_of_a_partition_is_no_attached_table(partitioned):
    """Made beneath one that is older; as its rows are."""
    partitioned.write_query("CREATE TABLE days_8 PARTITION OF days FOR VALUES IN (7, 8) PARTITION BY LIST (day)")
    partitioned.write_query("CREATE TABLE days_8_8 PARTITION OF days_8 FOR VALUES IN (8); INSERT INTO days VALUES (3, 8)")
    partitioned.catch_up()
    assert partitioned.read_query("SELECT id FROM public.days ORDER BY id") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("moved", ["ALTER TABLE days_2 RENAME TO \"Second\"",
                                   "CREATE SCHEMA shelf; ALTER TABLE days_2 SET SCHEMA shelf"])
def test_a_partition_that_changes_its_name_while_nobody_looks(partitioned, moved):
    """Its rows stand in the WAL under the former one, which nobody knows any more."""
    partitioned.daemon.stop()
    partitioned.write_query("INSERT INTO days VALUES (3, 2)")
    partitioned.write_query(moved)
    said = refusal(partitioned)
    assert '"public"."days_2" of the source has been renamed' in said and "resync" in said
    assert partitioned.command("resync").code == 0
    partitioned.start()
    partitioned.write_query("INSERT INTO days VALUES (4, 2)")
    partitioned.catch_up()
    assert partitioned.read_query("SELECT id FROM public.days ORDER BY 1") == [(1,), (2,), (3,), (4,)]


TOUCHED = ["ALTER TABLE days_3 OWNER TO pg_monitor", "ALTER TABLE days_3 RENAME TO third", "GRANT SELECT ON days_3 TO PUBLIC"]
LAST = "SELECT id FROM public.days ORDER BY id"


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("touched", TOUCHED, ids=["owner", "name", "grant"])
def test_a_partition_just_made_is_given_away_before_its_first_row(partitioned, running, touched):
    """In a transaction of its own: it was not attached. Tables of no concern may vanish once its place in the WAL is passed."""
    pair = partitioned
    if not running:
        pair.daemon.stop()
    pair.write_query("CREATE TABLE days_3 PARTITION OF days FOR VALUES IN (3)")
    pair.write_query(touched)
    pair.write_query("INSERT INTO days VALUES (3, 3)")
    if not running:
        pair.start()
    pair.catch_up()
    pair.write_query("CREATE TABLE scratch (id int PRIMARY KEY); INSERT INTO scratch VALUES (1); DROP TABLE scratch;"
                     " INSERT INTO days VALUES (4, 3)")
    pair.catch_up()
    assert pair.read_query(LAST) == [(1,), (2,), (3,), (4,)]


def resynced(pair):
    assert pair.command("resync").code == 0
    pair.start()
    pair.catch_up()
    assert pair.read_query(LAST) == pair.write_query("SELECT id FROM days ORDER BY id")


def test_a_partition_made_filled_and_renamed_while_nobody_looks(partitioned):
    """Its first rows stand in the WAL under a name that nobody knows; nor at the next start, when its present name is known."""
    pair = partitioned
    pair.daemon.stop()
    pair.write_query("CREATE TABLE days_3 PARTITION OF days FOR VALUES IN (3); INSERT INTO days VALUES (3, 3)")
    pair.write_query("ALTER TABLE days_3 RENAME TO third")
    pair.write_query("INSERT INTO days VALUES (4, 3)")
    for _ in range(2):
        said = refusal(pair)
        assert 'rows of a table "public"."days_3" have come' in said and "resync" in said, said
    resynced(pair)


def test_a_partition_made_filled_and_renamed_within_one_transaction(partitioned):
    pair = partitioned
    pair.write_query("CREATE TABLE days_3 PARTITION OF days FOR VALUES IN (3); INSERT INTO days VALUES (3, 3);"
                     " ALTER TABLE days_3 RENAME TO third")
    assert '"public"."days_3" have come' in str(pair.daemon.await_state("halted"))
    pair.daemon.stop()
    resynced(pair)


def test_a_table_that_vanished_may_be_taken_for_a_partition_renamed(partitioned):
    """Written to before the partition was seen under its name. The remedy that is named lets it pass."""
    pair = partitioned
    pair.daemon.stop()
    pair.write_query("CREATE TABLE days_3 PARTITION OF days FOR VALUES IN (3)")
    pair.write_query("ALTER TABLE days_3 RENAME TO third")
    pair.write_query("CREATE TABLE scratch (id int PRIMARY KEY); INSERT INTO scratch VALUES (1); DROP TABLE scratch;"
                     " INSERT INTO days VALUES (3, 3)")
    said = refusal(pair)
    assert 'CREATE TABLE "public"."scratch" ()' in said, said
    pair.write_query('CREATE TABLE "public"."scratch" ()')
    pair.start()
    pair.catch_up()
    pair.write_query("DROP TABLE scratch")
    assert pair.read_query(LAST) == [(1,), (2,), (3,)]


def test_a_mapped_column_beside_one_of_the_declared_name(make_pair):
    """The module's created_at is the table's sent_at, and the table has a created_at of its own, which nobody asked for."""
    config = "".join(f"[module {name}]\ncolumn.messages.created_at = sent_at\n"
                     for name in ("conversation_summary", "user_conversation_membership"))
    pair = make_pair(config="[pgprojector]\nmodules = conversation_summary, user_conversation_membership\n" + config)
    pair.write_query("ALTER TABLE messages RENAME COLUMN created_at TO sent_at;"
                     " ALTER TABLE messages ADD COLUMN created_at text DEFAULT 'yesterday'")
    pair.write_query("INSERT INTO conversations (id) VALUES (md5('c')::uuid)")
    pair.start()
    pair.write_query("INSERT INTO messages (id, conversation_id, sequence_number, content, sent_at)"
                     " SELECT gen_random_uuid(), md5('c')::uuid, i, 'm', timestamptz '2024-05-05' + i * interval '1 s'"
                     " FROM generate_series(1, 5) i")
    pair.catch_up()
    assert pair.read_value("SELECT last_message_at::text FROM conversation_summary").startswith("2024-05-05")
    assert pair.read_value("SELECT max(created_at) FROM messages") == "yesterday"
    verified = pair.command("verify")
    assert verified.code == 0, verified


def test_another_replica_identity_while_nobody_looks(streaming):
    """The index by which rows are found from then on is made by the resync that is named."""
    streaming.write_query("UPDATE users SET username = id::text")
    streaming.catch_up()
    streaming.daemon.stop()
    streaming.write_query("ALTER TABLE users ALTER username SET NOT NULL; CREATE UNIQUE INDEX by_name ON users (username);"
                          " ALTER TABLE users REPLICA IDENTITY USING INDEX by_name")
    assert "replica identity has other columns" in refusal(streaming)
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'users' AND indexdef LIKE '%(username)'"
    assert streaming.read_value(indexes) == 0
    for _ in range(2):  # once made it is enough
        resynced = streaming.command("resync")
        assert resynced.code == 0, resynced
        assert streaming.read_value(indexes) == 1
    streaming.start()
    streaming.write_query("UPDATE users SET display_name = display_name || '!'")
    streaming.assert_same("found by name")
