"""Running aggregates over changelogs: rows add, and rows take back what others had added.

A *rule* knows one aggregate. It is given only rows that count, and how many values each key has by
then: where that is none, it begins anew, and its value is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.aggregate import Bound
from raystream.errors import PlanError
from raystream.flow.batch import Int64s
from raystream.keyed.accumulators import kept_positions
from raystream.keyed.accumulators_rows import MakeRows
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.retracting_rows import ByRow, Ordered, Own, Quantile
from raystream.keyed.retracting_sums import (
    Counting,
    DecimalSum,
    FloatSum,
    IntegerSum,
    Mean,
    Variance,
)
from raystream.keyed.retracting_values import Distinct, Extreme
from raystream.keyed.slots import SlotColumn
from raystream.keyed.turns import Turn, counted

_COUNTS = ("count", "count_distinct")
_WAY_OUT = (
    'to_rows(op="op") makes each change a plain row, with its kind in a column; or keep what you '
    "need in a process function"
)


class Rule(Protocol):
    """One aggregate over the rows that count; ``counts`` are the values of the slots asked for."""

    def reserve(self, count: int) -> None:
        """Make room for slots 0 to ``count`` - 1."""

    def scan(self, turn: Turn) -> pa.Array:
        """Take rows in and back; give the value after each: an array [n] by position."""

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        """Give the value of each slot as it is now: int64 [m] -> array [m]."""

    def state(self, slots: Int64s, counts: Int64s) -> list[pa.Array]:
        """Give what ``restore`` needs to go on from: int64 [m] -> arrays, each [m].

        Of types of their own, the same whatever has come; copies, not views.
        """

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        """Take up the state of slots that are new: int64 [m], arrays, each [m]."""

    def forget(self, slots: Int64s) -> None:
        """Drop what is held of slots that have no values by now."""


class Scan(NamedTuple):
    """The value of each key before the rows of a batch, [m] by segment; and after each, [n]."""

    before: pa.Array
    after: pa.Array


class RetractingAggregate:
    """One aggregate of a columnar changelog, with its accumulators.

    ``make_rows`` makes the rows that a user's AggregateFunction sees.
    Raises: PlanError where the aggregate is not defined for its column's type, or cannot take back.
    """

    def __init__(self, bound: Bound, make_rows: MakeRows) -> None:
        self._kind = bound.kind
        self._rule = _rule(bound, make_rows)
        self._needed = [name for name in (bound.value, bound.by) if name is not None]
        self._condition = bound.condition
        self._counts = SlotColumn("i8")

    def scan(self, groups: Groups, rows: Rows, signs: Int64s, count: int) -> Scan:
        """Take rows in and back.

        Shapes: groups of n positions, signs int64 [n] of 1 and -1 by position, ``count`` above
        every slot.
        """
        self._reserve(count)
        before = self.result(groups.slots)
        kept = kept_positions(groups, rows.record, self._needed, self._condition)
        inner = groups if kept is None else groups.only(kept)
        if not len(inner.order):
            return Scan(before, before.take(pa.array(groups.segments)))
        some = signs if kept is None else signs[kept]
        counts, passed = counted(inner, some, self._counts.values[inner.slots])
        if passed is not None:
            kept = np.ones(len(signs), np.bool_) if kept is None else kept.copy()
            kept[kept] = ~passed
            inner, some, counts = groups.only(kept), some[~passed], counts[~passed]
        if not len(inner.order):
            return Scan(before, before.take(pa.array(groups.segments)))
        scanned = self._shown(self._rule.scan(Turn(inner, rows, some, counts)), counts)
        self._counts.values[inner.slots] = counts[inner.ends]
        if kept is None:
            return Scan(before, scanned)
        so_far = np.cumsum(kept)
        started = so_far > groups.spread(so_far[groups.starts] - kept[groups.starts])
        place = np.where(started, so_far - 1, len(scanned) + groups.segments)
        return Scan(before, pa.concat_arrays([scanned, before]).take(pa.array(place)))

    def result(self, slots: Int64s) -> pa.Array:
        """Give the value of each slot as it is now.

        Shapes: int64 [m] -> array [m].
        """
        counts = self._counts.values[slots]
        return self._shown(self._rule.result(slots, counts), counts)

    def state(self, slots: Int64s, count: int) -> list[pa.Array]:
        """Give the accumulators of some slots, as columns of their own types.

        Shapes: int64 [m] -> arrays, each [m].
        """
        self._reserve(count)
        counts = self._counts.values[slots]
        return [pa.array(counts), *self._rule.state(slots, counts)]

    def restore(self, slots: Int64s, columns: list[pa.Array], count: int) -> None:
        """Take up what ``state`` gave, in slots that are new; ``count`` is above every slot.

        Shapes: int64 [m], arrays, each [m].
        """
        self._reserve(count)
        self._counts.values[slots] = columns[0].to_numpy()
        self._rule.restore(slots, columns[1:])

    def forget(self, slots: Int64s) -> None:
        """Begin some slots anew, int64 [m]: their keys have no rows, whatever was taken back."""
        slots = slots[self._counts.values[slots] > 0]
        if len(slots):
            self._counts.values[slots] = 0
            self._rule.forget(slots)

    def _reserve(self, count: int) -> None:
        self._counts.reserve(count)
        self._rule.reserve(count)

    def _shown(self, values: pa.Array, counts: Int64s) -> pa.Array:
        """Give null where there is no value; a count is 0, and a user's aggregate knows itself."""
        none = counts == 0
        if self._kind in _COUNTS or self._kind == "function" or not none.any():
            return values
        return nothing_where(none, values)


