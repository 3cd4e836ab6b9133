"""Windows of many keys fire once and whole, whatever was put together of their changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from conformance_lineage import Lineages
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.config import Limits
from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.element import MAX_TIME
from raystream.keyed.snapshot import share
from raystream.operators.window_aggregate import WindowAggregateSpec

SPAN = 1_000
INPUT = wire_schema(pa.schema([("k", pa.int64()), ("v", pa.int64())]), timed=True)
STAMP = pa.timestamp("us", "UTC")
COUNT = Bound("n", "count", pa.int64())
COLLECT = Bound("s", "collect", pa.list_(pa.int64()), "v", pa.int64())
SUM = Bound("s", "sum", pa.int64(), "v", pa.int64())


def opened(window, aggregate):
    names = [("k", pa.int64()), ("window_start", STAMP), ("window_end", STAMP)]
    output = wire_schema(
        pa.schema([*names, ("n", pa.int64()), ("s", aggregate.output)]), timed=True
    )
    operator = WindowAggregateSpec(("k",), window, (COUNT, aggregate), output).build()
    limits = Limits(batch_rows_max=30, firing_rows_max=50, pane_copies_max=4)
    operator.open(OpenContext("it", limits=limits))
    return operator


def rows(seed, count, watermark):
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, 150, count),
        rng.integers(-9, 9, count),
        rng.integers(watermark + 1, SPAN + 100, count),
    ]
    return Columns(pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=INPUT))


def wanted(batches, window):
    found: dict = {}
    for batch in batches:
        for row, time in zip(batch.visible.to_pylist(), batch.timestamps.tolist(), strict=True):
            slide = window.slide_us
            for start in range(time // slide * slide, time - window.size_us, -slide):
                found.setdefault((row["k"], start), []).append((time, row["v"]))
    return found


def shown(batch):
    for row in batch.visible.to_pylist():
        yield (row["k"], rs.micros(row["window_start"])), (row["n"], row["s"])


class Subtask:
    def __init__(self, window, aggregate):
        self.window, self.aggregate = window, aggregate
        self.got: list = []
        self.begin(())

    def begin(self, kept):
        self.operator, self.lineages = opened(self.window, self.aggregate), Lineages()
        if kept:
            self.operator.restore(kept)

    def rows(self, batch):
        for out in self.operator.on_batch(0, batch):
            self.got += shown(out)

    def watermark(self, time_us, stop_after=10**9):
        firing = self.operator.on_watermark(time_us)
        for number, out in enumerate(firing):
            self.got += shown(out)
            if number == stop_after:
                firing.close()

    def keep(self):
        self.lineages.take(self.operator.changes())
        return self.lineages.snapshot()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["rows", "rows", "keep", "keep", "watermark", "stop", "restore"]),
        st.integers(0, 200),
    ),
    max_size=25,
)
WINDOWS = [rs.Tumbling(100), rs.Tumbling(2_000), rs.Sliding(100, 50), rs.Sliding(100, 30)]


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("aggregate", [SUM, COLLECT], ids=lambda one: one.kind)
@given(steps=STEPS, first=st.integers(0, 400))
def test_every_window_fires_once(window, aggregate, steps, first):
    subtask, watermark = Subtask(window, aggregate), -1
    batches = [rows(1, first, watermark)]
    subtask.rows(batches[0])
    for name, n in steps:
        if name == "rows":
            batches.append(rows(n, 30, watermark))
            subtask.rows(batches[-1])
        elif name == "keep":
            subtask.keep()
        elif name == "restore":
            subtask.begin(share([subtask.keep()], 0, 1, 128))
        else:
            watermark = min(watermark + n, SPAN)
            subtask.watermark(watermark, n % 3 if name == "stop" else 10**9)
    subtask.watermark(MAX_TIME)
    check(subtask.got, batches, window, aggregate)


@pytest.mark.slow
@given(steps=STEPS, seed=st.integers(0, 9))
def test_subtasks_that_had_not_come_equally_far_become_one(steps, seed):
    window = rs.Tumbling(100)
    both, batches, watermarks = [Subtask(window, SUM) for _ in range(2)], [], [-1, -1]
    for number, (name, n) in enumerate([("rows", seed), ("keep", 0), *steps]):
        at = number % 2
        if name == "rows":
            # Each key is one subtask's.
            batch = rows(n, 200, max(watermarks))
            mine = np.flatnonzero(batch.record.column("k").to_numpy() % 2 == at)
            batches.append(batch.take(mine))
            both[at].rows(batches[-1])
        elif name in ("watermark", "stop"):
            watermarks[at] = min(watermarks[at] + n, SPAN)
            both[at].watermark(watermarks[at], 1 if name == "stop" else 10**9)
        else:
            both[at].keep()
    one = Subtask(window, SUM)
    one.begin(share([subtask.keep() for subtask in both], 0, 1, 128))
    one.watermark(MAX_TIME)
    check([*one.got, *both[0].got, *both[1].got], batches, window, SUM)


def check(got, batches, window, aggregate):
    expected = wanted(batches, window)
    assert max(Counter(key for key, _ in got).values(), default=1) == 1
    assert dict(got).keys() == expected.keys()
    for key, (count, value) in got:
        found = expected[key]
        assert count == len(found)
        if aggregate is SUM:
            assert value == sum(v for _, v in found)
        else:
            assert sorted(value) == sorted(v for _, v in found)


def test_few_rows_that_come_to_many_are_given_alone():
    subtask = Subtask(rs.Tumbling(500), SUM)
    subtask.rows(rows(3, 1_000, -1))
    whole = subtask.operator.changes()[0]
    subtask.rows(rows(4, 20, -1))
    added = subtask.operator.changes()[0]
    assert (whole.delta, added.delta) == (False, True)
    assert added.table.num_rows <= 21
    subtask.watermark(600)
    assert subtask.operator.changes()[0].table.num_rows < whole.table.num_rows
