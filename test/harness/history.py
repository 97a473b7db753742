"""One seed: a population, a random history by concurrent writers, and comparisons at random moments and at its end."""
import os
import pathlib
import random

from .cluster import poll
from .daemon import ROOT
from .draw import Draw
from .pair import Sampler
from .schema import Flavour
from .workload import Workload

# A seed's flavour is that of its block of ten, so that ten seeds share databases and a daemon.
BLOCK = 10
FLAVOURS = (
    Flavour(),
    Flavour(batch_bytes=65536, chained=True),
    Flavour(identity="full"),
    Flavour(identity="index"),
    Flavour(partitioned=True),
    Flavour(generated=True, odd=False),
    Flavour(renamed=True, generated=True),
    Flavour(identity="full", partitioned=True, batch_bytes=65536),
    Flavour(identity="index", renamed=True, batch_bytes=65536, chained=True),
    Flavour(odd=False, chained=True),
)


def flavour_of(seed):
    return FLAVOURS[seed // BLOCK % len(FLAVOURS)]


def populate(pair, seed):
    """Something of everything, in one transaction, so that a history has what it can change from its start."""
    d = Draw(f"{seed}/population")
    with pair.write_connection() as conn, conn.cursor() as cursor:
        cursor.execute(f"SET search_path = {pair.flavour.search_path}; BEGIN")
        for number in range(d.users):
            cursor.execute("INSERT INTO users VALUES (%s, %s, %s)", (d.key("user", number), d.text(), d.text()))
        for number in range(d.conversations):
            cursor.execute("INSERT INTO conversations VALUES (%s, %s, %s, 'group', %s, %s)",
                           (d.key("conversation", number), d.tenant(), d.text(), d.time(), d.time()))
        for number in range(0, 100, d.rng.randrange(1, 7)):
            digit = number % 6
            if digit < 3 or not pair.flavour.partitioned:
                cursor.execute("INSERT INTO messages (id, conversation_id, sequence_number, content, created_at)"
                               " VALUES (%s, %s, %s, %s, %s)",
                               (d.key("message", number), d.conversation(), number, d.text(), d.time()))
        for _ in range(40):
            cursor.execute("INSERT INTO user_conversations VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                           (d.user(), d.conversation(), d.time(), d.or_null(d.time())))
        cursor.execute("COMMIT")


def run_history(pair, seed, writers=3, transactions=40, comparisons=2):
    """Runs a seed on a pair whose daemon streams. Raises AssertionError that names the seed and keeps the history."""
    rng = random.Random(f"{seed}/moments")
    pair.empty()
    populate(pair, seed)
    workload = Workload(pair, seed, writers, transactions)
    moments = sorted(rng.randrange(1, writers * transactions) for _ in range(comparisons - 1))
    try:
        with Sampler(pair):
            workload.start()
            for moment in moments:
                poll(lambda m=moment: workload.committed >= m or workload.finished(), 60, "the writers' progress", 0.001)
                with workload.pause():
                    pair.settle(rng)
                    pair.assert_same(f"seed {seed}, in the middle")
                if rng.random() < 0.1:
                    pair.daemon.kill()
                    pair.start()
            workload.join()
            pair.settle(rng)
            pair.assert_same(f"seed {seed}, at the end")
    except BaseException as error:
        workload.stopping = True
        raise AssertionError(f"{error}\n{keep(workload, pair)}") from error


def keep(workload, pair):
    """Writes the history and the daemon's log where they outlive the run. Returns how to see it again."""
    directory = pathlib.Path(os.environ.get("FAILURES", ROOT / "build" / "test-failures"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"seed-{workload.seed}.sql"
    path.write_bytes(f"-- {pair.flavour}\n".encode() + workload.history())
    path.with_suffix(".log").write_text(pair.daemon.tail(200000), encoding="utf-8")
    return f"history: {path}\nreplay: SEED={workload.seed} python3 -m pytest test/integration/test_histories.py"
