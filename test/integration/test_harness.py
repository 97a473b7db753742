"""The harness itself: an oracle that finds nothing proves nothing, and a seed must draw the same history twice."""
import psycopg2
import pytest

from harness import oracle
from harness.draw import Draw
from harness.history import FLAVOURS, populate
from harness.oracle import compare, rows
from harness.pair import lsn
from harness.workload import Transaction, Workload


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_a_seed_draws_the_same_history_twice(flavour):
    def drawn():
        d = Draw("7/1")
        return [(t.steps, t.ending) for t in (Transaction(d, flavour) for _ in range(300))]
    assert drawn() == drawn()


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_every_flavour_can_be_written_to(make_pair, flavour):
    """Every query of the oracle has something to say of the base data, and most transactions get through."""
    pair = make_pair(flavour)
    populate(pair, 1)
    with pair.write_connection() as conn, conn.cursor() as cursor:
        cursor.execute(f"SET search_path = {flavour.search_path}")
        assert all(rows(conn, query) for query in oracle.DEFINITIONS.values())
    workload = Workload(pair, 1, writers=2, transactions=100).start()
    with workload.pause():
        assert oracle.sizes(pair)["conversations"]
    workload.join()
    assert workload.committed > 100


def test_differences_are_named():
    def bag(*texts):
        return oracle.collections.Counter(texts)
    assert compare("t", bag("(1)", "(2)"), bag("(2)", "(1)")) == []
    assert "1 rows missing, 1 too many" in compare("t", bag("(1.0)"), bag("(1.00)"))[0]
    assert compare("t", bag("(1)", "(1)"), bag("(1)"))


def test_lsns_compare_as_numbers():
    assert lsn("1/0") > lsn("0/FFFFFFFF") and lsn(None) is None


def test_the_write_cluster_is_what_the_tests_think(pair):
    assert pair.write_value("SHOW wal_level") == "logical"
    with pytest.raises(psycopg2.errors.UndefinedTable):
        pair.write_query("SELECT FROM no_such_table")
