"""Cumulative windows and local days as those of each time alone; firing again within lateness."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from aggregate_models import INT, LIMITS, STAMP, TEXT, fire
from hypothesis import example, given
from hypothesis import strategies as st
from window_models import Windows, cumulative, sliding

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.element import MAX_TIME, MIN_TIME, Side
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.flow.window import expand
from raystream.flow.window_cumulative import CumulativeGrid
from raystream.flow.window_days import DAY_US, DayGrid
from raystream.keyed.snapshot import share
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_assign import LocalDays, assigner

ANYWHERE = st.one_of(
    st.integers(-200, 200),
    st.integers(MIN_TIME + 1, MIN_TIME + 100),
    st.integers(MAX_TIME - 100, MAX_TIME),
)
STEPS = st.one_of(st.integers(1, 12), st.integers(1, 1 << 56))


def windows_of(grid, times):
    """Give (start, end) of all windows of each time, by panes and their cover."""
    panes = grid.panes_of(np.array(times))
    assert panes.tolist() == [grid.pane_of(time) for time in times]
    rows, windows = expand(grid.cover.first(panes), grid.cover.last(panes))
    bounds = zip(grid.starts(windows).tolist(), grid.ends(windows).tolist(), strict=True)
    found = [[] for _ in times]
    for row, window, pair in zip(rows.tolist(), windows.tolist(), bounds, strict=True):
        assert grid.cover.start(window) <= panes[row] < grid.cover.stop(window)
        found[row].append(pair)
    return found


@given(st.lists(ANYWHERE, min_size=1, max_size=5), STEPS, st.integers(1, 20), ANYWHERE)
@example([MAX_TIME, MIN_TIME + 1], 7, 9, MAX_TIME)
def test_cumulative_windows_are_those_of_each_time(times, step, steps, offset):
    offset = max(min(offset, 1 << 60), -(1 << 60))
    grid = CumulativeGrid(step * steps, step, offset)
    assign = assigner(Cumulative(step * steps, step, offset=offset))
    for found, wanted in zip(windows_of(grid, times), map(assign, times), strict=True):
        # Where ends saturate, several windows have the same bounds.
        assert list(dict.fromkeys(found)) == list(dict.fromkeys(wanted))


ZONES = ["Europe/Berlin", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia", "UTC"]
NEAR_CHANGES = [
    moment * 1_000_000
    for moment in (1_711_846_800, 1_730_000_000, 1_541_300_400, 594_180_060, 1_325_239_200)
]
"""Clocks go on or back, some at midnight or over it; Apia skips a day."""


@given(
    st.lists(
        st.one_of(
            st.sampled_from(NEAR_CHANGES).flatmap(
                lambda t: st.integers(t - 2 * DAY_US, t + 2 * DAY_US)
            ),
            st.integers(-(10**17), 10**17),
            ANYWHERE,
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(ZONES),
    st.integers(1, 9),
    st.integers(-3 * DAY_US, 3 * DAY_US),
)
def test_local_days_are_those_of_each_time(times, zone, days, offset):
    grid = DayGrid(zone, days, offset)
    assign = LocalDays(zone, days, offset)
    assert windows_of(grid, times) == [assign(time) for time in times]
    for time in times:
        (start, end) = assign(time)[0]
        if time < MAX_TIME - 1:
            assert grid.due(time) == grid.pane_of(time) - (end - 1 > time)
        if start > MIN_TIME:
            assert grid.live_us(start - 1) == start


def test_a_day_of_23_and_one_of_25_hours():
    grid = DayGrid("Europe/Berlin", 1, 0)
    for moment, hours in ((1_711_846_800, 23), (1_729_990_800, 25), (1_720_000_000, 24)):
        (start, end), *_ = windows_of(grid, [moment * 1_000_000])[0]
        assert end - start == hours * 3_600_000_000


# Firing ------------------------------------------------------------------------------------------

AGGREGATES = (
    Bound("n", "count", INT),
    Bound("all", "collect", pa.list_(INT), "v", INT),
    Bound("first", "first", INT, "v", INT),
    Bound("last", "last", INT, "v", INT),
)
SCHEMA = pa.schema([("k", TEXT), ("v", INT), EVENT_TIME_FIELD])
OUTPUT = pa.schema(
    [
        ("k", TEXT),
        ("window_start", STAMP),
        ("window_end", STAMP),
        *((one.name, one.output) for one in AGGREGATES),
        EVENT_TIME_FIELD,
    ]
)
GRIDS = st.one_of(
    st.builds(lambda s, o: (Tumbling(s, offset=o), sliding(s, s, o)), st.integers(1, 20), STEPS),
    st.builds(
        lambda s, e, o: (Sliding(s, e, offset=o), sliding(s, e, o)),
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(-30, 30),
    ),
    st.builds(
        lambda s, n, o: (Cumulative(s * n, s, offset=o), cumulative(s * n, s, o)),
        st.integers(1, 6),
        st.integers(1, 8),
        st.integers(-30, 30),
    ),
)
ROWS = st.lists(
    st.tuples(st.integers(-60, 60), st.sampled_from(["a", "b", None])), min_size=1, max_size=12
)
EVENTS = st.lists(ROWS | st.integers(-70, 90), max_size=20)


def given_out(aggregate, rows):
    """What must come out of a window's rows, each (time, (key, number))."""
    numbers = [row[1][1] for row in rows]
    match aggregate:
        case "n":
            return len(rows)
        case "all":
            return numbers
        case "first":
            return min(rows, key=lambda row: row[0])[1][1]
        case _:
            return max(rows, key=lambda row: row[0])[1][1]


