"""The different values of each key, and the least or greatest of them, where values go again."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.key import is_fixed, plain_type
from raystream.keyed.accumulators_best import order_bits
from raystream.keyed.ranking import sort_values
from raystream.keyed.slots import SlotColumn
from raystream.keyed.turns import Turn
from raystream.keyed.value_counts import ValueCounts


class Distinct:
    """How many different values there are."""

    def __init__(self, column: str, type: pa.DataType) -> None:
        self._column = column
        self._values = ValueCounts(type)

    def reserve(self, count: int) -> None:
        self._values.reserve(count)

    def scan(self, turn: Turn) -> pa.Array:
        after = self._values.distinct(turn, self._values.take(turn, self._column).steps)
        self.forget(self._values.surplus(turn))
        self._values.compact()
        return pa.array(np.minimum(after, turn.counts))

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return pa.array(np.minimum(self._values.distinct_now(slots), counts))

    def state(self, slots: Int64s, counts: Int64s) -> list[pa.Array]:
        return self._values.state(slots)

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        self._values.restore(slots, columns)

    def forget(self, slots: Int64s) -> None:
        if len(slots):
            self._values.clear(slots)


class Extreme:
    """The least value or, with ``greatest``, the greatest; NaN loses against every number.

    Each slot has a heap of its values. One that is gone stays in it until it comes to the top.
    """

    def __init__(self, column: str, type: pa.DataType, *, greatest: bool) -> None:
        self._column, self._type, self._greatest = column, type, greatest
        self._fixed = is_fixed(plain_type(type))
        self._values = ValueCounts(type)
        self._best = SlotColumn("i8", -1)
        self._forget()

    def reserve(self, count: int) -> None:
        self._values.reserve(count)
        self._best.reserve(count)

    def scan(self, turn: Turn) -> pa.Array:
        groups = turn.groups
        pairs, steps = self._values.take(turn, self._column)
        self._values.distinct(turn, steps)
        at = np.flatnonzero(steps)
        before = self._best.values[groups.slots]
        after = np.array(self._turn(groups.spread(groups.slots)[at], pairs[at], steps[at]), int)
        # Between changes of which values are there the best stays what it was.
        so_far = np.cumsum(steps != 0)
        moved = so_far - groups.spread(so_far[groups.starts] - (steps[groups.starts] != 0))
        place = np.where(moved > 0, so_far - 1, len(at) + groups.segments)
        best = np.concatenate((after, before))[place]
        self._best.values[groups.slots] = best[groups.ends]
        given = self._read(best)
        self.forget(self._values.surplus(turn))
        if self._values.compact():
            self._forget()
            self._add(self._values.live())
        return given

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return self._read(self._best.values[slots])

    def state(self, slots: Int64s, counts: Int64s) -> list[pa.Array]:
        return self._values.state(slots)

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        self._add(self._values.restore(slots, columns))

    def forget(self, slots: Int64s) -> None:
        if not len(slots):
            return
        self._values.clear(slots)
        self._best.values[slots] = -1
        for slot in slots.tolist():
            for _, pair in self._heaps.pop(slot, []):
                self._there[pair] = self._queued[pair] = 0

    def _read(self, pairs: Int64s) -> pa.Array:
        if not self._values.count:
            return pa.nulls(len(pairs), self._type)
        values = self._values.values(np.maximum(pairs, 0))
        return values if values.type == self._type else values.cast(self._type)

    def _orders(self, pairs: Int64s) -> list[Any]:
        values = self._values.values(pairs)
        if self._fixed:
            bits: list[int] = order_bits(values, greatest=self._greatest).tolist()
            return bits
        return sort_values(values, descending=self._greatest)

    def _turn(self, slots: Int64s, pairs: Int64s, steps: Int64s) -> list[int]:
        """Let values come and go; give the best after each, -1 for none."""
        self._grow()
        there, queued, heaps = self._there, self._queued, self._heaps
        after = []
        # A loop over changes of which values are there, not over rows: each meets the heap that the
        # one before left.
        changes = zip(
            slots.tolist(), pairs.tolist(), steps.tolist(), self._orders(pairs), strict=True
        )
        for slot, pair, step, order in changes:
            heap = heaps.setdefault(slot, [])
            there[pair] = step > 0
            if step < 0:
                while heap and not there[heap[0][1]]:
                    queued[heapq.heappop(heap)[1]] = 0
            elif not queued[pair]:
                queued[pair] = 1
                heapq.heappush(heap, (order, pair))
            after.append(heap[0][1] if heap else -1)
            if not heap:
                del heaps[slot]
        return after

    def _forget(self) -> None:
        self._heaps: dict[int, list[tuple[Any, int]]] = {}
        self._there, self._queued = bytearray(), bytearray()

    def _add(self, pairs: Int64s) -> None:
        """Make heaps of the pairs that are there, of slots that have none."""
        self._grow()
        slots = self._values.owners(pairs).tolist()
        # What is sorted is a heap.
        for slot, order, pair in sorted(
            zip(slots, self._orders(pairs), pairs.tolist(), strict=True)
        ):
            self._there[pair] = self._queued[pair] = 1
            self._heaps.setdefault(slot, []).append((order, pair))
        owners = list(dict.fromkeys(slots))
        self._best.values[owners] = [self._heaps[slot][0][1] for slot in owners]

    def _grow(self) -> None:
        room = bytes(self._values.count - len(self._there))
        self._there.extend(room)
        self._queued.extend(room)
