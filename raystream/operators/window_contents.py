"""What a key and window hold in keyed state: an accumulator, or the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, Protocol

from raystream.contracts.evictor import Evictor, Gathered
from raystream.contracts.evictors import Count
from raystream.contracts.state import ListState, ValueState
from raystream.contracts.trigger import Span
from raystream.errors import UserFunctionError
from raystream.keyed.handles import ListHandle, ValueHandle
from raystream.keyed.store import KeyedStore
from raystream.operators.guard import short
from raystream.operators.window_assign import Bounds
from raystream.operators.window_lists import KeepsRows, in_order
from raystream.operators.window_outcomes import Held, Layout, Rule


class Contents(Protocol):
    """Held under the store's current key, and the window that it has entered."""

    def add(self, held: Held) -> bool:
        """Add a row, and tell whether it may be the first."""

    def result(self, key: Any, span: Span) -> tuple[Iterable[Any], int | None] | None:
        """Give the rows that go out, and the latest event time of those held; None: nothing is."""

    def merge(self, homes: Sequence[Bounds], into: Bounds) -> None:
        """Join what several windows hold, in their order."""

    def clear(self) -> None:
        """Forget what is held."""


def contents(store: KeyedStore, rule: Rule, evictor: Evictor | None, layout: Layout) -> Contents:
    """Register the state that an outcome needs."""
    if evictor is None and not isinstance(rule, KeepsRows):
        return Folded(store, rule)
    return Listed(store, rule, evictor, layout)


class Folded:
    """An accumulator beside the latest event time: what needs no row a second time."""

    def __init__(self, store: KeyedStore, rule: Rule) -> None:
        self._store, self._rule = store, rule
        self._cell: ValueHandle = store.register(ValueState("window:contents"), namespaced=True)

    def add(self, held: Held) -> bool:
        cell = self._cell.value()
        time_us = held[1]
        if cell is None:
            self._cell.update([self._rule.add(self._rule.create(), held), time_us])
            return True
        cell[0] = self._rule.add(cell[0], held)
        if time_us is not None and (cell[1] is None or time_us > cell[1]):
            cell[1] = time_us
        self._cell.update(cell)
        return False

    def result(self, key: Any, span: Span) -> tuple[Iterable[Any], int | None] | None:
        cell = self._cell.value()
        return None if cell is None else (self._rule.result(key, span, cell[0]), cell[1])

    def merge(self, homes: Sequence[Bounds], into: Bounds) -> None:
        cells = []
        for home in homes:
            self._store.enter(home)
            if (cell := self._cell.value()) is not None:
                cells.append(cell)
        # Before anything is cleared: users' functions may fail.
        acc = reduce(self._rule.merge, [cell[0] for cell in cells]) if cells else None
        for home in homes:
            self._store.enter(home)
            self._cell.clear()
        self._store.enter(into)
        if cells:
            self._cell.update([acc, _latest([cell[1] for cell in cells])])

    def clear(self) -> None:
        self._cell.clear()


class Listed:
    """Rows in order of arrival; an evictor chooses which of them a firing sees, and leaves."""

    def __init__(
        self, store: KeyedStore, rule: Rule, evictor: Evictor | None, layout: Layout
    ) -> None:
        self._store, self._rule, self._evictor, self._layout = store, rule, evictor, layout
        # Of the last rows no others need a look, and most evictors do nothing behind the function.
        self._count = evictor.n if isinstance(evictor, Count) else None
        self._twice = evictor is not None and type(evictor).after is not Evictor.after
        self._rows: ListHandle = store.register(ListState("window:rows"), namespaced=True)

    def add(self, held: Held) -> bool:
        # A list does not tell how long it is; timers that are there already cost little.
        self._rows.add(held)
        return True

    def result(self, key: Any, span: Span) -> tuple[Iterable[Any], int | None] | None:
        held: list[Held] = self._rows.get()
        evictor = self._evictor
        if self._count is not None:
            held = held[-self._count :]
        elif evictor is not None:
            held = self._kept(evictor.before, held, span)
        if evictor is not None:
            self._rows.update(held)
        if not held:
            return None
        rule = self._rule
        # The rule has a list of its own: it may be asked for its rows later on.
        acc = held if isinstance(rule, KeepsRows) else reduce(rule.add, held, rule.create())
        made = rule.result(key, span, acc)
        if evictor is not None and self._twice:
            # What the function gives is made before the evictor looks at the rows again.
            made = list(made)
            self._rows.update(self._kept(evictor.after, held, span))
        return made, _latest([time_us for _, time_us, _ in held])

    def merge(self, homes: Sequence[Bounds], into: Bounds) -> None:
        rows: list[Held] = []
        for home in homes:
            self._store.enter(home)
            rows = in_order(rows, self._rows.get())
            self.clear()
        self._store.enter(into)
        if rows:
            self._rows.update(rows)

    def clear(self) -> None:
        self._rows.clear()

    def _kept(self, evict: Any, held: list[Held], span: Span) -> list[Held]:
        seen = self._layout.seen
        given = [Gathered(seen(row), time_us, arrival) for row, time_us, arrival in held]
        kept = evict(given, span)
        try:
            stay = {one.arrival for one in kept}
        except (TypeError, AttributeError) as error:
            name = f"{type(self._evictor).__name__}.{evict.__name__}"
            raise UserFunctionError(
                f"{name} gave {short(kept)}, which are no rows of the window",
                hint="return those of the given rows that stay",
            ) from error
        return [one for one in held if one[2] in stay]


def _latest(times_us: Sequence[int | None]) -> int | None:
    return max((time_us for time_us in times_us if time_us is not None), default=None)
