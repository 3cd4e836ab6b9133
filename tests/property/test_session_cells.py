"""Cells of sessions are those of a dictionary, in whichever order rows come and cells close."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.older_cells import NO_CELL
from raystream.keyed.session_cells import SessionCells

GAP_US = 10

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-60, 60)), min_size=1, max_size=30)
"""Keys and times: few keys, so that each has panes before, at and behind its latest one."""


def of(cells, rows):
    keys, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return cells.slots([pa.array(keys)], len(keys)), times


@given(st.lists(st.tuples(ROWS, st.sampled_from(["add", "close", "tidy"])), max_size=12))
def test_a_key_and_pane_have_one_cell_while_it_is_open(steps):
    cells, model = SessionCells([pa.int64()], GAP_US), {}
    for rows, then in steps:
        slots, times = of(cells, rows)
        placed = cells.put(slots, times)
        for (key, time), cell in zip(rows, placed.tolist(), strict=True):
            first, last, known = model.get((key, time // GAP_US), (time, time, cell))
            assert known == cell
            model[key, time // GAP_US] = min(first, time), max(last, time), cell
        if then == "close":
            ended = dict(rows)
            gone = {
                at: one for at, one in model.items() if at[1] <= ended.get(at[0], -60) // GAP_US
            }
            over = {cell for *_, cell in gone.values()}
            model = {at: one for at, one in model.items() if one[2] not in over}
            cells.close(np.array(list(over), np.int64))
        elif then == "tidy":
            cells._tidy()
        held = {}
        for (key, _), (first, last, cell) in sorted(model.items()):
            of_key, begin, end = held.get(cell, (key, first, first))
            assert (of_key, first - end <= GAP_US) == (key, True), "a cell is of one session"
            held[cell] = key, begin, last
        numbers = np.array(list(held), np.int64)
        (keys,), first, last = cells.told(numbers)
        found = keys.to_pylist(), first, last
        assert list(zip(*map(list, found), strict=True)) == list(held.values())


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


@given(ROWS, ROWS)
def test_cells_that_are_joined_are_the_sessions_of_their_keys(first, second):
    cells = SessionCells([pa.int64()], GAP_US)
    placed = np.concatenate([cells.put(*of(cells, rows)) for rows in (first, second)])
    held = np.unique(placed)
    whole = dict(zip(held.tolist(), cells.join(held).tolist(), strict=True))
    sessions, ends = {}, {}
    for key, time in sorted(first + second):
        start, last = ends.get(key, (time, time))
        ends[key] = (start if time - last <= GAP_US else time), time
        sessions[key, time] = ends[key][0]
    joined = [whole[cell] for cell in placed.tolist()]
    found = cells.first_us(np.array(joined)).tolist()
    assert found == [sessions[row] for row in first + second]
    assert len({*joined}) == len({(key, start) for (key, _), start in sessions.items()})
