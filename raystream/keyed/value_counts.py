"""How often each value is there, by slot: the multisets of a column's values.

Each pair of a slot and a value is a key of an index, with a count beside it. Pairs whose value is
gone stay in the index until they are most of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.key import check_key_type, plain_array, plain_type
from raystream.keyed.groups import Grouper
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.slots import SlotColumn
from raystream.keyed.turns import Turn, counted

_GONE_MIN = 8_192


class Steps(NamedTuple):
    """What the rows of a turn did: the pair of each, and 1 or -1 where a value came or went.

    Shapes: pairs int64 [n], steps int64 [n], by position.
    """

    pairs: Int64s
    steps: Int64s


class ValueCounts:
    """The multisets of one column.

    Raises: PlanError for a nested type.
    """

    def __init__(self, type: pa.DataType) -> None:
        check_key_type(type)
        self._type = plain_type(type)
        # As keys, times are told apart by the microsecond; here they keep all digits.
        self._exact = (
            (pa.int32() if self._type.bit_width == 32 else pa.int64())
            if pa.types.is_temporal(self._type)
            else self._type
        )
        self._owners, self._counts = SlotColumn("i8"), SlotColumn("i8")
        self._distinct = SlotColumn("i8")
        self._live = 0
        self._begin()

    @property
    def count(self) -> int:
        """Pairs that have numbers, also those whose value is gone."""
        return self._pairs.count

    def reserve(self, count: int) -> None:
        """Make room for slots 0 to ``count`` - 1."""
        self._distinct.reserve(count)

    def take(self, turn: Turn, column: str) -> Steps:
        """Take the values of a turn in and back; what was not there is not taken back."""
        groups = turn.groups
        values = self._exactly(turn.rows.record.column(column)).take(pa.array(groups.order))
        slots = groups.spread(groups.slots)
        pairs = self._lookup(slots, values)
        by_pair = self._grouper.group(pairs, self.count)
        signs = turn.signs[by_pair.order]
        counts, passed = counted(by_pair, signs, self._counts.values[by_pair.slots])
        self._counts.values[by_pair.slots] = counts[by_pair.ends]
        moved = ((counts == 0) & (signs < 0)) | ((counts == 1) & (signs > 0))
        if passed is not None:
            moved &= ~passed
        steps = np.zeros(len(pairs), np.int64)
        steps[by_pair.order[moved]] = signs[moved]
        self._live += int(steps.sum())
        return Steps(pairs, steps)

    def distinct(self, turn: Turn, steps: Int64s) -> Int64s:
        """Give how many different values each key has after each position of a turn."""
        groups = turn.groups
        after: Int64s = np.cumsum(steps)
        before = self._distinct.values[groups.slots]
        after += groups.spread(before - (after[groups.starts] - steps[groups.starts]))
        self._distinct.values[groups.slots] = after[groups.ends]
        return after

    def surplus(self, turn: Turn) -> Int64s:
        """Give the slots that have values and should not: others were taken back than had come."""
        slots = turn.groups.slots[turn.counts[turn.groups.ends] == 0]
        surplus: Int64s = slots[self._distinct.values[slots] > 0]
        return surplus

    def clear(self, slots: Int64s) -> None:
        """Forget all values of some slots."""
        live = self.live()
        pairs = live[np.isin(self._owners.values[live], slots)]
        self._counts.values[pairs] = 0
        self._distinct.values[slots] = 0
        self._live -= len(pairs)

    def distinct_now(self, slots: Int64s) -> Int64s:
        """Give how many different values some slots have."""
        return self._distinct.values[slots]

    def values(self, pairs: Int64s) -> pa.Array:
        """Give the values of some pairs."""
        values = self._pairs.keys(pairs)[1]
        return values if self._exact is self._type else values.view(self._type)

    def owners(self, pairs: Int64s) -> Int64s:
        """Give the slots of some pairs."""
        return self._owners.values[pairs]

    def live(self) -> Int64s:
        """Give the pairs whose values are there."""
        return np.flatnonzero(self._counts.values[: self.count] > 0)

    def state(self, slots: Int64s) -> list[pa.Array]:
        """Give the values of some slots and how often each is there, as lists."""
        live = self.live()
        places = np.full(len(self._distinct.values), -1)
        places[slots] = np.arange(len(slots))
        place = places[self._owners.values[live]]
        order = np.argsort(place, kind="stable")
        wanted = live[order[place[order] >= 0]]
        lengths = np.bincount(place[place >= 0], minlength=len(slots))
        offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))))
        lists = (self.values(wanted), pa.array(self._counts.values[wanted]))
        return [pa.LargeListArray.from_arrays(offsets, some) for some in lists]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> Int64s:
        """Take up what ``state`` gave, in slots that are new; give the pairs."""
        lengths = columns[0].value_lengths().to_numpy()
        self._distinct.values[slots] = lengths
        values = self._exactly(columns[0].flatten())
        pairs = self._lookup(np.repeat(slots, lengths), values)
        self._counts.values[pairs] = columns[1].flatten().to_numpy()
        self._live += len(pairs)
        return pairs

    def compact(self) -> bool:
        """Forget pairs whose values are gone, if they are most; the others are numbered anew."""
        if self.count <= 2 * self._live + _GONE_MIN:
            return False
        live = self.live()
        owners, values = self._pairs.keys(live)
        counts = self._counts.values[live]
        self._begin()
        pairs = self._lookup(owners.to_numpy(), values)
        self._counts.values[pairs] = counts
        self._live = len(pairs)
        return True

    def _begin(self) -> None:
        self._pairs = KeyIndex([pa.int64(), self._exact])
        self._grouper = Grouper()

    def _lookup(self, slots: Int64s, values: pa.Array) -> Int64s:
        pairs, first_new = self._pairs.lookup([pa.array(slots), values])
        self._owners.reserve(self.count)
        self._counts.reserve(self.count)
        new = pairs >= first_new
        self._owners.values[pairs[new]] = slots[new]
        self._counts.values[first_new : self.count] = 0
        return pairs

    def _exactly(self, array: pa.Array) -> pa.Array:
        array = plain_array(array)
        return array if self._exact is self._type else array.view(self._exact)
