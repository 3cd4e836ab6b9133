"""What an aggregate is made of: the contract of a part, and how a column is read for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.keyed.measures_grouping import Request, Values, whole

ARRIVAL = "__arrival"
"""A column of row numbers in order of arrival, where windows share panes and order matters."""


class Part(Protocol):
    """One or a few columns of a partial table; equal parts are kept once.

    Merging is associative, and keeps order: partials come in the order in which their rows came.
    """

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        """The types of its columns."""

    def fold(self, rows: pa.RecordBatch) -> Request:
        """Say how rows become partials."""

    def merge(self, partials: list[Values]) -> Request:
        """Say how its own columns, of many partials, become those of fewer."""


@runtime_checkable
class Liftable(Part, Protocol):
    """A part for which a row can be a partial of its own at little cost."""

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """Give its columns for each row alone."""


Result: TypeAlias = Callable[[list[pa.Array]], pa.Array]
"""Gives an aggregate's values from the columns of its parts."""


def numbers(column: Values) -> pa.Array:
    """Read a column of numbers as float64; null where it is null."""
    array = whole(column)
    if pa.types.is_boolean(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.int8())
    return array if array.type == pa.float64() else array.cast(pa.float64(), safe=False)


def floats(array: pa.Array, where_null: float = 0.0) -> npt.NDArray[np.float64]:
    """Give float64 values as an array of NumPy, with a number where there is none."""
    filled = array.fill_null(where_null) if array.null_count else array
    values: npt.NDArray[np.float64] = filled.to_numpy(zero_copy_only=False)
    return values


def valid(*columns: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Tell the rows where no column is null; None where that is all of them."""
    mask: npt.NDArray[np.bool_] | None = None
    for column in columns:
        if column.null_count:
            some = column.is_valid().to_numpy(zero_copy_only=False)
            mask = some if mask is None else mask & some
    return mask


def one_zero(column: Values) -> pa.Array:
    """Bring floats to one zero and one NaN, so that equal values have equal bits."""
    array = whole(column)
    if pa.types.is_float16(array.type):
        return one_zero(array.cast(pa.float32())).cast(pa.float16())
    if not pa.types.is_floating(array.type):
        return array
    plain = pc.add(array, pa.scalar(0.0, array.type))
    return pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), array.type), plain)
