"""What deduplicate forgets, what aggregates over rows call late, what changes say."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema, with_times
from raystream.operators.deduplicate import DeduplicateSpec

PLAIN = pa.schema([("k", pa.string()), ("v", pa.int64())])
WIRE = wire_schema(PLAIN, timed=True)


def batch(*told: tuple[int, str, int]) -> Columns:
    rows = [{"k": k, "v": v} for _, k, v in told]
    return with_times(pa.RecordBatch.from_pylist(rows, schema=PLAIN), [t for t, _, _ in told])


def opened(keep: str, ttl_us: int | None, emit: str = "row"):
    clock = ManualClock(0)
    operator = DeduplicateSpec(("k",), keep, emit, ttl_us, WIRE, WIRE).build()
    operator.open(OpenContext("it", clock=clock))

    def push(*told):
        return [
            v for out in operator.on_batch(0, batch(*told)) for v in out.record["v"].to_pylist()
        ]

    return operator, clock, push


@pytest.mark.parametrize("keep", ["first", "last"])
def test_a_key_is_forgotten_after_its_time(keep):
    _, clock, push = opened(keep, 100)
    assert push((5, "a", 1), (4, "b", 2)) == [1, 2]
    clock.advance(99)
    assert push((5, "a", 3)) == []
    clock.advance(1)
    assert push((3, "a", 4), (2, "a", 5)) == [4]


def test_keys_that_were_forgotten_take_no_memory():
    operator, clock, push = opened("first", 10)
    for round_ in range(20):
        push(*((0, f"{round_}-{n}", n) for n in range(2_000)))
        clock.advance(20)
    assert operator._index.count < 12_000


def job():
    return rs.Job("t")


def test_a_late_row_gives_nothing_and_is_counted():
    rows = [{"k": "a", "v": v, "t": t} for v, t in ((1, 10), (2, 30), (4, 5), (8, 31))]
    schema = pa.schema([("k", pa.string()), ("v", pa.int64()), ("t", pa.int64())])
    rows_at_a_time = rs.Job("t", config={"batch_rows_max": 1})
    stream = rows_at_a_time.from_items(rows, schema=schema, watermark=rs.WatermarkStrategy("t"))
    got = stream.key_by("k").aggregate(over=25, total=rs.sum("v")).collect()
    assert [(row["v"], row["total"]) for row in got] == [(1, 1), (2, 3), (8, 11)]


def test_rows_of_one_time_see_each_other_within_a_duration_but_not_by_number():
    rows = [{"k": "a", "v": v, "t": t} for v, t in ((1, 0), (2, 1), (4, 1))]
    schema = pa.schema([("k", pa.string()), ("v", pa.int64()), ("t", pa.int64())])
    keyed = job().from_items(rows, schema=schema, watermark=rs.WatermarkStrategy("t")).key_by("k")
    assert [r["s"] for r in keyed.aggregate(over="1us", s=rs.sum("v")).collect()] == [1, 6, 6]
    assert [r["s"] for r in keyed.aggregate(over=2, s=rs.sum("v")).collect()] == [1, 3, 6]


def test_c44_a_running_count_inserts_and_then_updates():
    rows = [{"k": k} for k in "aba"]
    keyed = job().from_items(rows, schema=pa.schema([("k", pa.string())])).key_by("k")
    counts = keyed.aggregate(n=rs.count(), emit="changes")
    assert counts.changelog == ("k",)
    got = [(r["op"], r["k"], r["n"]) for r in counts.to_rows().collect()]
    assert got == [("+I", "a", 1), ("+I", "b", 1), ("+U", "a", 2)]
    assert counts.collect() == [{"k": "b", "n": 1}, {"k": "a", "n": 2}]
    assert counts.to_arrow().num_rows == 2


def test_a_sink_that_only_appends_refuses_changes_and_names_the_way_out():
    keyed = job().from_items([{"k": "a"}], schema=pa.schema([("k", pa.string())])).key_by("k")
    counts = keyed.aggregate(n=rs.count(), emit="changes")
    with pytest.raises(rs.PlanError, match=r"to_rows\(op="):
        counts.sink(rs.MemorySink())
    counts.to_rows().sink(rs.MemorySink())


def test_objects_are_ranked_and_kept_apart_by_key_too():
    words = job().from_items(["aa", "b", "cccc", "dd", "aa"]).key_by(len)
    assert words.deduplicate().collect() == ["aa", "b", "cccc"]
    lengths = job().from_items([{"k": 1, "v": 3}, {"k": 1, "v": 5}, {"k": 2, "v": 4}]).key_by("k")
    best = lengths.top_k(1, by=lambda row: row["v"], rank="place", emit="final").collect()
    assert sorted(best, key=lambda row: row["k"]) == [
        {"k": 1, "v": 5, "place": 1},
        {"k": 2, "v": 4, "place": 1},
    ]


def test_a_function_that_fails_names_the_row():
    keyed = job().from_items(["a", 5]).key_by(lambda row: 1)
    with pytest.raises(rs.JobFailed, match=r"(?s)top_k.*row: 5"):
        keyed.top_k(1, by=lambda row: row.upper()).collect()


@pytest.mark.parametrize("emit", ["changes"])
def test_objects_make_no_changelog(emit):
    keyed = job().from_items(["a"]).key_by(len)
    with pytest.raises(rs.PlanError, match="call with_schema"):
        keyed.deduplicate(emit=emit)
