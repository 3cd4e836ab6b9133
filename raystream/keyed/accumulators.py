"""Running aggregates over columns: an accumulator a key, by slot; a value after every row.

A *rule* knows one aggregate. It is given only rows that count, sorted by key; the others (null, or
excluded by ``where``) are left out here, and get the value that stood there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.flow.batch import Int64s
from raystream.flow.key import valid_rows
from raystream.keyed.accumulators_best import Best
from raystream.keyed.accumulators_counts import Count, CountDistinct
from raystream.keyed.accumulators_rows import ByRow, MakeRows
from raystream.keyed.accumulators_sums import DecimalSum, FloatSum, IntegerSum, Mean, Variance
from raystream.keyed.groups import Groups, Rows


class Rule(Protocol):
    """One aggregate over the rows that count."""

    def reserve(self, count: int) -> None:
        """Make room for slots 0 to ``count`` - 1."""

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        """Take rows in; give the value after each: an array [n] by position of ``groups``."""

    def fold(self, groups: Groups, rows: Rows) -> None:
        """Take rows in."""

    def result(self, slots: Int64s) -> pa.Array:
        """Give the value of each slot as it is now: int64 [m] -> array [m]."""

    def state(self, slots: Int64s) -> list[pa.Array]:
        """Give what ``restore`` needs to go on from: int64 [m] -> arrays, each [m].

        Of types of their own, the same whatever has come; copies, not views.
        """

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        """Take up the state of slots that are new: int64 [m], arrays, each [m]."""


class RunningAggregate:
    """One aggregate of a columnar stream, with its accumulators.

    ``make_rows`` makes the rows that a user's AggregateFunction sees.
    Raises: PlanError where the aggregate is not defined for its column's type.
    """

    def __init__(self, bound: Bound, make_rows: MakeRows) -> None:
        self._rule = _rule(bound, make_rows)
        self._needed = [name for name in (bound.value, bound.by) if name is not None]
        self._condition = bound.condition

    def scan(self, groups: Groups, rows: Rows, count: int) -> pa.Array:
        """Take rows in; give the value after each, in order of arrival.

        Shapes: groups of n positions, ``count`` above every slot -> array [n] by row.
        """
        self._rule.reserve(count)
        kept = kept_positions(groups, rows.record, self._needed, self._condition)
        if kept is None:
            return self._rule.scan(groups, rows).take(pa.array(groups.inverse))
        before = self._rule.result(groups.slots)
        if not kept.any():
            return before.take(pa.array(groups.segments[groups.inverse]))
        scanned = self._rule.scan(groups.only(kept), rows)
        so_far = np.cumsum(kept)
        started = so_far > groups.spread(so_far[groups.starts] - kept[groups.starts])
        place = np.where(started, so_far - 1, len(scanned) + groups.segments)
        return pa.concat_arrays([scanned, before]).take(pa.array(place[groups.inverse]))

    def before(self, slots: Int64s, count: int) -> pa.Array:
        """Give the value of each slot before rows are taken in; ``count`` is above every slot.

        Shapes: int64 [m] -> array [m].
        """
        self._rule.reserve(count)
        return self._rule.result(slots)

    def fold(self, groups: Groups, rows: Rows, count: int) -> None:
        """Take rows in; their values are asked for later, if at all."""
        self._rule.reserve(count)
        kept = kept_positions(groups, rows.record, self._needed, self._condition)
        if kept is None:
            self._rule.fold(groups, rows)
        elif kept.any():
            self._rule.fold(groups.only(kept), rows)

    def result(self, slots: Int64s) -> pa.Array:
        """Give the value of each slot as it is now.

        Shapes: int64 [m] -> array [m].
        """
        return self._rule.result(slots)

    def state(self, slots: Int64s, count: int) -> list[pa.Array]:
        """Give the accumulators of some slots, as columns of their own types.

        Shapes: int64 [m] -> arrays, each [m].
        """
        self._rule.reserve(count)
        return self._rule.state(slots)

    def restore(self, slots: Int64s, columns: list[pa.Array], count: int) -> None:
        """Take up what ``state`` gave, in slots that are new; ``count`` is above every slot.

        Shapes: int64 [m], arrays, each [m].
        """
        self._rule.reserve(count)
        self._rule.restore(slots, columns)


def kept_positions(
    groups: Groups, record: pa.RecordBatch, needed: list[str], condition: str | None
) -> npt.NDArray[np.bool_] | None:
    """Tell which positions count: no column they need is null, the condition true; None for all.

    Shapes: groups of n positions -> bool [n].
    """
    masks = [valid_rows(record.column(name)) for name in needed]
    if condition is not None:
        masks.append(record.column(condition).fill_null(False).to_numpy(zero_copy_only=False))
    some = [mask for mask in masks if mask is not None]
    if not some:
        return None
    kept: npt.NDArray[np.bool_] = np.logical_and.reduce(some)[groups.order]
    return kept


def _rule(bound: Bound, make_rows: MakeRows) -> Rule:
    kind, value, type = bound.kind, bound.value, bound.value_type
    if kind in ("function", "collect", "quantile", "approx_count_distinct"):
        return ByRow(bound, make_rows)
    if kind == "count":
        return Count()
    assert value is not None, f"{kind} has a column"
    assert type is not None, f"{kind} has a typed column"
    if kind in ("min", "max"):
        return Best(value, type, value, type, greatest=kind == "max")
    if kind in ("first", "last"):
        return Best(value, type, None, pa.int64(), greatest=kind == "last")
    if kind in ("min_by", "max_by"):
        assert bound.by is not None, f"{kind} has a second column"
        assert bound.by_type is not None, f"{kind} has a second column"
        return Best(value, type, bound.by, bound.by_type, greatest=kind == "max_by")
    return _NUMERIC[kind](bound.name, value, type)


def _sum(name: str, column: str, type: pa.DataType) -> Rule:
    if pa.types.is_decimal(type):
        return DecimalSum(name, column, type)
    if pa.types.is_floating(type):
        return FloatSum(column)
    return IntegerSum(name, column, unsigned=pa.types.is_unsigned_integer(type))


_NUMERIC: dict[str, Callable[[str, str, pa.DataType], Rule]] = {
    "sum": _sum,
    "mean": lambda _name, column, _type: Mean(column),
    "variance": lambda _name, column, _type: Variance(column, root=False),
    "stddev": lambda _name, column, _type: Variance(column, root=True),
    "count_distinct": lambda _name, column, kind: CountDistinct(column, kind),
}
