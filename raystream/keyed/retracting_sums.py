"""Sums, means and variances from which values are taken back again.

Each keeps what makes taking back exact: integers in two halves, floats in three times their
digits, and what is no finite number only counted. Where a key has no value left it begins anew.
Shapes: [n] by position of a ``Turn``, [m] by slot asked for.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.accumulators_sums import DecimalLimbs, floats_of, integers_of, overflow, whole
from raystream.keyed.long_floats import (
    Float64s,
    Longs,
    add,
    exact_product,
    exact_sum,
    long,
    running,
)
from raystream.keyed.slots import SlotColumn
from raystream.keyed.turns import Turn

_HALF = np.int64(32)
_LOW = np.int64(2**32 - 1)


class Halves:
    """Sums of integers, the upper 32 bits of each (rounded down) and the lower ones apart."""

    def __init__(self) -> None:
        self.columns = (SlotColumn("i8"), SlotColumn("i8"))

    def add(self, turn: Turn, array: pa.Array) -> tuple[Int64s, Int64s]:
        """Add up integers or bools; give the upper halves, which may be long, and the lower."""
        values = integers_of(array)[turn.groups.order]
        if pa.types.is_unsigned_integer(array.type):
            high = (values.view(np.uint64) >> np.uint64(32)).view(np.int64)
        else:
            high = values >> _HALF
        low = turn.sums(self.columns[1], (values & _LOW) * turn.signs)
        high = turn.sums(self.columns[0], high * turn.signs)
        # What the lower half carries goes up: kept there it would grow from batch to batch.
        high, low = high + (low >> _HALF), low & _LOW
        turn.leave(self.columns[0], high)
        turn.leave(self.columns[1], low)
        return high, low

    def read(self, slots: Int64s) -> tuple[Int64s, Int64s]:
        """Give both halves of some slots."""
        return self.columns[0].values[slots], self.columns[1].values[slots]


class Reals:
    """Sums of floats; NaN and both infinities are counted, so that they can be taken back."""

    def __init__(self) -> None:
        self._parts = tuple(SlotColumn("f8") for _ in range(3))
        self._odd = tuple(SlotColumn("i8") for _ in range(3))
        self.columns = (*self._parts, *self._odd)

    def add(self, turn: Turn, values: Longs) -> Longs:
        """Add up; what is not finite in ``hi`` is counted alone."""
        odd = ~np.isfinite(values.hi)
        sorts = (np.isnan(values.hi), values.hi == np.inf, values.hi == -np.inf)
        counts = [
            turn.sums(column, sort * turn.signs)
            for column, sort in zip(self._odd, sorts, strict=True)
        ]
        signs = turn.signs.astype(np.float64)
        finite = Longs(*(np.where(odd, 0.0, part) * signs for part in values))
        before = Longs(*(turn.runs.spread(turn.before(column)) for column in self._parts))
        with np.errstate(all="ignore"):
            sums = add(before, running(finite, turn.runs))
        for column, part in zip(self._parts, sums, strict=True):
            turn.leave(column, part)
        return _with_odd(sums, counts)

    def read(self, slots: Int64s) -> Longs:
        """Give the sums of some slots."""
        sums = Longs(*(column.values[slots] for column in self._parts))
        return _with_odd(sums, [column.values[slots] for column in self._odd])


def _with_odd(sums: Longs, counts: list[Int64s]) -> Longs:
    nan, up, down = (count > 0 for count in counts)
    odd = np.select([nan | (up & down), up, down], [np.nan, np.inf, -np.inf], 0.0)
    none = odd == 0
    return Longs(np.where(none, sums.hi, odd), *(np.where(none, part, 0.0) for part in sums[1:]))


class _Kept:
    """State that is columns by slot; what is kept of it is those columns."""

    _columns: tuple[SlotColumn, ...]

    def reserve(self, count: int) -> None:
        for column in self._columns:
            column.reserve(count)

    def state(self, slots: Int64s, counts: Int64s) -> list[pa.Array]:
        return [pa.array(column.values[slots]) for column in self._columns]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        for column, values in zip(self._columns, columns, strict=True):
            column.values[slots] = values.to_numpy()

    def forget(self, slots: Int64s) -> None:
        for column in self._columns:
            column.values[slots] = 0


class Counting(_Kept):
    """How many values there are."""

    _columns = ()

    def scan(self, turn: Turn) -> pa.Array:
        return pa.array(turn.counts)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return pa.array(counts)


class IntegerSum(_Kept):
    """The sum of integers or bools, as int64 or uint64.

    Raises: UserFunctionError where a sum leaves its type.
    """

    def __init__(self, name: str, column: str, *, unsigned: bool) -> None:
        self._name, self._column = name, column
        self._type = pa.uint64() if unsigned else pa.int64()
        self._sums = Halves()
        self._columns = self._sums.columns

    def scan(self, turn: Turn) -> pa.Array:
        high, low = self._sums.add(turn, turn.rows.record.column(self._column))
        if self._type == pa.uint64():
            over = high >= 2**32
        else:
            over = (high < -(2**31)) | (high >= 2**31)
        if over.any():
            raise overflow(self._name, self._column, self._type)
        return self._joined(high, low)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return self._joined(*self._sums.read(slots))

    def _joined(self, high: Int64s, low: Int64s) -> pa.Array:
        sums = (high << _HALF) | low
        return pa.array(sums.view(np.uint64) if self._type == pa.uint64() else sums)


class FloatSum(_Kept):
    """The sum of floats, rounded once, as it goes out."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._sums = Reals()
        self._columns = self._sums.columns

    def scan(self, turn: Turn) -> pa.Array:
        return pa.array(self._sums.add(turn, _longs(turn, self._column)).hi)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return pa.array(self._sums.read(slots).hi)


