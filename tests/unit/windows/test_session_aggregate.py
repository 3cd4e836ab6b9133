"""Sessions in columns: the rules by hand, the ends of time, and what a row costs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window_unaligned import Session
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.element import MAX_TIME, MIN_TIME, Side
from raystream.keyed import session_cells, session_totals
from raystream.keyed.due_cells import DueCells
from raystream.keyed.measures import Measures
from raystream.keyed.session_state import SessionState
from raystream.keyed.session_table import CELL_FIELD
from raystream.operators.session_aggregate import SessionAggregateSpec

INT = pa.int64()
STAMP = pa.timestamp("us", "UTC")
OUTPUT = pa.schema(
    [("k", INT), ("window_start", STAMP), ("window_end", STAMP), ("n", INT), EVENT_TIME_FIELD]
)


class Sessions:
    """One operator, driven by hand: ``@`` takes rows of one key, ``W`` a watermark."""

    def __init__(self, gap, *, time="event", limits=None):
        count = Bound("n", "count", INT)
        spec = SessionAggregateSpec(("k",), Session(gap, time=time), (count,), OUTPUT, "late")
        self.clock = ManualClock(0)
        self.ctx = OpenContext(limits=limits or Limits(), clock=self.clock)
        self.operator = spec.build()
        self.operator.open(self.ctx)
        self.late = []

    def at(self, *times, key=1):
        schema = pa.schema([pa.field("k", INT), EVENT_TIME_FIELD])
        columns = [pa.array([key] * len(times), INT), pa.array(times, INT)]
        batch = Columns(pa.RecordBatch.from_arrays(columns, schema=schema))
        for side in self.operator.on_batch(0, batch):
            assert isinstance(side, Side)
            self.late += side.batch.timestamps.tolist()

    def until(self, watermark):
        """Give (start, end, count, event time) of what fires."""
        return [row for out in self.operator.on_watermark(watermark) for row in shown(out)]

    def tick(self, us):
        rows = []
        until = self.clock.now_us() + us
        while (due := self.operator.timer_due_us()) is not None and due <= until:
            self.clock.advance(max(0, due - self.clock.now_us()))
            rows += [row for o in self.operator.on_timer(self.clock.now_us()) for row in shown(o)]
        self.clock.advance(until - self.clock.now_us())
        return rows


def shown(out):
    record = out.record
    bounds = [record.column(name).cast(INT).to_pylist() for name in ("window_start", "window_end")]
    return list(
        zip(*bounds, record.column("n").to_pylist(), record.column("__ts").to_pylist(), strict=True)
    )


def test_c18_rows_that_touch_are_one_session():
    sessions = Sessions(10)
    sessions.at(0, 10)
    assert sessions.until(MAX_TIME) == [(0, 20, 2, 19)]
    sessions = Sessions(10)
    sessions.at(0, 11)
    assert sessions.until(MAX_TIME) == [(0, 10, 1, 9), (11, 21, 1, 20)]


def test_c19_a_row_bridges_two_sessions_that_then_fire_once():
    sessions = Sessions(10)
    sessions.at(0, 10, 35, 25)
    sessions.at(18)
    assert sessions.until(19) == []
    assert sessions.until(43) == []
    assert sessions.until(44) == [(0, 45, 5, 44)]
    assert sessions.until(MAX_TIME) == []


def test_c19_without_the_bridge_they_are_two():
    sessions = Sessions(10)
    sessions.at(0, 10, 35, 25)
    assert sessions.until(19) == [(0, 20, 2, 19)]
    assert sessions.until(44) == [(25, 45, 2, 44)]


def test_lateness_is_that_of_the_merged_session():
    sessions = Sessions(10)
    sessions.at(0, 9, 18)
    assert sessions.until(20) == []
    # @5 is late on its own, but its session is not over; @-11 touches nothing; @-10 touches @0.
    sessions.at(5, -11, -10)
    assert sessions.late == [-11]
    assert sessions.until(27) == [(-10, 28, 5, 27)]
    sessions.at(17)
    assert sessions.late == [-11, 17]
    assert sessions.ctx.metrics.counter("late_rows").value == 2


@pytest.mark.parametrize("together", [True, False])
def test_a_late_row_is_saved_by_rows_before_it_and_not_by_rows_behind_it(together):
    def tell(*times):
        if together:
            sessions.at(*times)
        else:
            for time in times:
                sessions.at(time)

    sessions = Sessions(10)
    sessions.until(30)  # rows up to 21 are late on their own
    tell(16, 22, 16, 2, 6)
    assert sessions.late == [16, 2]
    assert sessions.until(MAX_TIME) == [(6, 32, 3, 31)]


def test_a_late_row_saves_no_other_keys_row():
    sessions = Sessions(10)
    sessions.at(25, key=1)
    sessions.until(30)
    sessions.at(18, key=2)
    assert sessions.late == [18]


@pytest.mark.parametrize("gap", [1, 10, 2**61])
def test_sessions_at_both_ends_of_time(gap):
    sessions = Sessions(gap)
    sessions.at(MIN_TIME + 1, MAX_TIME, MAX_TIME - 1)
    rows = sessions.until(MAX_TIME)
    assert [(start, count) for start, _, count, _ in rows] == [(MIN_TIME + 1, 1), (MAX_TIME - 1, 2)]
    assert rows[0][1] == MIN_TIME + 1 + gap
    assert rows[1][1] == MAX_TIME
    sessions.at(MAX_TIME)
    assert sessions.late == [MAX_TIME]


def test_sessions_of_the_clock_end_when_it_has_been_silent_for_a_gap():
    sessions = Sessions(10, time="processing")
    sessions.at(99, 3)
    assert sessions.tick(8) == []
    assert sessions.tick(1) == [(0, 10, 2, 9)]
    sessions.at(7)
    assert sessions.tick(5) == []
    sessions.at(7)
    assert sessions.tick(8) == []
    assert sessions.until(MAX_TIME) == [], "nor at the end of the input"
    assert sessions.tick(1) == [(9, 24, 2, 23)]
    assert sessions.operator.timer_due_us() is None
    assert sessions.late == []


def test_a_long_session_ends_in_bounded_steps():
    sessions = Sessions(10, limits=Limits(firing_rows_max=3, batch_rows_max=2))
    for start in range(0, 400, 40):
        sessions.at(*range(start, start + 40, 10))
    sessions.at(1000, 1000, key=2)
    assert sessions.until(MAX_TIME) == [(0, 400, 40, 399), (1000, 1010, 2, 1009)]


class Counting(DueCells):
    """Counts the cells that are sorted by their ends, new ones and those that come back."""

    moved = 0

    def add(self, cells, times_us):
        Counting.moved += len(cells)
        super().add(cells, times_us)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(session_totals, "DueCells", Counting)


def moved_per_row(keys, open_each, *, gap=10, batches=24, rows=128):
    """Take rows of so many keys and open sessions, and a watermark behind each batch."""
    measures = Measures([CELL_FIELD], [Bound("n", "count", INT)], arrival=True)
    Counting.moved = 0
    state = SessionState([pa.field("k", INT)], gap, Limits(), measures)
    rng = np.random.default_rng(3)
    span = 3 * gap * open_each
    step = max(1, span * rows // (2 * keys * open_each))
    held = 0
    for batch in range(batches):
        times = batch * step + rng.integers(0, span, rows)
        key = pa.array(rng.integers(0, keys, rows))
        slots = state.slots([key], rows)
        assert state.admit(slots, times) is None
        state.add(pa.RecordBatch.from_arrays([key], names=["k"]), slots, times)
        while state.take(batch * step - 1) is not None:
            pass
        held = max(held, state.row_count)
    return Counting.moved / (rows * batches), held


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("keys", [1, 10])
def test_the_cost_of_a_row_does_not_grow_with_the_open_sessions(keys):
    few, held_few = moved_per_row(keys, 500 // keys)
    many, held_many = moved_per_row(keys, 3_000 // keys)
    assert held_many > 3 * held_few, "there are more of them"
    assert many < 1.5 * few < 3


@pytest.mark.usefixtures("counting")
def test_the_cost_of_a_row_does_not_grow_with_the_keys_whose_sessions_go_on():
    few, held_few = moved_per_row(200, 1, gap=1000)
    many, held_many = moved_per_row(3_000, 1, gap=1000)
    assert held_many > 5 * held_few, "there are more of them"
    # A row that opens a cell moves once, and once more each time its session moves on by a gap.
    assert max(few, many) < 1.5


def test_keys_and_cells_of_sessions_that_are_over_are_forgotten(monkeypatch):
    monkeypatch.setattr(session_cells, "_ROOM_MIN", 32)
    sessions = Sessions(10)
    sessions.at(0, key=-1)
    for batch in range(40):
        sessions.at(10 * batch, key=batch)
        sessions.at(10 * batch, key=-1)
        sessions.until(10 * batch)
    cells = sessions.operator._state._cells
    assert cells.count < 40
    assert cells._keys.count < 40
    assert (0, 400, 41, 399) in sessions.until(MAX_TIME)
