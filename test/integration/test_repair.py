"""`verify --repair`: what was corrupted by hand is found and mended, under load, and nothing else is touched."""
import random
import threading

from harness.corruption import fill, sow
from harness.history import populate
from harness.scenes import SEED
from harness.schema import Flavour


class Load(threading.Thread):
    """One writer, statement after statement, until the end of the `with`."""

    def __init__(self, pair, sql):
        super().__init__(daemon=True)
        self.pair, self.sql = pair, sql
        self.ending = threading.Event()

    def run(self):
        conn = self.pair.write_connection()
        with conn.cursor() as cursor:
            while not self.ending.wait(0.003):
                cursor.execute(self.sql)
        conn.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join(20)


def test_300_corruptions_under_load(streaming):
    """Changed, missing and extra rows in mirrors and targets, while writers write; verified before without alarm."""
    pair = streaming
    fill(pair)
    pair.catch_up()
    rng = random.Random(f"{SEED}/repair")
    send = ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT gen_random_uuid(),"
            " (SELECT id FROM conversations WHERE id::text NOT IN (SELECT md5('fc' || i)::uuid::text"
            " FROM generate_series(1, 300) i) ORDER BY id LIMIT 1), 1, 'load', now()")
    with Load(pair, send):
        before = pair.command("verify")
        assert before.code == 0, f"false alarm: {before}"
        sow(pair, rng, 300)
        found = pair.command("verify", "--json")
        assert found.code == 5 and found.json["differences"] >= 300
        mended = pair.command("verify", "--repair", "--keys", "1")
        assert mended.code == 0, mended
        assert "repaired by now" in mended.out
        after = pair.command("verify", "--repair", "--json")
        assert after.code == 0 and after.json["repaired"] == {"mirrorRows": 0, "projectionKeys": 0}
    pair.assert_same("after the repair")


def test_a_repair_touches_only_what_differs(streaming):
    pair = streaming
    xmins = "SELECT id, xmin::text, ctid::text FROM messages ORDER BY id"
    before = dict((row[0], row[1:]) for row in pair.read_query(xmins))
    victim = sorted(before)[0]
    pair.read_query("UPDATE messages SET content = 'forged' WHERE id = %s", (victim,))
    result = pair.command("verify", "--repair")
    assert result.code == 0, result
    after = dict((row[0], row[1:]) for row in pair.read_query(xmins))
    assert {key for key in before if before[key] != after[key]} == {victim}
    pair.assert_same()


def test_awkward_keys_and_types(make_pair):
    """Composite, quoted, text and numeric keys; values that "=" calls alike."""
    pair = make_pair(Flavour())
    populate(pair, SEED)
    pair.write_query("INSERT INTO only_key VALUES ('a,\"b\"', 1), ('{}', 2), (E'back\\\\slash', 3), ('', 4);"
                     " INSERT INTO full_rows (a, b, body, extra) VALUES ('x', 1, 'y', 1.0), ('', 2, NULL, 1.00)")
    pair.start()
    pair.catch_up()
    pair.read_query("DELETE FROM only_key WHERE a IN (1, 2, 3); INSERT INTO only_key VALUES ('none''s', 9);"
                    " UPDATE full_rows SET extra = 1.000 WHERE b IN (1, 2)")
    result = pair.command("verify", "--repair")
    assert result.code == 0, result
    pair.assert_same()


def test_one_name_alone_is_repaired(streaming):
    pair = streaming
    pair.read_query("UPDATE conversation_summary SET message_count = -1; UPDATE users SET display_name = 'forged'")
    result = pair.command("verify", "conversation_summary", "--repair")
    assert result.code == 0, result
    assert pair.read_value("SELECT count(*) FROM conversation_summary WHERE message_count < 0") == 0
    assert pair.read_value("SELECT count(*) FROM users WHERE display_name <> 'forged'") == 0, "users were not asked for"
    assert pair.command("verify", "--repair").code == 0
    pair.assert_same()


def test_without_a_daemon(streaming):
    pair = streaming
    pair.daemon.stop()
    assert pair.command("verify", "--repair").code == 4
