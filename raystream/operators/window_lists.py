"""What becomes of the rows of a window where all are kept: a function of them, or the best.

The accumulator is the list of the rows that are held, in order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.trigger import Span
from raystream.operators.guard import open_function, rows_made
from raystream.operators.keyed_rows import own_copy
from raystream.operators.window_outcomes import Held, Layout, Rule


class KeepsRows:
    """The accumulator is the list of held rows, in order of arrival."""

    def create(self) -> Any:
        return []

    def add(self, acc: Any, held: Held) -> Any:
        acc.append(held)
        return acc

    def merge(self, a: Any, b: Any) -> Any:
        return in_order(a, b)


def in_order(a: list[Held], b: list[Held]) -> list[Held]:
    """Join rows of two windows, in order of arrival."""
    joined = [*a, *b]
    if a and b and a[-1][2] > b[0][2]:
        joined.sort(key=itemgetter(2))
    return joined


@dataclass(frozen=True, eq=False)
class Applying:
    """What a function of key, window and rows gives."""

    function: Function

    def describe(self) -> str:
        return f"apply {self.function}"

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        return _Applied(self.function, ctx)


class _Applied(KeepsRows):
    def __init__(self, function: Function, ctx: OpenContext) -> None:
        self._open = open_function(function, ctx, operator=ctx.operator, where=ctx.where)
        self._call = self._open.call

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        # The rows may lie in other windows, or in a later firing of this one.
        made = self._call(key, span, [own_copy(row) for row, _, _ in acc])
        return () if made is None else rows_made(made)

    def close(self) -> None:
        self._open.close()


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ``k`` best rows.

    ``by`` are pairs: what is compared, a name or a function of the row, and whether the greatest
    comes first. Nulls and NaN come last either way.
    """

    k: int
    by: tuple[tuple[Any, bool], ...]
    ties: bool
    rank: str | None

    def describe(self) -> str:
        names = [(one if isinstance(one, str) else "a function", down) for one, down in self.by]
        order = ", ".join(f"{name}{' desc' if down else ''}" for name, down in names)
        return f"{self.k} by {order}{', with ties' if self.ties else ''}"

    def open(self, ctx: OpenContext, layout: Layout) -> Rule:
        return _Ranked(self, layout)


class _Ranked(KeepsRows):
    def __init__(self, outcome: Ranking, layout: Layout) -> None:
        self._outcome, self._layout = outcome, layout
        self._by = [(_reader(one), down) for one, down in outcome.by]

    def result(self, key: Any, span: Span, acc: Any) -> Iterable[Any]:
        k, ties, rank = self._outcome.k, self._outcome.ties, self._outcome.rank
        # A loop over rows: they are Python objects, and what they are compared by may be one.
        ranked = [(_order(self._by, row), row) for row, _, _ in acc]
        for place, (_, down) in reversed(list(enumerate(self._by))):
            ranked = _sorted(ranked, place, down=down)
        out, shared = [], 0
        for number, (order, row) in enumerate(ranked):
            shared = shared if ties and number and order == ranked[number - 1][0] else number
            if shared >= k:
                break
            seen = own_copy(self._layout.seen(row))
            out.append(seen if rank is None else {**seen, rank: shared + 1})
        return out

    def close(self) -> None:
        return


_Order: TypeAlias = tuple[tuple[int, Any], ...]


def _order(by: Sequence[tuple[Callable[[Any], Any], bool]], row: Any) -> _Order:
    return tuple(_comparable(read(row)) for read, _ in by)


def _comparable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (2, 0)
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _sorted(ranked: list[tuple[_Order, Any]], place: int, *, down: bool) -> list[Any]:
    present = [one for one in ranked if one[0][place][0] == 0]
    missing = [one for one in ranked if one[0][place][0] != 0]
    # Reversed sorting keeps the order of equals, too.
    present.sort(key=lambda one: one[0][place][1], reverse=down)
    missing.sort(key=lambda one: one[0][place][0])
    return present + missing


def _reader(column: Any) -> Callable[[Any], Any]:
    if callable(column):
        read: Callable[[Any], Any] = column
        return read
    return itemgetter(column)
