"""Windows are grouped before an exchange where that saves rows on the way."""

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.planner import physical_plan

SCHEMA = pa.schema({"k": pa.int64(), "v": pa.int64()})
ROWS = [{"k": i % 3, "v": i} for i in range(30)]


def windows(parallelism=2, source_parallelism=None, **aggregates):
    job = rs.Job("t", parallelism=parallelism)
    s = job.from_items(ROWS, schema=SCHEMA, timestamps=[i * 100_000 for i in range(30)])
    if source_parallelism:
        s.with_parallelism(source_parallelism)
    keyed = s.key_by("k").window(rs.Tumbling("1s"))
    return job, keyed.aggregate(**(aggregates or {"n": rs.count()}))


def operators(job, **options):
    plan = physical_plan(job._draft.plan(), **options)
    return [[node.name for node in chain.nodes] for chain in plan.chains]


def test_a_partial_is_made_where_the_rows_are():
    job, _ = windows()
    assert [chain[-1] for chain in operators(job)] == ["window#1.partial", "window#1"]


def test_there_is_none_without_an_exchange():
    job, _ = windows(parallelism=1)
    assert operators(job) == [["source#1", "window#1"]] or "partial" not in str(operators(job))


def test_one_subtask_behind_several_gets_partials():
    job = rs.Job("t", parallelism=2)
    s = job.from_items(ROWS, schema=SCHEMA, timestamps=range(30))
    s.window_all(rs.Tumbling("1s")).aggregate(n=rs.count())
    assert "window#1.partial" in str(operators(job))


def test_each_stream_of_a_union_gets_its_own_partial():
    job = rs.Job("t", parallelism=1)
    a = job.from_items(ROWS, schema=SCHEMA, timestamps=range(30))
    b = job.from_items(ROWS, schema=SCHEMA, timestamps=range(30))
    a.union(b).key_by("k").window(rs.Tumbling("1s")).aggregate(n=rs.count())
    names = {name for chain in operators(job) for name in chain}
    assert {"window#1.partial1", "window#1.partial2"} <= names


def test_running_aggregates_get_none():
    job = rs.Job("t", parallelism=2)
    job.from_items(ROWS, schema=SCHEMA).key_by("k").aggregate(n=rs.count())
    assert "partial" not in str(operators(job))


def test_the_rule_can_be_left_out():
    job, _ = windows()
    assert "partial" not in str(operators(job, rules=("chain", "fuse", "project")))


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_both_ways_give_the_same_rows(parallelism):
    _, counted = windows(parallelism, n=rs.count(), most=rs.max("v"), total=rs.sum("v"))
    rows = {(row["k"], row["window_start"].second): row for row in counted.collect()}
    assert len(rows) == 9
    assert rows[0, 0]["n"] == 4
    assert rows[1, 2] | {"window_start": 0, "window_end": 0} == {
        "k": 1,
        "window_start": 0,
        "window_end": 0,
        "n": 3,
        "most": 28,
        "total": 22 + 25 + 28,
    }
