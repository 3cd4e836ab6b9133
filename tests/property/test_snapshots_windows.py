"""Windows lose nothing and fire once, whoever takes up what subtasks that differ had kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.keyed.snapshot import share
from raystream.operators.window_aggregate import LATE_ROWS, WindowAggregateSpec

INT = pa.int64()
INPUT = pa.schema([("k", INT), ("v", INT), EVENT_TIME_FIELD])
STAMP = pa.timestamp("us", "UTC")
LIMITS = Limits(batch_rows_max=3, firing_rows_max=9, pane_copies_max=2)
WINDOWS = [Tumbling(5), Sliding(6, 2), Sliding(5, 3, offset=-1), Sliding(3, 5), Sliding(12, 4)]
GROUPS = 128


class Joined(AggregateFunction):
    """Accumulators that are changed in place, and tell the order in which rows came."""

    type = pa.string()

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(row["v"])
        return acc

    def merge(self, a, b):
        a.extend(b)
        return a

    def result(self, acc):
        return ",".join(map(str, acc))


COLUMNS = (
    Bound("rows", "count", INT),
    Bound("all", "collect", pa.list_(INT), "v", INT),
    Bound("first", "first", INT, "v", INT),
)
OWN = (Bound("own", "function", pa.string(), function=Joined(), row_columns=("v",)),)


@dataclass(frozen=True)
class Row:
    key: int
    value: int
    time: int


class Subtask:
    """One window operator, and what has come out of it."""

    def __init__(self, window, bounds, kept=(), index=0, parallelism=1):
        fields = [("k", INT), ("window_start", STAMP), ("window_end", STAMP)]
        output = pa.schema([*fields, *((b.name, b.output) for b in bounds), EVENT_TIME_FIELD])
        self.context = OpenContext(limits=LIMITS)
        self.operator = WindowAggregateSpec(("k",), window, bounds, output).build()
        self.operator.open(self.context)
        self.rows = []
        if kept:
            self.operator.restore(share(kept, index, parallelism, GROUPS))

    @property
    def late(self):
        return self.context.metrics.counter(LATE_ROWS).value

    def take(self, rows):
        if rows:
            arrays = [[row.key for row in rows], [row.value for row in rows]]
            arrays = [pa.array(some, INT) for some in (*arrays, [row.time for row in rows])]
            batch = Columns(pa.RecordBatch.from_arrays(arrays, schema=INPUT))
            self._pull(self.operator.on_batch(0, batch), None)

    def fire(self, watermark, batches=None):
        """Pull so many batches of a firing, or all; then let go of it."""
        self._pull(self.operator.on_watermark(watermark), batches)

    def _pull(self, outs, batches):
        while batches is None or batches > 0:
            out = next(outs, None)
            if out is None:
                return
            self.rows += out.visible.to_pylist()
            batches = None if batches is None else batches - 1
        outs.close()


def owner(key, parallelism):
    return int(subtask_of(key_groups(hash_objects([key]), GROUPS), parallelism, GROUPS)[0])


def windows_of(window, time):
    grid = window.grid
    first = (time - grid.phase_us - grid.size_us) // grid.slide_us
    starts = (grid.start_of(first + i) for i in range(grid.copies + 2))
    return [start for start in starts if start <= time < start + grid.size_us]


def fired(subtasks):
    """Give (key, window, values in order of arrival) of all that has come out."""
    found = []
    for row in (row for subtask in subtasks for row in subtask.rows):
        start = (row["window_start"] - EPOCH) // MICROSECOND
        if "own" in row:
            values = tuple(sorted(map(int, row["own"].split(","))))
        else:
            values = tuple(row["all"])
            assert row["rows"] == len(values)
        found.append((row["k"], start, values))
    return found


def expected(window, rows):
    inside = {}
    for row in rows:
        for start in windows_of(window, row.time):
            inside.setdefault((row.key, start), []).append(row.value)
    return [(key, start, tuple(values)) for (key, start), values in inside.items()]


KEYS = st.integers(0, 12)
MOMENTS = st.lists(st.tuples(KEYS, st.integers(-10, 10)), max_size=12)
STOPS = st.lists(st.tuples(st.integers(-12, 16), st.integers(0, 4)), min_size=3, max_size=3)


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [COLUMNS, OWN], ids=["columns", "objects"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@settings(max_examples=25)
@given(
    told=st.tuples(*3 * [MOMENTS]),
    stops=st.tuples(STOPS, STOPS),
    sizes=st.tuples(*3 * [st.integers(1, 3)]),
)
def test_windows_of_subtasks_that_came_unequally_far_fire_once(window, bounds, told, stops, sizes):
    numbers = iter(range(1_000))
    rows, level = [Row(key, next(numbers), time) for key, time in told[0]], MIN_TIME
    sofar, kept, out = list(rows), [], []
    for place, parallelism in enumerate(sizes):
        subtasks = [Subtask(window, bounds, kept, i, parallelism) for i in range(parallelism)]
        for index, subtask in enumerate(subtasks):
            subtask.take([row for row in rows if owner(row.key, parallelism) == index])
            # Each has come to a watermark of its own, and is stopped in the middle of its firing.
            if place < 2:
                watermark, batches = stops[place][index]
                level = max(level, watermark)
                subtask.fire(watermark, batches)
            else:
                subtask.fire(MAX_TIME)
            assert not subtask.late
        kept = [subtask.operator.snapshot() for subtask in subtasks]
        out += fired(subtasks)
        if place < 2:
            # What comes later is late for nobody.
            rows = [Row(key, next(numbers), level + 11 + time) for key, time in told[place + 1]]
            sofar += rows
    wanted = expected(window, sofar)
    if bounds is OWN:
        wanted = [(key, start, tuple(sorted(values))) for key, start, values in wanted]
    assert Counter(out) == Counter(wanted)


def test_rows_are_late_by_the_least_watermark():
    window = Tumbling(10)
    far, near = Subtask(window, COLUMNS), Subtask(window, COLUMNS)
    far.take([Row(1, 0, 5), Row(1, 1, 25)])
    far.fire(29)
    near.take([Row(2, 2, 15)])
    near.fire(12)
    kept = [far.operator.snapshot(), near.operator.snapshot()]
    joined = Subtask(window, COLUMNS, kept)
    joined.take([Row(2, 3, 16), Row(1, 4, 17), Row(1, 5, 9)])
    assert joined.late == 1
    joined.fire(MAX_TIME)
    assert sorted(fired([far])) == [(1, 0, (0,)), (1, 20, (1,))]
    assert sorted(fired([joined])) == [(1, 10, (4,)), (2, 10, (2, 3))]


def test_rows_that_come_in_the_middle_of_a_firing_are_no_part_of_it():
    window = Sliding(10, 5)
    before = Subtask(window, COLUMNS)
    before.take([Row(key, key, 7) for key in range(9)])
    before.fire(14, 2)
    assert 0 < len(before.rows) < 18
    after = Subtask(window, COLUMNS, [before.operator.snapshot()])
    # Late for the window [0, 10) and [5, 15), which are due; and in time for [10, 20).
    after.take([Row(0, 99, 13)])
    assert len(before.rows) + len(after.rows) == 18
    after.fire(MAX_TIME)
    assert [row["all"] for row in after.rows if 99 in row["all"]] == [[99]]


def test_what_had_come_before_is_older_than_what_comes_however_far_its_subtask_was():
    window = Sliding(10, 5)
    far, near = Subtask(window, COLUMNS), Subtask(window, COLUMNS)
    far.take([Row(1, 0, 17)])
    far.fire(14)
    near.take([Row(2, 1, 17)])
    near.fire(4)
    joined = Subtask(window, COLUMNS, [far.operator.snapshot(), near.operator.snapshot()])
    joined.take([Row(1, 2, 17), Row(2, 3, 17)])
    joined.fire(MAX_TIME)
    assert [row["first"] for row in joined.rows if row["k"] == 1] == [0, 0]
    assert [row["first"] for row in joined.rows if row["k"] == 2] == [1, 1]
