"""Which sessions are open, told without looking at more than one neighbour of each.

Time is cut into panes as long as the gap. Rows of one key in one pane lie in one session, and a
session goes on in the next pane or nowhere: so a session is a chain of *cells*, one a key and pane,
and to see whether it goes on is one look-up in a hash table, however many sessions are open. Cells
know the first and the last event time of their rows; a cell that goes on passes its first time to
the next one and is closed, so that what is open behind a firing has one cell a session, or a few.
The cell of each key's latest pane is known by the key: rows near the order of time need no look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.keyed.code_table import CodeTable
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.slots import SlotColumn

NO_CELL: Final = -1

_ROOM_MIN: Final = 65_536
"""Fewer cells and keys than this are never worth looking through for closed ones."""

_ROOM_FACTOR: Final = 3
"""So many times what was open may come before it is looked through again: each cell is then moved
less than once on average, and a closed one takes room twice as long as it was open."""


class SessionCells:
    """Cells of keys and panes; a closed cell opens anew when a row comes to its place."""

    def __init__(self, key_types: Sequence[pa.DataType], gap_us: int) -> None:
        self._types = list(key_types)
        self._gap_us = gap_us
        self._room = _ROOM_MIN
        self._clear()

    def _clear(self) -> None:
        self._keys = KeyIndex(self._types) if self._types else None
        self._table = CodeTable(2)
        self._first, self._last = SlotColumn("i8"), SlotColumn("i8")
        self._open = SlotColumn("?", fill=False)
        self._goes_to = SlotColumn("i8")
        self._latest = SlotColumn("i8", fill=NO_CELL)  # by key

    def slots(self, columns: Sequence[pa.Array], count: int) -> Int64s:
        """Give a number for the key of each row; they hold until ``compact``.

        Shapes: columns, each [n]; count n -> int64 [n].
        """
        if self._keys is None:
            return np.zeros(count, np.int64)
        return self._keys.lookup(columns)[0]

    @property
    def count(self) -> int:
        """How many cells have a number, open and closed."""
        return self._table.count

    def put(self, slots: Int64s, times_us: Int64s) -> Int64s:
        """Give the cell of each row, which is open from now on and knows of the row.

        Shapes: slots, times_us int64 [n] -> int64 [n].
        """
        cells = self._made(slots, times_us // self._gap_us)
        self._enter(cells, times_us, times_us)
        return cells

    def enter(self, slots: Int64s, first_us: Int64s, last_us: Int64s) -> Int64s:
        """Give the cell of each session that some other operator kept open.

        Shapes: int64 [n] each -> int64 [n].
        """
        cells = self._made(slots, last_us // self._gap_us)
        self._enter(cells, first_us, last_us)
        return cells

    def first_us(self, cells: Int64s) -> Int64s:
        """Give the time of the first row of each cell."""
        first: Int64s = self._first.values[cells]
        return first

    def last_us(self, cells: Int64s) -> Int64s:
        """Give the time of the last row of each cell."""
        last: Int64s = self._last.values[cells]
        return last

    def keys(self, cells: Int64s) -> list[pa.Array]:
        """Give the key columns of cells.

        Shapes: int64 [m] -> arrays, each [m].
        """
        return [] if self._keys is None else self._keys.keys(self._table.column(0)[cells])

    def earliest(self, slots: Int64s, behind_us: int) -> Int64s:
        """Give the cell of each key's session that a row at or before a time could still join.

        All that had ended by that time must be closed. What such a row can touch has a row within
        a gap behind that time: in its pane or in the next one.
        Shapes: slots int64 [n] -> cells int64 [n], -1 where there is none.
        """
        pane = behind_us // self._gap_us
        found = np.full(len(slots), NO_CELL)
        first = np.full(len(slots), MAX_TIME)
        for some in (pane, pane + 1):
            if not MIN_TIME <= some <= MAX_TIME:
                continue
            cells = self._find(slots, np.full(len(slots), some))
            earlier = (cells != NO_CELL) & ((found == NO_CELL) | (self.first_us(cells) < first))
            found[earlier] = cells[earlier]
            first[earlier] = self.first_us(cells[earlier])
        return found

    def widen(self, cells: Int64s, times_us: Int64s) -> None:
        """Let sessions begin earlier, where late rows have joined them."""
        np.minimum.at(self._first.values, cells, times_us)

    def join(self, cells: Int64s) -> Int64s:
        """Close each cell whose session goes on in the next pane; give the cell it has come to.

        Shapes: int64 [n], each cell once -> int64 [n]; the cell itself where nothing follows.
        """
        slots, panes = self._table.codes(cells)
        following = self._find(slots, np.where(panes == MAX_TIME, MIN_TIME, panes + 1))
        last = self.last_us(cells)
        # Behind the end of time there is nothing, so that the sum need not be right there.
        reach = np.where(last > MAX_TIME - self._gap_us, MAX_TIME, last + self._gap_us)
        goes_on = (following != NO_CELL) & (panes != MAX_TIME)
        goes_on &= self.first_us(following) <= reach
        if not goes_on.any():
            return cells
        goes_to = self._goes_to.values
        goes_to[following[goes_on]] = following[goes_on]
        goes_to[cells] = np.where(goes_on, following, cells)
        joined: Int64s = goes_to[cells]
        # Pointers are doubled: as many turns as a chain's length has digits.
        while (goes_to[joined] != joined).any():
            goes_to[cells] = joined = goes_to[joined]
        self.widen(joined[goes_on], self.first_us(cells[goes_on]))
        self.close(cells[goes_on])
        return joined

    def repeated(self, cells: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which rows share their cell with another row.

        Shapes: cells int64 [n] -> bool [n].
        """
        rows = np.arange(len(cells))
        last = self._goes_to.values
        last[cells] = rows
        of_cell = last[cells]
        shared: npt.NDArray[np.bool_] = of_cell != rows
        shared[of_cell[shared]] = True
        return shared

    def close(self, cells: Int64s) -> None:
        """Forget the rows of cells."""
        self._open.values[cells] = False

    @property
    def crowded(self) -> bool:
        """Whether so much has come since the last ``compact`` that it may be worth one."""
        keys = 0 if self._keys is None else self._keys.count
        return max(keys, self._table.count) >= self._room

    def compact(self) -> Int64s:
        """Forget keys and cells that are closed.

        Shapes: -> int64 [m], by old cell the new one; -1 for what was closed.
        """
        count = self._table.count
        cells = np.flatnonzero(self._open.values[:count])
        moved = np.full(count, NO_CELL)
        keys, first, last = self.keys(cells), self.first_us(cells), self.last_us(cells)
        self._clear()
        moved[cells] = self.enter(self.slots(keys, len(cells)), first, last)
        self._room = max(_ROOM_MIN, _ROOM_FACTOR * len(cells))
        return moved

    def _made(self, slots: Int64s, panes: Int64s) -> Int64s:
        """Give the cell of each key and pane, one that is new where there is none."""
        self._latest.reserve(1 if self._keys is None else self._keys.count)
        cells, later = self._held(slots, panes)
        missing = np.flatnonzero(cells == NO_CELL)
        if not len(missing):
            return cells
        cells[missing] = self._table.append([slots[missing], panes[missing]])
        for column in (self._first, self._last, self._open, self._goes_to):
            column.reserve(self._table.count)
        latest = missing[~later[missing]]
        if (panes[latest[1:]] < panes[latest[:-1]]).any():
            latest = latest[np.argsort(panes[latest], kind="stable")]
        # Of several writes to one key the last stays: that of the latest pane.
        self._latest.values[slots[latest]] = cells[latest]
        return cells

    def _enter(self, cells: Int64s, first_us: Int64s, last_us: Int64s) -> None:
        closed = cells[~self._open.values[cells]]
        self._open.values[closed] = True
        self._first.values[closed] = MAX_TIME
        self._last.values[closed] = MIN_TIME
        np.minimum.at(self._first.values, cells, first_us)
        np.maximum.at(self._last.values, cells, last_us)

    def _find(self, slots: Int64s, panes: Int64s) -> Int64s:
        """Give the open cell of each key and pane, -1 where there is none."""
        cells, _ = self._held(slots, panes)
        cells[~self._open.values[cells]] = NO_CELL
        return cells

    def _held(self, slots: Int64s, panes: Int64s) -> tuple[Int64s, npt.NDArray[np.bool_]]:
        """Give the cell of each key and pane, -1 where there is none; and where a later one is."""
        cells: Int64s = self._latest.values[slots]
        # Without a cell this reads the last one of the column; that it is none is asked for first.
        held = self._table.column(1)[cells]
        later = (cells != NO_CELL) & (panes < held)
        cells[panes != held] = NO_CELL
        older = np.flatnonzero(later)
        if len(older):
            cells[older] = self._table.find([slots[older], panes[older]])
        return cells, later
