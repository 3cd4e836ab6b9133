"""Aggregates as users write them: ``rs.sum("price")``, ``rs.max_by("item", "price")``."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import narwhals.stable.v2 as nw
import pyarrow as pa

from raystream.errors import PlanError

Column: TypeAlias = str | nw.Expr | Callable[[Any], Any]
"""A column's name, an expression, or, on an object stream, a function of the row."""


class AggregateFunction(abc.ABC):
    """A user's own aggregate: an accumulator, rows that are added to it, and its result.

    ``type`` is the Arrow type of the result. ``add`` and ``merge`` may change what they
    are given. An accumulator is kept in state, so it can be pickled.
    """

    type: ClassVar[pa.DataType]

    def where(self, condition: Column) -> Aggregate:
        """Aggregate only the rows for which ``condition`` is true."""
        return Aggregate("function", function=self, condition=condition)

    @abc.abstractmethod
    def create(self) -> Any:
        """Make an empty accumulator."""

    @abc.abstractmethod
    def add(self, acc: Any, row: Any) -> Any:
        """Give the accumulator with one more row."""

    @abc.abstractmethod
    def merge(self, a: Any, b: Any) -> Any:
        """Give the accumulator of both; ``a`` is of the earlier rows where there is an order."""

    @abc.abstractmethod
    def result(self, acc: Any) -> Any:
        """Give the value that goes out."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """One aggregate, before it is bound to a stream.

    ``kind`` names the rule; ``column`` is what is aggregated (None: whole rows), ``by`` what
    ``min_by`` and ``max_by`` compare, ``q`` the quantile, ``condition`` what ``where`` asked for.
    """

    kind: str
    column: Column | None = None
    by: Column | None = None
    q: float | None = None
    function: AggregateFunction | None = None
    condition: Column | None = None

    def where(self, condition: Column) -> Aggregate:
        """Aggregate only the rows for which ``condition`` is true."""
        if self.condition is not None:
            raise PlanError("where() is already set on this aggregate", hint="join them with &")
        return replace(self, condition=condition)


def count(col: Column | None = None) -> Aggregate:
    """Count rows, or the values of a column that are not null; int64."""
    return Aggregate("count", col)


def sum(col: Column) -> Aggregate:
    """Add up a column: int64, uint64, float64 or decimal(38, s); an overflow fails."""
    return Aggregate("sum", col)


def mean(col: Column) -> Aggregate:
    """Average a column; float64."""
    return Aggregate("mean", col)


def min(col: Column) -> Aggregate:
    """Keep the least value, in the column's type."""
    return Aggregate("min", col)


def max(col: Column) -> Aggregate:
    """Keep the greatest value, in the column's type."""
    return Aggregate("max", col)


def stddev(col: Column) -> Aggregate:
    """Sample standard deviation; float64; null for fewer than two values."""
    return Aggregate("stddev", col)


def variance(col: Column) -> Aggregate:
    """Sample variance; float64; null for fewer than two values."""
    return Aggregate("variance", col)


def first(col: Column) -> Aggregate:
    """Keep the value of the earliest row by event time; of equals, the one that came first."""
    return Aggregate("first", col)


def last(col: Column) -> Aggregate:
    """Keep the value of the latest row by event time; of equals, the one that came first."""
    return Aggregate("last", col)


def min_by(col: Column, by: Column) -> Aggregate:
    """Keep the value of ``col`` where ``by`` is least; of equals, the one that came first."""
    return Aggregate("min_by", col, by)


def max_by(col: Column, by: Column) -> Aggregate:
    """Keep the value of ``col`` where ``by`` is greatest; of equals, the one that came first."""
    return Aggregate("max_by", col, by)


def count_distinct(col: Column) -> Aggregate:
    """Count different values exactly; int64."""
    return Aggregate("count_distinct", col)


def approx_count_distinct(col: Column) -> Aggregate:
    """Count different values to about 2 %, in bounded memory; int64."""
    return Aggregate("approx_count_distinct", col)


def quantile(col: Column, q: float) -> Aggregate:
    """Give the exact q-quantile, interpolated between neighbours; float64."""
    if not 0.0 <= q <= 1.0:
        raise PlanError(f"a quantile lies between 0 and 1, got {q!r}")
    return Aggregate("quantile", col, q=q)


def collect(col: Column) -> Aggregate:
    """Collect the values that are not null into a list, in order of arrival."""
    return Aggregate("collect", col)


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """An aggregate bound to a columnar stream: plain columns of its input, types known.

    ``value`` and ``by`` name columns, null where ``where`` was false; ``value`` None counts
    rows. ``function`` sees rows of the columns ``row_columns`` for which ``condition`` (a boolean
    column) is true.
    """

    name: str
    kind: str
    output: pa.DataType
    value: str | None = None
    value_type: pa.DataType | None = None
    by: str | None = None
    by_type: pa.DataType | None = None
    q: float | None = None
    function: AggregateFunction | None = None
    row_columns: tuple[str, ...] = ()
    condition: str | None = None


def result_type(aggregate: Aggregate, value: pa.DataType | None) -> pa.DataType:
    """Give the Arrow type of an aggregate over values of a type.

    Raises: PlanError where the aggregate is not defined for that type.
    """
    kind = aggregate.kind
    if kind in ("count", "count_distinct", "approx_count_distinct"):
        return pa.int64()
    if kind == "function":
        assert aggregate.function is not None
        return aggregate.function.type
    assert value is not None, f"{kind} has a column"
    if kind in ("mean", "stddev", "variance", "quantile"):
        _numeric(kind, value)
        return pa.float64()
    if kind == "sum":
        _numeric(kind, value)
        return _sum_type(value)
    return pa.list_(value) if kind == "collect" else value


def _numeric(kind: str, value: pa.DataType) -> None:
    types = pa.types
    numeric = types.is_integer(value) or types.is_floating(value) or types.is_decimal(value)
    if not (numeric or types.is_boolean(value) or types.is_null(value)):
        raise PlanError(f"{kind}() takes numbers, not {value}", hint="cast the column first")


def _sum_type(value: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(value):
        return pa.float64()
    if pa.types.is_decimal(value):
        return pa.decimal128(38, value.scale)
    return pa.uint64() if pa.types.is_unsigned_integer(value) else pa.int64()
