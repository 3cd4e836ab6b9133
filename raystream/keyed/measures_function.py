"""Users' own aggregates in partial tables: accumulators are Python objects behind integers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.flow.batch import Int64s
from raystream.keyed.measures_grouping import Groups, Request, Values, whole
from raystream.keyed.pickled import pickled_column, unpickled


class RowAggregate(Protocol):
    """A user's AggregateFunction over many rows: loops and guards are the operator's."""

    def fold(self, record: pa.RecordBatch, owners: list[int], count: int) -> list[Any]:
        """Make ``count`` accumulators; add each row to its owner's, in order."""

    def merge(self, accs: list[Any], owners: list[int], count: int) -> list[Any]:
        """Merge accumulators that have the same owner, in order; each owner has one at least."""

    def results(self, accs: list[Any]) -> pa.Array:
        """Give the values that go out, as a column of the aggregate's type."""


Functions: TypeAlias = Callable[[Bound], RowAggregate]
"""Makes the guarded form of an aggregate's function."""


@dataclass(frozen=True, eq=False)
class Own:
    """One accumulator a partial: a number that names a Python object of this subtask.

    A partial that is merged or that gives its result lets go of its object; one that lies in
    several windows is copied for each, because merging may change what it is given.
    """

    function: RowAggregate
    row_columns: tuple[str, ...]
    condition: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_held", {})
        object.__setattr__(self, "_numbers", count())

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.int64(),)

    @property
    def held_count(self) -> int:
        """Accumulators that are alive."""
        return len(self._objects)

    def fold(self, rows: pa.RecordBatch) -> Request:
        wanted = None
        if self.condition is not None:
            column = rows.column(self.condition).fill_null(False)
            wanted = column.to_numpy(zero_copy_only=False)

        def added(groups: Groups) -> list[pa.Array]:
            order, owners = groups.where(wanted)
            seen = rows.select(self.row_columns).take(pa.array(order))
            return [self._keep(self.function.fold(seen, owners.tolist(), groups.count))]

        return added

    def merge(self, partials: list[Values]) -> Request:
        numbers = whole(partials[0]).to_numpy()

        def merged(groups: Groups) -> list[pa.Array]:
            held = self._objects
            accs = [held.pop(number) for number in numbers[groups.order].tolist()]
            return [self._keep(self.function.merge(accs, groups.ids.tolist(), groups.count))]

        return merged

    def copies(self, numbers: pa.Array) -> pa.Array:
        """Copy objects; the numbers stay good."""
        held = self._objects
        return self._keep([copy.deepcopy(held[number]) for number in numbers.to_pylist()])

    def packed(self, numbers: Values) -> pa.Array:
        """Pickle objects; they stay, and what is kept does not change with them."""
        held = self._objects
        return pickled_column([held[number] for number in numbers.to_pylist()])

    def unpacked(self, packed: Values) -> pa.Array:
        """Make objects of their pickled form, and give their numbers."""
        return self._keep(unpickled(packed))

    def release(self, numbers: pa.Array) -> None:
        """Let go of objects, those that are gone already included."""
        for number in numbers.to_pylist():
            self._objects.pop(number, None)

    def results(self, numbers: pa.Array) -> pa.Array:
        """Give the result of each object, and let go of it."""
        return self.function.results([self._objects.pop(i) for i in numbers.to_pylist()])

    @property
    def _objects(self) -> dict[int, Any]:
        held: dict[int, Any] = self.__dict__["_held"]
        return held

    def _keep(self, accs: list[Any]) -> pa.Array:
        counter = self.__dict__["_numbers"]
        numbers: Int64s = np.fromiter((next(counter) for _ in accs), np.int64, len(accs))
        self._objects.update(zip(numbers.tolist(), accs, strict=True))
        return pa.array(numbers)
