"""Rows of keys in order of event time, each joined to the one before of its key.

Rows are appended in order of time, so what no later row can reach is a prefix, or, where so many
rows of each key are kept, what lies further back than that. Walking back from many rows at once
costs what the walk passes, whatever else is held.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.row_store import RowStore
from raystream.keyed.slots import SlotColumn

_NONE = -1
_COMPACT_MIN = 8_192


class EventRows:
    """Rows of ``schema`` by key slot, in order of event time."""

    def __init__(self, schema: pa.Schema) -> None:
        self.store = RowStore(schema)
        self._last = SlotColumn("i8", _NONE)
        self._columns = {name: SlotColumn("i8") for name in ("time", "before", "slot", "nth")}
        self._compact_at = _COMPACT_MIN

    @property
    def row_count(self) -> int:
        return self.store.row_count

    def times(self, numbers: Int64s) -> Int64s:
        """Give the event times of rows."""
        times: Int64s = self._columns["time"].values[numbers]
        return times

    def slots(self, numbers: Int64s) -> Int64s:
        """Give the key slots of rows."""
        slots: Int64s = self._columns["slot"].values[numbers]
        return slots

    def append(self, rows: pa.RecordBatch, times: Int64s, slots: Int64s) -> Int64s:
        """Add rows in order of event time, later than all that are held; give their numbers.

        Shapes: rows, times, slots [n] -> int64 [n].
        """
        first = self.store.append(rows)
        numbers = first + np.arange(len(times))
        for column in self._columns.values():
            column.reserve(self.store.stop)
        self._last.reserve(int(slots.max(initial=-1)) + 1)
        order = stable_order(slots)
        sorted_slots = slots[order]
        starts = np.flatnonzero(np.diff(sorted_slots, prepend=-1))
        before = np.empty(len(order), np.int64)
        before[1:] = numbers[order[:-1]]
        before[starts] = self._last.values[sorted_slots[starts]]
        places = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        held = before[starts]
        base = np.where(held == _NONE, 0, self._columns["nth"].values[np.maximum(held, 0)] + 1)
        nth = places + np.repeat(base, np.diff(starts, append=len(order)))
        ends = np.append(starts[1:], len(order)) - 1 if len(order) else starts
        self._last.values[sorted_slots[ends]] = numbers[order[ends]]
        self._columns["before"].values[numbers[order]] = before
        self._columns["nth"].values[numbers[order]] = nth
        self._columns["time"].values[numbers] = times
        self._columns["slot"].values[numbers] = slots
        return numbers

    def walk(
        self, numbers: Int64s, above_us: Int64s | None, most: int | None
    ) -> Iterator[tuple[Int64s, Int64s]]:
        """Walk back from rows: while the time is above a bound, or for so many rows.

        Shapes: numbers int64 [n], above_us int64 [n] -> pairs of (place in ``numbers``, row), each
        int64 [m]: first the rows themselves, then those before, and so on.
        """
        places = np.arange(len(numbers))
        rows = numbers
        steps = 0
        while len(rows) and (most is None or steps < most):
            yield places, rows
            steps += 1
            rows = self._columns["before"].values[rows]
            alive = rows >= self.store.first
            if above_us is not None:
                alive &= self.times(rows) > above_us[places]
            places, rows = places[alive], rows[alive]

    def drop_until(self, time_us: int) -> None:
        """Forget rows of that event time or an earlier one."""
        held = self._columns["time"].values[self.store.first : self.store.stop]
        self.store.drop_below(self.store.first + int(np.searchsorted(held, time_us, side="right")))
        if self.store.first > _COMPACT_MIN and 2 * self.store.first > self.store.stop:
            self._renumber(np.arange(self.store.first, self.store.stop))

    def drop_beyond(self, most: int) -> None:
        """Forget rows that are further back in their key than ``most``, when they are many."""
        if self.store.stop < self._compact_at:
            return
        numbers = np.arange(self.store.first, self.store.stop)
        newest = self._columns["nth"].values[self._last.values[self.slots(numbers)]]
        kept = numbers[self._columns["nth"].values[numbers] > newest - most]
        self._renumber(kept)
        self._compact_at = max(_COMPACT_MIN, 2 * len(kept))

    def _renumber(self, kept: Int64s) -> None:
        new = np.full(self.store.stop + 1, _NONE, np.int64)  # the last one stands for "none"
        new[kept] = np.arange(len(kept))
        self.store.keep(kept)
        last = self._last.values
        last[:] = np.where(last >= 0, new[last], _NONE)
        for name, column in self._columns.items():
            values = column.values[kept]
            column.values[: len(kept)] = (
                np.where(values >= 0, new[values], _NONE) if (name == "before") else values
            )
