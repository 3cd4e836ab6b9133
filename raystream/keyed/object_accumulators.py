"""Aggregates over Python rows: one small rule a kind, an accumulator a key.

They serve object streams, and those aggregates of columnar streams that are no columns themselves
(a list, a sketch, a user's own). Nulls are skipped, ties go to the row that came first, and NaN
loses against every number, in ``min`` as in ``max``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from decimal import Context, Decimal
from functools import partial
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np

from raystream.contracts.aggregate import Aggregate, AggregateFunction
from raystream.errors import PlanError
from raystream.flow.key import canonical
from raystream.keyed.distinct_sketch import DistinctSketch

_EXACT = Context(prec=76)
"""Adds decimals of any column to the last digit; Python itself keeps 28 of them."""

Read: TypeAlias = Callable[[Any], Any]
"""Gives a value of a row."""


class ObjectAccumulator(Protocol):
    """One aggregate of one stream; the accumulator of each key is ``acc``, a plain value.

    ``add`` and ``merge`` may change and return the accumulator they are given (``merge`` its
    first); use only what they return. ``timestamp`` is the row's event time or None, ``arrival`` a
    number that grows from row to row.
    """

    def create(self) -> Any:
        """Make an empty accumulator."""

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        """Give the accumulator with one more row."""

    def merge(self, a: Any, b: Any) -> Any:
        """Give the accumulator of the rows of both, whichever way their arrivals interleave."""

    def result(self, acc: Any) -> Any:
        """Give the value that goes out; never the accumulator itself."""


def object_accumulator(name: str, aggregate: Aggregate) -> ObjectAccumulator:
    """Make the rule of one aggregate for Python rows.

    A column that is a str means ``row[column]``, a callable is called with the row, any other value
    is a literal.
    Raises: PlanError where a column is an expression: those need columns.
    """
    rule = _rule(name, aggregate)
    if aggregate.condition is None:
        return rule
    return Where(rule, _reader(name, aggregate.kind, aggregate.condition))


def _rule(name: str, aggregate: Aggregate) -> ObjectAccumulator:
    kind = aggregate.kind
    if kind == "function":
        assert aggregate.function is not None
        return Own(aggregate.function)
    if kind == "count" and aggregate.column is None:
        return Count(None)
    read = _reader(name, kind, aggregate.column)
    if kind in ("first", "last"):
        return Best(read, None, greatest=kind == "last")
    if kind in ("min", "max"):
        return Best(read, read, greatest=kind == "max")
    if kind in ("min_by", "max_by"):
        return Best(read, _reader(name, kind, aggregate.by), greatest=kind == "max_by")
    if kind == "quantile":
        assert aggregate.q is not None
        return Quantile(read, aggregate.q)
    return _SIMPLE[kind](read)


def _reader(name: str, kind: str, column: object) -> Read:
    if column is None:
        return lambda row: row
    if isinstance(column, str):
        return itemgetter(column)
    if isinstance(column, nw.Expr):
        raise PlanError(
            f'the aggregate "{name}" = {kind}(...) has a column expression, but its stream has '
            "Python objects as rows",
            hint='name a field ("price"), give a function of the row, or make columns with '
            "with_schema() before key_by",
        )
    return column if callable(column) else lambda _row: column


def _plain(value: Any) -> Any:
    """Turn a NumPy number into Python's: those neither wrap nor warn."""
    return value.item() if isinstance(value, np.generic) else value


def _real(value: Any) -> float:
    return float(value)


class Where:
    """Another rule, over the rows for which a condition is true."""

    def __init__(self, rule: ObjectAccumulator, condition: Read) -> None:
        self._rule, self._condition = rule, condition
        self.create, self.merge, self.result = rule.create, rule.merge, rule.result

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        return self._rule.add(acc, row, timestamp, arrival) if self._condition(row) else acc


class Count:
    """Rows, or values that are not None."""

    def __init__(self, read: Read | None) -> None:
        self._read = read

    def create(self) -> int:
        return 0

    def add(self, acc: int, row: Any, timestamp: int | None, arrival: int) -> int:
        return acc + 1 if self._read is None or self._read(row) is not None else acc

    def merge(self, a: int, b: int) -> int:
        return a + b

    def result(self, acc: int) -> int:
        return acc


class Sum:
    """The sum, as Python adds: integers do not overflow; None without a value."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def create(self) -> Any:
        return None

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        value = _plain(self._read(row))
        if value is None:
            return acc
        if type(value) is Decimal:
            return value if acc is None else _EXACT.add(acc, value)
        return value + 0 if acc is None else acc + value

    def merge(self, a: Any, b: Any) -> Any:
        if a is None or b is None:
            return b if a is None else a
        return _EXACT.add(a, b) if type(a) is Decimal is type(b) else a + b

    def result(self, acc: Any) -> Any:
        return acc


class Mean:
    """The mean as a float; accumulates [sum, count]."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def create(self) -> list[Any]:
        return [0, 0]

    def add(self, acc: list[Any], row: Any, timestamp: int | None, arrival: int) -> list[Any]:
        value = _plain(self._read(row))
        if value is not None:
            acc[0] += float(value) if isinstance(value, Decimal) else value
            acc[1] += 1
        return acc

    def merge(self, a: list[Any], b: list[Any]) -> list[Any]:
        return [a[0] + b[0], a[1] + b[1]]

    def result(self, acc: list[Any]) -> float | None:
        return float(acc[0] / acc[1]) if acc[1] else None


