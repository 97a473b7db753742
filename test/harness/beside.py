"""What goes on beside a test, again and again, from the beginning of a `with` to its end: readers that must never see
something, writers that keep the source busy."""
import threading
import time


class Beside(threading.Thread):
    """Use as a context manager: its end raises AssertionError with the faults, or where not a single turn was made.

    A subclass says in `turn(cursor)` what is done each time, on a connection of its own, which `connect` opens; it adds to
    `faults` what must not be. An exception is a fault, too, and the last turn.
    """

    def __init__(self, connect, interval=0.0, name=None):
        super().__init__(name=name or type(self).__name__.lower(), daemon=True)
        self.connect, self.interval = connect, interval
        self.ending = threading.Event()
        self.faults, self.turns = [], 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failed, *_):
        self.await_a_turn()
        self.ending.set()
        self.join(20)
        if not failed:
            self.check()

    def await_a_turn(self, patience=20):
        """What it goes on beside may be over before it has begun."""
        deadline = time.monotonic() + patience
        while self.is_alive() and not self.turns and time.monotonic() < deadline:
            time.sleep(0.002)

    def check(self):
        assert not self.faults, f"{self.name}: {self.faults[:5]}"
        assert self.turns or not self.ending.is_set(), f"{self.name} has not had a turn"

    def run(self):
        conn = None
        try:
            conn = self.connect()
            with conn.cursor() as cursor:
                while not self.ending.wait(self.interval):
                    self.turn(cursor)
                    self.turns += 1
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(repr(error))
        finally:
            if conn:
                conn.close()

    def turn(self, cursor):
        raise NotImplementedError


class Reader(Beside):
    """One query of the read side, of one row. `judge(row, before)` names what must not be in it, or returns None; `before` is
    the row of the turn before, None at first."""

    def __init__(self, pair, sql, judge, interval=0.0):
        super().__init__(pair.read_connection, interval)
        self.sql, self.judge, self.before = sql, judge, None

    def turn(self, cursor):
        cursor.execute(self.sql)
        row = cursor.fetchone()
        fault = self.judge(row, self.before)
        if fault:
            self.faults.append(fault)
        self.before = row


class Statements(Beside):
    """Statements of the write side, drawn one after the other; `draw()` gives the next."""

    def __init__(self, pair, draw, interval=0.0):
        super().__init__(pair.write_connection, interval)
        self.draw = draw

    def turn(self, cursor):
        cursor.execute(self.draw())


def never_fewer(row, before):
    """For a Reader of counts: none of them goes back."""
    if before and any(now < was for now, was in zip(row, before)):
        return f"{before}, then {row}"
    return None
