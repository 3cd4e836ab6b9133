"""From keys to dense slots: what holds the present value of a key is a column by slot.

Each key column becomes int64 codes: numbers and times are their own canonical bits, strings, bytes
and decimals are numbered as they come. A
table over the codes gives the slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.flow.batch import Int64s
from raystream.flow.key import fixed_bits, is_fixed, plain_array, plain_type, valid_rows
from raystream.keyed.code_table import CodeTable
from raystream.keyed.numbering import Numbering
from raystream.keyed.range_table import RangeTable

_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY_MS = 86_400_000


class KeyIndex:
    """Gives each key a slot: 0, 1, 2 ... in order of arrival; null is a key, and equals null."""

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        assert types, "a key has a column"
        self._coders = [_coder(plain_type(type)) for type in types]
        self._table: CodeTable | RangeTable = CodeTable(len(self._coders))
        alone = self._coders[0] if len(self._coders) == 1 else None
        self._untried = isinstance(alone, _Fixed)
        # The numbers of a single column of strings are slots already, until the first null.
        self._numbered = alone if isinstance(alone, _Numbered) else None

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self._table.count if self._numbered is None else self._numbered.count

    def lookup(self, columns: Sequence[pa.Array]) -> tuple[Int64s, int]:
        """Give the slot of each row's key, and the first slot that was not there before.

        Shapes: columns, each [n] -> int64 [n].
        """
        first_new = self.count
        arrays = [plain_array(column) for column in columns]
        if any(array.null_count for array in arrays):
            self._expect_nulls()
        codes = [coder.codes(array) for coder, array in zip(self._coders, arrays, strict=True)]
        if self._numbered is not None:
            return codes[0], first_new
        if self._untried and len(codes[0]):
            self._untried = False
            if RangeTable.suits(codes[0]):
                self._table = RangeTable()
        if self._table.width > len(self._coders):
            codes.append(_null_bits(arrays))
        return self._table.lookup(codes), first_new

    def find(self, columns: Sequence[pa.Array]) -> Int64s:
        """Give the slot of each row's key, -1 where it has none, or a null is in it.

        Shapes: columns, each [n] -> int64 [n].
        """
        arrays = [plain_array(column) for column in columns]
        codes = [coder.find(array) for coder, array in zip(self._coders, arrays, strict=True)]
        nulls = _null_bits(arrays)
        if self._numbered is not None:
            slots = codes[0]
        else:
            if self._table.width > len(self._coders):
                codes.append(np.zeros(len(nulls), np.int64))
            slots = self._table.find(codes)
        return np.where(nulls == 0, slots, -1)

    def grow(self) -> Iterator[None]:
        """Make room before there is none, in bounded steps; nothing may be added in between."""
        return self._table.grow()

    def keys(self, slots: Int64s) -> list[pa.Array]:
        """Give the key columns of some slots.

        Shapes: int64 [m] -> arrays, each [m].
        """
        if self._numbered is not None:
            return [self._numbered.values(slots)]
        codes = self._table.codes(slots)
        nulls = codes.pop() if self._table.width > len(self._coders) else None
        keys = []
        for place, (coder, column) in enumerate(zip(self._coders, codes, strict=True)):
            values = coder.values(column)
            if nulls is not None and (null := (nulls >> place & 1).astype(np.bool_)).any():
                values = pc.if_else(pa.array(null), pa.scalar(None, values.type), values)
            keys.append(values)
        return keys

    def _expect_nulls(self) -> None:
        """Add the column that tells null from a value of the same code: most keys need none."""
        if self._numbered is not None:
            self._table.lookup([np.arange(self._numbered.count)])
            self._numbered = None
        if isinstance(self._table, RangeTable):
            self._table = self._table.hashed()
        self._untried = False
        if self._table.width == len(self._coders):
            self._table.widen(0)


def _null_bits(arrays: list[pa.Array]) -> Int64s:
    bits: Int64s = np.zeros(len(arrays[0]), np.int64)
    for place, array in enumerate(arrays):
        valid = valid_rows(array)
        if valid is not None:
            bits |= (~valid).astype(np.int64) << place
    return bits


class _Fixed:
    """Numbers and times: a code is the value's canonical bits, 0 for null."""

    def __init__(self, type: pa.DataType) -> None:
        self._type = type

    def codes(self, array: pa.Array) -> Int64s:
        bits = fixed_bits(array)
        valid = valid_rows(array)
        return bits if valid is None else np.where(valid, bits, 0)

    find = codes

    def values(self, codes: Int64s) -> pa.Array:
        type, types = self._type, pa.types
        if types.is_boolean(type):
            return pa.array(codes.astype(np.bool_), type)
        if types.is_floating(type):
            return pa.array(codes.view(np.float64).astype(f"f{type.bit_width // 8}"), type)
        if types.is_integer(type):
            sign = "u" if types.is_unsigned_integer(type) else "i"
            return pa.array(codes.astype(f"{sign}{type.bit_width // 8}"), type)
        if types.is_date64(type):
            codes = codes * _DAY_MS
        elif not types.is_date32(type):
            codes = codes * 1_000 if type.unit == "ns" else codes // _US[type.unit]
        return pa.array(codes.astype(f"i{type.bit_width // 8}")).view(type)


class _Numbered:
    """Strings, bytes and decimals: a code is the value's number, 0 for null."""

    def __init__(self, type: pa.DataType) -> None:
        self._numbering = Numbering(type)

    @property
    def count(self) -> int:
        return self._numbering.count

    def codes(self, array: pa.Array) -> Int64s:
        return self._numbering.numbers(array)

    def find(self, array: pa.Array) -> Int64s:
        return self._numbering.find(array)

    def values(self, codes: Int64s) -> pa.Array:
        # There may be a code 0 for null before there is any value.
        if not self._numbering.count:
            return pa.nulls(len(codes), self._numbering.type)
        return self._numbering.values(codes)


_Coder: TypeAlias = _Fixed | _Numbered


def _coder(type: pa.DataType) -> _Coder:
    return _Fixed(type) if is_fixed(type) else _Numbered(type)