class DecimalSum(_Kept):
    """The sum of decimals as decimal(38, s), in four limbs of 32 bits.

    Raises: UserFunctionError where a sum has more than 38 digits.
    """

    def __init__(self, name: str, column: str, type: pa.DataType) -> None:
        self._column = column
        self._limbs = DecimalLimbs(name, column, type)
        self._columns = tuple(SlotColumn("i8") for _ in range(4))

    def scan(self, turn: Turn) -> pa.Array:
        values = self._limbs.split(turn.rows.record.column(self._column), turn.groups.order)
        sums = self._limbs.carried(
            [
                turn.sums(column, value * turn.signs)
                for column, value in zip(self._columns, values, strict=True)
            ]
        )
        self._limbs.check(sums)
        for column, total in zip(self._columns, sums, strict=True):
            turn.leave(column, total)
        return self._limbs.join(sums, None)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        return self._limbs.join([column.values[slots] for column in self._columns], None)


class Mean(_Kept):
    """The mean as a float; sums of integers are exact before the division."""

    def __init__(self, column: str, type: pa.DataType) -> None:
        self._column = column
        real = pa.types.is_floating(type) or pa.types.is_decimal(type)
        self._sums: Halves | Reals = Reals() if real else Halves()
        self._columns = self._sums.columns

    def scan(self, turn: Turn) -> pa.Array:
        if isinstance(self._sums, Reals):
            sums = self._sums.add(turn, _longs(turn, self._column)).hi
        else:
            sums = whole(*self._sums.add(turn, turn.rows.record.column(self._column)))
        return pa.array(sums / np.maximum(turn.counts, 1))

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        read = self._sums.read(slots)
        sums = read.hi if isinstance(read, Longs) else whole(*read)
        return pa.array(sums / np.maximum(counts, 1))


class Variance(_Kept):
    """Sample variance or, with ``root``, standard deviation; null for fewer than two values."""

    def __init__(self, column: str, *, root: bool) -> None:
        self._column, self._root = column, root
        # Values are taken from the first of their key: far from zero too they keep their digits.
        self._origins = SlotColumn("f8")
        self._sums, self._squares = Reals(), Reals()
        self._columns = (self._origins, *self._sums.columns, *self._squares.columns)

    def scan(self, turn: Turn) -> pa.Array:
        values = _longs(turn, self._column).hi
        first = values[turn.runs.starts]
        first = np.where(np.isfinite(first), first, 0.0)
        origins = turn.runs.spread(np.where(turn.fresh, first, turn.before(self._origins)))
        turn.leave(self._origins, origins)
        with np.errstate(all="ignore"):
            apart = exact_sum(values, -origins)
            squares = exact_product(apart.hi, apart.hi)
            # (a + b)² = a² + 2 a b + b², where b is what a float of a has no digits for.
            rest = add(exact_product(2 * apart.hi, apart.mid), long(apart.mid * apart.mid))
            squares = add(squares, rest)
            sums = self._sums.add(turn, apart)
            return self._values(sums, self._squares.add(turn, squares), turn.counts)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        with np.errstate(all="ignore"):
            return self._values(self._sums.read(slots), self._squares.read(slots), counts)

    def _values(self, sums: Longs, squares: Longs, counts: Int64s) -> pa.Array:
        n = np.maximum(counts, 1).astype(np.float64)
        mean = sums.hi / n
        # The squares from the mean, of those from the origin: s - 2 m t + n m², all of it exact.
        twice = -2 * mean
        less = add(exact_product(twice, sums.hi), exact_product(twice, sums.mid))
        square = exact_product(mean, mean)
        more = add(exact_product(n, square.hi), exact_product(n, square.mid))
        total = np.maximum(add(add(squares, less), more).hi, 0.0)
        total = np.where(np.isfinite(sums.hi), total, np.nan)
        variance = total / np.maximum(counts - 1, 1)
        values = np.sqrt(variance) if self._root else variance
        return pa.array(values, mask=counts < 2)


def _longs(turn: Turn, column: str) -> Longs:
    values: Float64s = floats_of(turn.rows.record.column(column))[turn.groups.order]
    return long(values)
