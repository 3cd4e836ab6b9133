"""Rows of each key in order of time: what a join looks into, by key and a span of time.

The rows of a key stand side by side in one *segment* of a large column, which moves to a place of
twice the room when it is full. Two bisections give the rows of a span: how many there are is known
before any is read, and rows of the key that do not match cost nothing, be they ever so many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.ordering import by_key_and_time
from raystream.keyed.slots import SlotColumn


class TimeSegments:
    """Numbers of rows, by the slot of their key and by time.

    A *place* is where a row stands in the column; it changes with the next ``append``.
    """

    def __init__(self) -> None:
        self._start, self._length, self._room, self._gone = (SlotColumn("i8") for _ in range(4))
        self._times, self._numbers = SlotColumn("i8"), SlotColumn("i8")
        self._end = 0

    def append(self, slots: Int64s, times: Int64s, numbers: Int64s) -> None:
        """Add rows; of one key and time they keep their order of arrival.

        Shapes: each int64 [n].
        """
        if not len(slots):
            return
        order = by_key_and_time(slots, times)
        slots, times = slots[order], times[order]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        counts = np.diff(starts, append=len(slots))
        slots = slots[starts]
        lengths = self._make_room(slots, counts)
        places = spread(self._start.values[slots] + lengths, counts)
        self._times.values[places] = times
        self._numbers.values[places] = numbers[order]
        self._length.values[slots] = lengths + counts
        self._put_in_order(slots, lengths, times[starts])

    def find(self, slots: Int64s, lows: Int64s, highs: Int64s) -> tuple[Int64s, Int64s]:
        """Give the places of the rows of a key with ``low <= time <= high``: from, and up to.

        Shapes: each int64 [n] -> int64 [n], int64 [n].
        """
        self._reserve(int(slots.max(initial=-1)) + 1)
        starts = self._start.values[slots]
        stops = starts + self._length.values[slots]
        firsts = bisect(self._times.values, starts, stops, lows, right=False)
        return firsts, bisect(self._times.values, firsts, stops, highs, right=True)

    def numbers(self, places: Int64s) -> Int64s:
        """Give the rows that stand at some places."""
        numbers: Int64s = self._numbers.values[places]
        return numbers

    def times(self, places: Int64s) -> Int64s:
        """Give the times of the rows that stand at some places."""
        times: Int64s = self._times.values[places]
        return times

    def forget(self, slots: Int64s, gone: Callable[[Int64s], npt.NDArray[np.bool_]]) -> None:
        """Take rows out that nobody will look for, of keys of which they are the larger part.

        ``gone`` tells rows by number. It is asked once so many rows of a key may have gone as stay,
        so that each row is moved a few times at most.
        Shapes: slots int64 [n], one for each row that has gone now.
        """
        self._reserve(int(slots.max(initial=-1)) + 1)
        np.add.at(self._gone.values, slots, 1)
        slots = np.unique(slots)
        slots = slots[2 * self._gone.values[slots] >= self._length.values[slots]]
        if not len(slots):
            return
        starts, lengths = self._start.values[slots], self._length.values[slots]
        places = spread(starts, lengths)
        stay = ~gone(self._numbers.values[places])
        which = np.repeat(np.arange(len(slots)), lengths)[stay]
        lengths = np.bincount(which, minlength=len(slots))
        for column in (self._times, self._numbers):
            column.values[spread(starts, lengths)] = column.values[places[stay]]
        self._length.values[slots], self._gone.values[slots] = lengths, 0

    def _reserve(self, count: int) -> None:
        for column in (self._start, self._length, self._room, self._gone):
            column.reserve(count)

    def _make_room(self, slots: Int64s, counts: Int64s) -> Int64s:
        """Move segments that are too small for so many more rows; give how many rows they have."""
        self._reserve(int(slots[-1]) + 1)
        lengths = self._length.values[slots]
        needed = lengths + counts
        full = np.flatnonzero(needed > self._room.values[slots])
        if not len(full):
            return lengths
        moved, lengths_moved = slots[full], lengths[full]
        rooms = 1 << np.ceil(np.log2(needed[full])).astype(np.int64)
        starts = self._end + np.cumsum(rooms) - rooms
        self._end += int(rooms.sum())
        before = spread(self._start.values[moved], lengths_moved)
        after = spread(starts, lengths_moved)
        for column in (self._times, self._numbers):
            column.reserve(self._end)
            column.values[after] = column.values[before]
        self._start.values[moved], self._room.values[moved] = starts, rooms
        return lengths

    def _put_in_order(self, slots: Int64s, lengths: Int64s, firsts: Int64s) -> None:
        """Sort the ends of segments to which earlier rows were added, from where those belong.

        Shapes: int64 [m] each: the segments, their rows before, the least time that was added.
        """
        starts = self._start.values[slots]
        lasts = self._times.values[np.maximum(starts + lengths - 1, 0)]
        mixed = np.flatnonzero((lengths > 0) & (lasts > firsts))
        if not len(mixed):
            return
        slots, starts, lengths, firsts = slots[mixed], starts[mixed], lengths[mixed], firsts[mixed]
        since = bisect(self._times.values, starts, starts + lengths, firsts, right=True)
        counts = starts + self._length.values[slots] - since
        places = spread(since, counts)
        times = self._times.values[places]
        order = np.lexsort((times, np.repeat(np.arange(len(slots)), counts)))
        self._times.values[places] = times[order]
        self._numbers.values[places] = self._numbers.values[places[order]]


def spread(starts: Int64s, counts: Int64s) -> Int64s:
    """Count up from each start.

    [5, 9] and [2, 3] give [5, 6, 9, 10, 11].
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + counts, counts) + np.arange(total)


def bisect(values: Int64s, starts: Int64s, stops: Int64s, bounds: Int64s, *, right: bool) -> Int64s:
    """Find in each slice of a column, which is sorted, where a bound belongs.

    ``right``: behind values that equal it, else before them.
    Shapes: values [m], the others int64 [n] -> int64 [n].
    """
    found = starts.copy()
    open_ = np.flatnonzero(starts < stops)
    lows, highs, bounds = starts[open_], stops[open_], bounds[open_]
    while len(open_):
        middles = (lows + highs) >> 1
        beyond = values[middles] <= bounds if right else values[middles] < bounds
        lows, highs = np.where(beyond, middles + 1, lows), np.where(beyond, highs, middles)
        rest = lows < highs
        if not rest.all():
            done = ~rest
            found[open_[done]] = lows[done]
            open_, lows, highs, bounds = open_[rest], lows[rest], highs[rest], bounds[rest]
    return found
