"""The set-up of a benchmark: a write cluster with base data, read clusters as file copies, WAL recorded once.

    rig = Rig(); rig.prepare(…)          base data; first start of the daemon; a read-side base for each contender
    recording = rig.record("message", n) n transactions, kept by the slots that `prepare` made
    rig.read_side("triggers")            the read cluster, started from that contender's base
    rig.fresh_slot("pristine_wal2json", "x")  a slot that stands where the recording begins

What is measured runs on PostgreSQL's defaults but for what SETTINGS says: fsync and synchronous_commit are on.
"""
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from harness.cluster import PG_BIN, Scratch, poll  # noqa: E402
from harness.daemon import Daemon  # noqa: E402

from definitions import differing, expected  # noqa: E402

SETTINGS = dict(
    odd_output=False, fsync="on", full_page_writes="on", synchronous_commit="on", shared_buffers="512MB",
    max_wal_size="16GB", checkpoint_timeout="1h", deadlock_timeout="1s", timezone="UTC", jit="on",
    track_activity_query_size="16384", max_logical_replication_workers="8")
DATABASE = "app"
TABLES = "public.users, public.conversations, public.messages, public.user_conversations"
MARKER = "00000000-0000-4000-8000-00000000000e"    # id of the message that ends a recording


def say(text):
    print(text, file=sys.stderr, flush=True)


class Recording:
    """What was recorded: how much, where it ends, and what all tables must then contain."""

    def __init__(self, load, transactions, seconds, end, sums):
        self.load, self.transactions, self.seconds, self.end, self.sums = load, transactions, seconds, end, sums


