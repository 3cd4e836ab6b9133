"""Running sums, means and variances: segmented cumulative operations over columns.

Shapes: positions [n] are those of ``Groups``: rows sorted by key.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.errors import UserFunctionError
from raystream.flow.batch import Int64s
from raystream.flow.key import raw_values
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.segmented import Moments, merge_moments, running_moments, running_sums
from raystream.keyed.slots import SlotColumn

Float64s: TypeAlias = npt.NDArray[np.float64]

_HALF = np.int64(32)
_LOW = np.int64(2**32 - 1)


class IntegerSum:
    """The sum of integers or bools, as int64 or uint64.

    Raises: UserFunctionError where a sum leaves its type, also if a later row would bring it back.
    """

    def __init__(self, name: str, column: str, *, unsigned: bool) -> None:
        self._name, self._column = name, column
        self._type = pa.uint64() if unsigned else pa.int64()
        self._sums = SlotColumn("u8" if unsigned else "i8")
        self._seen = SlotColumn("?", False)

    def reserve(self, count: int) -> None:
        self._sums.reserve(count)
        self._seen.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        values = integers_of(rows.record.column(self._column)).view(self._sums.values.dtype)
        values = values[groups.order]
        before = self._sums.values[groups.slots]
        # Arithmetic modulo 2**64 makes the prefix sum of all segments exact for each of them.
        sums = np.cumsum(values)
        sums += groups.spread(before - (sums[groups.starts] - values[groups.starts]))
        self._check(values, before, sums)
        self._sums.values[groups.slots] = sums[groups.ends]
        self._seen.values[groups.slots] = True
        return pa.array(sums)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        return pa.array(self._sums.values[slots], mask=~self._seen.values[slots])

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [self.result(slots)]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        self._sums.values[slots] = columns[0].fill_null(0).to_numpy()
        self._seen.values[slots] = _seen(columns[0])

    def _check(self, values: Any, before: Any, sums: Any) -> None:
        bound = 2**64 if self._type == pa.uint64() else 2**63
        if _reach(before) + _reach(values) * len(values) < bound:
            return
        if self._type == pa.uint64():
            over = sums < values
        else:
            over = ((sums - values) ^ sums) & (values ^ sums) < 0
        if over.any():
            raise overflow(self._name, self._column, self._type)


class FloatSum:
    """The sum of floats, added one after the other: the same however rows come in batches."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._sums = SlotColumn("f8")
        self._seen = SlotColumn("?", False)

    def reserve(self, count: int) -> None:
        self._sums.reserve(count)
        self._seen.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        values = floats_of(rows.record.column(self._column))[groups.order]
        sums = running_sums(values, groups, self._sums.values[groups.slots])
        self._sums.values[groups.slots] = sums[groups.ends]
        self._seen.values[groups.slots] = True
        return pa.array(sums)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        return pa.array(self._sums.values[slots], mask=~self._seen.values[slots])

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [self.result(slots)]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        self._sums.values[slots] = columns[0].fill_null(0).to_numpy()
        self._seen.values[slots] = _seen(columns[0])


class DecimalSum:
    """The sum of decimals as decimal(38, s), in four limbs of 32 bits.

    Raises: UserFunctionError where a sum has more than 38 digits.
    """

    def __init__(self, name: str, column: str, type: pa.DataType) -> None:
        self._column, self._arithmetic = column, DecimalLimbs(name, column, type)
        self._limbs = [SlotColumn("i8") for _ in range(4)]
        self._seen = SlotColumn("?", False)

    def reserve(self, count: int) -> None:
        for limb in self._limbs:
            limb.reserve(count)
        self._seen.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        values = self._arithmetic.split(rows.record.column(self._column), groups.order)
        totals = []
        for limb, value in zip(self._limbs, values, strict=True):
            total = np.cumsum(value)
            start = total[groups.starts] - value[groups.starts]
            total += groups.spread(limb.values[groups.slots] - start)
            totals.append(total)
        sums = self._arithmetic.carried(totals)
        self._arithmetic.check(sums)
        for limb, total in zip(self._limbs, sums, strict=True):
            limb.values[groups.slots] = total[groups.ends]
        self._seen.values[groups.slots] = True
        return self._arithmetic.join(sums, None)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        limbs = [limb.values[slots] for limb in self._limbs]
        return self._arithmetic.join(limbs, self._seen.values[slots])

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [self.result(slots)]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        seen = _seen(columns[0])
        limbs = self._arithmetic.split(columns[0], np.arange(len(slots)))
        for limb, values in zip(self._limbs, limbs, strict=True):
            limb.values[slots] = np.where(seen, values, 0)
        self._seen.values[slots] = seen


