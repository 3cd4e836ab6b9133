"""Numbers for whole rows: equal rows have the same one, whatever types their columns have."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.key import is_fixed, is_interned
from raystream.keyed.key_index import KeyIndex

_WIDTH_MAX = 32
"""An index tells nulls apart by a bit a column."""


class RowIds:
    """Gives each different row a number: 0, 1, 2 ... in order of arrival.

    Values are compared as keys are: null equals null, NaN equals NaN.
    """

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._texts = [pa.types.is_nested(t) or not (is_fixed(t) or is_interned(t)) for t in types]
        told = [
            pa.string() if text else type for type, text in zip(types, self._texts, strict=True)
        ]
        starts = range(0, len(told), _WIDTH_MAX)
        self._parts = [KeyIndex(told[start : start + _WIDTH_MAX]) for start in starts]
        # Rows of many columns are told apart by the numbers of their parts.
        self._whole = RowIds([pa.int64()] * len(starts)) if len(starts) > 1 else None

    @property
    def count(self) -> int:
        """How many different rows there are."""
        return self._parts[0].count if self._whole is None else self._whole.count

    def lookup(self, columns: Sequence[pa.Array]) -> Int64s:
        """Give the number of each row.

        Shapes: columns, each [n] -> int64 [n].
        """
        told = [
            _texts(column) if text else column
            for column, text in zip(columns, self._texts, strict=True)
        ]
        starts = range(0, len(told), _WIDTH_MAX)
        numbers = [
            part.lookup(told[start : start + _WIDTH_MAX])[0]
            for part, start in zip(self._parts, starts, strict=True)
        ]
        if self._whole is None:
            return numbers[0]
        return self._whole.lookup([pa.array(one) for one in numbers])


def _texts(column: pa.Array) -> pa.Array:
    """Write values down that no index takes: lists, structs, maps.

    A loop over rows, because only Python compares values of every such type, NaN within them too.
    """
    values = column.to_pylist()
    return pa.array([None if value is None else repr(value) for value in values], pa.string())
