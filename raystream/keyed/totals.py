"""Accumulators by slot for parts that are sums, counts and extremes of columns of one width.

Arrow's grouping makes each group anew, at a hundred nanoseconds a group. Where a key comes again
and again it is cheaper to know its slot, and to add what comes to what stands there. What comes is
partials, and what goes out is partials: they are merged here as they would be anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.measures_numeric import Count, Extreme, FloatSum, Sum
from raystream.keyed.measures_parts import Part, valid
from raystream.keyed.slots import SlotColumn, distinct

Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a column of partials is reduced: ``add``, ``min`` or ``max`` of values of one width."""

    function: str
    type: pa.DataType

    @property
    def numbers(self) -> np.dtype[Any]:
        """The numbers of NumPy that stand for the values."""
        if pa.types.is_temporal(self.type):
            return np.dtype(f"i{self.type.bit_width // 8}")
        numbers: np.dtype[Any] = np.dtype(self.type.to_pandas_dtype())
        return numbers

    @property
    def start(self) -> Any:
        """What changes nothing."""
        if self.function == "add":
            return 0
        if self.numbers.kind == "f":
            return np.nan  # loses against every number
        bounds = np.iinfo(self.numbers)
        return bounds.max if self.function == "min" else bounds.min

    @property
    def may_overflow(self) -> bool:
        """Whether the result may not fit, in silence."""
        return self.function == "add" and self.numbers.kind != "f"


def reductions_of(parts: Sequence[Part]) -> list[Reduction] | None:
    """Give the reduction of each column of partials; None where a part is more than that."""
    found = []
    for part in parts:
        reduction = _reduction(part)
        if reduction is None:
            return None
        found.append(reduction)
    return found


def _reduction(part: Part) -> Reduction | None:
    type, types = part.types[0], pa.types
    if isinstance(part, Count | FloatSum):
        return Reduction("add", type)
    if isinstance(part, Sum):
        plain = types.is_float64(type) or types.is_int64(type) or types.is_uint64(type)
        return Reduction("add", type) if plain else None
    if isinstance(part, Extreme):
        timed = types.is_timestamp(type) or types.is_date(type) or types.is_time(type)
        plain = timed or types.is_integer(type) or types.is_float32(type) or types.is_float64(type)
        return Reduction(part.function, type) if plain else None
    return None


@dataclass(frozen=True, slots=True)
class Addends:
    """A column of partials as numbers: ``valid`` tells those that are not null, None: all are.

    None is larger than ``magnitude``, which is 0 where it does not matter.
    """

    numbers: npt.NDArray[Any]
    valid: Bools | None
    magnitude: int

    def taken(self, rows: Int64s) -> Addends:
        """Pick rows by number."""
        mask = None if self.valid is None else self.valid[rows]
        return Addends(self.numbers[rows], mask, self.magnitude)

    def part(self, rows: slice) -> Addends:
        """Give some rows, as a view."""
        mask = None if self.valid is None else self.valid[rows]
        return Addends(self.numbers[rows], mask, self.magnitude)


def addends_of(reductions: Sequence[Reduction], columns: Sequence[pa.Array]) -> list[Addends]:
    """Turn columns of partials into what can be added.

    Shapes: columns, each [n] -> each [n].
    """
    return [_addends(some, array) for some, array in zip(reductions, columns, strict=True)]


def _addends(reduction: Reduction, array: pa.Array) -> Addends:
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    mask = valid(array)
    if mask is not None:
        array = array.fill_null(0)
    numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return Addends(numbers, mask, _magnitude(numbers) if reduction.may_overflow else 0)


