"""Parts that Arrow's grouped kernels reduce: counts, sums, extremes, and moments for variance."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.keyed.measures_grouping import Groups, Kernel, Request, Values, whole
from raystream.keyed.measures_parts import floats, numbers

_INT64_MAX = 2**63 - 1
_UINT64_MAX = 2**64 - 1
_DECIMAL_DIGITS = 38
_VALID = pc.CountOptions(mode="only_valid")
_POPULATION = pc.VarianceOptions(ddof=0)


@dataclass(frozen=True)
class Count:
    """Rows, or the values of a column that are not null."""

    column: str | None

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.int64(),)

    def fold(self, rows: pa.RecordBatch) -> Request:
        column = None if self.column is None else rows.column(self.column)
        if column is None or column.null_count == 0:
            return [Kernel(None, "count_all")]
        return [Kernel(column, "count", _VALID)]

    def merge(self, partials: list[Values]) -> Request:
        return [Kernel(partials[0], "sum")]

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        if self.column is None:
            return [pa.array(np.ones(rows.num_rows, np.int64))]
        return [rows.column(self.column).is_valid().cast(pa.int64())]

    def __str__(self) -> str:
        return f"count({self.column or ''})"


@dataclass(frozen=True)
class Sum:
    """The exact sum of integers or decimals, or of floats in double precision.

    The kernels wrap around in silence. So the sum is bounded first by the largest value times the
    number of rows; only where that bound does not fit are wider numbers added, which is slow.
    """

    column: str
    type: pa.DataType

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (self.type,)

    def fold(self, rows: pa.RecordBatch) -> Request:
        return [Kernel(self._addable(rows.column(self.column)), "sum")]

    def merge(self, partials: list[Values]) -> Request:
        return [Kernel(self._addable(partials[0]), "sum")]

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return [_plain(rows.column(self.column)).cast(self.type)]

    def __str__(self) -> str:
        return f"sum({self.column})"

    def _addable(self, column: Values) -> Values:
        column = _plain(column)
        if pa.types.is_floating(self.type):
            return column.cast(self.type) if pa.types.is_float16(column.type) else column
        if pa.types.is_decimal(self.type):
            return self._addable_decimal(column)
        # Narrow integers cannot fill 64 bits: a batch has less than 2**31 rows.
        if column.type.bit_width < 64:
            return column
        greatest = _INT64_MAX if self.type == pa.int64() else _UINT64_MAX
        if _fits(column, greatest):
            return column
        return column.cast(pa.decimal128(_DECIMAL_DIGITS, 0))

    def _addable_decimal(self, column: Values) -> Values:
        digits_free = _DECIMAL_DIGITS - column.type.precision
        if len(column) < 10 ** max(digits_free, 0) or _fits(column, 10**_DECIMAL_DIGITS - 1):
            return column.cast(self.type)
        return column.cast(pa.decimal256(76, self.type.scale))


@dataclass(frozen=True)
class FloatSum:
    """The sum of numbers of any type in double precision, for means."""

    column: str

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.float64(),)

    def fold(self, rows: pa.RecordBatch) -> Request:
        return [Kernel(numbers(rows.column(self.column)), "sum")]

    def merge(self, partials: list[Values]) -> Request:
        return [Kernel(partials[0], "sum")]

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return [numbers(rows.column(self.column))]


@dataclass(frozen=True)
class Extreme:
    """The least or the greatest value; NaN loses against every number, in both."""

    column: str
    function: str
    type: pa.DataType

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (_stored(self.type),)

    def fold(self, rows: pa.RecordBatch) -> Request:
        return [Kernel(self._comparable(rows), self.function)]

    def merge(self, partials: list[Values]) -> Request:
        return [Kernel(partials[0], self.function)]

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        return [self._comparable(rows)]

    def _comparable(self, rows: pa.RecordBatch) -> pa.Array:
        column = rows.column(self.column)
        stored = _stored(self.type)
        return column if column.type == stored else column.cast(stored)


@dataclass(frozen=True)
class Moments:
    """Count, mean and population variance: what sample variance is made of, without cancellation.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """

    column: str

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.int64(), pa.float64(), pa.float64())

    def fold(self, rows: pa.RecordBatch) -> Request:
        values = numbers(rows.column(self.column))
        return [
            Kernel(values, "count", _VALID),
            Kernel(values, "mean"),
            Kernel(values, "variance", _POPULATION),
        ]

    def merge(self, partials: list[Values]) -> Request:
        counts = whole(partials[0]).to_numpy().astype(np.float64)
        means, variances = (floats(whole(column)) for column in partials[1:])

        def merged(groups: Groups) -> list[pa.Array]:
            rows, ids = groups.where(counts > 0)
            n, mean, variance = counts[rows], means[rows], variances[rows]
            total = np.bincount(ids, n, groups.count)
            # Means are measured from the first of their group: differences of near numbers.
            origin = np.zeros(groups.count)
            origin[ids[::-1]] = mean[::-1]
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                apart = mean - origin[ids]
                shift = np.bincount(ids, n * apart, groups.count) / total
                squares = n * variance + n * (apart - shift[ids]) ** 2
                spread = np.bincount(ids, squares, groups.count) / total
            none = total == 0
            return [
                pa.array(total.astype(np.int64)),
                pa.array(origin + shift, mask=none),
                pa.array(spread, mask=none),
            ]

        return merged

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        values = numbers(rows.column(self.column))
        # A number differs from itself by nothing; infinity and NaN do not.
        return [values.is_valid().cast(pa.int64()), values, pc.subtract(values, values)]


def _plain(column: Values) -> Values:
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.int8())
    return column


def _stored(type: pa.DataType) -> pa.DataType:
    """Give the type as which the kernels compare values of a type."""
    if pa.types.is_duration(type):
        return pa.int64()
    if pa.types.is_float16(type):
        return pa.float32()
    return pa.int8() if pa.types.is_null(type) else type


def _fits(column: Values, greatest: int) -> bool:
    """Tell whether no sum of these values can go beyond ``greatest`` either way.

    Units: decimals in units of their last digit.
    """
    if len(column) == column.null_count:
        return True
    ends = pc.min_max(column).as_py().values()
    return max(map(_magnitude, ends)) * len(column) <= greatest


def _magnitude(value: int | Decimal) -> int:
    if isinstance(value, int):
        return abs(value)
    # Decimal arithmetic would round to the digits of its context.
    return int("".join(map(str, value.as_tuple().digits)))