def nothing_where(none: npt.NDArray[np.bool_], values: pa.Array) -> pa.Array:
    """Give null at some places: bool [n], array [n] -> array [n]."""
    if not pa.types.is_nested(values.type):
        return pc.if_else(pa.array(none), pa.scalar(None, values.type), values)
    return values.take(pa.array(np.arange(len(values)), mask=none))


def _rule(bound: Bound, make_rows: MakeRows) -> Rule:
    kind, value, type = bound.kind, bound.value, bound.value_type
    if kind == "count":
        return Counting()
    if kind == "function":
        return ByRow(bound, Own(_that_retracts(bound), make_rows))
    if kind == "approx_count_distinct":
        raise PlanError(
            f"{bound.name}: approx_count_distinct() cannot take values back, and its stream is a "
            "changelog",
            hint="count_distinct() can, exactly; or " + _WAY_OUT,
        )
    assert value is not None, f"{kind} has a column"
    assert type is not None, f"{kind} has a typed column"
    rule: Callable[[], Rule] = {
        "sum": lambda: _sum(bound.name, value, type),
        "mean": lambda: Mean(value, type),
        "variance": lambda: Variance(value, root=False),
        "stddev": lambda: Variance(value, root=True),
        "count_distinct": lambda: Distinct(value, type),
        "min": lambda: Extreme(value, type, greatest=False),
        "max": lambda: Extreme(value, type, greatest=True),
        "quantile": lambda: ByRow(bound, Quantile(bound)),
    }.get(kind, lambda: ByRow(bound, Ordered(bound)))
    return rule()


def _sum(name: str, column: str, type: pa.DataType) -> Rule:
    if pa.types.is_decimal(type):
        return DecimalSum(name, column, type)
    if pa.types.is_floating(type):
        return FloatSum(column)
    return IntegerSum(name, column, unsigned=pa.types.is_unsigned_integer(type))


def _that_retracts(bound: Bound) -> Bound:
    if not callable(getattr(bound.function, "retract", None)):
        raise PlanError(
            f"{bound.name}: {type(bound.function).__name__} has no method retract(acc, row), and "
            "its stream is a changelog: rows take back earlier ones",
            hint="add retract(self, acc, row), which gives the accumulator without the row; or "
            + _WAY_OUT,
        )
    return bound
