"""Built beside and swapped in: what goes along with the name, who waits for whom, what an interruption leaves."""
import signal
import time
from contextlib import closing

import pytest

from harness.beside import Reader, Statements
from harness.cluster import poll
from harness.modules import Modules, pair_with_titles
from harness.scenes import SEND

NAME = "conversation_summary"
FACTS = """
    SELECT relname, pg_get_userbyid(relowner), (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(relacl) a),
           reloptions::text, obj_description(c.oid, 'pg_class'),
           (SELECT array_agg((attname, attacl::text, col_description(c.oid, attnum), attstattarget) ORDER BY attname)::text
            FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
           (SELECT array_agg((indexrelid::regclass, pg_get_indexdef(indexrelid), obj_description(indexrelid, 'pg_class'))
                             ORDER BY indexrelid::regclass::text)::text FROM pg_index WHERE indrelid = c.oid),
           (SELECT array_agg((conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')) ORDER BY conname)::text
            FROM pg_constraint WHERE conrelid = c.oid),
           relpersistence, (SELECT array_agg((indexrelid::regclass, indisclustered, reltablespace, attnum, attstattarget)
                                             ORDER BY indexrelid::regclass::text, attnum)::text
                            FROM pg_index JOIN pg_class x ON x.oid = indexrelid JOIN pg_attribute ON attrelid = indexrelid
                            WHERE indrelid = c.oid)
    FROM pg_class c WHERE c.oid = 'conversation_summary'::regclass"""
BY_HAND = """
    DROP ROLE IF EXISTS swap_reader; CREATE ROLE swap_reader;
    DROP ROLE IF EXISTS swap_owner; CREATE ROLE swap_owner; GRANT CREATE, USAGE ON SCHEMA public TO swap_owner;
    ALTER TABLE conversation_summary OWNER TO swap_owner;
    GRANT SELECT (id, title) ON conversation_summary TO swap_reader WITH GRANT OPTION;
    GRANT SELECT, DELETE ON conversation_summary TO PUBLIC;
    REVOKE TRUNCATE ON conversation_summary FROM swap_owner;
    COMMENT ON TABLE conversation_summary IS 'it''s ours'; COMMENT ON COLUMN conversation_summary.title IS 'shown';
    ALTER TABLE conversation_summary SET (autovacuum_vacuum_scale_factor = 0.07, fillfactor = 61);
    ALTER TABLE conversation_summary ALTER COLUMN title SET STATISTICS 321;
    ALTER TABLE conversation_summary ADD CONSTRAINT not_negative CHECK (message_count >= 0);
    CREATE INDEX "by hand" ON conversation_summary (lower(title), message_count DESC) WHERE message_count > 1;
    COMMENT ON INDEX "by hand" IS 'mine'; ALTER INDEX conversation_summary_pkey RENAME TO "the key";
    COMMENT ON CONSTRAINT not_negative ON conversation_summary IS 'why'; COMMENT ON CONSTRAINT "the key" ON conversation_summary IS 'k';
    ALTER INDEX "by hand" ALTER COLUMN 1 SET STATISTICS 77; ALTER TABLE conversation_summary CLUSTER ON "the key";
    ALTER TABLE conversation_summary SET UNLOGGED;
    CREATE VIEW titles WITH (security_barrier = true) AS SELECT id, title AS "Title" FROM conversation_summary;
    CREATE VIEW counts AS SELECT c.id, s.message_count, t."Title" FROM conversations c
        JOIN conversation_summary s USING (id) LEFT JOIN titles t USING (id);
    CREATE VIEW upon AS SELECT count(*) AS n, max("Title") AS t FROM titles;
    GRANT SELECT ON upon TO swap_reader; COMMENT ON VIEW titles IS 'the titles';
"""


def no_orphans(pair, kept=False):
    assert pair.read_value("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_\\_next%'") == 0
    assert pair.read_value("SELECT count(*) FROM pgprojector.projection WHERE name LIKE '%.next'") == 0
    assert (pair.read_value("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_\\_kept%' AND relkind = 'r'") == 1) == kept
    assert pair.read_value("SELECT count(*) FROM pgprojector.projection WHERE name LIKE '%.kept'") == kept
    assert pair.read_value("SELECT count(*) FROM pgprojector.job") == 0
    assert pair.read_value("SELECT count(*) FROM pgprojector.dirty_key") == 0


