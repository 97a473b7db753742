"""Private PostgreSQL clusters for tests.

A Scratch is a directory of this process's own with a short path (socket names are limited to 107 bytes). In it, initdb
runs once; each Cluster starts from a copy of that template, listens on a Unix socket only, and is a child of this
process: it is stopped by its process id, and the kernel stops it should this process be killed. PostgreSQL refuses to
run as root, so under root everything of the servers belongs to, and runs as, the user `postgres`.

Servers must be started from the main thread: the kernel's "parent died" signal is tied to the starting thread.
"""
import atexit
import ctypes
import os
import pathlib
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2
import psycopg2.extensions

PG_BIN = pathlib.Path(os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin"))

SETTINGS = """
listen_addresses = ''
unix_socket_permissions = 0777
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 100
max_prepared_transactions = 20
max_wal_senders = 40
max_replication_slots = 40
max_wal_size = 512MB
deadlock_timeout = 50ms
jit = off
timezone = 'Asia/Kathmandu'
logging_collector = off
log_line_prefix = '%m [%p] %q%a %d '
"""
# Role settings that change output formats: what reads text from this server must pin its own.
ODD_OUTPUT = """
datestyle = 'German, DMY'
intervalstyle = 'iso_8601'
bytea_output = 'escape'
extra_float_digits = 0
"""


def die_with_parent():
    """Runs in a child before exec: SIGQUIT (an immediate stop) when the starting process dies."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT, 0, 0, 0)


def server_user():
    """Keyword arguments for subprocess that drop root; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def run_as_server(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   cwd="/", **server_user())


def initialise(directory, wal_segsize=16):
    run_as_server(PG_BIN / "initdb", "-D", directory, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
                  "--auth=trust", f"--wal-segsize={wal_segsize}")


def poll(condition, timeout=20.0, what="the condition", interval=0.005):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout} s")
        time.sleep(interval)
        interval = min(interval * 1.5, 0.02)


MEMORY = pathlib.Path("/dev/shm")
ROOM = 4 << 30  # bytes that must be free there; each of two processes takes half a gigabyte, seldom one


def alive(pid):
    return pathlib.Path(f"/proc/{pid}").exists()


def ours(path):
    """Whether we may remove it. Another process may have done so meanwhile."""
    try:
        return path.owner() in ("postgres", pwd.getpwuid(os.geteuid()).pw_name)
    except (FileNotFoundError, KeyError):
        return False


def place_in_memory():
    """Where the files of servers go that need not outlive a crash: a database is made and dropped in a tenth of the time that
    a disk takes. None where there is little room, or another place (TMPDIR) or the files (KEEP_SCRATCH) are wanted."""
    if os.environ.get("TMPDIR") or os.environ.get("KEEP_SCRATCH") or not os.access(MEMORY, os.W_OK):
        return None
    for left in MEMORY.glob("pjt.*.*"):  # of a run that was killed
        if ours(left) and not alive(left.name.split(".")[1]):
            shutil.rmtree(left, ignore_errors=True)
    room = os.statvfs(MEMORY)
    return MEMORY if room.f_bavail * room.f_frsize > ROOM else None


