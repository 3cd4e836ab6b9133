"""What has changed since it was last given, and when a section is better given whole again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from raystream.flow.batch import Int64s
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import Section

_DELTAS_MAX = 256
"""Deltas behind one whole table: reading a section back opens so many parts at most."""


class Lineage:
    """What was given of one section: a whole table, and the deltas behind it.

    Deltas of more rows than the whole one has are not worth keeping: then the next one is whole,
    so that at most about twice of what changed is given.
    """

    __slots__ = ("_deltas", "_rows_since", "_rows_whole")

    def __init__(self) -> None:
        self._rows_whole = -1
        self._rows_since = 0
        self._deltas = 0

    @property
    def rows(self) -> int:
        """Rows that were given since the section was begun anew."""
        return max(self._rows_whole, 0) + self._rows_since

    def wants_whole(self, changed: int) -> bool:
        """Tell whether the section is due whole, where a delta would have so many rows."""
        too_many = self._rows_since + changed > self._rows_whole
        return self._rows_whole < 0 or too_many or self._deltas >= _DELTAS_MAX

    def given(self, section: Section) -> Section:
        """Remember that a section was given, and give it."""
        if section.delta:
            self._rows_since += section.table.num_rows
            self._deltas += 1
        else:
            self._rows_whole, self._rows_since, self._deltas = section.table.num_rows, 0, 0
        return section


class TouchedKeys:
    """Keys in canonical form that were written since they were last taken.

    Nothing is marked before the first ``take``: who never asks for changes pays nothing for them.
    """

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[Hashable] | None = None

    def mark(self, keys: Iterable[Hashable]) -> None:
        """Mark keys as written."""
        if self._keys is not None:
            self._keys.update(keys)

    def take(self) -> set[Hashable] | None:
        """Give the keys that were marked, and unmark them; at first None: all."""
        keys, self._keys = self._keys, set()
        return keys


class TouchedSlots:
    """Slots that were written since they were last taken.

    Nothing is marked before the first ``take``: who never asks for changes pays nothing for them.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: SlotColumn | None = None

    def mark(self, slots: Int64s, count: int) -> None:
        """Mark slots as written; ``count`` is above every slot."""
        if self._marks is not None:
            self._marks.reserve(count)
            self._marks.values[slots] = True

    def take(self, count: int) -> Int64s | None:
        """Give the slots below ``count`` that were marked, and unmark them; at first None: all.

        Shapes: int64 [m], ascending.
        """
        if self._marks is None:
            self._marks = SlotColumn("?", False)
            return None
        # Looking at a byte a slot costs a thousandth of writing a slot down.
        slots: Int64s = np.flatnonzero(self._marks.values[:count])
        self._marks.values[slots] = False
        return slots
