"""Which parts each aggregate is made of, and how its value comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.aggregate import Bound
from raystream.errors import PlanError
from raystream.flow.batch import EVENT_TIME
from raystream.keyed.measures_function import Functions, Own
from raystream.keyed.measures_lists import AllValues, Distinct, Sketch, estimates, in_order
from raystream.keyed.measures_numeric import Count, Extreme, FloatSum, Moments, Sum
from raystream.keyed.measures_parts import Part, Result, floats
from raystream.keyed.measures_pick import Pick

_TWO_PHASE = frozenset(
    {
        "count",
        "sum",
        "mean",
        "min",
        "max",
        "variance",
        "stddev",
        "first",
        "last",
        "min_by",
        "max_by",
        "approx_count_distinct",
    }
)


def two_phase(aggregates: Iterable[Bound]) -> bool:
    """Tell whether rows may be aggregated before they are exchanged by key.

    Those that keep every value would only move their work, and users' own accumulators are objects
    of one subtask. Ties of ``first`` and the like go to the row that came first from each upstream
    subtask; between upstream subtasks there is no order in either case.
    """
    return all(bound.kind in _TWO_PHASE for bound in aggregates)


def by_arrival(bound: Bound) -> Bound:
    """Write ``first`` and ``last`` as ``min_by`` and ``max_by``, which can tell ties by arrival.

    For windows where rows of one time do not stay together, in order of arrival.
    """
    if bound.kind not in ("first", "last"):
        return bound
    kind = "min_by" if bound.kind == "first" else "max_by"
    return replace(bound, kind=kind, by=EVENT_TIME, by_type=pa.int64())


def parts_of(
    bound: Bound, functions: Functions | None, *, arrival: bool
) -> tuple[list[Part], Result]:
    """Give the parts of an aggregate, and the rule that turns their columns into its value.

    ``arrival``: rows have numbers, because partials do not always come in order of arrival.
    Raises: PlanError where the aggregate is not defined for the type of its column.
    """
    if bound.kind == "function":
        return _function(bound, functions)
    if bound.kind == "collect":
        return _collect(bound, arrival=arrival)
    if bound.kind in ("min_by", "max_by"):
        return _by(bound, arrival=arrival)
    if bound.kind == "count":
        return [Count(bound.value)], lambda columns: columns[0]
    rule = _RULES.get(bound.kind)
    assert rule is not None, f"no aggregate is called {bound.kind}"
    return rule(bound)


_Rule = Callable[[Bound], tuple[list[Part], Result]]


def _column(bound: Bound) -> tuple[str, pa.DataType]:
    assert bound.value is not None, f"{bound.kind} has a column"
    assert bound.value_type is not None, f"{bound.kind} knows the type of its column"
    return bound.value, bound.value_type


def _sum(bound: Bound) -> tuple[list[Part], Result]:
    column, _ = _column(bound)
    return [Sum(column, bound.output)], lambda columns: columns[0]


def _mean(bound: Bound) -> tuple[list[Part], Result]:
    column, _ = _column(bound)

    def result(columns: list[pa.Array]) -> pa.Array:
        total, count = columns
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = floats(total) / count.to_numpy()
        return pa.array(mean, mask=count.to_numpy() == 0)

    return [FloatSum(column), Count(column)], result


def _extreme(bound: Bound) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    _ordered(bound, type)

    def result(columns: list[pa.Array]) -> pa.Array:
        return _as(columns[0], type)

    return [Extreme(column, bound.kind, type)], result


def _variance(bound: Bound) -> tuple[list[Part], Result]:
    column, _ = _column(bound)
    root = bound.kind == "stddev"

    def result(columns: list[pa.Array]) -> pa.Array:
        count = columns[0].to_numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = floats(columns[2]) * count / (count - 1)
            value = np.sqrt(variance) if root else variance
        return pa.array(value, mask=count < 2)

    return [Moments(column)], result


def _by(bound: Bound, *, arrival: bool) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    assert bound.by is not None, f"{bound.kind} has a column to go by"
    assert bound.by_type is not None, f"{bound.kind} knows the type of the column it goes by"
    _ordered(bound, bound.by_type)
    greatest = bound.kind == "max_by"
    part = Pick(column, bound.by, type, bound.by_type, greatest, arrival)
    return [part], lambda columns: columns[0]


def _at(bound: Bound) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    # Rows of one time lie in one pane, and so in order of arrival: no numbers are needed.
    part = Pick(column, EVENT_TIME, type, pa.int64(), bound.kind == "last")
    return [part], lambda columns: columns[0]


def _count_distinct(bound: Bound) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    _flat_values(bound, type)
    return [Distinct(column, type)], lambda columns: columns[0].value_lengths().cast(pa.int64())


def _approx(bound: Bound) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    _flat_values(bound, type)
    return [Sketch(column)], lambda columns: pa.array(estimates(columns[0]))


def _quantile(bound: Bound) -> tuple[list[Part], Result]:
    column, type = _column(bound)
    q = bound.q
    assert q is not None, "a quantile has its q"
    return [AllValues(column, type, as_numbers=True)], lambda columns: quantiles(columns[0], q)


def _collect(bound: Bound, *, arrival: bool) -> tuple[list[Part], Result]:
    column, type = _column(bound)

    def result(columns: list[pa.Array]) -> pa.Array:
        lists = in_order(*columns) if arrival else columns[0]
        # Nothing collected is null, as it is for every aggregate but the counts.
        return pc.if_else(pc.equal(lists.value_lengths(), 0), None, lists)

    return [AllValues(column, type, as_numbers=False, arrival=arrival)], result


def _function(bound: Bound, functions: Functions | None) -> tuple[list[Part], Result]:
    assert functions is not None, "a user's aggregate needs to be called by somebody"
    own = Own(functions(bound), bound.row_columns, bound.condition)
    return [own], lambda columns: own.results(columns[0])


_RULES: dict[str, _Rule] = {
    "sum": _sum,
    "mean": _mean,
    "min": _extreme,
    "max": _extreme,
    "variance": _variance,
    "stddev": _variance,
    "first": _at,
    "last": _at,
    "count_distinct": _count_distinct,
    "approx_count_distinct": _approx,
    "quantile": _quantile,
}


def quantiles(lists: pa.Array, q: float) -> pa.Array:
    """Give the q-quantile of each list, linear between neighbours; NaN is passed over.

    Shapes: lists of float64 [n] -> float64 [n], null where a list has no number.
    """
    values = lists.flatten().to_numpy()
    owners = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    numbers = ~np.isnan(values)
    values, owners = values[numbers], owners[numbers]
    values = values[np.lexsort((values, owners))]
    counts = np.bincount(owners, minlength=len(lists))
    starts = np.cumsum(counts) - counts
    has = counts > 0
    place = q * (counts[has] - 1)
    floor = np.floor(place).astype(np.int64)
    low = values[starts[has] + floor]
    high = values[starts[has] + np.minimum(floor + 1, counts[has] - 1)]
    share = place - floor
    with np.errstate(invalid="ignore"):
        between = low + (high - low) * share
    # Between two equal values, infinities too, there is nothing to interpolate.
    result = np.zeros(len(lists))
    result[has] = np.where((share == 0) | (low == high), low, between)
    return pa.array(result, mask=~has)


def _as(column: pa.Array, type: pa.DataType) -> pa.Array:
    if pa.types.is_null(type):
        return pa.nulls(len(column))
    return column if column.type == type else column.cast(type)


def _ordered(bound: Bound, type: pa.DataType) -> None:
    if pa.types.is_nested(type) or pa.types.is_interval(type):
        raise PlanError(
            f'"{bound.name}": {bound.kind}() compares values, and {type} has no order',
            hint="take a field or an element of it first",
        )


def _flat_values(bound: Bound, type: pa.DataType) -> None:
    if pa.types.is_nested(type) or pa.types.is_interval(type):
        raise PlanError(
            f'"{bound.name}": {bound.kind}() cannot tell values of {type} apart',
            hint="take a field or an element of it first",
        )