class Driven:
    """The operator, thrown away now and then, and what came of it."""

    def __init__(self, window, lateness, limits):
        self.spec = WindowAggregateSpec(
            ("k",), window, AGGREGATES, OUTPUT, lateness_us=lateness, late_tag="late"
        )
        self.ctx = OpenContext(limits=limits)
        self.open(())
        self.late = []

    def open(self, kept):
        self.operator = self.spec.build()
        self.operator.open(self.ctx)
        if kept:
            self.operator.restore(share([kept], 0, 1, self.ctx.max_parallelism))

    def rows(self, rows):
        times = pa.array([time for time, _ in rows], INT)
        keys, values = zip(*(row for _, row in rows), strict=True)
        columns = [pa.array(keys, TEXT), pa.array(values, INT), times]
        batch = Columns(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        found = []
        for out in self.operator.on_batch(0, batch):
            if isinstance(out, Side):
                self.late += out.batch.record.column("v").to_pylist()
            else:
                found += shown(out)
        return found

    def until(self, watermark, stops):
        return [row for out in fire(self.operator, watermark, stops) for row in shown(out)]


def shown(out):
    assert out.record.schema.equals(OUTPUT)
    return [
        (
            (row["window_start"] - EPOCH) // MICROSECOND,
            row["__ts"] + 1,
            row["k"],
            *(row[one.name] for one in AGGREGATES),
        )
        for row in out.record.to_pylist()
    ]


@given(
    EVENTS,
    GRIDS,
    st.sampled_from([0, 0, 3, 17, 1000]),
    LIMITS,
    st.tuples(st.lists(st.integers(1, 3), max_size=20), st.lists(st.booleans(), max_size=20)),
)
def test_windows_fire_and_fire_again_as_the_model_says(events, grid, lateness, limits, chance):
    stops, reborn = map(iter, chance)
    window, assign = grid
    endless = (next(stops, -1) for _ in iter(int, 1))
    driven = Driven(window, lateness, limits)
    model = Windows(assign, lambda row: row[0], lateness)
    number = 0
    for event in [*events, MAX_TIME]:
        before = len(model.fired)
        if isinstance(event, int):
            found = driven.until(event, endless)
            model.tell([event], ended=False)
        else:
            rows = [(time, (key, number + i)) for i, (time, key) in enumerate(event)]
            number += len(rows)
            found = driven.rows(rows)
            model.tell([rows], ended=False)
        wanted = [
            (start, end, key, *(given_out(one.name, inside) for one in AGGREGATES))
            for start, end, key, inside in model.fired[before:]
        ]
        if isinstance(event, int):
            assert sorted(map(repr, found)) == sorted(map(repr, wanted))
        else:
            assert found == wanted, "again at once, in order of arrival"
        if next(reborn, False):
            driven.open(driven.operator.snapshot())
    assert driven.late == [row[1][1] for row in model.late]
    assert driven.ctx.metrics.counter("late_rows").value == len(model.late)
    assert driven.operator._state.row_count == 0
    if lateness:
        assert driven.operator._fired.row_count == 0, "what cannot fire again is gone"
