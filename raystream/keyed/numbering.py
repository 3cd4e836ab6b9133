"""Numbers for strings, bytes and decimals: equal values get equal numbers, in order of arrival.

The values stand one behind the other in memory, as an Arrow array does. A table over their 64-bit
hash finds the candidate, and the bytes are compared: two values of one hash stay two values.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from raystream.flow.batch import Int64s
from raystream.flow.hashing import UInt64s, fmix64
from raystream.flow.key import is_text
from raystream.keyed.code_table import CodeTable
from raystream.keyed.slots import SlotColumn

Claim: TypeAlias = Callable[[pa.Array, UInt64s], Int64s]
"""Numbers for different values, by their hashes; -1 for none."""

_BYTES_MIN = 16_384


class Numbering:
    """Numbers the values of a column: 0, 1, 2 ...; nulls have none.

    Values that first come in one batch are numbered in order of arrival, unless their hashes
    collide.
    """

    def __init__(self, type: pa.DataType) -> None:
        self.type = type
        self._table = CodeTable(1)
        self._ends = SlotColumn("i8")
        self._heap: npt.NDArray[np.uint8] = np.zeros(_BYTES_MIN, np.uint8)

    @property
    def count(self) -> int:
        return self._table.count

    def numbers(self, array: pa.Array) -> Int64s:
        """Give the number of each value; undefined where the column is null.

        Shapes: array [n] -> int64 [n].
        """
        return self._spread(array, self._claim)

    def find(self, array: pa.Array) -> Int64s:
        """Give the number of each value, -1 where it has none; undefined where the column is null.

        Shapes: array [n] -> int64 [n].
        """
        return self._spread(array, lambda _, hashes: self._table.find([hashes.view(np.int64)]))

    def _spread(self, array: pa.Array, claim: Claim) -> Int64s:
        encoded = _as_bytes(array).dictionary_encode()
        numbers = np.append(self._number(encoded.dictionary, claim), 0)
        indices = encoded.indices
        if indices.null_count:
            indices = indices.fill_null(len(numbers) - 1)
        found: Int64s = numbers[indices.to_numpy()]
        return found

    def values(self, numbers: Int64s) -> pa.Array:
        """Give the values that have these numbers.

        Shapes: int64 [m] -> array [m].
        """
        return _from_bytes(self._known().take(pa.array(numbers)), self.type)

    def _number(self, values: pa.Array, claim: Claim) -> Int64s:
        """Number different values: by hash, then again by another where a hash collides."""
        # A loop over the different values of a batch, in C but for the call.
        hashed = map(xxh3_64_intdigest, values.to_pylist(), repeat(0))
        hashes = np.fromiter(hashed, np.uint64, len(values))
        numbers = np.empty(len(values), np.int64)
        rows = np.arange(len(values))
        while len(rows):
            candidates = values if len(rows) == len(values) else values.take(pa.array(rows))
            found = claim(candidates, hashes[rows])
            numbers[rows] = found
            there = np.flatnonzero(found >= 0)
            known = self._known().take(pa.array(found[there]))
            same = pc.equal(known, candidates.take(pa.array(there)))
            rows = rows[there[~same.to_numpy(zero_copy_only=False)]]
            hashes[rows] = fmix64(~hashes[rows])
        return numbers

    def _claim(self, values: pa.Array, hashes: UInt64s) -> Int64s:
        before = self._table.count
        found = self._table.lookup([hashes.view(np.int64)])
        new = np.flatnonzero(found >= before)
        if len(new):
            first = np.empty(self._table.count - before, np.int64)
            first[found[new[::-1]] - before] = new[::-1]
            self._keep(values.take(pa.array(first)), before)
        return found

    def _keep(self, values: pa.Array, before: int) -> None:
        """Append values behind those that are there."""
        ends = self._ends
        ends.reserve(before + len(values) + 1)
        start = int(ends.values[before])
        lengths = pc.binary_length(values).to_numpy().astype(np.int64)
        ends.values[before + 1 : before + 1 + len(values)] = start + np.cumsum(lengths)
        stop = int(ends.values[before + len(values)])
        if stop > len(self._heap):
            grown = np.zeros(max(stop, 2 * len(self._heap)), np.uint8)
            grown[:start] = self._heap[:start]
            self._heap = grown
        if stop > start:
            # ``take`` has just made these values: they start at 0 and lie without gaps.
            data = np.frombuffer(values.buffers()[2], np.uint8, stop - start)
            self._heap[start:stop] = data

    def _known(self) -> pa.Array:
        buffers = [None, pa.py_buffer(self._ends.values), pa.py_buffer(self._heap)]
        return pa.Array.from_buffers(pa.large_binary(), self._table.count, buffers)


def _as_bytes(array: pa.Array) -> pa.Array:
    if pa.types.is_null(array.type):
        return array.cast(pa.large_binary())
    if pa.types.is_decimal(array.type):
        array = array.view(pa.binary(array.type.byte_width))
    return array.cast(pa.large_string() if is_text(array.type) else pa.large_binary()).cast(
        pa.large_binary()
    )


def _from_bytes(array: pa.Array, type: pa.DataType) -> pa.Array:
    if pa.types.is_null(type):
        return pa.nulls(len(array))
    if pa.types.is_decimal(type):
        return array.cast(pa.binary(type.byte_width)).view(type)
    return array.cast(pa.large_string()).cast(type) if is_text(type) else array.cast(type)
