"""Clusters for the tests: one pair of servers for the whole run, databases of their own for each test."""
import itertools
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.cluster import Scratch  # noqa: E402
from harness.history import populate  # noqa: E402
from harness.modules import Modules  # noqa: E402
from harness.pair import Pair  # noqa: E402
from harness.scenes import SEED  # noqa: E402
from harness.schema import Flavour  # noqa: E402

PLAIN = Flavour(odd=False)
numbers = itertools.count(1)


@pytest.fixture(scope="session")
def scratch():
    scratch = Scratch(in_memory=True)
    yield scratch
    scratch.close()


@pytest.fixture(scope="session")
def write_cluster(scratch):
    """The write server that tests share; a test that stops servers starts its own (see `own_clusters`)."""
    return scratch.cluster("w").start()


@pytest.fixture(scope="session")
def read_cluster(scratch):
    return scratch.cluster("r", fresh=True).start()


@pytest.fixture
def make_pair(write_cluster, read_cluster, own_clusters):  # own_clusters: to end after the pairs do
    """make_pair(flavour, config): a pair of fresh databases, dropped after the test."""
    pairs = []

    def make(flavour=PLAIN, config=None, write=write_cluster, read=read_cluster):
        pairs.append(Pair(write, read, f"t{next(numbers)}", flavour, config))
        return pairs[-1]
    yield make
    for pair in pairs:
        pair.close()


@pytest.fixture
def pair(make_pair):
    """The chat schema alone; the daemon is not started."""
    return make_pair()


@pytest.fixture
def streaming(pair):
    """The chat schema with something in it, and the daemon caught up."""
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    return pair


@pytest.fixture
def modules(tmp_path):
    """A module directory of the test's own, with the modules that are deployed by default."""
    return Modules(tmp_path)


@pytest.fixture
def registering(make_pair, modules):
    """The chat modules from a directory of its own (`.modules`); the daemon has caught up."""
    pair = make_pair(config=modules.config)
    pair.modules = modules
    populate(pair, SEED)
    pair.start()
    pair.catch_up()
    return pair


@pytest.fixture
def own_clusters(scratch):
    """own_clusters(**settings): a server of this test's own, stopped at its end."""
    clusters = []

    def make(**settings):
        clusters.append(scratch.cluster(f"own{next(numbers)}", **settings).start())
        return clusters[-1]
    yield make
    for cluster in clusters:
        cluster.discard()


def pytest_collection_modifyitems(items):
    """The histories come last: many and short, they let several processes end together."""
    items.sort(key=lambda item: item.path.name == "test_histories.py")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the tail of the daemon's log with a failure."""
    report = (yield).get_result()
    if report.failed and call.when == "call":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Pair):
                report.sections.append((f"daemon of {value.name}", value.daemon.tail()))


def pytest_report_header():
    return f"SEED={os.environ.get('SEED', '')} SEEDS={os.environ.get('SEEDS', '')}"
