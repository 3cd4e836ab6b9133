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


_STEP_PAIRS = 100


class CountDistinct:
    """Different values, exactly: each pair of a slot and a value is a key of an index.

    Raises: PlanError for a nested type.
    """

    def __init__(self, column: str, type: pa.DataType) -> None:
        check_key_type(type)
        self._column = column
        self._pairs = KeyIndex([pa.int64(), type])
        self._counts = SlotColumn("i8")
        # Chains of the pairs of each slot, made when the pairs of some slots are asked for.
        self._before, self._newest = SlotColumn("i8", -1), SlotColumn("i8", -1)
        self._linked_to = 0

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
        lengths = self._counts.values[slots]
        few = 4 * len(slots) <= len(self._counts.values)
        # A step back along the chains costs as much as looking at so many pairs.
        if few and _STEP_PAIRS * lengths.max(initial=0) < self._pairs.count:
            values = self._pairs.keys(self._linked(slots, lengths))[1]
            offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))))
            return [pa.LargeListArray.from_arrays(offsets, values)]
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

    def _linked(self, slots: Int64s, lengths: Int64s) -> Int64s:
        """Give the pairs of some slots, found from the newest one of each backwards.

        Shapes: slots, lengths int64 [m] -> int64 [sum of lengths], by slot, in order of arrival.
        """
        self._link()
        newest, before = self._newest.values[slots], self._before.values
        places = np.cumsum(lengths) - 1
        pairs = np.empty(int(lengths.sum()), np.int64)
        left = np.flatnonzero(newest >= 0)
        while len(left):
            pairs[places[left]] = newest[left]
            newest[left] = before[newest[left]]
            places[left] -= 1
            left = left[newest[left] >= 0]
        return pairs

    def _link(self) -> None:
        """Chain the pairs that came since this was last done, each to its slot's one before."""
        pairs = np.arange(self._linked_to, self._pairs.count)
        self._linked_to = self._pairs.count
        self._before.reserve(self._pairs.count)
        self._newest.reserve(len(self._counts.values))
        if not len(pairs):
            return
        owners = self._pairs.keys(pairs)[0].to_numpy()
        order = np.argsort(owners, kind="stable")
        pairs, owners = pairs[order], owners[order]
        first = np.diff(owners, prepend=-1) != 0
        last = np.diff(owners, append=-1) != 0
        self._before.values[pairs] = np.where(first, self._newest.values[owners], np.roll(pairs, 1))
        self._newest.values[owners[last]] = pairs[last]

    def _new(self, groups: Groups, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell at which positions a value comes for the first time."""
        values = rows.record.column(self._column).take(pa.array(groups.order))
        pairs, first_new = self._pairs.lookup([pa.array(groups.spread(groups.slots)), values])
        # New pairs have the next numbers in order of arrival: whoever raises the maximum is first.
        highest = np.maximum.accumulate(np.maximum(pairs, first_new - 1))
        new: npt.NDArray[np.bool_] = np.diff(highest, prepend=first_new - 1) > 0
        return new