class DecimalLimbs:
    """Decimals as four limbs of 32 bits, the highest with the sign: arithmetic by column."""

    def __init__(self, name: str, column: str, type: pa.DataType) -> None:
        self._name, self._column = name, column
        self._type = pa.decimal128(38, type.scale)

    def split(self, array: pa.Array, order: Int64s) -> list[Int64s]:
        """Give the limbs of the values at some places, lowest first."""
        try:
            wide = array.cast(self._type)
        except pa.ArrowInvalid as error:
            raise overflow(self._name, self._column, self._type) from error
        if not len(wide):
            return [np.zeros(0, np.int64)] * 4
        words = np.frombuffer(wide.buffers()[1], "<u4")[4 * wide.offset :]
        limbs = words[: 4 * len(wide)].reshape(-1, 4)[order].astype(np.int64).T
        low, second, third, high = limbs
        return [low, second, third, np.where(high >> 31, high - 2**32, high)]

    def carried(self, totals: list[Int64s]) -> list[Int64s]:
        """Bring sums of limbs back to 32 bits each, but the highest."""
        sums = []
        carry: Any = 0
        for total in totals[:-1]:
            carried = total + carry
            carry = carried >> _HALF
            sums.append(carried & _LOW)
        return [*sums, totals[-1] + carry]

    def check(self, limbs: list[Int64s]) -> None:
        """Refuse what has more than 38 digits."""
        top = limbs[3]
        if not len(top) or max(-int(top.min()), int(top.max())) < 10**38 >> 96:
            return
        # Only sums near the bound come here: a loop over rows decides exactly.
        for parts in zip(*(limb.tolist() for limb in limbs), strict=True):
            if abs(sum(part << 32 * place for place, part in enumerate(parts))) >= 10**38:
                raise overflow(self._name, self._column, self._type)

    def join(self, limbs: list[Int64s], seen: npt.NDArray[np.bool_] | None) -> pa.Array:
        """Make decimals of limbs, null where nothing was seen."""
        words = np.stack([limb.astype("<u4") for limb in limbs], axis=1)
        validity = None if seen is None else pa.array(seen).buffers()[1]
        buffers = [validity, pa.py_buffer(np.ascontiguousarray(words))]
        return pa.Array.from_buffers(self._type, len(limbs[0]), buffers)