class Scratch:
    """The directory of one test run, with the template that every cluster is copied from."""

    def __init__(self, in_memory=False):
        place = place_in_memory() if in_memory else None
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"pjt.{os.getpid()}.", dir=place))
        self.path.chmod(0o755)
        self.clusters = []
        if os.geteuid() == 0:
            shutil.chown(self.path, "postgres")
        atexit.register(self.close)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that atexit has its turn

    def template(self):
        template = self.path / "template"
        if not template.exists():
            initialise(template)
        return template

    def cluster(self, name, **settings):
        cluster = Cluster(self, name, settings)
        self.clusters.append(cluster)
        return cluster

    def close(self):
        atexit.unregister(self.close)
        for cluster in self.clusters:
            cluster.stop(signal.SIGQUIT)
        if os.environ.get("KEEP_SCRATCH"):
            print(f"kept: {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def untouched(conn):
    """Whether nothing has come on an idle connection: it has not been ended, as far as can be known."""
    return not select.select([conn], [], [], 0)[0]


def has_setting(name):
    """Whether this server knows a setting; one that it does not know would keep it from starting."""
    listed = subprocess.run([PG_BIN / "postgres", "--describe-config"], stdout=subprocess.PIPE, text=True, check=True)
    return any(line.split("\t")[0] == name for line in listed.stdout.splitlines())


class Cluster:
    """One server. `settings` are added to its configuration; output_plugin_libraries=None leaves the server's default.

    Copies of the template share its system identifier; one that is `fresh` has its own, and WAL segments of `wal_segsize` MB.
    """

    def __init__(self, scratch, name, settings):
        self.name = name
        self.data = scratch.path / name
        self.sockets = scratch.path / f"{name}.s"
        self.log = scratch.path / f"{name}.log"
        self.process = None
        self.copies = []
        self.database_options = ""  # of CREATE DATABASE
        self.idle = {}  # connections of query(), by database
        self.scratch = scratch
        run_as_server("mkdir", self.sockets)
        segments = settings.pop("wal_segsize", 16)
        if settings.pop("fresh", False):
            initialise(self.data, segments)
        else:
            run_as_server("cp", "-a", scratch.template(), self.data)
        self.configure(**settings)

    def configure(self, **settings):
        """Rewrites the settings; they hold from the next start."""
        odd_output = settings.pop("odd_output", True)
        settings.setdefault("wal_level", "logical")
        settings.setdefault("output_plugin_libraries", "pgoutput, test_decoding, wal2json")
        if settings["output_plugin_libraries"] is None or not has_setting("output_plugin_libraries"):
            del settings["output_plugin_libraries"]
        lines = SETTINGS + (ODD_OUTPUT if odd_output else "")
        lines += "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        lines += f"unix_socket_directories = '{self.sockets}'\n"
        (self.data / "postgresql.auto.conf").write_text(lines)

    def launch(self):
        assert self.process is None, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([PG_BIN / "postgres", "-D", self.data], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
                                            preexec_fn=die_with_parent, **server_user())

    def start(self):
        self.launch()
        poll(self.answers, 60, f"start of {self.name} (its log: {self.log})")
        return self

    def answers(self):
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended at its start: {self.log.read_text()[-2000:]}")
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self, how=signal.SIGINT, timeout=60):
        """SIGTERM: smart, SIGINT: fast, SIGQUIT: immediate."""
        if self.process is None:
            return
        for conn in self.idle.values():
            conn.close()
        self.idle.clear()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            raise
        finally:
            self.process = None

    def stop_immediately(self):
        self.stop(signal.SIGQUIT)

    def discard(self):
        """Stops it and removes what it and its copies hold (not its log)."""
        self.stop_immediately()
        if not os.environ.get("KEEP_SCRATCH"):
            for directory in (self.data, *self.copies):
                shutil.rmtree(directory, ignore_errors=True)

    def replace_data(self, copy):
        """Puts a copy of the data directory (made by copy_data) in the place of the present one. Server stopped."""
        run_as_server("rm", "-rf", self.data)
        run_as_server("cp", "-a", copy, self.data)

    def copy_data(self, name):
        copy = self.scratch.path / name
        run_as_server("cp", "-a", self.data, copy)
        self.copies.append(copy)
        return copy

    def url(self, database, user="postgres"):
        return f"postgresql://{user}@/{database}?host={self.sockets}"

    def connect(self, database, user="postgres", **more):
        """An autocommit connection that reads and writes text in fixed formats."""
        conn = psycopg2.connect(
            self.url(database, user), application_name="test", client_encoding="UTF8",
            options="-c datestyle=ISO,YMD -c timezone=UTC -c intervalstyle=postgres -c bytea_output=hex"
                    " -c extra_float_digits=1", **more)
        conn.autocommit = True
        return conn

    def query(self, database, sql, params=None):
        """Statements as in a connection of their own; the rows of the last, or None.

        A connection costs more than most statements, and tests ask all the time: it is kept for the next one, in the main
        thread, and forgets what it was set to.
        """
        main = threading.current_thread() is threading.main_thread()
        conn = self.idle.pop(database, None) if main else None
        if conn is None or not untouched(conn):
            conn = self.connect(database)
        try:
            with conn.cursor() as cursor:
                cursor.execute(sql, params)
                rows = cursor.fetchall() if cursor.description else None
                if main and conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE:
                    cursor.execute("DISCARD ALL")
                    self.idle[database], conn = conn, None
            return rows
        finally:
            if conn:
                conn.close()

    def value(self, database, sql, params=None):
        return self.query(database, sql, params)[0][0]

    def create_database(self, name, options=""):
        self.query("postgres", f'CREATE DATABASE "{name}" {options or self.database_options}')

    def drop_database(self, name):
        if name in self.idle:
            self.idle.pop(name).close()
        for slot, pid in self.query("postgres", "SELECT slot_name, active_pid FROM pg_replication_slots"
                                    " WHERE database = %s", (name,)):
            if pid:
                self.query("postgres", "SELECT pg_terminate_backend(%s)", (pid,))
                poll(lambda: not self.value("postgres", "SELECT count(active_pid) FROM pg_replication_slots"
                                            " WHERE slot_name = %s", (slot,)), what=f"end of the walsender of {slot}")
            # a temporary one has gone with its walsender
            self.query("postgres", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                       " WHERE slot_name = %s AND NOT temporary", (slot,))
        for gid in self.query("postgres", "SELECT gid FROM pg_prepared_xacts WHERE database = %s", (name,)):
            self.query(name, "ROLLBACK PREPARED %s", gid)
        self.query("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
