"""Seeded random histories by several concurrent writers.

What a writer does is drawn from its own seed alone, a whole transaction ahead of running it, so that no outcome (a lost
race, a deadlock) changes what comes later. Only the order in which concurrent writers meet may differ between two runs
of one seed. Every statement is kept; `history()` gives the whole as SQL.
"""
import contextlib
import threading
import time

import psycopg2

from . import odd_operations  # noqa: F401 (registers its operations)
from .draw import Draw
from .operations import ODD_OPERATIONS, OPERATIONS

EXPECTED = (psycopg2.errors.UniqueViolation, psycopg2.errors.DeadlockDetected, psycopg2.errors.LockNotAvailable,
            psycopg2.errors.CheckViolation, psycopg2.errors.SerializationFailure, psycopg2.errors.InvalidTextRepresentation,
            psycopg2.errors.DuplicateTable, psycopg2.errors.InFailedSqlTransaction, psycopg2.errors.QueryCanceled)


def lost(error):
    """Whether it was the connection that failed, not a statement."""
    return error.pgcode is None or isinstance(error, psycopg2.OperationalError)


class Transaction:
    """A transaction as drawn: steps of statements, each maybe in a savepoint that is kept or rolled back; an ending."""

    def __init__(self, d, flavour, without=()):
        table = [entry for entry in OPERATIONS + (ODD_OPERATIONS if flavour.odd else [])
                 if entry[0].__name__ not in without]
        functions, weights = zip(*table)
        count = d.pick((1, 1, 1, 2, 2, 3, 5, 8))
        self.steps = []
        for function in d.rng.choices(functions, weights, k=count):
            savepoint = d.pick((None, None, "kept", "kept", "undone"))
            self.steps.append((list(function(d, flavour)), savepoint))
        self.ending = d.rng.choices(("commit", "rollback", "prepare", "prepare, rollback"), (88, 5, 5, 2))[0]
        self.linger = d.chance(0.5)


class Writer(threading.Thread):
    def __init__(self, workload, number):
        super().__init__(name=f"writer {number}", daemon=True)
        self.workload = workload
        self.number = number
        self.draw = Draw(f"{workload.seed}/{number}", **workload.universe)
        self.conn = None
        self.prepared = []
        self.committed = 0
        self.failure = None

    def run(self):
        done = 0
        try:
            while not self.workload.stopping and (self.workload.transactions is None or done < self.workload.transactions):
                self.workload.checkpoint(self)
                self.attempt(Transaction(self.draw, self.workload.flavour, self.workload.without), done)
                done += 1
                if self.workload.pace:
                    time.sleep(self.workload.pace)
            self.end_prepared()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
        finally:
            if self.conn:
                self.conn.close()
            self.workload.leave(self)

    def attempt(self, transaction, number):
        try:
            if self.conn is None or self.conn.closed:
                self.connect()
            self.perform(transaction, number)
        except EXPECTED:
            self.roll_back()
        except psycopg2.Error as error:
            if not (lost(error) and self.workload.tolerant):
                raise
            self.conn = None
            time.sleep(0.02)

    def connect(self):
        self.conn = self.workload.pair.write_connection()
        with self.conn.cursor() as cursor:
            cursor.execute(f"SET search_path = {self.workload.flavour.search_path}; SET lock_timeout = '300ms'")

    def roll_back(self):
        with self.conn.cursor() as cursor:
            self.execute(cursor, "ROLLBACK")

    def perform(self, transaction, number):
        with self.conn.cursor() as cursor:
            self.execute(cursor, "BEGIN")
            for place, (statements, savepoint) in enumerate(transaction.steps):
                self.step(cursor, statements, savepoint, f"s{place}")
            if transaction.ending == "rollback":
                self.execute(cursor, "ROLLBACK")
            elif transaction.ending.startswith("prepare"):
                gid = f"{self.workload.pair.name}.{self.workload.seed}.{self.number}.{number}"
                self.execute(cursor, "PREPARE TRANSACTION %s", (gid,))
                self.prepared.append((gid, "ROLLBACK" if "rollback" in transaction.ending else "COMMIT"))
            else:
                self.execute(cursor, "COMMIT")
            self.committed += transaction.ending == "commit"
        if not transaction.linger or transaction.ending == "commit":
            self.finish_prepared()

    def step(self, cursor, statements, savepoint, name):
        if savepoint:
            self.execute(cursor, f"SAVEPOINT {name}")
        try:
            for sql, params in statements:
                self.execute(cursor, sql, params)
        except EXPECTED:
            if not savepoint:
                raise
            self.execute(cursor, f"ROLLBACK TO {name}")
        else:
            if savepoint:
                self.execute(cursor, f"{'RELEASE' if savepoint == 'kept' else 'ROLLBACK TO'} {name}")

    def execute(self, cursor, sql, params=None):
        self.workload.statements.append((self.number, cursor.mogrify(sql, params or None)))
        cursor.execute(sql, params or None)

    def end_prepared(self):
        """The same, but a lost connection is made anew where the workload is tolerant."""
        for _ in range(20):
            try:
                return self.finish_prepared()
            except psycopg2.Error as error:
                if not (lost(error) and self.workload.tolerant):
                    raise
                self.conn = None
                time.sleep(0.1)
        raise TimeoutError("prepared transactions cannot be ended")

    def finish_prepared(self):
        """Outside any transaction. A gid stays listed until its end is certain."""
        if self.prepared and self.conn is None:
            self.connect()
        while self.prepared:
            gid, ending = self.prepared[0]
            with self.conn.cursor() as cursor:
                cursor.execute("SELECT FROM pg_prepared_xacts WHERE gid = %s", (gid,))
                if cursor.rowcount:
                    self.execute(cursor, f"{ending} PREPARED %s", (gid,))
            self.prepared.pop(0)