def oid(pair, name=NAME):
    return pair.read_value("SELECT to_regclass(%s)::oid::bigint", (name,))


def waiting(pair):
    """The job of a swap that waits for somebody."""
    return poll(lambda: [job for job in pair.command("status", "--json").json["jobs"] if "waiting for pid" in job["phase"]],
                what="the wait")[0]


@pytest.fixture
def at_rest(streaming):
    """Something in both databases, and no daemon."""
    streaming.daemon.stop()
    return streaming


def test_what_goes_along(at_rest):
    pair, space = at_rest, f"space_{at_rest.name}"
    with closing(pair.read_connection()) as conn, conn.cursor() as cursor:
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute(f"CREATE TABLESPACE {space} LOCATION ''")
    pair.read_query(f"{BY_HAND}; ALTER INDEX \"by hand\" SET TABLESPACE {space}; ALTER INDEX \"the key\" SET TABLESPACE {space}")
    before, former = pair.read_query(FACTS), oid(pair)
    views = pair.read_query("SELECT oid::bigint, relname, reloptions::text, relacl::text FROM pg_class WHERE relkind = 'v'"
                            " AND relnamespace = 'public'::regnamespace ORDER BY relname")
    shown = pair.read_query("SELECT * FROM upon, counts ORDER BY id")
    pair.read_query("UPDATE conversation_summary SET title = 'wrong', message_count = message_count + 1")
    result = pair.command("rebuild", NAME, "--fresh")
    assert result.code == 0 and "built anew and swapped in" in result.out, result
    assert oid(pair) != former
    for was, now in zip(before[0], pair.read_query(FACTS)[0]):
        assert now == was
    assert pair.read_query("SELECT oid::bigint, relname, reloptions::text, relacl::text FROM pg_class WHERE relkind = 'v'"
                           " AND relnamespace = 'public'::regnamespace ORDER BY relname") == views
    assert pair.read_query("SELECT * FROM upon, counts ORDER BY id") == shown
    assert pair.read_value("SELECT obj_description('titles'::regclass, 'pg_class')") == "the titles"
    no_orphans(pair)
    pair.read_query('ALTER INDEX "by hand" SET TABLESPACE pg_default; ALTER INDEX "the key" SET TABLESPACE pg_default')
    pair.read_query(f"DROP TABLESPACE {space}")
    pair.start()
    pair.write_query(SEND, (5,))
    pair.assert_same("the daemon goes on with the new table")


REFUSED = [
    ("CREATE MATERIALIZED VIEW m AS SELECT id FROM conversation_summary", "materialized view public.m"),
    ("CREATE TABLE t (id uuid REFERENCES conversation_summary)", "constraint t_id_fkey on table public.t"),
    ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER touch AFTER INSERT ON"
     " conversation_summary FOR EACH ROW EXECUTE FUNCTION f()", "trigger touch on table public.conversation_summary"),
    ("CREATE RULE r AS ON DELETE TO conversation_summary DO ALSO NOTHING", "rule r on table public.conversation_summary"),
    ("CREATE POLICY p ON conversation_summary USING (true)", "policy p on table public.conversation_summary"),
    ("ALTER TABLE conversation_summary ENABLE ROW LEVEL SECURITY", "its row-level security"),
    ("CREATE FUNCTION g() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM conversation_summary; END",
     "function public.g()"),
    ("CREATE FUNCTION h(conversation_summary) RETURNS text LANGUAGE sql AS 'SELECT $1.title'", "function public.h("),
    ("CREATE PUBLICATION pub FOR TABLE conversation_summary", "publication"),
    ("CREATE TABLE child () INHERITS (conversation_summary)", "table public.child"),
    ("CREATE STATISTICS st ON title, message_count FROM conversation_summary", "statistics object public.st"),
    ("ALTER TABLE conversation_summary ADD COLUMN mine integer", "column mine, which was added by hand"),
]


def test_what_cannot_go_along_is_refused(at_rest):
    """Each by name, and with nothing changed; also all at once, and by a view upon a column that is no longer there."""
    pair, former = at_rest, oid(at_rest)
    for sql, _ in REFUSED:
        pair.read_query(sql)
    result = pair.command("rebuild", NAME, "--fresh")
    assert result.code == 2 and "cannot go along" in result.err and "nothing has been swapped" in result.err, result
    for _, what in REFUSED:
        assert what in result.err, (what, result.err)
    assert oid(pair) == former
    no_orphans(pair)


