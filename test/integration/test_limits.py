"""Time limits that role or database set: an application's do not hold for pgprojector, the walsender's is kept."""
from harness.modules import TITLES, Modules
from harness.schema import Flavour

LIMITS = {"statement_timeout": "300ms", "lock_timeout": "100ms", "idle_in_transaction_session_timeout": "300ms",
          "idle_session_timeout": "300ms"}


def test_no_limit_of_the_database_ends_what_takes_its_time(make_pair, tmp_path):
    """Each row costs 20 ms: an index on a mirror made beside the stream, a fill with a daemon and without one take 0.6 s."""
    modules = Modules(tmp_path, shipped=False)
    modules.titles(1, "c.title")
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations (id, title) SELECT gen_random_uuid(), 'c' || i FROM generate_series(1, 30) i")
    for query in pair.write_query, pair.read_query:
        query("; ".join(f"ALTER DATABASE {pair.name} SET {name} = '{value}'" for name, value in LIMITS.items()))
    pair.read_query("CREATE FUNCTION slow(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
                    " 'BEGIN PERFORM pg_catalog.pg_sleep(0.02); RETURN value; END'")
    pair.start()
    source = TITLES.replace('"titles"', '"slow"').replace(".target_indexes = indexes,", ".target_indexes = indexes,"
                            ' .mirror_indexes = (const char *const[]){"{conversations} (public.slow(title))", NULL},')
    modules.build("slow", source, True, ["-DVERSION=1", '-DCOLUMNS="public.slow(c.title)"', "-DSOURCES=", '-DTARGET="slow"',
                                         "-DINDEXES="])
    began = pair.read_value("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name ="
                            " 'pgprojector control'")
    result = pair.command("module", "add", "slow")
    assert result.code == 0, result
    pair.write_query("UPDATE conversations SET title = 'other' WHERE title = 'c7'")
    pair.catch_up()
    assert pair.read_value("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name ="
                           " 'pgprojector control'") == began
    pair.daemon.stop()
    result = pair.command("rebuild", "slow", "--fresh")
    assert result.code == 0, result
    assert pair.read_value("SELECT count(*) FROM slow WHERE slow IN (SELECT title FROM conversations)") == 30


def test_a_walsender_of_little_patience(make_pair):
    """A part that takes longer than wal_sender_timeout leaves the socket unread meanwhile: were the stream lost by it, the
    transaction would be begun anew for ever."""
    pair = make_pair(Flavour(odd=False, batch_bytes=65536))
    pair.write_query(f"ALTER DATABASE {pair.name} SET wal_sender_timeout = '2s'")
    pair.start()
    pair.read_query("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                    " 'BEGIN PERFORM pg_catalog.pg_sleep(3); RETURN NULL; END';"
                    " CREATE TRIGGER slow BEFORE DELETE ON messages EXECUTE FUNCTION slow()")
    pair.write_query("TRUNCATE messages; INSERT INTO messages (id, content) SELECT md5(i::text)::uuid, repeat('x', 200)"
                     " FROM generate_series(1, 10000) i")
    pair.assert_same("after a slow part")
