"""Rows gathered under numbers whose gatherings can become one without moving a row.

What comes at once for one owner is a run of rows that lie side by side; runs of an owner are linked
from its first to its last, so that two owners' rows are joined by one link. Rows that were taken go
when they are as many as those that are left.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.row_store import RowStore
from raystream.keyed.slots import SlotColumn

_NONE: Final = -1

_COMPACT_MIN: Final = 8_192
"""Fewer rows that were taken are never worth copying the others."""


class RowChains:
    """Rows of one schema by owner: 0, 1, 2 ..."""

    def __init__(self, schema: pa.Schema) -> None:
        self._store = RowStore(schema)
        self._living = 0
        self._clear_runs()
        self._owners = 0
        self._first, self._last = SlotColumn("i8", _NONE), SlotColumn("i8", _NONE)
        self._size = SlotColumn("i8")

    def _clear_runs(self) -> None:
        self._runs = 0
        self._start, self._stop, self._next = (SlotColumn("i8") for _ in range(3))

    @property
    def row_count(self) -> int:
        """Rows that are held, those that were taken and are not yet gone included."""
        return self._store.row_count

    def reserve(self, count: int) -> None:
        """Make room for owners 0 to ``count`` - 1: before they are named."""
        self._owners = max(self._owners, count)
        for column in (self._first, self._last, self._size):
            column.reserve(count)

    def sizes(self, owners: Int64s) -> Int64s:
        """Count the rows of owners."""
        sizes: Int64s = self._size.values[owners]
        return sizes

    def add(self, owners: Int64s, rows: pa.RecordBatch) -> None:
        """Add a row to each of these owners; rows are copied.

        Shapes: owners int64 [n], rows [n].
        """
        order = stable_order(owners)
        begin = self._store.append(rows.take(pa.array(order)))
        self._link(owners[order], begin)
        self._living += len(order)

    def join(self, owners: Int64s, into: Int64s) -> None:
        """Give the rows of owners to others, which are none of them.

        Shapes: owners int64 [n], each once; into int64 [n].
        """
        has = self._first.values[owners] != _NONE
        order = stable_order(into[has])
        owners, into = owners[has][order], into[has][order]
        if not len(owners):
            return
        new = np.diff(into, prepend=-1) != 0
        ends = np.append(new[1:], True)
        firsts, lasts = self._first.values[owners], self._last.values[owners]
        # Each one's last run goes on with the next one's first, the last one's with what was there.
        follows = np.append(firsts[1:], _NONE)
        held = self._first.values[into]
        self._next.values[lasts] = np.where(ends, held, follows)
        bare = ends & (held == _NONE)
        self._last.values[into[bare]] = lasts[bare]
        self._first.values[into[new]] = firsts[new]
        np.add.at(self._size.values, into, self._size.values[owners])
        self._forget(owners)

    def take(self, owners: Int64s) -> tuple[pa.RecordBatch, Int64s]:
        """Take the rows of owners, and tell whose each is: a place in ``owners``.

        Shapes: owners int64 [n], each once -> [m], int64 [m].
        """
        numbers, places = self._numbers(owners)
        rows = self._store.take(numbers)
        self._forget(owners)
        self._living -= len(numbers)
        if self._store.row_count - self._living > max(_COMPACT_MIN, self._living):
            self._compact()
        return rows, places

    def held(self) -> pa.RecordBatch:
        """Give all rows, by owner."""
        return self._store.take(self._numbers(self._open())[0])

    def _open(self) -> Int64s:
        return np.flatnonzero(self._first.values[: self._owners] != _NONE)

    def _forget(self, owners: Int64s) -> None:
        self._first.values[owners] = _NONE
        self._last.values[owners] = _NONE
        self._size.values[owners] = 0

    def _link(self, owners: Int64s, begin: int) -> None:
        """Put rows that lie from ``begin`` on, sorted by owner, before those that owners have."""
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        sizes = np.diff(starts, append=len(owners))
        owners = owners[starts]
        runs = self._runs + np.arange(len(starts))
        self._runs += len(starts)
        for column in (self._start, self._stop, self._next):
            column.reserve(self._runs)
        self._start.values[runs] = begin + starts
        self._stop.values[runs] = begin + starts + sizes
        self._next.values[runs] = self._first.values[owners]
        bare = owners[self._first.values[owners] == _NONE]
        self._first.values[owners] = runs
        self._last.values[bare] = self._first.values[bare]
        self._size.values[owners] += sizes

    def _numbers(self, owners: Int64s) -> tuple[Int64s, Int64s]:
        """Give the numbers of owners' rows, owner by owner, and the place of each one's owner."""
        gathered, whose = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        places, runs = np.arange(len(owners)), self._first.values[owners]
        while len(runs):
            has = runs != _NONE
            places, runs = places[has], runs[has]
            gathered.append(runs)
            whose.append(places)
            runs = self._next.values[runs]
        places = np.concatenate(whose)
        order = stable_order(places)
        places, runs = places[order], np.concatenate(gathered)[order]
        starts = self._start.values[runs]
        sizes = self._stop.values[runs] - starts
        begins = np.cumsum(sizes) - sizes
        numbers = np.arange(int(sizes.sum())) + np.repeat(starts - begins, sizes)
        return numbers, np.repeat(places, sizes)

    def _compact(self) -> None:
        """Copy the rows that are left; those of an owner become one run."""
        owners = self._open()
        numbers, places = self._numbers(owners)
        self._store.keep(numbers)
        self._clear_runs()
        self._forget(owners)
        self._link(owners[places], 0)
