"""In front of which sinks rows are brought in order, and in front of which they are already."""

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.planner import physical_plan

ORDER = pa.schema({"id": pa.int64(), "customer": pa.int64(), "op": pa.string()})
CUSTOMER = pa.schema({"number": pa.int64(), "name": pa.string(), "op": pa.string()})
COL = rs.col


class Upserts(rs.MemorySink):
    upserts = True

    def __init__(self, table_key=None):
        super().__init__()
        self.table_key = table_key


def tables(parallelism=2):
    job = rs.Job("tables", parallelism=parallelism)
    orders = job.from_items([{"id": 1, "customer": 1, "op": "+I"}], schema=ORDER)
    customers = job.from_items([{"number": 1, "name": "a", "op": "+I"}], schema=CUSTOMER)
    return orders.to_changelog(key="id"), customers.to_changelog(key="number")


def by_customer(parallelism=2):
    orders, customers = tables(parallelism)
    joined = orders.join(customers, left_on="customer", right_on="number", how="left", ttl="1d")
    return joined.named("full").uid("full")


def by_key():
    orders, customers = tables()
    return orders.join(customers, left_on="id", right_on="number", ttl="1d")


def plan_of(*streams, key=None):
    for stream in streams:
        stream.sink(Upserts(key))
    return physical_plan(streams[0]._tip.draft.plan())


def settled(plan):
    """Name the operators that bring rows in order, by what they go."""
    nodes = [node for chain in plan.chains for node in chain.nodes if node.spec.verb == "upserts"]
    return {node.name: node.spec.keys for node in nodes}


def total(stream, *keys):
    return stream.key_by(*keys).aggregate(n=rs.count(), emit="changes")


@pytest.mark.parametrize(
    "stream",
    [
        lambda: tables()[0],
        lambda: tables()[0].filter(COL("customer") > 1).rename({"id": "order"}),
        lambda: tables()[0].with_parallelism(3).with_columns(customer=COL("customer") + 1),
        lambda: total(tables()[0], "customer"),
        lambda: total(by_customer(), "name"),
        lambda: tables()[0].key_by("customer").top_k(2, "id", rank="r", emit="changes"),
        by_key,
    ],
)
def test_tables_that_are_spread_by_their_key_go_to_the_sink_as_they_are(stream):
    assert settled(plan_of(stream())) == {}


@pytest.mark.parametrize(
    ("stream", "name", "key"),
    [
        (by_customer, "full.upserts", ("id",)),
        (lambda: by_customer(1), "full.upserts", ("id",)),
        (lambda: by_customer().select("id", "name").named("s"), "s.upserts", ("id",)),
        (lambda: by_customer().rename({"id": "o"}).named("s"), "s.upserts", ("o",)),
        (lambda: by_customer().filter(COL("id") > 1).named("s"), "s.upserts", ("id",)),
    ],
)
def test_tables_that_are_spread_by_something_else_are_brought_in_order(stream, name, key):
    plan = plan_of(stream())
    assert settled(plan) == {name: key}
    heads = {chain.nodes[0].name: chain.name for chain in plan.chains}
    if name in heads:  # with one subtask there is nothing to exchange
        (edge,) = plan.inputs(heads[name])
        assert str(edge.exchange) == f"hash({', '.join(key)})"


def test_a_sink_that_finds_rows_by_other_columns_gets_the_newest_of_each():
    orders, _ = tables()
    assert settled(plan_of(orders.named("o"), key=("customer",))) == {
        "o.upserts.customer": ("customer",)
    }
    assert settled(plan_of(tables()[0].named("o"), key=("id",))) == {}
    with pytest.raises(rs.PlanError, match="has no column nmae"):
        plan_of(tables()[0], key=("nmae",))


def test_several_sinks_of_one_table_share_what_is_kept():
    full = by_customer()
    assert settled(plan_of(full, full, full)) == {"full.upserts": ("id",)}
    full = by_customer()
    full.sink(Upserts()).with_parallelism(3)
    full.sink(Upserts(("name",)))
    assert settled(plan_of(full)) == {"full.upserts": ("id",), "full.upserts.name": ("name",)}


def test_rows_without_a_key_go_to_the_sink_as_they_come():
    assert settled(plan_of(by_customer().select("name"))) == {}
    one = tables()[0]
    both = one.union(one.filter(COL("id") > 1))
    assert settled(plan_of(both)) == {}


def test_a_union_that_is_written_by_a_key_is_brought_in_order():
    one, _ = tables()
    both = one.named("o").union(one.filter(COL("id") > 1).named("p"))
    both.sink(Upserts(("id",))).named("store")
    assert settled(physical_plan(both._tip.draft.plan())) == {"store.upserts": ("id",)}


def test_who_collects_the_table_takes_rows_as_they_come():
    assert by_customer().collect() == [{"id": 1, "customer": 1, "name": "a"}]


def test_the_join_announces_what_leaves_and_the_plan_shows_it():
    full = by_customer()
    full.sink(Upserts())
    plan = physical_plan(full._tip.draft.plan())
    nodes = {node.name: node for chain in plan.chains for node in chain.nodes}
    assert nodes["full"].retracting is True
    assert nodes["full.upserts"].retracting is False
    assert nodes["full.upserts"].spec.describe() == "by id: the newest row that is there"
