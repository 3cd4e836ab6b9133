"""The rows of one batch by key: what a segmented computation over columns needs.

Rows are put in order of their keys by one stable radix sort, so that the rows of a key stand
together, in order of arrival; keys stand in the order in which the batch first touched them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.slots import SlotColumn

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A batch as aggregates see it; ``arrival`` is the number of its first row in its subtask."""

    record: pa.RecordBatch
    timestamps: Int64s | None
    arrival: int


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows sorted by key; position means a place in that order, segment the rows of one key.

    Shapes: order int64 [n], the row at each position; starts int64 [m], the first position of each
    segment; slots int64 [m], the slot of each segment's key.
    """

    order: Int64s
    starts: Int64s
    slots: Int64s

    @cached_property
    def lengths(self) -> Int64s:
        """Rows of each segment, int64 [m]."""
        return np.diff(self.starts, append=len(self.order))

    @cached_property
    def ends(self) -> Int64s:
        """The last position of each segment, int64 [m]."""
        return self.starts + self.lengths - 1

    @cached_property
    def segments(self) -> Int64s:
        """The segment at each position, int64 [n]."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def places(self) -> Int64s:
        """How many rows of the same key stand before each position, int64 [n]."""
        return np.arange(len(self.order)) - np.repeat(self.starts, self.lengths)

    @cached_property
    def longest(self) -> int:
        """Rows of the longest segment."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def inverse(self) -> Int64s:
        """The position of each row, int64 [n]."""
        inverse = np.empty_like(self.order)
        inverse[self.order] = np.arange(len(self.order))
        return inverse

    def spread(self, by_segment: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """Give each position the value of its segment: [m] -> [n]."""
        return np.repeat(by_segment, self.lengths)

    def only(self, kept: npt.NDArray[np.bool_]) -> Groups:
        """Keep some positions; segments without any are gone.

        Shapes: bool [n] -> Groups of k positions.
        """
        segments = self.segments[kept]
        begins = np.ones(len(segments), np.bool_)
        begins[1:] = segments[1:] != segments[:-1]
        starts = np.flatnonzero(begins)
        return Groups(self.order[kept], starts, self.slots[segments[starts]])


class Grouper:
    """Sorts the rows of each batch by slot, with scratch memory of its own."""

    def __init__(self) -> None:
        self._first = SlotColumn("i8")

    def group(self, slots: Int64s, count: int) -> Groups:
        """Sort rows by slot; ``count`` is above every slot.

        Shapes: slots int64 [n], n > 0 -> Groups of n positions.
        """
        self._first.reserve(count)
        rows = np.arange(len(slots))
        scratch = self._first.values
        # Of several writes to one place the last stays: backwards, that is the first row.
        scratch[slots[::-1]] = rows[::-1]
        first = scratch[slots]
        firsts = np.flatnonzero(first == rows)
        if len(firsts) == len(rows):
            return Groups(rows, rows, slots)
        scratch[slots[firsts]] = np.arange(len(firsts))
        segment = scratch[slots]
        lengths = np.bincount(segment)
        return Groups(stable_order(segment), np.cumsum(lengths) - lengths, slots[firsts])
