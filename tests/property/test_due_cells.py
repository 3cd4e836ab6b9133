"""Cells come out of their runs once each, when they are due, whatever order they came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.keyed import due_cells
from raystream.keyed.due_cells import DueCells

TIME = st.sampled_from([MIN_TIME, MIN_TIME + 1, -3, 0, 1, 2, 3, 50, MAX_TIME - 1, MAX_TIME])


@pytest.fixture(scope="module", autouse=True)
def few_runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due_cells, "_RUNS_MAX", 4)
        yield


@given(
    steps=st.lists(st.tuples(st.lists(TIME, max_size=6), TIME, st.booleans()), max_size=20),
    rows_max=st.integers(1, 5),
)
def test_cells_are_taken_by_their_times_in_bounded_steps(steps, rows_max):
    due, held = DueCells(), {}
    for number, (times, until_us, fires) in enumerate(steps):
        cells = np.arange(len(times)) + 10 * number
        due.add(cells, np.array(times, np.int64))
        held |= dict(zip(cells.tolist(), times, strict=True))
        while fires and due.first_us is not None and due.first_us <= until_us:
            taken, reached_us = due.take(until_us, rows_max)
            assert reached_us <= until_us
            assert sorted(taken.tolist()) == sorted(c for c, t in held.items() if t <= reached_us)
            assert len(taken) <= rows_max or len({held[cell] for cell in taken.tolist()}) == 1
            for cell in taken.tolist():
                del held[cell]
        assert due.count == len(held)
        assert sorted(due.cells.tolist()) == sorted(held)
        assert due.first_us == min(held.values(), default=None)


def test_what_has_been_taken_is_given_back():
    due = DueCells()
    due.add(np.arange(1_000), np.arange(1_000))
    due.take(899, 1_000)
    assert due.nbytes <= 2 * 100 * 16
