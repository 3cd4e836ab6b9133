"""Slots of integers that lie close together: an array over their range, in place of a hash table.

Ids that a database gave out, or a counter, are such. Finding one is one read; entering one costs a
tenth of what hashing does. Stragglers far from the others are hashed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.keyed.code_table import CodeTable
from raystream.keyed.slots import SlotColumn

_RANGE_MIN = 1 << 22
"""A range so wide is always an array: 16 MiB, of which the system gives what is touched."""

_RANGE_PER_SLOT = 16
"""So many times wider than there are slots a range may be: 64 bytes a slot."""

_MARGIN = 8
"""A range begins so small a part wider than the first codes, at either end."""

_INT64 = np.iinfo(np.int64)

_RANGE_PER_ROW = 512
"""So many times wider than a batch: where 32,768 rows differ in 16 million, many more will come."""


class RangeTable:
    """Gives each different code a slot: 0, 1, 2 ... in order of arrival."""

    width = 1

    def __init__(self) -> None:
        self.count = 0
        self._codes = SlotColumn("i8")
        self._base = 0
        self._slots: npt.NDArray[np.int32] = np.zeros(0, np.int32)  # and one; 0 is none
        self._far = CodeTable(1)
        self._far_slots = SlotColumn("i8")

    @staticmethod
    def suits(codes: Int64s) -> bool:
        """Tell whether the first codes to come lie close together."""
        return not len(codes) or int(codes.max()) - int(codes.min()) < _wide(0, len(codes))

    def lookup(self, codes: Sequence[Int64s]) -> Int64s:
        """Give the slot of each row; rows not seen before get the next slots.

        Shapes: codes, one int64 [n] -> int64 [n].
        """
        (column,) = codes
        if not len(column):
            return np.zeros(0, np.int64)
        if self._covers(column):
            return self._near(column)
        inside = self._inside(column)
        slots = np.empty(len(column), np.int64)
        slots[inside] = self._near(column[inside])
        slots[~inside] = self._hashed(column[~inside])
        return slots

    def find(self, codes: Sequence[Int64s]) -> Int64s:
        """Give the slot of each row, -1 where it has none.

        Shapes: codes, one int64 [n] -> int64 [n].
        """
        (column,) = codes
        inside = self._inside(column)
        slots = np.full(len(column), -1)
        slots[inside] = self._slots[column[inside] - self._base] - 1
        if self._far.count:
            far = self._far.find([column[~inside]])
            slots[~inside] = np.where(far < 0, -1, self._far_slots.values[far])
        return slots

    def codes(self, slots: Int64s) -> list[Int64s]:
        """Give the codes that the slots stand for."""
        return [self._codes.values[slots]]

    def grow(self) -> Iterator[None]:
        """Make room before there is none, in bounded steps: only what is hashed needs any."""
        return self._far.grow()

    def hashed(self) -> CodeTable:
        """Give the same slots as a hash table."""
        table = CodeTable(1)
        table.lookup(self.codes(np.arange(self.count)))
        return table

    def _covers(self, codes: Int64s) -> bool:
        """Make the range hold some codes; False where it would be too wide."""
        low, high = int(codes.min()), int(codes.max())
        size = len(self._slots)
        if self._base <= low and high < self._base + size:
            return True
        first, stop = min(low, self._base), max(high + 1, self._base + size)
        wide = _wide(self.count, len(codes))
        if not size:
            # The first codes are seldom those at the ends; room costs nothing before it is used.
            more = max(0, min((high - low) // _MARGIN, (wide - (high - low)) // 2 - 1))
            first, stop = max(low - more, _INT64.min), min(high + more, _INT64.max) + 1
        if stop - first > wide:
            return False
        # A range grows by doubling, to the side to which it grows at all.
        more = max(0, 2 * size - (stop - first))
        if size and low < self._base:
            first -= more
        else:
            stop += more
        slots = np.zeros(stop - first, np.int32)
        slots[self._base - first : self._base - first + size] = self._slots
        self._base, self._slots = first, slots
        self._bring_near()
        return True

    def _bring_near(self) -> None:
        """Enter what was far, and lies in the range by now."""
        if self._far.count:
            far = np.arange(self._far.count)
            (codes,) = self._far.codes(far)
            near = np.flatnonzero(self._inside(codes))
            self._slots[codes[near] - self._base] = self._far_slots.values[near] + 1

    def _inside(self, codes: Int64s) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = codes >= self._base
        inside &= codes < self._base + len(self._slots)
        return inside

    def _near(self, codes: Int64s) -> Int64s:
        places = codes - self._base
        slots = self._slots[places].astype(np.int64)
        missing = np.flatnonzero(slots == 0)
        if len(missing):
            slots[missing] = self._enter(places[missing], codes[missing])
        slots -= 1
        return slots

    def _enter(self, places: Int64s, codes: Int64s) -> Int64s:
        """Give new slots, and one, to codes that have none; some may be alike."""
        rows = np.arange(len(places))
        # Of several writes to one place the last stays: backwards, that is the first row.
        self._slots[places[::-1]] = ~rows[::-1]
        first = ~self._slots[places].astype(np.int64)
        firsts = np.flatnonzero(first == rows)
        rank = np.empty(len(rows), np.int64)
        rank[firsts] = self._append(codes[firsts])
        entered = rank[first] + 1
        self._slots[places] = entered
        return entered

    def _hashed(self, codes: Int64s) -> Int64s:
        before = self._far.count
        found = self._far.lookup([codes])
        new = np.flatnonzero(found >= before)
        if len(new):
            first = np.empty(self._far.count - before, np.int64)
            first[found[new[::-1]] - before] = new[::-1]
            self._far_slots.reserve(self._far.count)
            self._far_slots.values[before : self._far.count] = self._append(codes[first])
        slots: Int64s = self._far_slots.values[found]
        return slots

    def _append(self, codes: Int64s) -> Int64s:
        start, self.count = self.count, self.count + len(codes)
        self._codes.reserve(self.count)
        self._codes.values[start : self.count] = codes
        return np.arange(start, self.count)


def _wide(slots: int, rows: int) -> int:
    """Tell how wide a range may be."""
    return max(_RANGE_MIN, _RANGE_PER_SLOT * slots, _RANGE_PER_ROW * rows)
