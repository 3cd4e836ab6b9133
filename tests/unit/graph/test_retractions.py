"""Demand for what leaves a table goes from consumers to producers, whatever lies between."""

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.planner import physical_plan

COL = rs.col
SCHEMA = pa.schema({"k": pa.string(), "v": pa.int64(), "op": pa.string()})


class Upserts(rs.MemorySink):
    upserts = True


class Kinds(rs.ProcessFunction):
    def process(self, row, ctx):
        yield ctx.op


def announced(*ends, rules=None):
    """Tell whether a table that is read in these ways announces what leaves it."""
    job = rs.Job("table")
    items = [{"k": "a", "v": 1, "op": "+I"}]
    table = job.from_items(items, schema=SCHEMA).to_changelog(key="k").named("table")
    for end in ends:
        end(table)
    plan = table._tip.draft.plan()
    made = physical_plan(plan) if rules is None else physical_plan(plan, rules)
    (spec,) = [n.spec for chain in made.chains for n in chain.nodes if n.name == "table"]
    return spec.before


def shown(s):
    s.sink(Upserts())


@pytest.mark.parametrize(
    "end",
    [
        shown,
        lambda s: s.to_rows().print(),
        lambda s: shown(s.rename({"k": "id"}).with_columns(w=COL("v") + 1).select("w", "id")),
        lambda s: s.select("k", "v").with_parallelism(3).key_by("v").to_rows().print(),
    ],
)
def test_who_goes_by_the_key_needs_no_more_than_the_new_row(end):
    assert not announced(end)
    assert not announced(end, shown, rules=())


@pytest.mark.parametrize(
    "end",
    [
        lambda s: shown(s.filter(COL("v") > 1)),
        lambda s: shown(s.filter(lambda row: row["v"] > 1)),
        lambda s: shown(s.drop("v")),
        lambda s: shown(s.select("v")),
        lambda s: shown(s.with_columns(k=COL("v"))),
        lambda s: shown(s.map(dict, schema=pa.schema({"k": pa.string(), "v": pa.int64()}))),
        lambda s: shown(s.union(s.rename({"k": "k"}))),
        lambda s: s.process(Kinds()).print(),
        lambda s: shown(s.rename({"k": "id"}).with_columns(w=COL("v") + 1).drop("id")),
        lambda s: shown(s.union(s).select("k", "v").with_parallelism(2)),
        lambda s: shown(s.select("v", "k").with_parallelism(2).filter(COL("v") > 1)),
    ],
)
def test_who_counts_rows_needs_those_that_leave(end):
    assert announced(end)
    assert announced(shown, end, rules=())
