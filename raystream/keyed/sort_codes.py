"""Codes that compare as rows do by several columns, each up or down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.measures_pick import sort_key

Bools = npt.NDArray[np.bool_]


def sorting(column: pa.Array, *, descending: bool) -> tuple[npt.NDArray[Any], Bools | None]:
    """Give numbers whose least is the best, those of NaN the greatest, and tell nulls, if any are.

    Shapes: column [n] -> int64 or float64 [n], bool [n].
    """
    values = sort_key(column, greatest=descending)
    if not column.null_count:
        return values, None
    missing = column.is_null().to_numpy(zero_copy_only=False)
    # What stands for null is undefined: equal nulls must be equal here too.
    return np.where(missing, values.dtype.type(0), values), missing


def sort_codes(rows: pa.RecordBatch, by: Sequence[tuple[str, bool]]) -> Int64s:
    """Give each row a code: the least is the best, equal rows have equal ones.

    ``by`` are pairs of (column, descending); nulls and NaN come last either way.
    Shapes: rows [n] -> int64 [n].
    """
    columns = [sorting(rows.column(name), descending=down) for name, down in by]
    values, missing = columns[0]
    if len(columns) == 1 and missing is None:
        return values if values.dtype == np.int64 else _bits(values)
    # The last of these sorts first; what comes before only breaks its ties.
    keys = [some for pair in reversed(columns) for some in pair if some is not None]
    order = np.lexsort(keys)
    new = np.zeros(len(order), np.bool_)
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(new)
    return codes


def _bits(floats: npt.NDArray[np.float64]) -> Int64s:
    """Give integers that compare as floats do; there is one zero, and no NaN."""
    bits: Int64s = (floats.astype(np.float64) + 0.0).view(np.int64)
    return np.where(bits < 0, bits ^ np.iinfo(np.int64).max, bits)
