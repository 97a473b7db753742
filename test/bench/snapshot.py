"""From scratch: a large write database, an empty read database; how long until the read side is complete? And then: how long does
a rebuild take where nothing is wrong, and a resync where 1 % of all rows differ?"""
import concurrent.futures
import shutil
import subprocess
import time

from harness.cluster import PG_BIN, poll
from harness.daemon import command

from definitions import COLUMNS, MIRRORS, TARGETS
from measure import cpu_seconds, peak_memory_mib, server_seconds
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
    before = server_seconds(rig.write) + server_seconds(rig.read)
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
    details = {"daemon": cpu_seconds(daemon.process.pid), "memory_mib": peak_memory_mib(daemon.process.pid),
               "cpu": server_seconds(rig.write) + server_seconds(rig.read) - before}
    look.close()
    daemon.stop()
    rig.check(rig.sums, True)
    details["rebuild"] = timed(rig, "rebuild", "--all")
    details["resync"] = resync(rig)
    rig.drop_slot(rig.read_value("SELECT slot FROM pgprojector.checkpoint"))
    return seconds, details


def timed(rig, *words):
    result = command(words, rig.write_url, rig.read_url, timeout=900)
    if result.code != 0:
        raise RuntimeError(result)
    return result.seconds


def resync(rig):
    """Of each table the read side lacks or has otherwise 1 % of the rows, evenly spread. The source is as it was all the time."""
    rig.drop_slot(rig.read_value("SELECT slot FROM pgprojector.checkpoint"))
    rig.read_query("UPDATE messages SET content = content || '!' WHERE sequence_number % 200 = 0;"
                   " DELETE FROM messages WHERE sequence_number % 200 = 100;"
                   " UPDATE conversations SET title = '' WHERE hashtext(id::text) % 100 = 0;"
                   " UPDATE users SET display_name = '' WHERE hashtext(id::text) % 100 = 0;"
                   " UPDATE user_conversations SET last_read_at = now() WHERE hashtext(user_id::text || conversation_id) % 100 = 0")
    rig.read_sql("VACUUM")
    rig.read_sql("CHECKPOINT")
    seconds = timed(rig, "resync")
    rig.check(rig.sums, True)
    return seconds


def copy_pipe(rig):
    """Binary COPY from one psql into another, two tables at a time, then the primary keys. As plain as it gets."""
    bare_tables(rig)
    before = server_seconds(rig.write) + server_seconds(rig.read)

    def copy(table):
        subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$0/psql" -qX -d "$1" -c "COPY public.$3 TO STDOUT (FORMAT binary)" |'
             ' "$0/psql" -qX -d "$2" -c "COPY public.$3 FROM STDIN (FORMAT binary)"',
             PG_BIN, rig.write_url, rig.read_url, table], check=True)

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, ("messages", "user_conversations", "users", "conversations")))
    parallel(rig, 2, [f"ALTER TABLE public.{table} ADD PRIMARY KEY ({key})" for table, key in KEYS.items()])
    return time.monotonic() - start, finish_by_sql(rig, before)


def finish_by_sql(rig, before):
    """What a first start does beyond copying: read indexes, ANALYZE, both targets with their keys."""
    start = time.monotonic()
    parallel(rig, 2, READ_INDEXES)
    rig.read_query("VACUUM ANALYZE")
    targets = time.monotonic()
    parallel(rig, 2, [f"CREATE TABLE public.{name} AS SELECT {COLUMNS[name]} FROM ({query}) q"
                      for name, query in TARGETS.items()])
    rig.read_query("ALTER TABLE public.conversation_summary ADD PRIMARY KEY (id)")
    rig.read_query("ALTER TABLE public.user_conversation_membership ADD PRIMARY KEY (user_id, conversation_id)")
    rig.read_query("CREATE INDEX ON public.user_conversation_membership (conversation_id)")
    seconds, targets = time.monotonic() - start, time.monotonic() - targets
    cpu = server_seconds(rig.write) + server_seconds(rig.read) - before
    rig.check(rig.sums, True)
    return {"finish_by_sql": seconds, "targets_by_sql": targets, "cpu": cpu}


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
    """A clone of the whole database, primary keys included. It refuses a directory that was used before."""
    directory = rig.scratch.path / "pgcopydb"
    start = time.monotonic()
    subprocess.run(["pgcopydb", "clone", "--source", rig.write_url, "--target", rig.read_url, "--table-jobs", "2",
                    "--index-jobs", "2", "--skip-extensions", "--no-owner", "--no-acl", "--dir", str(directory)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    shutil.rmtree(directory)
    rig.check(rig.sums, False)
    return seconds, {}


WAYS = {
    "pgprojector: first start, all of it": pgprojector,
    "binary COPY through a pipe, keys afterwards": copy_pipe,
    "pg_dump -j2, pg_restore -j2": dump_restore,
    "native subscription, initial copy": native_copy,
    "pgcopydb clone": pgcopydb,
}


def with_cpu(rig, way):
    """A way's seconds and details, and what it cost both servers in all: also what came after the seconds that count."""
    before = server_seconds(rig.write) + server_seconds(rig.read)
    seconds, details = way(rig)
    details.setdefault("cpu", server_seconds(rig.write) + server_seconds(rig.read) - before)
    return seconds, details


def snapshot(rig, repeat):
    """Way -> list of (seconds, details). The rig has base data only."""
    rig.sums = rig.expected()
    ways = {name: way for name, way in WAYS.items() if way is not pgcopydb or shutil.which("pgcopydb")}
    runs = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            new_read_side(rig)
            rig.write_sql("CHECKPOINT")
            runs[name].append(with_cpu(rig, way))
            say(f"  snapshot: {name}: {runs[name][-1][0]:.2f} s {runs[name][-1][1]}")
    return runs
