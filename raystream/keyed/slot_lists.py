"""A list of numbers for every slot, in one array: how rows of a key are found, many keys at once.

Each list lies in one piece and has room to grow; one that is full moves to the end of the array
with twice the room, as a vector does. So reading costs what is read, whatever else is held, and
appending is constant on average.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.keyed.groups import Groups
from raystream.keyed.slots import SlotColumn

_LIST = np.dtype([("start", "i8"), ("count", "u4"), ("room", "u4")])
"""Where a list lies: side by side, because slots are met at random, and each is a cache miss."""

_LEFT_MIN = 65_536
"""So many places that lists have left may lie about; more only beside as many in use."""


class SlotLists:
    """Lists of int64 numbers by slot, each in the order in which it was appended to."""

    def __init__(self) -> None:
        self._lists = SlotColumn(_LIST)
        self._heap = SlotColumn("i8")
        self._used = 0
        self._left = 0

    def reserve(self, count: int) -> None:
        """Make slots 0 to ``count`` - 1 readable; their lists are empty until appended to."""
        self._lists.reserve(count)

    def counts(self, slots: Int64s) -> Int64s:
        """Give the length of each slot's list."""
        return self.spans(slots)[1]

    def starts(self, slots: Int64s) -> Int64s:
        """Give the place of each list's first number, for ``at``; good until lists change."""
        return self.spans(slots)[0]

    def spans(self, slots: Int64s) -> tuple[Int64s, Int64s]:
        """Give the place of each list's first number, and its length.

        Shapes: slots int64 [m] -> int64 [m], int64 [m].
        """
        lists = self._lists.values[slots]
        return lists["start"], lists["count"].astype(np.int64)

    def at(self, places: Int64s) -> Int64s:
        """Give the numbers at places: the n-th of a list is n behind its start."""
        numbers: Int64s = self._heap.values[places]
        return numbers

    def read(self, slots: Int64s) -> tuple[Int64s, Int64s]:
        """Give the lists of some slots, one behind the other, and their lengths.

        Shapes: slots int64 [m] -> int64 [sum of lengths], int64 [m].
        """
        starts, counts = self.spans(slots)
        return self.at(spread(starts, counts)), counts

    def append(self, groups: Groups, numbers: Int64s) -> None:
        """Append to each row's list its number; all slots are reserved.

        Shapes: groups of n rows, numbers int64 [n] by row.
        """
        slots, lengths = groups.slots, groups.lengths
        if self._left > max(_LEFT_MIN, self._used // 2):
            self._close_up()
        lists = self._lists.values[slots]
        needed = lists["count"] + lengths
        full = np.flatnonzero(needed > lists["room"])
        if len(full):
            grown = lists[full]
            self._move(grown, needed[full])
            lists[full] = grown
        ends = lists["start"] + lists["count"]
        self._heap.values[spread(ends, lengths)] = numbers[groups.order]
        lists["count"] = needed
        self._lists.values[slots] = lists

    def shorten(self, slots: Int64s, counts: Int64s) -> None:
        """Take so many numbers from the front of each list; slots are different ones."""
        lists = self._lists.values[slots]
        lists["start"] += counts
        for name in ("count", "room"):
            lists[name] = lists[name] - counts
        self._lists.values[slots] = lists
        self._left += int(counts.sum())

    def keep(self, slots: Int64s, kept: npt.NDArray[np.bool_]) -> None:
        """Leave numbers out of lists; ``kept`` is by number as ``read(slots)`` gives them."""
        starts, counts = self.spans(slots)
        numbers = self.at(spread(starts, counts))
        ends = np.cumsum(counts)
        before = np.append(0, np.cumsum(kept))
        left = before[ends] - before[ends - counts]
        self._heap.values[spread(starts, left)] = numbers[kept]
        self._lists.values["count"][slots] = left

    def _move(self, lists: npt.NDArray[np.void], needed: Int64s) -> None:
        """Give lists new room, the least power of two that holds what is needed; say so in them."""
        rooms = np.left_shift(1, np.frexp(needed - 1)[1].astype(np.int64))
        starts = self._used + np.cumsum(rooms) - rooms
        self._used += int(rooms.sum())
        self._heap.reserve(self._used)
        counts = lists["count"].astype(np.int64)
        self._heap.values[spread(starts, counts)] = self.at(spread(lists["start"], counts))
        self._left += int(lists["room"].sum())
        lists["start"], lists["room"] = starts, rooms

    def _close_up(self) -> None:
        """Bring the lists together, so that the places that others have left are used again."""
        slots = np.flatnonzero(self._lists.values["room"])
        lists = self._lists.values[slots]
        numbers, counts = self.read(slots)
        rooms = lists["room"].astype(np.int64)
        lists["start"] = np.cumsum(rooms) - rooms
        self._lists.values[slots] = lists
        self._used, self._left = int(rooms.sum()), 0
        self._heap = SlotColumn("i8")
        self._heap.reserve(self._used)
        self._heap.values[spread(lists["start"], counts)] = numbers


def spread(starts: Int64s, counts: Int64s) -> Int64s:
    """Count up from each start so many times.

    [7, 2] with [3, 2] is [7, 8, 9, 2, 3].
    Shapes: int64 [m], int64 [m] -> int64 [sum of counts].
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    places: Int64s = np.repeat(starts - (ends - counts), counts) + np.arange(total)
    return places
