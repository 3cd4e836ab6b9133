"""Cells by the time at which each is to be looked at: few sorted runs, taken from their beginnings.

Each batch and each firing adds a run. Where rows come near the order of time, runs are used up in
the order in which they came, before anybody merges them. Where they do not, small ones are merged
with small ones, so that a cell is merged about once while thirty times as many come.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order

_RUNS_MAX: Final = 64
"""Looking at so many runs costs a small part of what a batch does."""


class _Run:
    """Cells sorted by time, of which the first ``start`` have been taken."""

    __slots__ = ("cells", "first_us", "start", "times_us")

    def __init__(self, cells: Int64s, times_us: Int64s) -> None:
        self.cells, self.times_us, self.start = cells, times_us, 0
        self.first_us = int(times_us[0])

    @property
    def count(self) -> int:
        return len(self.cells) - self.start

    def place(self, until_us: int) -> int:
        """Give the place behind all cells up to a time."""
        if until_us < self.first_us:
            return self.start
        return int(np.searchsorted(self.times_us, until_us, side="right"))

    def take(self, place: int) -> tuple[Int64s, Int64s]:
        """Give the cells in front of a place, and their times, and forget them."""
        taken = self.cells[self.start : place], self.times_us[self.start : place]
        self.start = place
        if 2 * place > len(self.cells):
            # What has been taken is to be given back, which a view would keep.
            self.cells, self.times_us = self.cells[place:].copy(), self.times_us[place:].copy()
            self.start = 0
        if self.count:
            self.first_us = int(self.times_us[self.start])
        return taken


class DueCells:
    """Each cell stands once, by a time that is told when it is added."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    @property
    def count(self) -> int:
        """How many cells there are."""
        return sum(run.count for run in self._runs)

    @property
    def nbytes(self) -> int:
        """Bytes that are held, a part of what has been taken included."""
        return sum(run.cells.nbytes + run.times_us.nbytes for run in self._runs)

    @property
    def first_us(self) -> int | None:
        """The earliest time."""
        return min((run.first_us for run in self._runs), default=None)

    @property
    def cells(self) -> Int64s:
        """All cells, in any order."""
        return np.concatenate([np.empty(0, np.int64), *(r.cells[r.start :] for r in self._runs)])

    def add(self, cells: Int64s, times_us: Int64s) -> None:
        """Add cells, none of which is there.

        Shapes: int64 [n] each.
        """
        if not len(cells):
            return
        order = stable_order(times_us)
        self._runs.append(_Run(cells.take(order), times_us.take(order)))
        if len(self._runs) > _RUNS_MAX:
            self._runs.sort(key=lambda run: run.count)
            self._gather(self._runs[: _RUNS_MAX // 2])

    def take(self, until_us: int, rows_max: int) -> tuple[Int64s, int]:
        """Take the earliest cells up to a time that somebody has reached; tell up to which.

        They are as many as ``rows_max`` lets, or all of one time.
        Shapes: -> int64 [n].
        """
        due = [run for run in self._runs if run.first_us <= until_us]
        if _count(due, until_us) > rows_max:
            until_us = _bound(due, until_us, rows_max)
        taken = [run.take(run.place(until_us))[0] for run in due]
        self._runs = [run for run in self._runs if run.count]
        return taken[0] if len(taken) == 1 else np.concatenate(taken), until_us

    def _gather(self, runs: list[_Run]) -> None:
        """Make one run of some."""
        taken = [run.take(len(run.cells)) for run in runs]
        self._runs = [run for run in self._runs if run.count]
        cells, times_us = (np.concatenate(column) for column in zip(*taken, strict=True))
        self.add(cells, times_us)


def _count(runs: list[_Run], until_us: int) -> int:
    return sum(run.place(until_us) - run.start for run in runs)


def _bound(runs: list[_Run], until_us: int, rows_max: int) -> int:
    """Find the last time up to which there are at most so many cells; at least the first time."""
    low = min(run.first_us for run in runs)
    high = min(until_us, max(int(run.times_us[-1]) for run in runs))
    while low < high:
        middle = (low + high + 1) // 2
        if _count(runs, middle) <= rows_max:
            low = middle
        else:
            high = middle - 1
    return low
