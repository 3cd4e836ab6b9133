"""Columns that grow: one value a slot, read and written by slot numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s

_SLOTS_MIN = 1_024

_SPAN_PER_VALUE = 16
"""Values that lie this close together are marked in a row of bytes, sooner than they are sorted."""


class SlotColumn:
    """A NumPy column with a value for every slot, filled with ``fill`` where nothing was written.

    Its memory doubles as slots come; ``reserve`` before reading or writing new ones.
    """

    __slots__ = ("_fill", "values")

    def __init__(self, dtype: npt.DTypeLike, fill: object = 0) -> None:
        self._fill = fill
        self.values: npt.NDArray[Any] = np.full(_SLOTS_MIN, fill, dtype)

    def reserve(self, count: int) -> None:
        """Make room for slots 0 to ``count`` - 1."""
        size = len(self.values)
        if count <= size:
            return
        # Zeros are not written before they are read, which is half the pause of a large column.
        size_new, dtype = max(count, 2 * size), self.values.dtype
        zeros = self._fill is not None and not self._fill
        grown = np.zeros(size_new, dtype) if zeros else np.full(size_new, self._fill, dtype)
        if dtype.names is None:
            grown[:size] = self.values
        else:
            # Records are copied field by field, many times as slowly as their bytes.
            grown.view(np.uint8)[: self.values.nbytes] = self.values.view(np.uint8)
        self.values = grown

    def like(self, count: int) -> SlotColumn:
        """Make a column of the same kind, with room for ``count`` slots, that nothing is in."""
        column = SlotColumn(self.values.dtype, self._fill)
        column.reserve(count)
        return column


def distinct(values: Int64s) -> Int64s:
    """Give the different values, ascending: NumPy's own hashes them, which takes much longer.

    Shapes: int64 [n] -> int64 [m].
    """
    if not len(values):
        return values
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span <= _SPAN_PER_VALUE * len(values):
        there = np.zeros(span, np.bool_)
        there[values - low] = True
        return np.flatnonzero(there) + low
    ordered = np.sort(values)
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    different: Int64s = ordered[new]
    return different