class Rig:
    name = "bench"
    read_settings = SETTINGS

    def __init__(self):
        self.scratch = Scratch()
        self.write = self.scratch.cluster("write", **SETTINGS)
        self.read = self.scratch.cluster("read", **SETTINGS)
        self.bases = {}
        self.options = []
        self.slot = None

    # What the test harness's Daemon asks of a pair of databases.
    @property
    def write_url(self):
        return self.write.url(DATABASE)

    @property
    def read_url(self):
        return self.read.url(DATABASE)

    def read_query(self, sql, params=None):
        return self.read.query(DATABASE, sql, params)

    def read_value(self, sql, params=None):
        return self.read.value(DATABASE, sql, params)

    def daemon(self):
        return Daemon(self, log=self.scratch.path / "daemon.log")

    # Set-up.
    def load_base(self, users, conversations, history):
        say(f"base: {users:,} users, {conversations:,} conversations of 10, {history:,} messages")
        self.write.start()
        self.write.create_database(DATABASE)
        self.write_sql((HERE / "chat.sql").read_text())
        self.write_sql((HERE / "load.sql").read_text())
        self.write_sql("CALL bench.base(%s, %s, %s)" % (users, conversations, history))
        self.write_sql(f"CREATE PUBLICATION bench FOR TABLE {TABLES}")
        self.write_sql("VACUUM ANALYZE")
        self.write_sql("CHECKPOINT")

    def prepare(self, users=10_000, conversations=5_000, history=100_000):
        self.load_base(users, conversations, history)
        say("first start of the daemon")
        self.read.start()
        self.read.create_database(DATABASE)
        daemon = self.daemon().start()
        state, message, _ = daemon.await_state("streaming", "halted", timeout=900)
        if state == "halted":
            raise RuntimeError(f"the daemon has halted: {message}")
        self.options = self.poll_options()
        self.slot = self.read_value("SELECT slot FROM pgprojector.checkpoint")
        daemon.stop()
        self.await_idle(self.slot)
        self.read_query("VACUUM ANALYZE")
        self.keep_read_base("pgprojector")
        self.derive_bases()
        self.write_sql("SELECT pg_copy_logical_replication_slot('%s', 'pristine_wal2json')" % self.slot)
        self.write_sql("SELECT pg_create_logical_replication_slot('pristine_pgoutput', 'pgoutput')")
        self.write.stop()
        self.bases["write"] = self.write.copy_data("base.write")
        self.write.start()

    def poll_options(self):
        """The plugin options that the daemon asks for, as its walsender shows them."""
        query = poll(lambda: self.write.query("postgres", "SELECT query FROM pg_stat_activity WHERE backend_type ="
                                              " 'walsender' AND query LIKE 'START_REPLICATION%'"), what="a walsender")[0][0]
        pairs = re.findall(r"\"((?:[^\"]|\"\")+)\" '((?:[^']|'')*)'", query)
        return [(name.replace('""', '"'), value.replace("''", "'")) for name, value in pairs]

    def derive_bases(self):
        """The native contenders start from the very tables and indexes that pgprojector made."""
        subscribe = ("CREATE SUBSCRIPTION bench CONNECTION '%s' PUBLICATION bench WITH (copy_data = false,"
                     " create_slot = false, enabled = false, slot_name = 'native', binary = true)"
                     % self.write_url)
        targets = "DROP TABLE public.conversation_summary, public.user_conversation_membership CASCADE"
        for name, steps in {
            "native": ["DROP SCHEMA pgprojector CASCADE", targets, subscribe],
            "triggers": ["DROP SCHEMA pgprojector CASCADE", (HERE / "triggers.sql").read_text(), subscribe],
        }.items():
            self.read_side("pgprojector")
            for sql in steps:
                self.read_query(sql)
            self.keep_read_base(name)

    def keep_read_base(self, name):
        self.read.stop()
        self.bases[name] = self.read.copy_data(f"base.{name}")

    def read_side(self, base):
        """The read cluster, started anew from a kept state."""
        self.read.stop()
        self.read.replace_data(self.bases[base])
        self.read.start()
        self.read_query("SELECT count(*) FROM public.messages")    # the files are in the cache for everyone

    def write_side(self):
        """The write cluster as it was after `prepare`."""
        self.read.stop()
        self.write.stop()
        self.write.replace_data(self.bases["write"])
        self.write.start()

    # Recording.
    def record(self, load, transactions, writers=4):
        say(f"recording {transactions:,} transactions, load '{load}'")
        if load == "bigtx":
            writers = 1
        start = time.monotonic()
        calls = [f"CALL bench.{load}({transactions // writers}, {(n + 1) / 10})" for n in range(writers)]
        with concurrent.futures.ThreadPoolExecutor(writers) as pool:
            list(pool.map(self.write_sql, calls))
        self.write_sql(f"CALL bench.mark('{MARKER}')")
        seconds = time.monotonic() - start
        end = self.write.value(DATABASE, "SELECT pg_current_wal_flush_lsn()")
        self.write_sql("VACUUM ANALYZE")
        self.write_sql("CHECKPOINT")
        return Recording(load, transactions, seconds, end, self.expected())

    def write_sql(self, sql):
        """A script, or a CALL that commits as it goes; outside of any transaction block."""
        self.run_sql(self.write_url, sql)

    def read_sql(self, sql):
        self.run_sql(self.read_url, sql)

    @staticmethod
    def run_sql(url, sql):
        process = subprocess.run([PG_BIN / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", url, "-o", "/dev/null"],
                                 input=sql, text=True, stderr=subprocess.PIPE, check=False)
        if process.returncode != 0:
            raise RuntimeError(f"{sql[:200]}: {process.stderr}")

    # Slots.
    def fresh_slot(self, pristine, name):
        self.drop_slot(name)
        self.write_sql(f"SELECT pg_copy_logical_replication_slot('{pristine}', '{name}')")

    def drop_slot(self, name):
        self.await_idle(name)
        self.write_sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'")

    def await_idle(self, slot):
        poll(lambda: not self.slot_active(slot), what=f"end of the walsender of {slot}")

    def slot_active(self, slot):
        return self.write.value("postgres", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND active",
                                (slot,)) == 1

    # Correctness.
    def expected(self):
        conn = self.write.connect(DATABASE)
        with conn, conn.cursor() as cursor:
            return expected(cursor)

    def check(self, sums, targets):
        conn = self.read.connect(DATABASE)
        with conn, conn.cursor() as cursor:
            wrong = differing(cursor, sums, targets)
        if wrong:
            raise SystemExit("the result is WRONG, no time is printed:\n  " + "\n  ".join(wrong))

    def close(self):
        self.scratch.close()
