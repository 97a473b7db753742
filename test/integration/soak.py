#!/usr/bin/python3
"""What needs longer than tests may take. Ends at the first failure (or after MINUTES), printing it; exit 0 only if there was
none.

    soak.py SEEDS=1000 FIRST=0 MINUTES=60           random histories, longer and by more writers than in the tests
    soak.py SCENE=rebuild CYCLES=100 FIRST=0        cycles of a scene under the random workload (harness/cycles.py)
    soak.py SCENE=all                               every scene, each with the cycles of a full run
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.cluster import Scratch  # noqa: E402
from harness.cycles import SCENES, run_scene  # noqa: E402
from harness.history import BLOCK, flavour_of, run_history  # noqa: E402
from harness.pair import Pair  # noqa: E402


def settings(words):
    values = {"SEEDS": 1000, "FIRST": 0, "MINUTES": 60, "WRITERS": 0, "TRANSACTIONS": 200, "CYCLES": 0, "SCENE": "histories"}
    for word in words:
        name, _, value = word.partition("=")
        if name == "SCENE" and value in ("histories", "all", *SCENES):
            values[name] = value
        elif name == "SCENE" or name not in values or not value.isdigit():
            sys.exit(f"unknown setting {word}; there are {', '.join(values)}: numbers, and SCENE=histories|all|"
                     + "|".join(SCENES))
        else:
            values[name] = int(value)
    return values


def histories(write, read, chosen, deadline):
    pair = None
    try:
        for seed in range(chosen["FIRST"], chosen["FIRST"] + chosen["SEEDS"]):
            if time.monotonic() > deadline:
                print(f"time is over before seed {seed}; none failed")
                break
            if pair is None or seed % BLOCK == 0:
                if pair:
                    pair.close()
                pair = Pair(write, read, f"soak{seed}", flavour_of(seed)).start()
            started = time.monotonic()
            run_history(pair, seed, chosen["WRITERS"] or 6, chosen["TRANSACTIONS"], comparisons=4)
            print(f"seed {seed}: {pair.flavour} same, {time.monotonic() - started:.1f} s", flush=True)
    finally:
        if pair and pair.daemon.running:
            pair.daemon.kill()


def play(write, read, name, chosen, deadline):
    """One scene. MINUTES ends it between two cycles."""
    act = SCENES[name]
    cycles = chosen["CYCLES"] or act.cycles

    def progress(turn, seconds):
        print(f"{name} {turn + 1} of {cycles}: {seconds:.1f} s", flush=True)
        if time.monotonic() > deadline and turn + 1 < cycles:
            sys.exit(f"time is over after {turn + 1} of {cycles} cycles of {name}; none failed")
    with Pair(write, read, f"soak_{name}", act.flavour, act.configuration()) as pair:
        counted = run_scene(pair, act, cycles, chosen["FIRST"], chosen["WRITERS"] or 4, progress)
    print(f"{name}: {cycles} cycles, {', '.join(f'{number} {what}' for what, number in counted.items())}", flush=True)


def main():
    chosen = settings(sys.argv[1:])
    deadline = time.monotonic() + chosen["MINUTES"] * 60
    scratch = Scratch()
    try:
        write, read = scratch.cluster("w").start(), scratch.cluster("r").start()
        if chosen["SCENE"] == "histories":
            histories(write, read, chosen, deadline)
        for name in SCENES if chosen["SCENE"] == "all" else [chosen["SCENE"]]:
            if name in SCENES:
                play(write, read, name, chosen, deadline)
    finally:
        scratch.close()


if __name__ == "__main__":
    main()
