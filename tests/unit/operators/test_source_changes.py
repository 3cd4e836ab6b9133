"""Sources of changelogs: the kinds of changes travel beside the rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64()), ("at", pa.int64())])


def record(*rows):
    return [{"k": k, "n": n, "at": at} for k, n, at in rows]


class Table(rs.Source):
    schema = SCHEMA
    changelog = ("k",)

    def __init__(self, *batches):
        self._batches = batches

    def splits(self):
        return [rs.Split("all")]

    def open(self, split, position):
        return Batches(list(self._batches))


class Batches(rs.Reader):
    def __init__(self, batches):
        self._left = batches

    def poll(self, max_rows):
        return self._left.pop(0) if self._left else rs.END

    def position(self):
        return None


CHANGES = (
    rs.Batch(record(("a", 1, 1), ("b", 2, 2))),
    rs.Batch(record(("a", 1, 1), ("a", 3, 3), ("b", 2, 2)), ops=["-U", "+U", "-D"]),
)


@pytest.mark.parametrize("timed", [False, True])
def test_changes_become_the_table_and_every_change_is_seen(timed):
    strategy = rs.WatermarkStrategy("at") if timed else None
    stream = rs.Job("t").source(Table(*CHANGES), watermark=strategy)
    assert stream.changelog == ("k",)
    assert stream.collect() == record(("a", 3, 3))
    ops = [row["op"] for row in stream.to_rows(op="op").collect()]
    assert ops == ["+I", "+I", "-U", "+U", "-D"]


def test_a_row_that_fails_takes_its_own_kind_along():
    rows = [*record(("a", 1, 1)), {"k": "b", "n": "x", "at": 2}, *record(("a", 1, 3))]
    stream = rs.Job("t").source(Table(rs.Batch(rows, ops=["+I", "+I", "-D"]))).on_error("skip")
    assert [row["op"] for row in stream.to_rows(op="op").collect()] == ["+I", "-D"]


def test_a_row_without_event_time_takes_its_own_kind_along():
    rows = rs.Batch(record(("a", 1, 1), ("b", 1, None), ("c", 1, 3)), ops=["+I", "+U", "-D"])
    stream = rs.Job("t").source(Table(rows), watermark=rs.WatermarkStrategy("at")).on_error("skip")
    assert [row["op"] for row in stream.to_rows(op="op").collect()] == ["+I", "-D"]


@pytest.mark.parametrize("ops", [["+I"], ["+I", "?"]])
def test_kinds_that_do_not_fit_are_told(ops):
    stream = rs.Job("t").source(Table(rs.Batch(record(("a", 1, 1), ("b", 1, 1)), ops=ops)))
    with pytest.raises(rs.JobFailed, match="kinds of changes for 2 rows"):
        stream.collect()


def test_a_source_of_rows_gives_no_kinds():
    source = Table(rs.Batch(record(("a", 1, 1)), ops=["+I"]))
    source.changelog = None
    with pytest.raises(rs.JobFailed, match="does not say that it has them"):
        rs.Job("t").source(source).collect()


def test_a_key_that_is_no_column_is_refused():
    source = Table()
    source.changelog = ("x",)
    with pytest.raises(rs.PlanError, match="not among its columns"):
        rs.Job("t").source(source)


def test_history_before_changes_is_what_the_table_began_with():
    history = rs.testing.Source(record(("a", 1, 1)), schema=SCHEMA)
    live = Table(rs.Batch(record(("a", 2, 2)), ops=["+U"]))
    stream = rs.Job("t").source(rs.chain(history, live))
    assert stream.changelog == ("k",)
    assert stream.collect() == record(("a", 2, 2))
    with pytest.raises(rs.PlanError, match="the changes of a table"):
        rs.chain(live, history)


UPSERTS = (
    rs.Batch(record(("a", 1, 1), ("b", 1, 2))),
    rs.Batch(record(("a", 2, 3), ("c", 2, 3)), ops=["+U", "+I"]),
    rs.Batch([{"k": "b", "n": None, "at": None}, *record(("c", 5, 4))], ops=["-D", "+U"]),
)


@pytest.mark.parametrize("parallelism", [1, 2])
def test_rows_that_a_source_does_not_tell_are_kept_where_their_key_is_left_out(parallelism):
    job = rs.Job("t", parallelism=parallelism)
    numbers = job.source(Table(*UPSERTS), name="t").select("n")
    assert sorted(row["n"] for row in numbers.collect()) == [2, 5]


def test_a_filter_sees_the_row_that_leaves():
    rows = rs.Job("t").source(Table(*UPSERTS)).filter(rs.col("n") < 2)
    assert rows.collect() == []
    assert [row["op"] for row in rows.to_rows(op="op").collect()].count("-D") == 2


def test_nothing_is_kept_where_nobody_counts():
    def plan(source, *, counts):
        job = rs.Job("t", runtime="local")
        stream = job.source(source, name="t")
        (stream.select("n") if counts else stream).to_rows(op="op").print()
        return job.explain(physical=True)

    whole = Table(*UPSERTS)
    whole.retracts = True
    assert "t.changes" in plan(Table(*UPSERTS), counts=True)
    assert "t.changes" not in plan(Table(*UPSERTS), counts=False)
    assert "t.changes" not in plan(whole, counts=True)
