"""The rows of one side of a join, which wait for partners until a time that each has of its own."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.row_store import RowStore
from raystream.keyed.rows_due import RowsDue
from raystream.keyed.slots import SlotColumn
from raystream.keyed.time_segments import TimeSegments

Int8s: TypeAlias = npt.NDArray[np.int8]

_NEVER, _NEWLY, _TOLD = np.arange(3, dtype=np.int8)
"""Whether a row has had a partner, and ``newly_matched`` has told."""


class WaitingRows:
    """Rows by number, by key and time, and by time alone; of each, whether it has had a partner.

    Rows that were taken are gone for everybody but the segments of their keys, where they stay
    until the others are copied: who looks for partners asks for times of which no row was taken.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.store = RowStore(schema)
        self.segments = TimeSegments()
        self._due = RowsDue()
        self._times, self._slots = SlotColumn("i8"), SlotColumn("i8")
        self._ids, self.next_id = SlotColumn("i8"), 0
        self._matched = SlotColumn("i1")

    @property
    def live(self) -> int:
        """Rows that wait."""
        return self._due.count

    @property
    def dead(self) -> int:
        """Rows that were taken and still lie in memory."""
        return self.store.row_count - self._due.count

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that lie in memory."""
        return self.store.nbytes

    def append(
        self,
        record: pa.RecordBatch,
        slots: Int64s,
        times: Int64s,
        matched: npt.NDArray[np.bool_],
    ) -> None:
        """Add rows that nobody else will change.

        Shapes: each [n].
        """
        ids = self.next_id + np.arange(len(times))
        self._append(record, slots, times, (ids, matched * _NEWLY))

    def _append(
        self, record: pa.RecordBatch, slots: Int64s, times: Int64s, told: tuple[Int64s, Int8s]
    ) -> None:
        numbers = self.store.append(record) + np.arange(record.num_rows)
        values = times, slots, *told
        columns = self._times, self._slots, self._ids, self._matched
        for column, some in zip(columns, values, strict=True):
            column.reserve(self.store.stop)
            column.values[numbers] = some
        self.segments.append(slots, times, numbers)
        self._due.append(times, numbers)
        if len(numbers):
            self.next_id = int(told[0][-1]) + 1

    def take(self, until_us: int, most: int) -> Int64s:
        """Take rows whose time is not later, the earliest first."""
        return self._due.take(until_us, most)

    def match(self, numbers: Int64s) -> None:
        """Remember that rows have had a partner."""
        marks = self._matched.values
        marks[numbers[marks[numbers] == _NEVER]] = _NEWLY

    def matched(self, numbers: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which rows have had a partner."""
        matched: npt.NDArray[np.bool_] = self._matched.values[numbers] != _NEVER
        return matched

    def newly_matched(self) -> Int64s:
        """Give the rows that have had their first partner since the last call."""
        numbers: Int64s = np.flatnonzero(self._matched.values[: self.store.stop] == _NEWLY)
        self._matched.values[numbers] = _TOLD
        return numbers

    def since(self, id_: int) -> Int64s:
        """Give the rows that came since ``next_id`` was this."""
        ids = self._ids.values[: self.store.stop]
        return np.arange(int(np.searchsorted(ids, id_)), self.store.stop)

    def ids(self, numbers: Int64s) -> Int64s:
        """Give what rows are called, however they are numbered: in order of arrival."""
        ids: Int64s = self._ids.values[numbers]
        return ids

    def times(self, numbers: Int64s) -> Int64s:
        """Give the event times of rows."""
        times: Int64s = self._times.values[numbers]
        return times

    def slots(self, numbers: Int64s) -> Int64s:
        """Give the slots of the keys of rows."""
        slots: Int64s = self._slots.values[numbers]
        return slots

    def numbers(self) -> Int64s:
        """Give the rows that wait, in order of arrival."""
        return self._due.numbers()

    def copy(self, other: WaitingRows, numbers: Int64s, slot_of: Int64s) -> None:
        """Take over rows of another, with other slots for their keys."""
        slots, times = slot_of[other.slots(numbers)], other.times(numbers)
        told = other.ids(numbers), other._matched.values[numbers]
        self._append(other.store.take(numbers), slots, times, told)

    def succeed(self, other: WaitingRows, numbers: Int64s) -> None:
        """Take the place of another, of which these rows were copied; it may have told matches."""
        self._matched.values[: len(numbers)] = other._matched.values[numbers]
        self.next_id = other.next_id
