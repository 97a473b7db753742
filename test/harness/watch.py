"""A reader of the targets that never rests, and keeps what a reader must never see.

In one snapshot, again and again: the position, which projections are live, and how many of their rows are not what the
definition makes of the mirrors in the same snapshot. A target that is missing, empty, partial or of another commit than
the mirrors shows there, whatever the writers do; so does a position that goes back.
"""
import time

from .beside import Beside
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


class Watcher(Beside):
    """Use as a context manager: the end raises AssertionError with what was seen."""

    def __init__(self, pair, interval=0.01):
        super().__init__(pair.read_connection, interval)
        self.sql = "SELECT pgprojector.applied_lsn()::text, " + ", ".join(wrong_rows(name) for name in KEYS)
        self.highest, self.slowest = -1, 0.0

    def turn(self, cursor):
        began = time.monotonic()
        cursor.execute(self.sql)
        position, *wrong = cursor.fetchone()
        self.slowest = max(self.slowest, time.monotonic() - began)
        if lsn(position) is None or lsn(position) < self.highest:
            self.faults.append(f"position {position} after {self.highest:X}")
        self.faults += [f"{count} rows of {name} are wrong at {position}" for name, count in zip(KEYS, wrong) if count]
        self.highest = lsn(position) or self.highest