def test_a_reader_is_waited_for(at_rest):
    """Nobody queues behind the swap while a reader has the table open, and the reader is named; cancelled, all is as before."""
    pair, former = at_rest, oid(at_rest)
    reader = pair.read_connection()
    reader.autocommit = False
    with reader.cursor() as cursor:
        cursor.execute("SET application_name = 'slow report'; SELECT count(*) FROM conversation_summary")
    process = pair.launch("rebuild", NAME, "--fresh")
    job = waiting(pair)
    assert "slow report" in job["phase"] and job["kind"] == "build" and job["running"], job
    waits = []
    for _ in range(51):
        began = time.monotonic()
        pair.read_value("SET statement_timeout = '20s'; SELECT count(*) FROM conversation_summary")
        waits.append(time.monotonic() - began)
    assert sorted(waits)[25] < 1, "other readers wait behind the swap"
    assert pair.command("rebuild", NAME, "--cancel").code == 0
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0 and "cancelled" in err, err
    assert oid(pair) == former
    no_orphans(pair)
    process = pair.launch("rebuild", NAME, "--fresh")
    waiting(pair)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0 and oid(pair) == former
    no_orphans(pair)
    process = pair.launch("rebuild", NAME, "--fresh")
    waiting(pair)
    pair.read_query("WITH changed AS (UPDATE conversations SET title = 'noted' RETURNING id) INSERT INTO pgprojector.dirty_key"
                    " (projection, key) SELECT 'conversation_summary.next', ARRAY[id::text] FROM changed")
    reader.commit()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, (out, err)
    reader.close()
    assert oid(pair) != former
    assert pair.read_query("SELECT DISTINCT title FROM conversation_summary") == [("noted",)], "what the stream noted is in it"
    no_orphans(pair)


def test_it_says_what_it_waits_for(at_rest):
    """Here for what is noted: "everything", each time it has been caught up with; nobody has the table open."""
    pair = at_rest
    pair.read_query("CREATE TABLE phases (phase text); CREATE FUNCTION public.seen() RETURNS trigger LANGUAGE plpgsql AS"
                    " 'BEGIN INSERT INTO public.phases VALUES (NEW.phase); IF NEW.phase = ''swapping'' THEN"
                    " INSERT INTO pgprojector.dirty_key (projection) VALUES (''conversation_summary.next''); END IF; RETURN NULL; END';"
                    " CREATE TRIGGER seen AFTER UPDATE ON pgprojector.job FOR EACH ROW EXECUTE FUNCTION public.seen()")
    pair.read_query("""CREATE FUNCTION public.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'pgprojector.checkpoint'::regclass AND pid = pg_backend_pid()) THEN
            INSERT INTO pgprojector.dirty_key (projection) VALUES ('conversation_summary.next');
        END IF; RETURN NULL; END $$; CREATE TRIGGER again BEFORE DELETE ON pgprojector.dirty_key EXECUTE FUNCTION public.again()""")
    assert pair.command("rebuild", NAME, "--fresh").code == 0
    seen = {row[0] for row in pair.read_query("SELECT DISTINCT phase FROM phases WHERE phase LIKE 'waiting%'")}
    assert seen == {"waiting for noted keys to become few enough for the last step"}
    no_orphans(pair)


def test_readers_never_see_it_missing(at_rest):
    """Readers of the table and of a view upon it poll through swaps one after the other."""
    pair = at_rest
    pair.read_query("CREATE VIEW titles AS SELECT id, title FROM conversation_summary")
    wanted = pair.read_query("SELECT count(*), (SELECT count(*) FROM titles) FROM conversation_summary")

    def others(row, _):
        return None if [row] == wanted else f"{row} rows"
    queries = ("SELECT count(*), (SELECT count(*) FROM titles) FROM conversation_summary",
               "SELECT count(s.*), count(*) FROM titles t LEFT JOIN conversation_summary s USING (id)")
    oids = {oid(pair)}
    with Reader(pair, queries[0], others) as one, Reader(pair, queries[1], others) as another:
        swaps = 0
        while swaps < 2 or (swaps < 20 and min(one.turns, another.turns) <= 10):
            result = pair.command("rebuild", NAME, "--fresh", "--no-verify")
            assert result.code == 0, result
            oids.add(oid(pair))
            swaps += 1
    assert min(one.turns, another.turns) > 10 and len(oids) == swaps + 1, (one.turns, another.turns, oids)
    no_orphans(pair)


