"""Which windows a time lies in: hand-computed cases, both ends of int64, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.window import WindowGrid, expand

MIN, MAX = -(2**63), 2**63 - 1


def windows_of(grid: WindowGrid, *times: int) -> list[tuple[int, int]]:
    """Every window of these times, the latest first, by way of panes."""
    array = np.array(times, np.int64)
    panes = grid.panes_of(array)
    cover = grid.cover
    _, windows = expand(cover.first(panes), cover.last(panes))
    starts, ends = grid.starts(windows), grid.ends(windows)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))[::-1]


@pytest.mark.parametrize(
    ("window", "time", "expected"),
    [
        (Tumbling(10), -1, [(-10, 0)]),
        (Tumbling(10, 5), 4, [(-5, 5)]),
        (Tumbling(10, 5), 14, [(5, 15)]),
        (Tumbling(10, -5), 4, [(-5, 5)]),
        (Sliding(10, 5), -1, [(-5, 5), (-10, 0)]),
        (Sliding(10, 3), 12, [(12, 22), (9, 19), (6, 16), (3, 13)]),
        (Sliding(5, 10), 3, [(0, 5)]),
    ],
)
def test_times_lie_in_the_windows_computed_by_hand(window, time, expected):
    assert windows_of(window.grid, time) == expected


def test_a_time_between_windows_lies_in_none():
    grid = Sliding(5, 10).grid
    assert grid.covered(np.array([7, 3, -1, -7, 5])).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("time", [MIN + 1, MIN + 2, -1, 0, MAX - 1, MAX])
@pytest.mark.parametrize(
    "window",
    [Tumbling(10, 3), Tumbling(1), Sliding(7, 3, 2), Sliding(6, 2), Sliding("1d", "7h", "1h")],
)
def test_windows_at_the_ends_of_time_saturate_and_do_not_overflow(window, time):
    size, slide, offset = window.size_us, window.slide_us, window.offset_us
    start = time - (time - offset) % slide
    exact = []
    while start > time - size:
        exact.append((max(start, MIN), min(start + size, MAX)))
        start -= slide
    assert windows_of(window.grid, time) == exact


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-100, 100), st.integers(-(10**6), 10**6))
def test_windows_equal_a_search_of_all_starts(size, slide, offset, time):
    grid = WindowGrid(size, slide, offset)
    starts = [s for s in range(time, time - size, -1) if (s - offset) % slide == 0]
    assert bool(grid.covered(np.array([time]))[0]) == bool(starts)
    if starts:
        assert windows_of(grid, time) == [(start, start + size) for start in starts]
        assert grid.pane_of(time) == grid.panes_of(np.array([time]))[0]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-100, 100), st.integers(-(10**6), 10**6))
def test_a_window_is_due_when_its_last_instant_has_passed(size, slide, offset, watermark):
    grid = WindowGrid(size, slide, offset)
    due = grid.due(watermark)
    assert grid.start_of(due) + size - 1 <= watermark < grid.start_of(due + 1) + size - 1
