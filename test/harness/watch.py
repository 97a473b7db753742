"""A reader of the targets that never rests, and keeps what a reader must never see.

In one snapshot, again and again: the position, which projections are live, and how many of their rows are not what the
definition makes of the mirrors in the same snapshot. A target that is missing, empty, partial or of another commit than
the mirrors shows there, whatever the writers do; so does a position that goes back.
"""
import threading
import time

from .oracle import DEFINITIONS, TARGETS
from .pair import lsn

# Conversations that a test corrupts in the targets by hand: their rows may differ.
SPOILT = "(SELECT md5('spoilt ' || i)::uuid FROM generate_series(1, 40) i)"
KEYS = {"conversation_summary": "id", "user_conversation_membership": "conversation_id"}


def wrong_rows(name):
    """SQL: how many rows of a target are missing, too many or other than its definition says; NULL while it is not live."""
    wanted, found = (f"SELECT {TARGETS[name]} FROM ({source}) q WHERE {KEYS[name]} NOT IN {SPOILT}"
                     for source in (DEFINITIONS[name], f"SELECT * FROM public.{name}"))
    return (f"(SELECT CASE WHEN (SELECT state FROM pgprojector.projection WHERE name = '{name}') = 'live' THEN (SELECT count(*)"
            f" FROM ((({wanted}) EXCEPT ALL ({found})) UNION ALL (({found}) EXCEPT ALL ({wanted}))) w) END)")


class Watcher(threading.Thread):
    """Use as a context manager: the end raises AssertionError with what was seen."""

    def __init__(self, pair, interval=0.01):
        super().__init__(name="watcher", daemon=True)
        self.pair, self.interval = pair, interval
        self.ending = threading.Event()
        self.faults, self.samples, self.slowest = [], 0, 0.0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failed, *_):
        self.ending.set()
        self.join(20)
        if not failed:
            self.check()

    def check(self):
        assert not self.faults, f"a reader saw: {self.faults[:5]}"
        assert self.samples or not self.ending.is_set(), "the watcher saw nothing"

    def run(self):
        sql = "SELECT pgprojector.applied_lsn()::text, " + ", ".join(wrong_rows(name) for name in KEYS)
        highest = -1
        try:
            conn = self.pair.read_connection()
            with conn.cursor() as cursor:
                while not self.ending.wait(self.interval):
                    highest = self.look(cursor, sql, highest)
            conn.close()
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(repr(error))

    def look(self, cursor, sql, highest):
        began = time.monotonic()
        cursor.execute(sql)
        position, *wrong = cursor.fetchone()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.samples += 1
        if lsn(position) is None or lsn(position) < highest:
            self.faults.append(f"position {position} after {highest:X}")
        self.faults += [f"{count} rows of {name} are wrong at {position}" for name, count in zip(KEYS, wrong) if count]
        return lsn(position) or highest
