"""What the daemon runs is exchanged while it streams. Nothing is lost or counted twice, and nothing is applied to a read
database whose tables other modules keep than the daemon has.
"""
import re

from harness.beside import Statements
from harness.cluster import poll
from harness.history import populate
from harness.modules import Modules, suspect
from harness.pair import Sampler
from harness.scenes import SEED
from harness.workload import Workload

PARTS = ("truncate",)  # leaves transactions in parts out, in the midst of which the stream is not handed over, but opened anew


def streams(pair):
    """Where the checkpoint stood whenever the daemon has opened a stream since its start."""
    return re.findall(r"streaming from slot \S+ at \S+, applied up to (\S+)", pair.daemon.since_start())


def test_another_roster_ends_the_stream_until_the_daemon_has_a_setup_for_it(make_pair):
    """The number is raised as a swap does it; nobody hands over what is made for it, so the daemon makes it by itself."""
    pair = make_pair()
    populate(pair, SEED)
    pair.start()
    workload = Workload(pair, SEED, writers=1, pace=0.005, tolerant=True, without=PARTS).start()
    with Sampler(pair):
        row = pair.read_query("UPDATE pgprojector.checkpoint SET version = version + 1, roster = roster + 1"
                              " RETURNING lsn::text")
        poll(lambda: "which modules keep which tables has changed" in pair.daemon.since_start(), 20)
        poll(lambda: len(streams(pair)) == 2, 30, "the stream for the other roster")
        assert streams(pair)[1] == row[0][0], "applied something with a setup for another roster"
        poll(lambda: pair.read_value("SELECT lsn::text FROM pgprojector.checkpoint") != row[0][0], 30)
        assert len(streams(pair)) == 2
        workload.stop()
        pair.assert_same("after the roster has changed")


def test_a_changed_catalog_is_read_again_without_letting_go_of_the_stream(make_pair):
    """The number is raised as pausing a projection or parking a key does it, again and again, under load."""
    pair = make_pair()
    populate(pair, SEED)
    pair.start()
    workload = Workload(pair, SEED, writers=2, pace=0.002, tolerant=True, without=PARTS).start()
    with Sampler(pair):
        for _ in range(30):
            stood = pair.read_query("UPDATE pgprojector.checkpoint SET version = version + 1 RETURNING lsn::text")[0][0]
            poll(lambda: pair.read_value("SELECT lsn::text FROM pgprojector.checkpoint") != stood, 20)
        workload.stop()
        pair.assert_same("after the catalog has changed")
    assert "reading it again" in pair.daemon.since_start()
    assert pair.daemon.since_start().count("streaming from slot") == 1


def test_the_stream_stays_open_while_a_projection_is_exchanged(make_pair, tmp_path):
    """Registered, then exchanged for another version: twice a setup with its table beside, twice one with it in place, where
    the second of each two comes when a batch has met the swap's roster. The source's tables are the same throughout."""
    modules = Modules(tmp_path)
    pair = make_pair(config=modules.config)
    populate(pair, SEED)
    pair.read_query(f'ALTER DATABASE "{pair.name}" SET log_statement = \'all\'')
    pair.start()
    workload = Workload(pair, SEED, writers=2, pace=0.002, tolerant=True, without=PARTS).start()
    with Sampler(pair):
        for version in 1, 2:
            modules.titles(version)
            assert pair.command("module", "add", "titles").code == 0
        workload.stop()
        pair.assert_same("after the second version")
    assert pair.command("verify").code == 0
    poll(lambda: pair.daemon.since_start().count("another setup; going on with slot") >= 4, what="the last setup")
    assert pair.daemon.since_start().count("another setup; going on with slot") == 4
    assert pair.daemon.since_start().count("streaming from slot") == 1
    assert_nothing_is_prepared_twice(pair)


def assert_nothing_is_prepared_twice(pair):
    """By the applying session, which is the same throughout; each set of statements has a digest."""
    log = pair.read.log.read_text(errors="replace")
    sets = re.findall(rf"pgprojector apply {pair.name} LOG:  statement: -- set (\w+)", log)
    assert len(sets) >= 8 and len(set(sets)) == len(sets), sets


# A swap that is about to commit has the checkpoint's row, and waits until a batch waits for that: it will meet another roster.
LET_A_BATCH_WAIT = """
    CREATE FUNCTION let_a_batch_wait() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        FOR i IN 1..500 LOOP
            EXIT WHEN NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'public.suspect');
            PERFORM pg_stat_clear_snapshot();
            EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgprojector apply%'
                              AND datname = current_database() AND wait_event_type = 'Lock');
            PERFORM pg_sleep(0.01);
        END LOOP;
    END $$;
    CREATE EVENT TRIGGER let_a_batch_wait ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION let_a_batch_wait()"""


def test_the_first_batch_of_a_new_setup_is_refused_by_the_new_module(make_pair, tmp_path):
    """It goes along with the stream, is all inserts, so that nothing has to be fetched, and fails before anything is sent."""
    modules = Modules(tmp_path)
    modules.build("suspect", suspect("suspect"))
    pair = make_pair(config=modules.config)
    populate(pair, SEED)
    pair.start()
    process = pair.daemon.process
    pair.read_query(LET_A_BATCH_WAIT)
    send = ("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at) SELECT gen_random_uuid(), id, 1,"
            " 'bad', now() FROM conversations ORDER BY id LIMIT 1")
    modules.build("suspect", suspect("suspect", version=2, bad='host->fail(call, "no"); return 1;'))
    with Statements(pair, lambda: send, 0.003):
        assert pair.command("module", "add", "suspect").code == 0
        poll(lambda: "projection suspect: apply() of a change of messages: no" in pair.daemon.since_start(), 20)
    assert pair.read_value("SELECT module_version FROM pgprojector.projection WHERE name = 'suspect'") == 2
    pair.assert_same()
    assert pair.daemon.process is process and process.poll() is None
    assert pair.read_value("SELECT count(*) FROM suspect s WHERE n <> (SELECT count(*) FROM messages m"
                           " WHERE m.conversation_id = s.conversation_id)") == 0
    assert "another setup; going on with slot" in pair.daemon.since_start()
