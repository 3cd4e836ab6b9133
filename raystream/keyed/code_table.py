"""A hash table in NumPy: rows of int64 codes to dense slots, many rows at once.

Open addressing with linear probing, at most half full. A cell holds only a slot; the codes stand in
columns by slot and are compared, so that two keys of the same hash stay two keys. The cell is
chosen by the high bits of the hash: the low ones decide the key group, and are alike in a subtask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.hashing import UInt64s, fmix64
from raystream.keyed.slots import SlotColumn

_CELL_BITS_MIN = 11
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = -1

_PLACE_BITS_MIN = 6

_CELLS_STEPWISE = 1 << 20
"""Tables of so many cells grow in steps, where somebody calls for that."""

_CLAIMED_MAX = 262_144
"""Entering so many slots takes a small part of a tenth of a second."""


class CodeTable:
    """Gives each different row of ``width`` int64 codes a slot: 0, 1, 2 ... in order of arrival."""

    def __init__(self, width: int) -> None:
        self._columns = [SlotColumn("i8") for _ in range(width)]
        self.count = 0
        self._cells: npt.NDArray[np.int32]
        self._make_cells(_CELL_BITS_MIN)

    @property
    def width(self) -> int:
        return len(self._columns)

    def lookup(self, codes: Sequence[Int64s]) -> Int64s:
        """Give the slot of each row; rows not seen before get the next slots.

        Shapes: codes, ``width`` times int64 [n] -> int64 [n].
        """
        slots = self.find(codes)
        missing = np.flatnonzero(slots == _EMPTY)
        if len(missing):
            slots[missing] = self.append([column[missing] for column in codes])
        return slots

    def codes(self, slots: Int64s) -> list[Int64s]:
        """Give the codes that the slots stand for, column by column."""
        return [column.values[slots] for column in self._columns]

    def column(self, number: int) -> Int64s:
        """Give a column of codes by slot; behind ``count`` it means nothing."""
        column: Int64s = self._columns[number].values
        return column

    def widen(self, code: int) -> None:
        """Add a column; every row so far has ``code`` in it."""
        column = SlotColumn("i8")
        column.reserve(self.count)
        column.values[: self.count] = code
        self._columns.append(column)
        self._make_cells(self._bits)

    def find(self, codes: Sequence[Int64s]) -> Int64s:
        """Give the slot of each row, -1 where it has none.

        Shapes: codes, ``width`` times int64 [n] -> int64 [n].
        """
        cells = (_hash(codes) >> self._shift).view(np.int64)
        slots = self._cells[cells].astype(np.int64)
        # An empty cell reads slot -1, the last of the column; whether that matches is no matter.
        wrong = self._columns[0].values[slots] != codes[0]
        for column, wanted in zip(self._columns[1:], codes[1:], strict=True):
            wrong |= column.values[slots] != wanted
        wrong &= slots != _EMPTY
        rows = np.flatnonzero(wrong)
        cells = cells[rows]
        while len(rows):
            cells = (cells + 1) & self._cell_mask
            found = self._cells[cells].astype(np.int64)
            slots[rows] = found
            wrong = np.zeros(len(rows), np.bool_)
            for column, wanted in zip(self._columns, codes, strict=True):
                wrong |= column.values[found] != wanted[rows]
            again = np.flatnonzero(wrong & (found != _EMPTY))
            rows, cells = rows[again], cells[again]
        return slots

    def grow(self) -> Iterator[None]:
        """Make room before there is none, in bounded steps; nothing may be added in between."""
        if len(self._cells) < _CELLS_STEPWISE or 5 * self.count < 2 * len(self._cells):
            return
        grown = CodeTable(self.width)
        grown._columns = self._columns
        grown._make_cells(self._bits + 1)
        yield
        for start in range(0, self.count, _CLAIMED_MAX):
            grown._claim(np.arange(start, min(start + _CLAIMED_MAX, self.count), dtype=np.int32))
            yield
        self._allot(grown._bits)
        self._cells = grown._cells

    def append(self, codes: Sequence[Int64s]) -> Int64s:
        """Give new slots to rows that are not in the table; some may be alike.

        Shapes: codes, ``width`` times int64 [n], n > 0 -> int64 [n].
        """
        firsts, which = distinct_rows(codes)
        start, self.count = self.count, self.count + len(firsts)
        for column, wanted in zip(self._columns, codes, strict=True):
            column.reserve(self.count)
            column.values[start : self.count] = wanted[firsts]
        if 2 * self.count > len(self._cells):
            self._make_cells(int(2 * self.count - 1).bit_length())
        else:
            self._claim(np.arange(start, self.count, dtype=np.int32))
        return which + start

    def _make_cells(self, bits: int) -> None:
        self._allot(bits)
        self._cells = np.full(1 << bits, _EMPTY, np.int32)
        self._claim(np.arange(self.count, dtype=np.int32))

    def _allot(self, bits: int) -> None:
        self._bits = bits
        self._shift = np.uint64(64 - bits)
        self._cell_mask = (1 << bits) - 1

    def _claim(self, slots: npt.NDArray[np.int32]) -> None:
        """Put slots, all of different codes, into cells: each claims one, who loses goes on."""
        hashes = _hash([column.values[slots] for column in self._columns])
        cells = (hashes >> self._shift).view(np.int64)
        while len(slots):
            free = self._cells[cells] == _EMPTY
            self._cells[cells[free]] = slots[free]
            lost = np.flatnonzero(self._cells[cells] != slots)
            slots, cells = slots[lost], (cells[lost] + 1) & self._cell_mask


def _hash(codes: Sequence[Int64s]) -> UInt64s:
    hashes = fmix64(codes[0].view(np.uint64))
    for column in codes[1:]:
        hashes = fmix64(hashes * _GOLDEN + column.view(np.uint64))
    return hashes


def distinct_rows(codes: Sequence[Int64s]) -> tuple[Int64s, Int64s]:
    """Find the first row of each different one, in order, and which of these each row is.

    Shapes: codes, each int64 [n] -> int64 [d], int64 [n].
    """
    n = len(codes[0])
    rows = np.arange(n)
    # Sorting would cost ten times as much. Rows of one place are alike, or few: those are sorted.
    bits = max(_PLACE_BITS_MIN, (4 * n).bit_length())
    places = (_hash(codes) >> np.uint64(64 - bits)).view(np.int64)
    first_of = np.empty(1 << bits, np.int64)
    # Of several writes to one place the last stays: backwards, that is the first row.
    first_of[places[::-1]] = rows[::-1]
    first = first_of[places]
    unlike = np.zeros(n, np.bool_)
    for column in codes:
        unlike |= column[first] != column
    if unlike.any():
        others = np.flatnonzero(unlike)
        first[others] = others[_first_alike([column[others] for column in codes])]
    firsts = np.flatnonzero(first == rows)
    rank = np.empty(n, np.int64)
    rank[firsts] = np.arange(len(firsts))
    return firsts, rank[first]


def _first_alike(codes: Sequence[Int64s]) -> Int64s:
    """Give for each row the first one that is like it, by sorting.

    Shapes: codes, each int64 [n] -> int64 [n].
    """
    order = np.argsort(codes[0], kind="stable") if len(codes) == 1 else np.lexsort(codes[::-1])
    begins = np.zeros(len(order), np.bool_)
    begins[0] = True
    for column in codes:
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    first = np.empty_like(order)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first
