"""Cells of sessions are those of a dictionary, in whichever order rows come and cells close."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.session_cells import NO_CELL, SessionCells

GAP_US = 10

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-60, 60)), min_size=1, max_size=30)
"""Keys and times: few keys, so that each has panes before, at and behind its latest one."""


def of(cells, rows):
    keys, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return cells.slots([pa.array(keys)], len(keys)), times


@given(st.lists(st.tuples(ROWS, st.sampled_from(["add", "close", "compact"])), max_size=12))
def test_a_cell_is_that_of_its_key_and_pane(steps):
    cells, model = SessionCells([pa.int64()], GAP_US), {}
    for rows, then in steps:
        slots, times = of(cells, rows)
        placed = cells.put(slots, times)
        for (key, time), cell in zip(rows, placed.tolist(), strict=True):
            first, last, known = model.get((key, time // GAP_US), (time, time, cell))
            assert known == cell, "a key and pane have one cell while it is open"
            model[key, time // GAP_US] = min(first, time), max(last, time), cell
        if then == "close":
            gone = {(key, time // GAP_US) for key, time in rows}
            cells.close(np.array([model.pop(one)[2] for one in gone]))
        elif then == "compact":
            moved = cells.compact()
            model = {at: (*times, int(moved[cell])) for at, (*times, cell) in model.items()}
        held = np.array([cell for *_, cell in model.values()], np.int64)
        assert len({*held.tolist()}) == len(held)
        assert cells.first_us(held).tolist() == [first for first, _, _ in model.values()]
        assert cells.last_us(held).tolist() == [last for _, last, _ in model.values()]
        assert [key.as_py() for key in cells.keys(held)[0]] == [key for key, _ in model]


@given(ROWS, st.integers(-70, 70))
def test_the_earliest_cell_that_a_late_row_can_touch(rows, behind_us):
    cells = SessionCells([pa.int64()], GAP_US)
    rows = [(key, time) for key, time in rows if time + GAP_US > behind_us] or [(0, behind_us)]
    slots, times = of(cells, rows)
    placed = cells.put(slots, times).tolist()
    near = {}
    for (key, time), cell in zip(rows, placed, strict=True):
        if behind_us // GAP_US <= time // GAP_US <= behind_us // GAP_US + 1:
            near[key] = min(near.get(key, (time, cell)), (time, cell))
    asked = of(cells, [(key, 0) for key in range(5)])[0]
    expected = [near[key][1] if key in near else NO_CELL for key in range(5)]
    assert cells.earliest(asked, behind_us).tolist() == expected