class Variance:
    """Sample variance or its root; accumulates [count, mean, squared distances from it].

    Source: Welford 1962; merging by Chan, Golub, LeVeque 1979.
    """

    def __init__(self, read: Read, *, root: bool = False) -> None:
        self._read, self._root = read, root

    def create(self) -> list[float]:
        return [0, 0.0, 0.0]

    def add(self, acc: list[float], row: Any, timestamp: int | None, arrival: int) -> list[float]:
        value = self._read(row)
        if value is not None:
            value = _real(value)
            acc[0] += 1
            distance = value - acc[1]
            acc[1] += distance / acc[0]
            acc[2] += distance * (value - acc[1])
        return acc

    def merge(self, a: list[float], b: list[float]) -> list[float]:
        if not a[0] or not b[0]:
            return b if not a[0] else a
        count, distance = a[0] + b[0], b[1] - a[1]
        squares = a[2] + b[2] + distance * distance * a[0] * b[0] / count
        return [count, a[1] + distance * b[0] / count, squares]

    def result(self, acc: list[float]) -> float | None:
        if acc[0] < 2:
            return None
        variance = acc[2] / (acc[0] - 1)
        return math.sqrt(variance) if self._root else variance


class Best:
    """The value of the row whose order is least or greatest; accumulates (order, arrival, value).

    Without ``order`` that is its event time, or its arrival where the stream has none.
    """

    def __init__(self, read: Read, order: Read | None, *, greatest: bool) -> None:
        self._read, self._order, self._greatest = read, order, greatest

    def create(self) -> Any:
        return None

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        value = self._read(row)
        if value is None:
            return acc
        if self._order is None:
            order: Any = arrival if timestamp is None else timestamp
        elif self._order is self._read:
            order = value
        else:
            order = self._order(row)
        if order is None or (acc is not None and not self._beats(order, acc[0])):
            return acc
        return (order, arrival, value)

    def merge(self, a: Any, b: Any) -> Any:
        if a is None or b is None:
            return b if a is None else a
        earlier, later = (a, b) if a[1] <= b[1] else (b, a)
        return later if self._beats(later[0], earlier[0]) else earlier

    def result(self, acc: Any) -> Any:
        return None if acc is None else acc[2]

    def _beats(self, order: Any, best: Any) -> bool:
        if best != best:  # noqa: PLR0124  only NaN differs from itself
            return bool(order == order)  # noqa: PLR0124
        return bool(order > best) if self._greatest else bool(order < best)


class CountDistinct:
    """Different values, exactly; accumulates the set of them as keys are told apart."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def create(self) -> set[Any]:
        return set()

    def add(self, acc: set[Any], row: Any, timestamp: int | None, arrival: int) -> set[Any]:
        value = self._read(row)
        if value is not None:
            acc.add(canonical(value))
        return acc

    def merge(self, a: set[Any], b: set[Any]) -> set[Any]:
        return a | b

    def result(self, acc: set[Any]) -> int:
        return len(acc)


class ApproxCountDistinct:
    """Different values to about 2 %, in at most 16 KiB a key."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def create(self) -> DistinctSketch:
        return DistinctSketch()

    def add(
        self, acc: DistinctSketch, row: Any, timestamp: int | None, arrival: int
    ) -> DistinctSketch:
        value = self._read(row)
        if value is not None:
            acc.add(value)
        return acc

    def merge(self, a: DistinctSketch, b: DistinctSketch) -> DistinctSketch:
        a.update(b)
        return a

    def result(self, acc: DistinctSketch) -> int:
        return acc.estimate()


class Quantile:
    """The exact q-quantile, linear between neighbours; accumulates a sorted list; skips NaN."""

    def __init__(self, read: Read, q: float) -> None:
        self._read, self._q = read, q

    def create(self) -> list[float]:
        return []

    def add(self, acc: list[float], row: Any, timestamp: int | None, arrival: int) -> list[float]:
        value = self._read(row)
        if value is not None:
            real = _real(value)
            if not math.isnan(real):
                bisect.insort(acc, real)
        return acc

    def merge(self, a: list[float], b: list[float]) -> list[float]:
        return sorted(a + b)

    def result(self, acc: list[float]) -> float | None:
        if not acc:
            return None
        place = self._q * (len(acc) - 1)
        low = math.floor(place)
        share = place - low
        # Between two equal values (infinities too) there is nothing to interpolate.
        if share == 0 or acc[low] == acc[low + 1]:
            return acc[low]
        return acc[low] + (acc[low + 1] - acc[low]) * share


class Collect:
    """Values in order of arrival; accumulates (arrivals, values)."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def create(self) -> tuple[list[int], list[Any]]:
        return [], []

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        value = self._read(row)
        if value is not None:
            acc[0].append(arrival)
            acc[1].append(value)
        return acc

    def merge(self, a: Any, b: Any) -> Any:
        arrivals, values = a[0] + b[0], a[1] + b[1]
        if a[0] and b[0] and a[0][-1] > b[0][0]:
            order = sorted(range(len(arrivals)), key=arrivals.__getitem__)
            arrivals, values = [arrivals[i] for i in order], [values[i] for i in order]
        return arrivals, values

    def result(self, acc: Any) -> list[Any] | None:
        return list(acc[1]) or None


class Own:
    """A user's AggregateFunction."""

    def __init__(self, function: AggregateFunction) -> None:
        self._function = function
        self.create, self.merge, self.result = function.create, function.merge, function.result

    def add(self, acc: Any, row: Any, timestamp: int | None, arrival: int) -> Any:
        return self._function.add(acc, row)


_SIMPLE: dict[str, Callable[[Read], ObjectAccumulator]] = {
    "count": Count,
    "sum": Sum,
    "mean": Mean,
    "variance": Variance,
    "stddev": partial(Variance, root=True),
    "count_distinct": CountDistinct,
    "approx_count_distinct": ApproxCountDistinct,
    "collect": Collect,
}