@pytest.mark.parametrize("phase", ["indexing", "waiting"])
def test_killed_and_begun_again(at_rest, phase):
    """SIGKILL while it makes indexes, and while it waits to swap: what served serves; beginning again leaves nothing behind."""
    pair, former = at_rest, oid(at_rest)
    pair.read_query("CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';"
                    "CREATE INDEX by_hand ON conversation_summary (public.slow(title)); CREATE OR REPLACE FUNCTION slow(text)"
                    " RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN $1; END'")
    blocker = pair.read_connection()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(7)" if phase == "indexing" else "SELECT FROM conversation_summary")
    process = pair.launch("rebuild", NAME, "--fresh")
    poll(lambda: [j for j in pair.command("status", "--json").json["jobs"]
                  if j["phase"].split()[0] == phase and "mirrors" not in j["phase"]], what=phase)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    blocker.close()
    assert oid(pair) == former and oid(pair, f"{NAME}__next") is not None
    poll(lambda: not any(j["running"] for j in pair.command("status", "--json").json["jobs"]), what="the backend's end")
    assert pair.command("rebuild", NAME, "--fresh").code == 0
    assert oid(pair) != former
    no_orphans(pair)
    pair.start()
    pair.assert_same()


# ------------------------------------------------------------------------------------------------------------ versions

LONG = "conversation_titles_under_a_name_as_long_as_the_server_admits__"


def names(pair):
    return pair.read_query("SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN"
                           " ('r', 'i') AND relname ~ '^conversation_titles|by hand' ORDER BY 1")


def test_another_shape_kept_and_rolled_back(make_pair, tmp_path):
    """With a table's name of 63 bytes: a version with another column, kept, back, forward again."""
    assert len(LONG) == 63
    modules = Modules(tmp_path, shipped=False)
    long = {"target": LONG, "indexes": '"(title)",'}
    modules.titles(1, "c.title, c.type", **long)
    pair = make_pair(config=modules.config)
    pair.write_query("INSERT INTO conversations SELECT gen_random_uuid(), gen_random_uuid(), 'c', 'group' FROM generate_series(1, 5)")
    pair.start().daemon.stop()
    before = names(pair)
    pair.read_query(f"CREATE VIEW types AS SELECT id, type FROM {LONG}; CREATE INDEX \"by hand\" ON {LONG} (type)")
    modules.titles(2, "c.title, length(c.title) AS size", **long)
    in_place = pair.command("rebuild", "titles")
    assert in_place.code == 2 and "--fresh" in in_place.err, in_place
    refused = pair.command("rebuild", "titles", "--fresh", "--keep-old")
    assert refused.code == 2 and "view public.types, which uses column type: the new table has none" in refused.err, refused
    no_orphans(pair)
    pair.read_query("DROP VIEW types")
    fresh = pair.command("rebuild", "titles", "--fresh", "--keep-old")
    assert fresh.code == 0 and "is kept" in fresh.out and "by hand" in fresh.err, fresh
    assert pair.read_query(f"SELECT DISTINCT size FROM {LONG}") == [(1,)]
    no_orphans(pair, kept=True)
    assert [name for name in before if name not in names(pair)] == [], names(pair)
    wrong = pair.command("rebuild", "titles", "--rollback")
    assert wrong.code == 2 and "built by version 1" in wrong.err and "install version 1" in wrong.err, wrong
    pair.write_query("UPDATE conversations SET title = 'later'; INSERT INTO conversations SELECT gen_random_uuid(),"
                     " gen_random_uuid(), 'c', 'group'")
    pair.start().catch_up()
    pair.daemon.stop()
    modules.titles(1, "c.title, c.type", **long)
    back = pair.command("rebuild", "titles", "--rollback", "--keep-old")
    assert back.code == 0 and "rolled back" in back.out, back
    assert pair.read_query(f"SELECT title, count(type) FROM {LONG} GROUP BY 1 ORDER BY 1") == [("c", 1), ("later", 5)]
    assert [name for name in before if name not in names(pair)] == [], names(pair)
    assert ("by hand",) in names(pair)
    no_orphans(pair, kept=True)
    assert "was dropped" in pair.command("rebuild", "titles", "--drop-kept").out
    assert "no table was kept" in pair.command("rebuild", "titles", "--drop-kept").out
    no_orphans(pair)
    pair.start().catch_up()
    assert pair.command("verify").code == 0


