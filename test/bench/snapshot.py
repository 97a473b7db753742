"""From scratch: a large write database, an empty read database; how long until the read side is complete?"""
import concurrent.futures
import shutil
import subprocess
import time

from harness.cluster import PG_BIN, poll

from definitions import COLUMNS, MIRRORS, TARGETS
from measure import cpu_seconds, peak_memory_mib
from rig import DATABASE, HERE, say

KEYS = {"users": "id", "conversations": "id", "messages": "id", "user_conversations": "user_id, conversation_id"}
READ_INDEXES = (
    "CREATE INDEX by_number ON public.messages (conversation_id, sequence_number DESC)",
    "CREATE INDEX live_by_number ON public.messages (conversation_id, sequence_number DESC) WHERE deleted_at IS NULL",
    "CREATE INDEX by_sender ON public.messages (sender_id, created_at DESC)",
    "CREATE INDEX by_time ON public.messages (created_at DESC)",
    "CREATE INDEX by_tenant ON public.conversations (tenant_id, updated_at DESC)",
)


def parallel(rig, jobs, words):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda sql: rig.read_query(sql), words))


def new_read_side(rig):
    rig.read.stop()
    rig.read.replace_data(rig.scratch.template())
    rig.read.configure(**rig.read_settings)
    rig.read.start()
    rig.read.create_database(DATABASE)


def bare_tables(rig):
    """The tables as in the write database, without their keys."""
    rig.read_query((HERE / "chat.sql").read_text())
    for table, key in KEYS.items():
        rig.read_query(f"ALTER TABLE public.{table} DROP CONSTRAINT {table}_pkey")


def pgprojector(rig):
    """The daemon's first start: mirrors, read indexes, both targets, checkpoint."""
    daemon = rig.daemon()
    start = time.monotonic()
    daemon.start()
    look = rig.read.connect(DATABASE)

    def complete():
        if not daemon.running:
            raise RuntimeError(daemon.tail())
        with look.cursor() as cursor:
            cursor.execute("SELECT to_regclass('pgprojector.checkpoint') IS NOT NULL")
            if not cursor.fetchone()[0]:
                return False
            cursor.execute("SELECT lsn IS NOT NULL FROM pgprojector.checkpoint")
            row = cursor.fetchone()
            return row is not None and row[0]

    poll(complete, timeout=900, what="the first start")
    seconds = time.monotonic() - start
    details = {"daemon": cpu_seconds(daemon.process.pid), "memory_mib": peak_memory_mib(daemon.process.pid)}
    look.close()
    daemon.stop()
    slot = rig.read_value("SELECT slot FROM pgprojector.checkpoint")
    rig.check(rig.sums, True)
    rig.drop_slot(slot)
    return seconds, details


def copy_pipe(rig):
    """Binary COPY from one psql into another, two tables at a time, then the primary keys. As plain as it gets."""
    bare_tables(rig)

    def copy(table):
        subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$0/psql" -qX -d "$1" -c "COPY public.$3 TO STDOUT (FORMAT binary)" |'
             ' "$0/psql" -qX -d "$2" -c "COPY public.$3 FROM STDIN (FORMAT binary)"',
             PG_BIN, rig.write_url, rig.read_url, table], check=True)

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, ("messages", "user_conversations", "users", "conversations")))
    parallel(rig, 2, [f"ALTER TABLE public.{table} ADD PRIMARY KEY ({key})" for table, key in KEYS.items()])
    return time.monotonic() - start, finish_by_sql(rig)


def finish_by_sql(rig):
    """What a first start does beyond copying: read indexes, ANALYZE, both targets with their keys."""
    start = time.monotonic()
    parallel(rig, 2, READ_INDEXES)
    rig.read_query("VACUUM ANALYZE")
    parallel(rig, 2, [f"CREATE TABLE public.{name} AS SELECT {COLUMNS[name]} FROM ({query}) q"
                      for name, query in TARGETS.items()])
    rig.read_query("ALTER TABLE public.conversation_summary ADD PRIMARY KEY (id)")
    rig.read_query("ALTER TABLE public.user_conversation_membership ADD PRIMARY KEY (user_id, conversation_id)")
    rig.read_query("CREATE INDEX ON public.user_conversation_membership (conversation_id)")
    seconds = time.monotonic() - start
    rig.check(rig.sums, True)
    return {"finish_by_sql": seconds}


def dump_restore(rig):
    """pg_dump -Fd -j2 to a directory, pg_restore -j2 from it; primary keys included."""
    directory = rig.scratch.path / "dump"
    tables = [word for table in MIRRORS for word in ("-t", f"public.{table}")]
    start = time.monotonic()
    subprocess.run([PG_BIN / "pg_dump", "-Fd", "-j2", "-Z0", "-f", directory, *tables, rig.write_url], check=True)
    subprocess.run([PG_BIN / "pg_restore", "-j2", "-d", rig.read_url, directory], check=True)
    seconds = time.monotonic() - start
    shutil.rmtree(directory)
    rig.check(rig.sums, False)
    return seconds, {}


def native_copy(rig):
    """CREATE SUBSCRIPTION with copy_data into tables with primary keys, until all are ready."""
    rig.read_query((HERE / "chat.sql").read_text())
    start = time.monotonic()
    rig.read_query(f"CREATE SUBSCRIPTION bench CONNECTION '{rig.write_url}' PUBLICATION bench WITH (binary = true)")
    poll(lambda: rig.read_value("SELECT count(*) FILTER (WHERE srsubstate <> 'r') = 0 FROM pg_subscription_rel"), timeout=900,
         what="the initial copy")
    seconds = time.monotonic() - start
    rig.check(rig.sums, False)
    rig.read_query("DROP SUBSCRIPTION bench")
    return seconds, {}


def pgcopydb(rig):
    start = time.monotonic()
    subprocess.run(["pgcopydb", "clone", "--source", rig.write_url, "--target", rig.read_url, "--table-jobs", "2",
                    "--index-jobs", "2", "--skip-extensions", "--no-owner", "--no-acl", "--dir", str(rig.scratch.path / "pgcopydb")],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start, {}


WAYS = {
    "pgprojector: first start, all of it": pgprojector,
    "binary COPY through a pipe, keys afterwards": copy_pipe,
    "pg_dump -j2, pg_restore -j2": dump_restore,
    "native subscription, initial copy": native_copy,
    "pgcopydb clone": pgcopydb,
}


def snapshot(rig, repeat):
    """Way -> list of (seconds, details). The rig has base data only."""
    rig.sums = rig.expected()
    ways = {name: way for name, way in WAYS.items() if way is not pgcopydb or shutil.which("pgcopydb")}
    runs = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            new_read_side(rig)
            rig.write_sql("CHECKPOINT")
            runs[name].append(way(rig))
            say(f"  snapshot: {name}: {runs[name][-1][0]:.2f} s {runs[name][-1][1]}")
    return runs
