"""Whatever concurrent writers do on the write database, every mirror equals its source and every target its defining
query, evaluated on the write database, at random moments and at the end.

SEEDS=n runs that many seeds, SEED=n that one alone.
"""
import os

import pytest

from harness.history import BLOCK, flavour_of, run_history
from harness.pair import Pair

SEEDS = [int(os.environ["SEED"])] if os.environ.get("SEED") else range(int(os.environ.get("SEEDS") or 200))


@pytest.fixture(scope="module")
def block(write_cluster, read_cluster):
    """block(seed): the running pair of the seed's block of ten; a failed daemon is replaced with its databases."""
    current = {}

    def pair_of(seed):
        number = seed // BLOCK
        pair = current.get(number)
        if pair is None or not pair.daemon.running or pair.spoilt:
            for old in current.values():
                old.close()
            current.clear()
            pair = current[number] = Pair(write_cluster, read_cluster, f"block{number}", flavour_of(seed))
            pair.start()
        return pair
    yield pair_of
    for pair in current.values():
        assert pair.spoilt or pair.daemon.stop() == 0
        pair.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_history(block, seed):
    pair = block(seed)
    try:
        run_history(pair, seed)
    except BaseException:
        pair.spoilt = True
        raise
