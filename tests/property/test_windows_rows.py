"""Windows row by row give what their rules say, however rows are batched and whoever takes over."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from conformance import Advance, plain
from hypothesis import assume, given
from hypothesis import strategies as st
from window_model import Model
from windows_by_hand import ByHand, stream

import raystream as rs
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.window import WindowGrid, expand
from raystream.operators.window_assign import LocalDays, assigner

pytestmark = pytest.mark.usefixtures("by_row")

TIMES = st.integers(-30, 60)
KEYS = st.sampled_from(["a", "b"])
LENGTHS = st.integers(1, 12)


def gap_of(row: Any) -> int:
    return 1 + row["v"] % 7


def every(size: int, slide: int, offset: int = 0) -> Any:
    """Try every start there may be."""

    def windows(time: int) -> list[tuple[int, int]]:
        starts = range(time - size + 1, time + 1)
        return [(start, start + size) for start in starts if (start - offset) % slide == 0]

    return windows


def growing(size: int, step: int) -> Any:
    def windows(time: int) -> list[tuple[int, int]]:
        ((start, _),) = every(size, size)(time)
        return [(start, start + n) for n in range(step, size + 1, step) if time < start + n]

    return windows


@st.composite
def chosen(draw: Any) -> tuple[Any, dict[str, Any]]:
    """Draw a window, and what the model knows of it."""
    time = draw(st.sampled_from(["event", "event", "processing"]))
    size, slide, offset = draw(LENGTHS), draw(LENGTHS), draw(st.integers(-5, 5))
    what = {"processing": time == "processing"}
    match draw(st.sampled_from(["tumbling", "sliding", "cumulative", "session", "by row"])):
        case "tumbling":
            made: Any = rs.Tumbling(size, offset, time=time)
            return made, {"windows": every(size, size, offset), **what}
        case "sliding":
            return rs.Sliding(size, slide, offset, time=time), {
                "windows": every(size, slide, offset),
                **what,
            }
        case "cumulative":
            return rs.Cumulative(size * slide, size, time=time), {
                "windows": growing(size * slide, size),
                **what,
            }
        case "session":
            return rs.Session(size, time=time), {"gap": lambda _row: size, **what}
    return rs.Session(gap_of, time=time), {"gap": gap_of, **what}


ROWS = st.lists(st.tuples(TIMES, KEYS, st.integers(0, 9)), max_size=5)
STEPS = st.lists(
    st.one_of(ROWS, ROWS, TIMES, st.builds(Advance, st.integers(1, 9)), st.just("again")),
    max_size=14,
)


@given(
    window=chosen(),
    steps=STEPS,
    lateness=st.sampled_from([0, 0, 1, 7, 1_000]),
    purging=st.booleans(),
    columnar=st.booleans(),
    whole=st.booleans(),
)
def test_windows_are_what_the_model_says(  # noqa: PLR0917  drawn by name
    window, steps, lateness, purging, columnar, whole
):
    made, arguments = window
    model = Model(**arguments, lateness=lateness, purging=purging, key=lambda row: row["k"])
    windowed = stream(columnar=columnar).key_by("k").window(made).late_to("late")
    windowed = windowed.allowed_lateness(lateness)
    if purging:
        time = rs.triggers.ProcessingTime if model.processing else rs.triggers.EventTime
        windowed = windowed.trigger(rs.triggers.Purging(time()))
    if whole:  # rows are kept, and not folded
        windowed = windowed.evictor(rs.evictors.Count(1_000))
    it = ByHand(windowed.aggregate(vs=rs.collect("v")), rows_max=3)
    told: list[Any] = []
    out: list[Any] = []
    for step in steps:
        if isinstance(step, list):
            out += it.rows(*step)
            told.append([(time, {"k": key, "v": value}) for time, key, value in step])
        elif step == "again":
            it.again()
        elif isinstance(step, Advance):
            out += it.advance(step.us)
            told.append(step)
        else:
            out += it.watermark(step)
            told.append(step)
            wanted = model.gather(told, ended=False)
            assert Counter(map(plain, out)) == Counter(map(plain, map(shown, wanted.fired)))
    out += it.end()
    wanted = model.gather(told, ended=True)
    assert Counter(map(plain, out)) == Counter(map(plain, map(shown, wanted.fired)))
    late = [(time, {name: row[name] for name in ("k", "v")}) for time, row in wanted.late]
    assert sorted(it.late, key=str) == sorted(map(without_a, late), key=str)
    assert it.late_count == len(late)
    if not model.processing:
        assert (it.timers, it.held) == ([], 0), "nothing is left of windows that are gone"


def shown(fired: Any) -> Any:
    bounds, key, rows = fired
    row = {"k": key, "vs": [row["v"] for _, row in rows], "window": bounds}
    return without_a((bounds[1] - 1, row))


def without_a(pair: Any) -> Any:
    time, row = pair
    return time, {name: value for name, value in row.items() if (name, value) != ("k", "a")}


# Assignment --------------------------------------------------------------------------------------

ANYWHERE = st.one_of(
    st.integers(-100, 100),
    st.integers(MIN_TIME, MIN_TIME + 100),
    st.integers(MAX_TIME - 100, MAX_TIME - 1),
    st.integers(MIN_TIME, MAX_TIME - 1),
)


@given(time=ANYWHERE, size=LENGTHS, slide=LENGTHS, offset=st.integers(-20, 20))
def test_a_row_lies_in_the_windows_that_arrays_say(time, size, slide, offset):
    # Windows of arrays are counted in int64: of those a microsecond apart some begin before it.
    assume(min(size, slide) > 1 or time > MIN_TIME + 100)
    grid = WindowGrid(size, slide, offset)
    panes = grid.panes_of(np.array([time]))
    _, windows = expand(grid.cover.first(panes), grid.cover.last(panes))
    pairs = zip(grid.starts(windows).tolist(), grid.ends(windows).tolist(), strict=True)
    assert assigner(Sliding(size, slide, offset))(time) == list(pairs)
    if size == slide:
        assert assigner(Tumbling(size, offset))(time) == assigner(Sliding(size, size, offset))(time)


@given(time=st.integers(-1_000, 1_000), step=LENGTHS, steps=LENGTHS, offset=st.integers(-9, 9))
def test_cumulative_windows_are_the_beginnings_of_one(time, step, steps, offset):
    size = step * steps
    windows = assigner(Cumulative(size, step, offset))(time)
    ((start, end),) = assigner(Tumbling(size, offset))(time)
    assert windows[-1] == (start, end)
    assert all(one[0] == start <= time < one[1] for one in windows)
    assert [one[1] - start for one in windows] == list(
        range((time - start) // step * step + step, size + 1, step)
    )


ZONES = [
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Pacific/Apia",
    "Atlantic/Azores",
    "Asia/Kathmandu",
    "Africa/Cairo",
]
HOUR = 3_600_000_000


@given(
    zone=st.sampled_from(ZONES),
    time=st.integers(-100_000, 500_000),
    offset=st.integers(-30, 30),
    days=st.integers(1, 3),
)
def test_local_days_lie_side_by_side(zone, time, offset, days):
    windows = LocalDays(zone, days, offset * HOUR)
    time_us = time * HOUR + 123_456_789
    ((start, end),) = windows(time_us)
    assert start <= time_us < end
    for inside in (start, end - 1):
        assert LocalDays(zone, days, offset * HOUR)(inside) == [(start, end)]
    ((after, _),) = LocalDays(zone, days, offset * HOUR)(end)
    assert after == end
    hours = (end - start) / HOUR
    assert hours > 0
    assert abs(hours - 24 * days) <= (1 if zone != "Pacific/Apia" else 25)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("Europe/Berlin", "2024-06-01", 24),
        ("America/New_York", "2013-03-10", 23),
        ("America/Sao_Paulo", "2018-11-04", 23),  # midnight does not exist
        ("America/Sao_Paulo", "2018-02-17", 25),  # clocks go back at midnight
        ("Pacific/Apia", "2011-12-29", 24),  # the next day is skipped
    ],
)
def test_local_days_have_as_many_hours_as_their_clocks_say(zone, day, hours):
    from datetime import datetime
    from zoneinfo import ZoneInfo

    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    ((start, end),) = LocalDays(zone, 1, 0)(rs.micros(noon))
    assert (end - start) / HOUR == hours