class Workload:
    """`writers` of them; each ends after `transactions`, or at stop(). tolerant: outlives the server's stops.
    without: the names of operations that are left out."""

    def __init__(self, pair, seed, writers=3, transactions=None, tolerant=False, pace=0, universe=None,
                 without=()):
        self.pair, self.flavour, self.seed = pair, pair.flavour, seed
        self.transactions, self.tolerant, self.pace = transactions, tolerant, pace
        self.universe = universe or {}
        self.without = without
        self.statements = []
        self.stopping = False
        self.condition = threading.Condition()
        self.pausing = False
        self.parked = set()
        self.ended = set()
        self.writers = [Writer(self, number) for number in range(writers)]

    def start(self):
        for writer in self.writers:
            writer.start()
        return self

    def checkpoint(self, writer):
        """Where a writer, between two transactions, waits while the workload is paused."""
        if not self.pausing:
            return
        writer.end_prepared()
        with self.condition:
            self.parked.add(writer)
            self.condition.notify_all()
            self.condition.wait_for(lambda: not self.pausing)
            self.parked.discard(writer)

    def leave(self, writer):
        with self.condition:
            self.ended.add(writer)
            self.condition.notify_all()

    @contextlib.contextmanager
    def pause(self):
        """All writers stand between transactions meanwhile."""
        with self.condition:
            self.pausing = True
            still = self.condition.wait_for(lambda: len(self.parked | self.ended) == len(self.writers), timeout=60)
        try:
            assert still, f"seed {self.seed}: the writers do not come to rest"
            self.check()
            yield
        finally:
            with self.condition:
                self.pausing = False
                self.condition.notify_all()

    def finished(self):
        return len(self.ended) == len(self.writers)

    def stop(self):
        self.stopping = True
        return self.join()

    def join(self):
        for writer in self.writers:
            writer.join(120)
            assert not writer.is_alive(), f"seed {self.seed}: {writer.name} hangs"
        self.check()
        return self

    def check(self):
        for writer in self.writers:
            if writer.failure:
                raise AssertionError(f"seed {self.seed}: {writer.name} failed") from writer.failure

    @property
    def committed(self):
        return sum(writer.committed for writer in self.writers)

    def history(self):
        """What was sent to the server, in the order in which the writers sent it."""
        return b"".join(b"/* %d */ %s;\n" % statement for statement in self.statements)
