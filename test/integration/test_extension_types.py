"""Keys and identities of an extension's type. citext: two rows whose keys differ by case alone cannot be, and text's "=" is not
its index's; ltree: nothing is called "=" without a search_path."""
import signal

import pytest

from harness.cluster import poll

TABLES = """
    CREATE TABLE words (word citext PRIMARY KEY, n int, body text);
    CREATE TABLE pairs (tenant int, word citext, pgprojector_0 text, PRIMARY KEY (tenant, word));
    CREATE TABLE places (id int PRIMARY KEY, place ltree NOT NULL UNIQUE, n int);
    ALTER TABLE places REPLICA IDENTITY USING INDEX places_place_key;
    CREATE TABLE exact (id int PRIMARY KEY, word citext NOT NULL);
    CREATE UNIQUE INDEX exact_word ON exact (word text_ops);
    ALTER TABLE exact REPLICA IDENTITY USING INDEX exact_word;
    CREATE TABLE paths (path ltree PRIMARY KEY, n int);
    INSERT INTO words SELECT 'Word' || i, i, repeat('b', 3000) FROM generate_series(1, 3000) i;
    INSERT INTO pairs SELECT i % 7, 'Word' || i, 'x' FROM generate_series(1, 3000) i;
    INSERT INTO places SELECT i, ('a.' || i)::ltree, i FROM generate_series(1, 3000) i;
    INSERT INTO paths SELECT ('a.' || i)::ltree, i FROM generate_series(1, 3000) i;
"""
NAMES = ("words", "pairs", "places", "paths", "exact")
EXTENSIONS = "CREATE EXTENSION citext; CREATE EXTENSION ltree"
CONFIG = "[mirrors]\ntables = " + ", ".join(f"public.{name}" for name in NAMES) + "\n"


def contents(query):
    return {name: sorted(row[0] for row in query(f"SELECT t::text FROM {name} t")) for name in NAMES}


def assert_equal(pair):
    pair.catch_up()
    assert contents(pair.write_query) == contents(pair.read_query)


@pytest.fixture
def extended(make_pair):
    """The four tables are mirrored, and the daemon streams."""
    pair = make_pair(config=CONFIG)
    pair.write_query(EXTENSIONS)
    pair.read_query(EXTENSIONS)
    pair.write_query(TABLES)
    pair.start()
    return pair


def stop(pair):
    """A session tells what it has read when it ends."""
    pair.daemon.stop()
    pair.await_end_of()


def test_rows_are_found_by_the_index_of_their_key(extended):
    """Changed, moved (also by case alone, there and back), deleted, made anew in another case; no mirror is scanned for it."""
    pair = extended
    pair.catch_up()
    stop(pair)
    pair.read_query("SELECT pg_stat_reset()")
    pair.start()
    for statement in ("UPDATE words SET n = n + 1 WHERE n % 10 = 0", "UPDATE words SET word = upper(word) WHERE n % 7 = 0",
                      "UPDATE words SET word = lower(word), body = 'c' WHERE n % 14 = 0; UPDATE words SET n = -n WHERE n % 14 = 0",
                      "DELETE FROM words WHERE word = 'word5'; INSERT INTO words VALUES ('WORD5', 5, 'anew')",
                      "UPDATE pairs SET pgprojector_0 = word WHERE tenant = 3; UPDATE pairs SET word = upper(word) WHERE tenant = 4",
                      "DELETE FROM pairs WHERE tenant = 5",
                      "UPDATE places SET n = -n WHERE id % 5 = 0; UPDATE places SET place = 'b' || place WHERE id % 9 = 0",
                      "DELETE FROM places WHERE id % 11 = 0", "UPDATE paths SET n = 0 WHERE n % 3 = 0",
                      "UPDATE paths SET path = 'b' || path WHERE n % 5 = 0; DELETE FROM paths WHERE n % 7 = 0"):
        pair.write_query(statement)
        pair.catch_up()
    stop(pair)
    scanned = pair.read_query("SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname = ANY (%s) AND seq_scan > 0"
                              " ORDER BY 1", (list(NAMES),))
    assert not scanned, "scanned as a whole: how often"
    pair.start()
    assert_equal(pair)


def test_they_are_compared_and_repaired(extended):
    """What differs by case alone, too: it is one row, not one too many and one that is missing."""
    pair = extended
    pair.catch_up()
    assert pair.command("verify").code == 0
    assert pair.command("verify", "--sample", "500").code == 0
    pair.read_query("UPDATE words SET word = upper(word) WHERE n % 100 = 0; DELETE FROM words WHERE n % 100 = 1;"
                    " INSERT INTO words VALUES ('extra', 1, 'e'); UPDATE words SET body = 'forged' WHERE n % 100 = 3;"
                    " UPDATE pairs SET word = upper(word) WHERE tenant = 1; UPDATE pairs SET pgprojector_0 = '' WHERE tenant = 2;"
                    " UPDATE places SET place = 'forged' WHERE id = 7; DELETE FROM places WHERE id % 100 = 1;"
                    " UPDATE paths SET n = -1 WHERE n % 100 = 0; DELETE FROM paths WHERE n % 100 = 1")
    assert pair.command("verify", "--keys", "0").code == 5
    result = pair.command("verify", "--repair", "--keys", "0")
    assert result.code == 0, result
    assert_equal(pair)


def test_an_identity_by_another_equality_than_the_types_own(extended):
    """Its index is by text: rows may differ by case alone."""
    pair = extended
    pair.write_query("INSERT INTO exact SELECT i, CASE WHEN i % 2 = 0 THEN 'word' ELSE 'WORD' END || i / 2"
                     " FROM generate_series(2, 101) i; UPDATE exact SET id = -id WHERE id % 3 = 0")
    pair.catch_up()
    pair.write_query("UPDATE exact SET id = id + 1000 WHERE word::text LIKE 'word%'; DELETE FROM exact WHERE word::text = 'WORD7'")
    assert_equal(pair)


def test_a_resync_and_a_mirror_that_joins(make_pair):
    pair = make_pair(config="[mirrors]\ntables = public.places\n")
    pair.write_query(EXTENSIONS)
    pair.read_query(EXTENSIONS)
    pair.write_query(TABLES)
    pair.start()
    pair.configure(CONFIG)
    pair.daemon.signal(signal.SIGHUP)
    for n in range(20):
        pair.write_query(f"UPDATE words SET word = upper(word) WHERE n = {n}; UPDATE places SET place = 'c' || place WHERE id = {n};"
                         f" UPDATE paths SET path = 'c' || path WHERE n = {n}; UPDATE pairs SET word = lower(word) WHERE tenant = 3")
    poll(lambda: pair.read_value("SELECT count(*) FROM pgprojector.mirror WHERE table_name = ANY (%s) AND state = 'exact'",
                                 (list(NAMES),)) == len(NAMES), 30, "the mirrors")
    assert_equal(pair)
    stop(pair)
    pair.write_query("UPDATE words SET word = upper(word); UPDATE paths SET n = n + 1 WHERE n < 100; DELETE FROM places WHERE id < 100")
    pair.drop_slot()
    assert pair.command("resync").code == 0
    pair.start()
    assert_equal(pair)
