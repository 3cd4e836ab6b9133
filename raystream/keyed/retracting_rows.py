"""Aggregates that keep every value of a key in an order, and a user's own, where rows go again.

These loop over rows in Python: each changes an object of its key, and the value after it is made
from that object.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.flow.batch import Int64s
from raystream.flow.key import check_key_type
from raystream.keyed.accumulators_rows import MakeRows, items_of, output_array
from raystream.keyed.object_accumulators import Quantile as AnyQuantile
from raystream.keyed.pickled import pickled_column, unpickled
from raystream.keyed.ranking import sort_values
from raystream.keyed.row_identity import row_hashes
from raystream.keyed.turns import Turn


class Entry(NamedTuple):
    """A value: what it sorts by, from what; the number of its row, and which row that is."""

    sort: Any
    arrival: int
    value: Any
    by: Any
    which: int


class RowRule(Protocol):
    """One aggregate with an object a key."""

    def create(self) -> Any:
        """Make the object of a key without values."""

    def items(self, turn: Turn) -> list[Any]:
        """Give what each position of a turn brings or takes back."""

    def add(self, acc: Any, item: Any) -> Any:
        """Give the object with one more."""

    def retract(self, acc: Any, item: Any) -> Any:
        """Give the object with one less; unchanged where there is none like it."""

    def result(self, acc: Any) -> Any:
        """Give the value that goes out."""

    def state(self, accs: list[Any]) -> list[pa.Array]:
        """Give the objects as columns of their own types."""

    def restored(self, columns: list[pa.Array]) -> list[Any]:
        """Give the objects again."""


class ByRow:
    """One aggregate with an object a slot; a key without values has a new one."""

    def __init__(self, bound: Bound, rule: RowRule) -> None:
        self._bound, self._rule = bound, rule
        self._accs: list[Any] = []

    def reserve(self, count: int) -> None:
        self._accs.extend(self._rule.create() for _ in range(count - len(self._accs)))

    def scan(self, turn: Turn) -> pa.Array:
        rule, accs = self._rule, self._accs
        slots = turn.groups.spread(turn.groups.slots).tolist()
        turns = zip(slots, rule.items(turn), turn.signs.tolist(), turn.counts.tolist(), strict=True)
        values = []
        for slot, item, sign, count in turns:
            acc = (rule.add if sign > 0 else rule.retract)(accs[slot], item)
            accs[slot] = acc = acc if count else rule.create()
            values.append(rule.result(acc))
        return output_array(self._bound, values)

    def result(self, slots: Int64s, counts: Int64s) -> pa.Array:
        values = [self._rule.result(self._accs[slot]) for slot in slots.tolist()]
        return output_array(self._bound, values)

    def state(self, slots: Int64s, counts: Int64s) -> list[pa.Array]:
        return self._rule.state([self._accs[slot] for slot in slots.tolist()])

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        for slot, acc in zip(slots.tolist(), self._rule.restored(columns), strict=True):
            self._accs[slot] = acc

    def forget(self, slots: Int64s) -> None:
        for slot in slots.tolist():
            self._accs[slot] = self._rule.create()


class Quantile:
    """The exact q-quantile: a sorted list, without NaN."""

    def __init__(self, bound: Bound) -> None:
        assert bound.q is not None, "a quantile says which"
        self._column = bound.value
        self._rule = AnyQuantile(lambda value: value, bound.q)
        self.create, self.result = self._rule.create, self._rule.result

    def items(self, turn: Turn) -> list[float]:
        column = turn.rows.record.column(self._column).cast(pa.float64(), safe=False)
        values: list[float] = column.take(pa.array(turn.groups.order)).to_pylist()
        return values

    def add(self, acc: list[float], item: float) -> list[float]:
        return self._rule.add(acc, item, None, 0)

    def retract(self, acc: list[float], item: float) -> list[float]:
        place = bisect.bisect_left(acc, item) if item == item else len(acc)  # noqa: PLR0124  NaN
        if place < len(acc) and acc[place] == item:
            del acc[place]
        return acc

    def state(self, accs: list[list[float]]) -> list[pa.Array]:
        return [pa.array(accs, pa.large_list(pa.float64()))]

    def restored(self, columns: list[pa.Array]) -> list[list[float]]:
        accs: list[list[float]] = columns[0].to_pylist()
        return accs


class Ordered:
    """Values in an order of their rows: that of arrival, of event time, or of another column.

    All of them, for ``collect``, or the first, which is the last where the order goes down. A row
    takes back the value of the earliest row that equals it in all its columns.
    """

    def __init__(self, bound: Bound) -> None:
        assert bound.value_type is not None, "values have a type"
        if bound.by_type is not None:
            check_key_type(bound.by_type)
        self._value, self._by, self._kind = bound.value, bound.by, bound.kind
        self._types = (bound.value_type, bound.by_type or pa.int64())
        self._descending = bound.kind in ("last", "max_by")

    def create(self) -> list[Entry]:
        return []

    def items(self, turn: Turn) -> list[Entry]:
        rows, order = turn.rows, pa.array(turn.groups.order)
        arrivals = pa.array(rows.arrival + turn.groups.order)
        if self._by is not None:
            by = rows.record.column(self._by).take(order)
        elif self._kind == "collect" or rows.timestamps is None:
            by = arrivals
        else:
            by = pa.array(rows.timestamps[turn.groups.order])
        which = pa.array(row_hashes(rows.record)[turn.groups.order])
        return self._entries(arrivals, rows.record.column(self._value).take(order), by, which)

    def add(self, acc: list[Entry], item: Entry) -> list[Entry]:
        bisect.insort(acc, item, key=_place)
        return acc

    def retract(self, acc: list[Entry], item: Entry) -> list[Entry]:
        places: Any = range(len(acc))
        if self._by is not None:
            first = bisect.bisect_left(acc, item[0], key=_sort)
            places = range(first, bisect.bisect_right(acc, item[0], lo=first, key=_sort))
        alike = [place for place in places if acc[place].which == item.which]
        if alike:
            del acc[min(alike, key=lambda place: acc[place].arrival)]
        return acc

    def result(self, acc: list[Entry]) -> Any:
        if self._kind == "collect":
            return [entry.value for entry in acc] or None
        return acc[0].value if acc else None

    def state(self, accs: list[list[Entry]]) -> list[pa.Array]:
        offsets = pa.array(np.cumsum([0, *map(len, accs)]))
        entries = [entry for acc in accs for entry in acc]
        value_type, by_type = self._types
        columns = (
            pa.array([entry.arrival for entry in entries], pa.int64()),
            pa.array([entry.value for entry in entries], value_type),
            pa.array([entry.by for entry in entries], by_type),
            pa.array([entry.which for entry in entries], pa.uint64()),
        )
        return [pa.LargeListArray.from_arrays(offsets, column) for column in columns]

    def restored(self, columns: list[pa.Array]) -> list[list[Entry]]:
        entries = iter(self._entries(*(column.flatten() for column in columns)))
        lengths = columns[0].value_lengths().to_pylist()
        return [[next(entries) for _ in range(length)] for length in lengths]

    def _entries(
        self, arrivals: pa.Array, values: pa.Array, by: pa.Array, which: pa.Array
    ) -> list[Entry]:
        sorts = sort_values(by, descending=self._descending)
        parts = (arrivals.to_pylist(), items_of(values), items_of(by), which.to_pylist())
        return list(map(Entry, sorts, *parts))


def _place(entry: Entry) -> tuple[Any, int]:
    return entry.sort, entry.arrival


def _sort(entry: Entry) -> Any:
    return entry.sort


class Own:
    """A user's AggregateFunction that has a method ``retract(acc, row)``."""

    def __init__(self, bound: Bound, make_rows: MakeRows) -> None:
        function: AggregateFunction | None = bound.function
        assert function is not None, "an aggregate of a user is a function"
        self._columns, self._make_rows = bound.row_columns, make_rows
        self.create, self.add, self.result = function.create, function.add, function.result
        self.retract: Callable[[Any, Any], Any] = _retract(function)

    def items(self, turn: Turn) -> list[Any]:
        rows = turn.rows.record.select(self._columns)
        return self._make_rows(rows.take(pa.array(turn.groups.order)))

    def state(self, accs: list[Any]) -> list[pa.Array]:
        return [pickled_column(accs)]

    def restored(self, columns: list[pa.Array]) -> list[Any]:
        return unpickled(columns[0])


def _retract(function: AggregateFunction) -> Callable[[Any, Any], Any]:
    """Give the method that takes a row back; users' aggregates need not have one."""
    retract: Callable[[Any, Any], Any] = getattr(function, "retract")  # noqa: B009
    return retract
