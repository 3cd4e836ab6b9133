"""What becomes of the rows of a window where they need not be kept: aggregates, or one row.

Each outcome is written down in a spec and opened into a ``Rule`` in a subtask. A rule folds rows
into an accumulator, a plain value that can be pickled; the rows themselves are one, where a
function wants to see them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.trigger import Span
from raystream.flow.time import moment
from raystream.keyed.object_accumulators import object_accumulator
from raystream.operators.guard import open_function
from raystream.operators.keyed_rows import own_copy

Held: TypeAlias = tuple[Any, int | None, int]
"""A row, its event time, and a number that grows from row to row."""


class Rule(Protocol):
    """One outcome in one subtask; ``acc`` is what a key and window hold, never None.

    ``add`` and ``merge`` may change and return what they are given; use only what they return.
    """

    def create(self) -> Any:
        """Make an empty accumulator."""

    def add(self, acc: Any, held: Held) -> Any:
        """Give the accumulator with one more row."""

    def merge(self, a: Any, b: Any) -> Any:
        """Give the accumulator of both; ``a`` is that of the earlier window."""

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        """Give the rows that go out; they hold nothing of the accumulator."""

    def close(self) -> None:
        """Close what the user has opened."""


class Outcome(Protocol):
    """What was asked of a window."""

    def describe(self) -> str:
        """One phrase for ``explain``."""

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        """Make the rule of one subtask."""


@dataclass(frozen=True)
class Layout:
    """How rows come and go: columnar or not, and by which names keys stand in what goes out.

    ``visible`` are the columns that users see, None where no others travel or rows are objects.
    """

    columnar: bool
    key_names: tuple[str, ...]
    bounded: bool
    visible: tuple[str, ...] | None = None

    def seen(self, row: Any) -> Any:
        """Give a row as users see it: without the columns that were computed for us."""
        if self.visible is None:
            return row
        return {name: row[name] for name in self.visible}

    def named(self, key: Any, span: Span) -> dict[str, Any]:
        """Name a key and a window, in microseconds: what a firing that fails is given up as."""
        names = self.key_names
        row = {names[0]: key} if len(names) == 1 else dict(zip(names, key or (), strict=True))
        if self.bounded:
            row["window_start"], row["window_end"] = span.start, span.end
        return row


# Aggregates --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Aggregating:
    """One row of key, bounds and aggregates."""

    aggregates: tuple[tuple[str, Aggregate], ...]

    def __post_init__(self) -> None:
        # Made for its checks: an expression is refused before any actor starts.
        for name, aggregate in self.aggregates:
            object_accumulator(name, aggregate)

    def describe(self) -> str:
        return ", ".join(f"{name}={_written(aggregate)}" for name, aggregate in self.aggregates)

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        return _Aggregates(self, layout)


def of_columns(bounds: Iterable[Bound]) -> tuple[tuple[str, Aggregate], ...]:
    """Give aggregates of columns as those of rows that are dicts of these columns."""
    return tuple((bound.name, _of_rows(bound)) for bound in bounds)


class _Aggregates:
    def __init__(self, outcome: Aggregating, layout: Layout) -> None:
        pairs = [(name, _seeing(one, layout)) for name, one in outcome.aggregates]
        rules = [object_accumulator(name, aggregate) for name, aggregate in pairs]
        self._layout = layout
        self._creates = [rule.create for rule in rules]
        self._adds = list(enumerate(rule.add for rule in rules))
        self._merges = [rule.merge for rule in rules]
        self._results = [(name, rule.result) for (name, _), rule in zip(pairs, rules, strict=True)]

    def create(self) -> Any:
        return [create() for create in self._creates]

    def add(self, acc: Any, held: Held) -> Any:
        row, time_us, arrival = held
        # All or none: a row that fails is in no aggregate that it has not changed in place.
        return [add(acc[place], row, time_us, arrival) for place, add in self._adds]

    def merge(self, a: Any, b: Any) -> Any:
        return [merge(x, y) for merge, x, y in zip(self._merges, a, b, strict=True)]

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        layout = self._layout
        row = layout.named(key, span)
        if layout.bounded and not layout.columnar:
            # Columns hold every microsecond of int64, datetimes the years 1 to 9999.
            row["window_start"], row["window_end"] = moment(span.start), moment(span.end)
        for (name, result), one in zip(self._results, acc, strict=True):
            row[name] = result(one)
        return (row,)

    def close(self) -> None:
        return


@dataclass(frozen=True, eq=False)
class _Seeing(AggregateFunction):
    """A user's aggregate that is shown rows without hidden columns."""

    function: AggregateFunction
    layout: Layout

    def create(self) -> Any:
        return self.function.create()

    def add(self, acc: Any, row: Any) -> Any:
        return self.function.add(acc, self.layout.seen(row))

    def merge(self, a: Any, b: Any) -> Any:
        return self.function.merge(a, b)

    def result(self, acc: Any) -> Any:
        return self.function.result(acc)