LOOKED = """
    CREATE SEQUENCE compared; CREATE SEQUENCE locked; -- not undone by a rollback
    CREATE FUNCTION looked(text) RETURNS integer LANGUAGE plpgsql AS $$
    DECLARE
        ours text[] = ARRAY(SELECT c.relname || ' ' || l.mode FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
                            WHERE l.pid = pg_catalog.pg_backend_pid());
    BEGIN
        IF 'titles AccessExclusiveLock' = ANY (ours) THEN PERFORM pg_catalog.nextval('public.locked'); END IF;
        IF 'titles__next AccessShareLock' = ANY (ours) AND 'checkpoint RowShareLock' = ANY (ours) THEN
            PERFORM pg_catalog.nextval('public.compared');
        END IF;
        PERFORM pg_catalog.pg_sleep(0.005); -- longer than a turn of the traffic, so that each comparison is followed by another
        RETURN 0;
    END $$"""


def test_no_reader_waits_for_a_comparison(titled):
    """Each batch concerns all keys, so the swap's last step compares the whole table: before it has the readers' locks."""
    pair = titled
    pair.read_query(LOOKED)
    pair.write_query("INSERT INTO users SELECT gen_random_uuid(), 'one'")
    pair.start()
    pair.modules.titles(2, "c.title AS a, public.looked(c.title) AS n, (SELECT max(u.username) FROM {users} u) AS u",
                        sources='{"users", NULL, NULL},')
    with Statements(pair, lambda: "UPDATE users SET username = md5(random()::text)", interval=0.005):
        result = pair.command("module", "add", "titles")
    assert result.code == 0, result
    assert pair.read_query("SELECT c.is_called, l.is_called FROM compared c, locked l") == [(True, False)]
    pair.catch_up()
    assert pair.command("verify").code == 0


def test_two_long_names_that_begin_alike(make_pair, tmp_path):
    """What is kept of the one is not in the way of the other."""
    modules = Modules(tmp_path, shipped=False)
    modules.titles(1, target=LONG)
    modules.titles(1, target=f"{LONG[:-1]}x", name="others")
    pair = make_pair(config=modules.config)
    assert pair.command("init").code == 0
    for name in ("titles", "others"):
        result = pair.command("rebuild", name, "--fresh", "--keep-old")
        assert result.code == 0, result
    kept = pair.read_query("SELECT relname, octet_length(relname::text) FROM pg_class WHERE relname LIKE '%\\_\\_kept' AND relkind = 'r'")
    assert len(kept) == 2 and {length for _, length in kept} == {63}, kept


# --------------------------------------------------------------------------------------------------------------- views

BY_PLACE = {"aliases": "SELECT x.k, x.p, x.q FROM titles AS x (k, p, q)", "whole": "SELECT t.id, t::text AS t FROM titles t",
            "joined": "SELECT j.k, j.p FROM (titles JOIN conversations c USING (id)) AS j (k, p)"}


@pytest.fixture
def titled(make_pair, tmp_path):
    """The projection titles, with the columns id, a, b. No daemon."""
    pair = pair_with_titles(make_pair, tmp_path, "c.title AS a, c.type AS b")
    pair.daemon.stop()
    return pair


def test_views_that_go_by_places(titled):
    """An alias list, whole rows: where the columns are in another order the view would silently show others. And somebody's
    temporary view, which nobody else can define."""
    pair = titled
    for name, definition in BY_PLACE.items():
        pair.read_query(f"CREATE VIEW {name} AS {definition}")
    pair.read_query("CREATE VIEW named AS SELECT id, b, a AS \"A\", q FROM titles LEFT JOIN (SELECT 1, '(') AS s (o, q) ON true")
    named = pair.read_query("SELECT * FROM named ORDER BY id")
    pair.modules.titles(2, "c.type AS b, c.title AS a")
    session = pair.read_connection()
    with session.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY VIEW mine AS SELECT a FROM titles")
        result = pair.command("rebuild", "titles", "--fresh")
    session.close()
    assert result.code == 2 and result.err.count("or in another order") == 3 and "view public.named" not in result.err, result
    assert "public.aliases, which uses column aliases" in result.err and "public.whole, which uses whole rows" in result.err
    assert "public.joined, which uses an alias for a join" in result.err and "mine of another session" in result.err
    no_orphans(pair)
    poll(lambda: not pair.read_value("SELECT count(*) FROM pg_class WHERE relname = 'mine'"), what="the temporary view's end")
    pair.read_query("DROP VIEW aliases, whole, joined")
    result = pair.command("rebuild", "titles", "--fresh")
    assert result.code == 0 and pair.read_query("SELECT * FROM named ORDER BY id") == named, result
    pair.read_query(f"CREATE VIEW aliases AS {BY_PLACE['aliases']}")
    shown = pair.read_query("SELECT * FROM aliases ORDER BY k")
    pair.modules.titles(3, "c.type AS b, c.title AS a, length(c.title) AS n")
    result = pair.command("rebuild", "titles", "--fresh")
    assert result.code == 0 and pair.read_query("SELECT * FROM aliases ORDER BY k") == shown, result