class Totals:
    """A column of accumulators for each column of partials."""

    def __init__(self, reductions: Sequence[Reduction]) -> None:
        self.reductions = reductions
        self._columns = [_Column(reduction) for reduction in reductions]
        self._present = SlotColumn("?", fill=False)

    @property
    def nbytes(self) -> int:
        return self._present.values.nbytes + sum(column.nbytes for column in self._columns)

    @property
    def present(self) -> Int64s:
        """The slots to which anything was added."""
        return np.flatnonzero(self._present.values)

    def fits(self, addends: Sequence[Addends]) -> bool:
        """Tell whether adding columns of partials cannot overflow, and count on their being added.

        Shapes: addends, each [n].
        """
        return all(some.fits(more) for some, more in zip(self._columns, addends, strict=True))

    def fresh(self, slots: Int64s, count: int) -> Int64s:
        """Find slots, of which there are ``count``, to which nothing has been added.

        Shapes: int64 [n] -> int64 [m], each once, ascending.
        """
        self._present.reserve(count)
        there = self._present.values[slots]
        return distinct(slots[~there]) if not there.all() else slots[:0]

    def add(self, slots: Int64s, fresh: Int64s, count: int, addends: Sequence[Addends]) -> None:
        """Reduce partials into the accumulators of slots, of which there are ``count``.

        ``fresh`` are those of them to which nothing has been added, each once.
        Shapes: slots int64 [n]; fresh int64 [m]; addends, each [n].
        """
        self._present.reserve(count)
        present = self._present.values[:count]
        for some, more in zip(self._columns, addends, strict=True):
            some.add(slots, more, present)
        present[fresh] = True

    def move(self, slots: Int64s, into: Int64s, count: int) -> None:
        """Give what stands at some slots others, of which there are ``count``; forget the rest.

        Shapes: slots, into int64 [m], each once.
        """
        self._present = _moved(self._present, slots, into, count)
        for column in self._columns:
            column.move(slots, into, count)

    def clear(self, slots: Int64s) -> None:
        """Make it as if nothing had been added to slots."""
        self._present.values[slots] = False
        for column in self._columns:
            column.clear(slots)

    def partials(self, slots: Int64s) -> list[pa.Array]:
        """Give the columns of partials of some slots, as copies."""
        return [column.partials(slots) for column in self._columns]


class _Column:
    """One accumulator a slot, and whether any value has come, from the first null on."""

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._values = SlotColumn(reduction.numbers.str, fill=reduction.start)
        self._seen: SlotColumn | None = None
        self._bound = 0
        self._greatest = np.iinfo(reduction.numbers).max if reduction.may_overflow else 0
        self._reduce = {
            "add": np.add,
            "min": np.fmin if reduction.numbers.kind == "f" else np.minimum,
            "max": np.fmax if reduction.numbers.kind == "f" else np.maximum,
        }[reduction.function]

    @property
    def nbytes(self) -> int:
        return self._values.values.nbytes + (0 if self._seen is None else self._seen.values.nbytes)

    def fits(self, more: Addends) -> bool:
        if not more.magnitude:
            return True
        added = more.magnitude * len(more.numbers)
        if self._bound + added > self._greatest:
            self._bound = _magnitude(self._values.values)
        self._bound += added
        return self._bound <= self._greatest

    def add(self, slots: Int64s, more: Addends, present: Bools) -> None:
        self._values.reserve(len(present))
        if more.valid is not None and self._seen is None:
            self._seen = SlotColumn("?", fill=False)
            self._seen.reserve(len(present))
            # Before the first null, whatever was added was a value.
            self._seen.values[: len(present)] = present
        numbers = more.numbers
        if more.valid is not None:
            slots, numbers = slots[more.valid], numbers[more.valid]
        with np.errstate(invalid="ignore", over="ignore"):
            self._reduce.at(self._values.values, slots, numbers)
        if self._seen is not None:
            self._seen.reserve(len(present))
            self._seen.values[slots] = True

    def move(self, slots: Int64s, into: Int64s, count: int) -> None:
        self._values = _moved(self._values, slots, into, count)
        if self._seen is not None:
            self._seen = _moved(self._seen, slots, into, count)

    def clear(self, slots: Int64s) -> None:
        self._values.values[slots] = self._reduction.start
        if self._seen is not None:
            self._seen.values[slots] = False

    def partials(self, slots: Int64s) -> pa.Array:
        values: npt.NDArray[Any] = self._values.values[slots]
        mask = None if self._seen is None else ~self._seen.values[slots]
        array = pa.array(values, mask=mask, from_pandas=False)
        type = self._reduction.type
        return array if array.type == type else array.view(type)


def _magnitude(values: npt.NDArray[Any]) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if len(values) else 0


def _moved(column: SlotColumn, slots: Int64s, into: Int64s, count: int) -> SlotColumn:
    moved = column.like(count)
    moved.values[into] = column.values[slots]
    return moved
