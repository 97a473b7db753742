"""A write and a read database, the daemon between them, and what tests say about the three."""
import subprocess

import psycopg2

from . import oracle
from .beside import Beside
from .cluster import poll
from .daemon import PROGRAM, Daemon, command, environment
from .schema import CHAT, ODD, Flavour


def lsn(text):
    """An LSN as a number; None stays None."""
    if text is None:
        return None
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Pair:
    """Two databases of one name, one on each cluster. Use as a context manager: the end drops both, and the slot."""

    def __init__(self, write, read, name, flavour=Flavour(), config=None):
        self.write, self.read, self.name, self.flavour = write, read, name, flavour
        self.scratch = write.scratch
        self.spoilt = False  # set by a test that failed with it: not to be used again
        write.create_database(name)
        read.create_database(name)
        self.write_url, self.read_url = write.url(name), read.url(name)
        self.write_query(flavour.ddl())
        self.config = self.configure(flavour.config() if config is None else config)
        self.daemon = Daemon(self, self.config)

    def configure(self, text):
        if not text:
            return None
        path = self.scratch.path / f"{self.name}.ini"
        path.write_text(text, encoding="utf-8")
        return path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.daemon.running:
            self.daemon.kill()
        self.write.drop_database(self.name)
        self.read.drop_database(self.name)

    # -------------------------------------------------------------------------------------------------- queries

    def write_connection(self):
        return self.write.connect(self.name)

    def read_connection(self):
        return self.read.connect(self.name)

    def write_query(self, sql, params=None):
        return self.write.query(self.name, sql, params)

    def read_query(self, sql, params=None):
        return self.read.query(self.name, sql, params)

    def write_value(self, sql, params=None):
        return self.write.value(self.name, sql, params)

    def read_value(self, sql, params=None):
        return self.read.value(self.name, sql, params)

    def slots(self):
        """Names of all slots of the write database that are not temporary."""
        return [row[0] for row in self.write_query("SELECT slot_name FROM pg_replication_slots WHERE database = %s"
                                                   " AND NOT temporary", (self.name,))]

    def idle_slot(self):
        """The name of the only slot, when nobody uses it: the walsender of a daemon that has ended may end a moment later."""
        (slot,) = self.slots()
        poll(lambda: not self.write_value("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)), 30,
             f"the end of who uses slot {slot}")
        return slot

    def drop_slot(self):
        """Drops the only slot, in a moment in which nobody uses it: whoever does is ended. Returns its name."""
        (slot,) = self.slots()

        def dropped():
            self.write_query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid > 0"
                             " AND slot_name = %s", (slot,))
            try:
                self.write_query("SELECT pg_drop_replication_slot(%s)", (slot,))
                return True
            except psycopg2.errors.ObjectInUse:
                return False
        poll(dropped, 30, f"slot {slot} to be free for a moment", 0.001)
        return slot

    def await_end_of(self, purpose="%"):
        """Waits until no session of pgprojector with that purpose is left: one of a process that was killed goes on with what it
        was sent, and any may end after its process."""
        for query in (self.read_query, self.write_query):
            poll(lambda q=query: not q("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                       " AND application_name LIKE 'pgprojector ' || %s", (purpose,)), 30, "the end of sessions")

    def applied(self):
        """The checkpoint as a number; None before the first start is complete."""
        try:
            return lsn(self.read_value("SELECT pgprojector.applied_lsn()::text"))
        except (psycopg2.errors.InvalidSchemaName, psycopg2.errors.UndefinedFunction, psycopg2.errors.UndefinedTable):
            return None

    def written(self):
        """The write database's end. What belongs to no commit (a pruned page) would be flushed, and sent, up to 15 s later."""
        end, flushed = self.write_query("SELECT pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text")[0]
        if lsn(flushed) < lsn(end):
            self.write_query("SELECT pg_logical_emit_message(true, 'test', 'flush')")
        return lsn(end)

    def command(self, *arguments, **more):
        """Runs `pgprojector ARGUMENTS` with this pair's environment and configuration."""
        return command(self.words(arguments), self.write_url, self.read_url, **more)

    def launch(self, *arguments):
        """The same command as a process, to be looked at or ended; its output is read as text from pipes."""
        return subprocess.Popen([PROGRAM, *self.words(arguments)], env=environment(self.write_url, self.read_url), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def words(self, arguments):
        return [*(["-c", self.config] if self.config else []), *arguments]

    # ----------------------------------------------------------------------------------------------- statements

    def empty(self):
        """Deletes everything of the source tables in one transaction."""
        tables = [self.flavour.table(name) for name in CHAT] + (list(ODD) if self.flavour.odd else [])
        self.write_query("; ".join(f"DELETE FROM {table}" for table in tables))

    def start(self):
        """Starts the daemon and waits until it streams."""
        self.daemon.start().streaming()
        return self

    def catch_up(self, timeout=30):
        """Waits until the read side shows all that is committed now."""
        target = self.written()

        def reached():
            assert self.daemon.running, f"daemon ended with {self.daemon.process.returncode}; log:\n{self.daemon.tail()}"
            assert "halted: " not in self.daemon.since_start(), f"daemon halted; log:\n{self.daemon.tail(1000)}"
            applied = self.applied()
            return applied is not None and applied >= target
        try:
            poll(reached, timeout, interval=0.001)
        except TimeoutError:
            raise AssertionError(f"the read side stands at {self.applied()}, behind {target} after {timeout} s; the daemon"
                                 f" says {self.daemon.row()}; log:\n{self.daemon.tail()}") from None

    def image_of(self, cluster):
        """A copy of one of the two servers, both of which are the test's own, while the daemon stands and is up to date."""
        self.catch_up()
        self.daemon.stop()
        cluster.stop()
        image = cluster.copy_data(f"{cluster.name}.image")
        cluster.start()
        self.start()
        return image

    def put_back(self, cluster, image):
        """The image takes the server's place. Neither it nor the daemon is started."""
        self.daemon.stop()
        cluster.stop()
        cluster.replace_data(image)

    def settle(self, rng):
        """Half the time, the write database gets a last commit that concerns no mirror; else it just falls idle."""
        if rng.random() < 0.5:
            self.write_query("INSERT INTO tick VALUES (0)")

    def differences(self):
        return oracle.differences(self)

    def assert_same(self, about="", timeout=30):
        """Everything on the read side equals its definition. The write database must be at rest."""
        self.catch_up(timeout)
        found = self.differences()
        assert not found, f"{about}: the read side differs at {self.applied():X}\n" + "\n".join(found) + \
            f"\nlog: {self.daemon.tail(1500)}"


class Sampler(Beside):
    """Looks at the checkpoint and at the slot all the time, and keeps what must never be.

    The slot is looked at first: what it has confirmed must then be found within the checkpoint, which only grows. Servers
    and sessions may end meanwhile.
    """

    def __init__(self, pair, interval=0.01):
        super().__init__(None, interval)
        self.pair = pair
        self.highest = -1
        self.write = self.read = None

    def run(self):
        while not self.ending.wait(self.interval):
            try:
                self.sample()
            except psycopg2.Error:
                self.write = self.read = None
        for conn in (self.write, self.read):
            if conn:
                conn.close()

    def sample(self):
        self.write = self.write or self.pair.write_connection()
        self.read = self.read or self.pair.read_connection()
        with self.write.cursor() as cursor:
            cursor.execute("SELECT max(confirmed_flush_lsn)::text FROM pg_replication_slots WHERE database = %s"
                           " AND NOT temporary", (self.pair.name,))
            confirmed = lsn(cursor.fetchone()[0])
        with self.read.cursor() as cursor:
            cursor.execute("SELECT pgprojector.applied_lsn()::text")
            applied = lsn(cursor.fetchone()[0])
        if applied is None:
            if self.highest >= 0:
                self.faults.append(f"the checkpoint is gone; it was {self.highest:X}")
            return
        if applied < self.highest:
            self.faults.append(f"the checkpoint fell from {self.highest:X} to {applied:X}")
        if confirmed is not None and confirmed > applied:
            self.faults.append(f"the slot has confirmed {confirmed:X}, the checkpoint is {applied:X}")
        self.highest = max(self.highest, applied)
        self.turns += 1