@pytest.fixture
def poor(pair):
    """A pair whose role on the read database has what the README says, and no more."""
    role = f"poor_{pair.name}"
    pair.read.query("postgres", f"CREATE ROLE {role} LOGIN")
    pair.read_query(f"GRANT CREATE ON DATABASE {pair.name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    pair.role, pair.read_url = role, pair.read.url(pair.name, role)
    yield pair
    if pair.daemon.running:
        pair.daemon.stop()
    pair.read_query(f"SET lock_timeout = '5s'; DROP OWNED BY {role} CASCADE")
    pair.read.query("postgres", f"DROP ROLE {role}")


def test_readers_whose_transactions_are_hidden(poor):
    """By default other roles' sessions show no times. They are waited for without locks all the same, and named; a prepared
    transaction, too."""
    pair = poor
    pair.start().daemon.stop()
    former = oid(pair)
    assert f'GRANT pg_read_all_stats TO "{pair.role}"' in pair.command("doctor").out
    reader = pair.read_connection()
    reader.autocommit = False
    with reader.cursor() as cursor:
        cursor.execute("SET application_name = 'slow report'; SELECT count(*) FROM conversation_summary")
    process = pair.launch("rebuild", NAME, "--fresh")
    phase = waiting(pair)["phase"]
    assert f"pid {reader.info.backend_pid} (" in phase and "slow report), the age of" in phase, phase
    with reader.cursor() as cursor:
        cursor.execute(f"PREPARE TRANSACTION '{pair.name}'")
    poll(lambda: f"the prepared transaction '{pair.name}' of role" in pair.command("status").out, what="its name")
    assert oid(pair) == former
    reader.close()
    pair.read_query(f"COMMIT PREPARED '{pair.name}'")
    assert process.wait(20) == 0 and oid(pair) != former


def test_views_that_cannot_be_defined_again(poor):
    """Neither is found only when the table has been built."""
    pair = poor
    pair.start().daemon.stop()
    pair.read_query("CREATE VIEW another AS SELECT id FROM conversation_summary")
    result = pair.command("rebuild", NAME, "--fresh")
    assert result.code == 2 and f"no member (ALTER VIEW public.another OWNER TO {pair.role}, or GRANT " in result.err, result
    pair.read_query("DROP VIEW another")
    pair.read_query("CREATE SCHEMA reporting; CREATE VIEW reporting.v AS SELECT id FROM conversation_summary; CREATE SCHEMA secret;"
                    "CREATE TABLE secret.t (id uuid); CREATE VIEW s AS SELECT id FROM conversation_summary JOIN secret.t USING (id);"
                    f"ALTER VIEW reporting.v OWNER TO {pair.role}; ALTER VIEW s OWNER TO {pair.role}")
    result = pair.command("rebuild", NAME, "--fresh")
    remedy = f"GRANT USAGE, CREATE ON SCHEMA reporting TO {pair.role}"
    assert result.code == 2 and f"build {NAME}" in result.err and remedy in result.err, result
    pair.read_query(remedy)
    result = pair.command("rebuild", NAME, "--fresh")
    assert result.code == 2 and f"build {NAME}: view public.s" in result.err and "schema secret" in result.err, result
    no_orphans(pair)
    pair.read_query("DROP VIEW s")
    view = oid(pair, "reporting.v")
    assert pair.command("rebuild", NAME, "--fresh").code == 0
    assert oid(pair, "reporting.v") == view
