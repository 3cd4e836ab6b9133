"""Running counts: of rows, and of different values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.key import check_key_type
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.slots import SlotColumn


class Count:
    """Rows that count."""

    def __init__(self) -> None:
        self._counts = SlotColumn("i8")

    def reserve(self, count: int) -> None:
        self._counts.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        counts = self._counts.values
        before = counts[groups.slots]
        counts[groups.slots] = before + groups.lengths
        first = before + 1 - groups.starts
        return pa.array(np.repeat(first, groups.lengths) + np.arange(len(groups.order)))

    def fold(self, groups: Groups, rows: Rows) -> None:
        self._counts.values[groups.slots] += groups.lengths

    def result(self, slots: Int64s) -> pa.Array:
        return pa.array(self._counts.values[slots])

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [self.result(slots)]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        self._counts.values[slots] = columns[0].to_numpy()


class CountDistinct:
    """Different values, exactly: each pair of a slot and a value is a key of an index.

    Raises: PlanError for a nested type.
    """

    def __init__(self, column: str, type: pa.DataType) -> None:
        check_key_type(type)
        self._column = column
        self._pairs = KeyIndex([pa.int64(), type])
        self._counts = SlotColumn("i8")

    def reserve(self, count: int) -> None:
        self._counts.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        counts = self._counts.values
        steps = np.cumsum(self._new(groups, rows))
        start = np.where(groups.starts > 0, steps[groups.starts - 1], 0)
        after = steps + groups.spread(counts[groups.slots] - start)
        counts[groups.slots] = after[groups.ends]
        return pa.array(after)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        return pa.array(self._counts.values[slots])

    def state(self, slots: Int64s) -> list[pa.Array]:
        owners, values = self._pairs.keys(np.arange(self._pairs.count))
        places = np.full(len(self._counts.values), -1)
        places[slots] = np.arange(len(slots))
        place = places[owners.to_numpy()]
        order = np.argsort(place, kind="stable")
        wanted = order[place[order] >= 0]
        ends = np.cumsum(self._counts.values[slots])
        offsets = pa.array(np.concatenate(([0], ends)))
        return [pa.LargeListArray.from_arrays(offsets, values.take(pa.array(wanted)))]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        lengths = columns[0].value_lengths().to_numpy()
        self._counts.values[slots] = lengths
        self._pairs.lookup([pa.array(np.repeat(slots, lengths)), columns[0].flatten()])

    def _new(self, groups: Groups, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell at which positions a value comes for the first time."""
        values = rows.record.column(self._column).take(pa.array(groups.order))
        pairs, first_new = self._pairs.lookup([pa.array(groups.spread(groups.slots)), values])
        # New pairs have the next numbers in order of arrival: whoever raises the maximum is first.
        highest = np.maximum.accumulate(np.maximum(pairs, first_new - 1))
        new: npt.NDArray[np.bool_] = np.diff(highest, prepend=first_new - 1) > 0
        return new