def _seeing(aggregate: Aggregate, layout: Layout) -> Aggregate:
    if aggregate.function is None or layout.visible is None:
        return aggregate
    function = _Seeing(aggregate.function, layout)
    return Aggregate("function", function=function, condition=aggregate.condition)


def _of_rows(bound: Bound) -> Aggregate:
    return Aggregate(
        bound.kind, bound.value, bound.by, bound.q, bound.function, condition=bound.condition
    )


def _written(aggregate: Aggregate) -> str:
    if aggregate.function is not None:
        return type(aggregate.function).__name__
    arguments = [part for part in (aggregate.column, aggregate.by) if isinstance(part, str)]
    if aggregate.q is not None:
        arguments.append(str(aggregate.q))
    return f"{aggregate.kind}({', '.join(arguments)})"


# One row -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reducing:
    """One row, made of all by a function of two."""

    function: Function

    def describe(self) -> str:
        return f"reduce {self.function}"

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        return _Reduced(self.function, ctx)


class _Reduced:
    """The accumulator is a list of no or one row."""

    def __init__(self, function: Function, ctx: OpenContext) -> None:
        self._open = open_function(function, ctx, operator=ctx.operator, where=ctx.where)
        self._call = self._open.call
        self.close = self._open.close

    def create(self) -> Any:
        return []

    def add(self, acc: Any, held: Held) -> Any:
        # The function may change its first argument, and a row may lie in several windows.
        return [self._call(acc[0], held[0])] if acc else [own_copy(held[0])]

    def merge(self, a: Any, b: Any) -> Any:
        return [self._call(a[0], b[0])] if a and b else a or b

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        return map(own_copy, acc)


@dataclass(frozen=True)
class Keeping:
    """One whole row: the first that came, or the one with the greatest event time."""

    keep: str

    def describe(self) -> str:
        return f"keep {self.keep}"

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        return _Kept(layout, last=self.keep == "last")


class _Kept:
    """The accumulator is a list of no or one held row. Ties go to the row that came first."""

    def __init__(self, layout: Layout, *, last: bool) -> None:
        self._layout = layout
        self._better = _is_later if last else _came_before

    def create(self) -> Any:
        return []

    def add(self, acc: Any, held: Held) -> Any:
        return [held] if not acc or self._better(held, acc[0]) else acc

    def merge(self, a: Any, b: Any) -> Any:
        if not a or not b:
            return a or b
        return b if self._better(b[0], a[0]) else a

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        return [own_copy(self._layout.seen(row)) for row, _, _ in acc]

    def close(self) -> None:
        return


def _came_before(a: Held, b: Held) -> bool:
    return a[2] < b[2]


def _is_later(a: Held, b: Held) -> bool:
    if a[1] is None or b[1] is None:  # without event time the last to come is the latest
        return a[2] > b[2]
    return a[1] > b[1] or (a[1] == b[1] and a[2] < b[2])