class Mean:
    """The mean as a float; sums of integers are exact before the division."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._counts = SlotColumn("i8")
        # Of integers the upper 32 bits (rounded down) and the lower ones are summed apart.
        self._high = SlotColumn("i8")
        self._low = SlotColumn("i8")
        self._sums = SlotColumn("f8")
        self._columns = (self._counts, self._high, self._low, self._sums)

    def reserve(self, count: int) -> None:
        for column in self._columns:
            column.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        array = rows.record.column(self._column)
        counts = groups.spread(self._counts.values[groups.slots]) + groups.places + 1
        self._counts.values[groups.slots] += groups.lengths
        if pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
            before = self._sums.values[groups.slots]
            sums = running_sums(floats_of(array)[groups.order], groups, before)
            self._sums.values[groups.slots] = sums[groups.ends]
        else:
            sums = self._exact(integers_of(array)[groups.order], array.type, groups)
        return pa.array(sums / counts)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        counts = self._counts.values[slots]
        sums = self._sums.values[slots] + whole(self._high.values[slots], self._low.values[slots])
        return pa.array(sums / np.maximum(counts, 1), mask=counts == 0)

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [pa.array(column.values[slots]) for column in self._columns]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        for column, values in zip(self._columns, columns, strict=True):
            column.values[slots] = values.to_numpy()

    def _exact(self, values: Int64s, type: pa.DataType, groups: Groups) -> Float64s:
        unsigned = pa.types.is_unsigned_integer(type)
        high = (
            (values.view(np.uint64) >> np.uint64(32)).view(np.int64)
            if unsigned
            else (values >> _HALF)
        )
        parts = []
        for column, part in ((self._low, values & _LOW), (self._high, high)):
            total = np.cumsum(part)
            start = total[groups.starts] - part[groups.starts]
            total += groups.spread(column.values[groups.slots] - start)
            column.values[groups.slots] = total[groups.ends]
            parts.append(total)
        return whole(parts[1], parts[0])


class Variance:
    """Sample variance or, with ``root``, standard deviation; null for fewer than two values."""

    def __init__(self, column: str, *, root: bool) -> None:
        self._column, self._root = column, root
        self._counts, self._means = SlotColumn("i8"), SlotColumn("f8")
        self._squares = SlotColumn("f8")
        # Values are taken from the first of their key: far from zero too they keep their digits.
        self._origins = SlotColumn("f8")
        self._columns = (self._counts, self._means, self._squares, self._origins)

    def reserve(self, count: int) -> None:
        for column in self._columns:
            column.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        values = floats_of(rows.record.column(self._column))[groups.order]
        before = self._moments(groups.slots)
        new = before.counts == 0
        self._origins.values[groups.slots[new]] = values[groups.starts[new]]
        with np.errstate(invalid="ignore", over="ignore"):
            values -= groups.spread(self._origins.values[groups.slots])
        spread = Moments(*(groups.spread(part) for part in before))
        after = merge_moments(spread, running_moments(values, groups))
        self._counts.values[groups.slots] = after.counts[groups.ends]
        self._means.values[groups.slots] = after.means[groups.ends]
        self._squares.values[groups.slots] = after.squares[groups.ends]
        return self._values(after)

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        return self._values(self._moments(slots))

    def state(self, slots: Int64s) -> list[pa.Array]:
        return [pa.array(column.values[slots]) for column in self._columns]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        for column, values in zip(self._columns, columns, strict=True):
            column.values[slots] = values.to_numpy()

    def _moments(self, slots: Int64s) -> Moments:
        columns = (self._counts, self._means, self._squares)
        return Moments(*(column.values[slots] for column in columns))

    def _values(self, moments: Moments) -> pa.Array:
        variance = moments.squares / np.maximum(moments.counts - 1, 1)
        values = np.sqrt(variance) if self._root else variance
        return pa.array(values, mask=moments.counts < 2)


def integers_of(array: pa.Array) -> Int64s:
    """Give integers or bools as 64 bits; undefined where the column is null."""
    type, types = array.type, pa.types
    if types.is_null(type):
        return np.zeros(len(array), np.int64)
    if types.is_boolean(type):
        bools: Int64s = array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
        return bools
    sign = "u" if types.is_unsigned_integer(type) else "i"
    values = raw_values(array, f"{sign}{type.bit_width // 8}")
    return values.view(np.int64) if type.bit_width == 64 else values.astype(np.int64)


def floats_of(array: pa.Array) -> Float64s:
    """Give numbers as floats; undefined where the column is null."""
    if pa.types.is_floating(array.type):
        return raw_values(array, f"f{array.type.bit_width // 8}").astype(np.float64)
    if pa.types.is_decimal(array.type):
        return raw_values(array.cast(pa.float64()), "f8")
    integers = integers_of(array)
    unsigned = pa.types.is_unsigned_integer(array.type)
    return (integers.view(np.uint64) if unsigned else integers).astype(np.float64)


def whole(high: Int64s, low: Int64s) -> Float64s:
    """Join halves into floats: the carry goes up first, so that small sums are exact."""
    high = high + (low >> _HALF)
    return high * float(2**32) + (low & _LOW)


def _seen(column: pa.Array) -> npt.NDArray[np.bool_]:
    seen: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return seen


def _reach(values: npt.NDArray[Any]) -> int:
    return max(-int(values.min()), int(values.max())) if len(values) else 0


def overflow(name: str, column: str, type: pa.DataType) -> UserFunctionError:
    """Make the error of a sum that does not fit its type."""
    return UserFunctionError(
        f'the aggregate "{name}" = sum("{column}") overflows {type}',
        hint="cast the column to Float64, or to a Decimal wide enough, before it is summed",
    )
