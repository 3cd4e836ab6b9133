"""Running aggregates whose accumulators are no columns: lists, sketches, a user's own.

These loop over rows in Python: each row changes an object of its key, and the value after it is
made from that object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound
from raystream.errors import UserFunctionError
from raystream.flow.batch import Int64s
from raystream.flow.hashing import hash_column
from raystream.flow.key import check_key_type
from raystream.keyed.distinct_sketch import DistinctSketch
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.object_accumulators import ObjectAccumulator, object_accumulator
from raystream.keyed.pickled import pickled_column, unpickled

MakeRows: TypeAlias = Callable[[pa.RecordBatch], list[Any]]
"""Makes the Python rows that users' functions see."""


class ByRow:
    """One aggregate with a Python accumulator a slot.

    Raises: PlanError where values of the column's type cannot be told apart.
    """

    def __init__(self, bound: Bound, make_rows: MakeRows) -> None:
        self._bound, self._make_rows = bound, make_rows
        self._accumulator = _accumulator(bound)
        self._accs: list[Any] = []

    def reserve(self, count: int) -> None:
        create = self._accumulator.create
        self._accs.extend(create() for _ in range(count - len(self._accs)))

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        add, result, accs = self._accumulator.add, self._accumulator.result, self._accs
        values = []
        for slot, item, arrival in self._items(groups, rows):
            accs[slot] = acc = add(accs[slot], item, None, arrival)
            values.append(result(acc))
        return self._array(values)

    def fold(self, groups: Groups, rows: Rows) -> None:
        add, accs = self._accumulator.add, self._accs
        for slot, item, arrival in self._items(groups, rows):
            accs[slot] = add(accs[slot], item, None, arrival)

    def result(self, slots: Int64s) -> pa.Array:
        result, accs = self._accumulator.result, self._accs
        return self._array([result(accs[slot]) for slot in slots.tolist()])

    def state(self, slots: Int64s) -> list[pa.Array]:
        accs = [self._accs[slot] for slot in slots.tolist()]
        match self._bound.kind:
            case "collect":
                arrivals = pa.array([acc[0] for acc in accs], pa.large_list(pa.int64()))
                kind = pa.large_list(self._bound.value_type)
                return [arrivals, pa.array([acc[1] for acc in accs], kind)]
            case "quantile":
                return [pa.array(accs, pa.large_list(pa.float64()))]
            case "approx_count_distinct":
                states = [acc.state() for acc in accs]
                hashes = pa.array([state[0] for state in states], pa.large_list(pa.uint64()))
                return [hashes, pa.array([state[1] for state in states], pa.large_binary())]
        return [pickled_column(accs)]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        match self._bound.kind:
            case "collect":
                values = [items_of(some.values) for some in columns[1]]
                accs: list[Any] = list(zip(columns[0].to_pylist(), values, strict=True))
            case "quantile":
                accs = columns[0].to_pylist()
            case "approx_count_distinct":
                states = zip(columns[0].to_pylist(), columns[1].to_pylist(), strict=True)
                accs = [DistinctSketch.of(*state) for state in states]
            case _:
                accs = unpickled(columns[0])
        for slot, acc in zip(slots.tolist(), accs, strict=True):
            self._accs[slot] = acc

    def _items(self, groups: Groups, rows: Rows) -> Any:
        items = self._values(rows.record.take(pa.array(groups.order)))
        arrivals = (groups.order + rows.arrival).tolist()
        return zip(groups.spread(groups.slots).tolist(), items, arrivals, strict=True)

    def _values(self, record: pa.RecordBatch) -> list[Any]:
        bound = self._bound
        if bound.kind == "function":
            return self._make_rows(record.select(bound.row_columns))
        column = record.column(bound.value)
        if bound.kind == "quantile":
            column = column.cast(pa.float64(), safe=False)
        elif bound.kind == "approx_count_distinct":
            hashes: list[int] = hash_column(column).tolist()
            return hashes
        return items_of(column)

    def _array(self, values: list[Any]) -> pa.Array:
        return output_array(self._bound, values)


def output_array(bound: Bound, values: list[Any]) -> pa.Array:
    """Make a column of what an aggregate gave.

    Raises: UserFunctionError where that is not of the type it says.
    """
    try:
        return pa.array(values, bound.output)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UserFunctionError(
            f'the aggregate "{bound.name}" gave a value that does not fit {bound.output}: {error}',
            hint="the class attribute `type` names the type of what result() returns",
        ) from error


def items_of(column: pa.Array) -> list[Any]:
    """Give the values of a column as what is kept of them."""
    # Scalars of times and nested types lose nothing on the way into the list and out.
    exact = pa.types.is_temporal(column.type) or pa.types.is_nested(column.type)
    return list(column) if exact else column.to_pylist()


class _SketchOfHashes:
    """Counts different values by their hashes, which a column computes faster than rows do."""

    def create(self) -> DistinctSketch:
        return DistinctSketch()

    def add(
        self, acc: DistinctSketch, row: Any, timestamp: int | None, arrival: int
    ) -> DistinctSketch:
        acc.add_hash(row)
        return acc

    def merge(self, a: DistinctSketch, b: DistinctSketch) -> DistinctSketch:
        a.update(b)
        return a

    def result(self, acc: DistinctSketch) -> int:
        return acc.estimate()


def _accumulator(bound: Bound) -> ObjectAccumulator:
    if bound.kind == "approx_count_distinct":
        assert bound.value_type is not None, "a count of values has a column"
        check_key_type(bound.value_type)
        return _SketchOfHashes()
    function: AggregateFunction | None = bound.function
    # The item that is added is the value itself: no column to read.
    return object_accumulator(bound.name, Aggregate(bound.kind, None, q=bound.q, function=function))
