"""A sink that goes by the key alone sees the changes of each key as they followed one another."""

import random

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors.memory import MemorySink, rows_of
from raystream.graph.planner import physical_plan
from raystream.runtime import local

COL = rs.col
ORDERS = pa.schema({"id": pa.int64(), "k": pa.int64(), "op": pa.string()})
NAMES = pa.schema({"k": pa.int64(), "name": pa.string(), "op": pa.string()})


class Upserts(MemorySink):
    """Keeps one row a key, and drops it whatever row is said to be gone, as databases do."""

    upserts = True

    def table(self, key):
        rows = {}
        for batch in self._batches:
            for row, op in zip(rows_of(batch), batch.ops, strict=True):
                rows.pop(row[key], None)
                if op in ("+I", "+U"):
                    rows[row[key]] = row
        return sorted(tuple(row.values()) for row in rows.values())


def tables():
    """Give orders that move from name to name, and names."""
    job = rs.Job("orders", parallelism=2)
    rows = [{"id": i % 3, "k": i // 3 % 5, "op": "+U"} for i in range(21)]
    orders = job.from_items(rows, schema=ORDERS).with_parallelism(1).to_changelog(key="id")
    rows = [{"k": k, "name": str(k), "op": "+I"} for k in range(5)]
    return orders, job.from_items(rows, schema=NAMES).to_changelog(key="k")


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize(
    "behind",
    [
        lambda s: s,
        lambda s: s.rename({"k": "number"}).filter(COL("number") >= 0),
        lambda s: s.join(pa.table({"id": [0, 1, 2]}), on="id").to_one(),
        lambda s: s.filter(lambda row: True).with_parallelism(1),
    ],
)
def test_a_row_that_moves_between_keys_of_a_join_is_there_in_the_end(how, behind):
    for seed in range(2):
        orders, names = tables()
        sink = Upserts()
        joined = behind(orders.join(names, on="k", how=how, ttl="forever"))
        assert joined.changelog == ("id",)
        joined.sink(sink)
        local.run(physical_plan(joined._tip.draft.plan()), rng=random.Random(seed), timeout_s=60)
        assert sink.table("id") == [(i, 1, "1") for i in range(3)]


@pytest.mark.parametrize(
    ("make", "ordered"),
    [
        (lambda a, b: a.join(b, on="k", ttl="forever"), True),
        (lambda a, b: a.join(b, on="k", how="anti", ttl="forever"), True),
        (lambda a, b: a.join(b, on="k", ttl="forever").join(a, on="id", ttl="forever"), True),
        (
            lambda a, b: b.join(
                a.key_by("k").aggregate(n=rs.count(), emit="changes"), on="k", ttl=9
            ),
            False,
        ),
        (lambda a, b: a.join(b, on="k", ttl="forever").drop("id"), False),
        (
            lambda a, b: (
                a.join(b, on="k", how="full", ttl="forever")
                .key_by("k")
                .aggregate(n=rs.count(), emit="changes")
            ),
            False,
        ),
        (lambda a, b: a, False),
    ],
)
def test_only_what_may_come_in_another_order_is_put_in_order(make, ordered):
    made = make(*tables())
    made.sink(Upserts())
    assert ("in_order" in made._tip.draft.plan().sinks[0].inputs[0].node.name) is ordered
