#!/usr/bin/python3
"""Random histories for as many seeds as asked: `python3 test/integration/soak.py SEEDS=1000 FIRST=0 MINUTES=60`.

Longer histories by more writers than in the tests. Ends at the first seed that fails (or after MINUTES), printing it;
exit 0 only if none failed.
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.cluster import Scratch  # noqa: E402
from harness.history import BLOCK, flavour_of, run_history  # noqa: E402
from harness.pair import Pair  # noqa: E402


def settings(words):
    values = {"SEEDS": 1000, "FIRST": 0, "MINUTES": 60, "WRITERS": 6, "TRANSACTIONS": 200}
    for word in words:
        name, _, value = word.partition("=")
        if name not in values or not value.isdigit():
            sys.exit(f"unknown setting {word}; there are {', '.join(values)}, each a number")
        values[name] = int(value)
    return values


def main():
    chosen = settings(sys.argv[1:])
    deadline = time.monotonic() + chosen["MINUTES"] * 60
    scratch = Scratch()
    pair = None
    try:
        write, read = scratch.cluster("w").start(), scratch.cluster("r").start()
        for seed in range(chosen["FIRST"], chosen["FIRST"] + chosen["SEEDS"]):
            if time.monotonic() > deadline:
                print(f"time is over before seed {seed}; none failed")
                break
            if pair is None or seed % BLOCK == 0:
                if pair:
                    pair.close()
                pair = Pair(write, read, f"soak{seed}", flavour_of(seed)).start()
            started = time.monotonic()
            run_history(pair, seed, chosen["WRITERS"], chosen["TRANSACTIONS"], comparisons=4)
            print(f"seed {seed}: {pair.flavour} same, {time.monotonic() - started:.1f} s", flush=True)
    finally:
        if pair and pair.daemon.running:
            pair.daemon.kill()
        scratch.close()


if __name__ == "__main__":
    main()
