"""make bench: pgprojector beside what one would use instead, in one run, on private clusters.

BENCH       catchup (default) mixed bigtx latency group freshness snapshot growth, several separated by commas, or all
N           transactions of catchup, mixed and growth (300,000); messages of bigtx (1,000,000)
REPEAT      rounds; in each every contender runs once (3)
SECONDS     of each latency and freshness measurement (20)
RATES       of the latency measurement ("500 1000 2000")
HISTORY     messages there before (100,000; snapshot: 3,000,000; growth: 9,000,000)
CONTENDERS  names out of contenders/ ("pump pgprojector native triggers"; latency: "pgprojector triggers durable")
PLOT=1      writes the results into README.md and SVG files beside it

How it measures stands in README.md. A result that is wrong ends the run without a time. KEEP_SCRATCH=1 keeps the clusters.
"""
import os
import signal
import sys

from rig import Rig, say  # first: it sets the path to the harness

import report
from catchup import catch_up
from contenders import ALL
from freshness import freshness
from latency import group, latency
from snapshot import snapshot


def setting(name, default):
    return type(default)(os.environ.get(name) or default)


def chosen(names=None):
    wanted = setting("CONTENDERS", names or "pump pgprojector native triggers").replace(",", " ").split()
    return [kind for kind in ALL if kind.name in wanted and (names is None or kind.name in names.split())]


def with_rig(function):
    """Runs on a rig of its own, with base data and every contender's start state."""
    def run():
        rig = Rig()
        try:
            function(rig)
        finally:
            rig.close()
    return run


def catch_up_on(rig, load, contenders, count, base=""):
    recording = rig.record(load, count)
    runs = catch_up(rig, contenders, recording, setting("REPEAT", 3))
    report.publish(report.catch_up_table(recording, contenders, runs, base))


@with_rig
def run_catchup(rig):
    rig.prepare(history=setting("HISTORY", 100_000))
    catch_up_on(rig, "message", chosen(), setting("N", 300_000))


@with_rig
def run_mixed(rig):
    rig.prepare(history=setting("HISTORY", 100_000))
    catch_up_on(rig, "mixed", chosen(), setting("N", 300_000))


@with_rig
def run_bigtx(rig):
    """Without triggers: within one transaction no version of a hot row can be pruned, and each update passes all before it."""
    rig.prepare(history=setting("HISTORY", 100_000))
    catch_up_on(rig, "bigtx", chosen("pump pgprojector native"), setting("N", 1_000_000))


@with_rig
def run_growth(rig):
    """The same load on a base of 150,000 conversations."""
    rig.prepare(users=300_000, conversations=150_000, history=setting("HISTORY", 9_000_000))
    catch_up_on(rig, "message", chosen("pump pgprojector"), setting("N", 300_000), base="large-base-")


@with_rig
def run_latency(rig):
    rig.prepare(history=setting("HISTORY", 100_000))
    contenders = chosen("pgprojector triggers durable")
    rates = [int(word) for word in setting("RATES", "500 1000 2000").replace(",", " ").split()]
    report.publish(report.latency_table(latency(rig, contenders, rates, setting("SECONDS", 20)), contenders))


@with_rig
def run_group(rig):
    rig.prepare(history=setting("HISTORY", 100_000))
    contenders = chosen("pgprojector triggers")
    report.publish(report.group_table(group(rig, contenders), contenders))


@with_rig
def run_freshness(rig):
    rig.prepare(history=setting("HISTORY", 100_000))
    report.publish(report.freshness_table(freshness(rig, setting("SECONDS", 20))))


@with_rig
def run_snapshot(rig):
    history = setting("HISTORY", 3_000_000)
    conversations = max(history // 60, 100)
    rig.load_base(2 * conversations, conversations, history)
    report.publish(report.snapshot_table(snapshot(rig, setting("REPEAT", 3)), history, conversations))


RUNS = {"catchup": run_catchup, "mixed": run_mixed, "bigtx": run_bigtx, "latency": run_latency, "group": run_group,
        "freshness": run_freshness, "snapshot": run_snapshot, "growth": run_growth}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    words = setting("BENCH", "catchup").replace(",", " ").split()
    names = list(RUNS) if "all" in words else words
    unknown = [name for name in names if name not in RUNS]
    if unknown:
        print(f"bench: no such benchmark: {', '.join(unknown)}; there are {', '.join(RUNS)}, all", file=sys.stderr)
        return 2
    say(report.machine())
    for name in names:
        say(f"--- {name}")
        RUNS[name]()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
