"""The best rows of each key where rows are taken back: all are kept, for one lets the next in."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.keyed.ranking import Told

_PLACE, _SORT = itemgetter(0, 1), itemgetter(0)
"""Where a row stands, and what it sorts by."""


class Held(NamedTuple):
    """A row: what it sorts by, its number of arrival, what stands for it, and which row it is."""

    sort: Any
    arrival: int
    row: Any
    which: int


class Placed(NamedTuple):
    """One of the best: the row and its rank."""

    held: Held
    rank: int


@dataclass(frozen=True, slots=True)
class Turned:
    """What one row did to its key's best: those from its place on, before and after."""

    before: list[Placed]
    after: list[Placed]


class RetractingRanking:
    """All rows of each key, sorted: the first ``k`` are the best, with ``ties`` equals too."""

    def __init__(self, k: int, *, ties: bool) -> None:
        self._k = k
        self._ties = ties
        self.rows: dict[Any, list[Held]] = {}

    def add(self, key: Hashable, held: Held) -> Turned | None:
        """Take a row in; None where it is not among the best of its key."""
        rows = self.rows.setdefault(key, [])
        place = bisect.bisect(rows, held[:2], key=_PLACE)
        before = self._placed(rows, place)
        rows.insert(place, held)
        return self._turned(rows, place, before)

    def take_back(self, key: Hashable, sort: Any, which: int) -> tuple[bool, Turned | None]:
        """Let the earliest such row go: whether there was one, and what that changed."""
        rows = self.rows.get(key, [])
        place = bisect.bisect_left(rows, sort, key=_SORT)
        while place < len(rows) and rows[place].which != which and rows[place].sort == sort:
            place += 1
        if place == len(rows) or rows[place].sort != sort:
            return False, None
        before = self._placed(rows, place)
        del rows[place]
        if not rows:
            del self.rows[key]
        return True, self._turned(rows, place, before)

    def best(self, key: Hashable) -> list[Placed]:
        """Give the best of a key, in order; equal rows share a rank where ties are kept."""
        return self._placed(self.rows.get(key, []), 0)

    def _placed(self, rows: list[Held], start: int) -> list[Placed]:
        """Give those of the best that stand from ``start`` on."""
        if not self._ties:
            return list(map(Placed, rows[start : self._k], range(start + 1, self._k + 1)))
        first = start
        if 0 < start <= len(rows):
            # Where equals stand before, theirs is the rank.
            first = bisect.bisect_left(rows, rows[start - 1].sort, key=_SORT)
        placed: list[Placed] = []
        rank = first + 1
        for place in range(first, len(rows)):
            if place > first and rows[place].sort != rows[place - 1].sort:
                rank = place + 1
            if rank > self._k:
                break
            if place >= start:
                placed.append(Placed(rows[place], rank))
        return placed

    def _turned(self, rows: list[Held], place: int, before: list[Placed]) -> Turned | None:
        after = self._placed(rows, place)
        return Turned(before, after) if before or after else None


def entered(turned: Turned, *, ranked: bool) -> Iterator[Told]:
    """Give the rows that came to be among the best and, ``ranked``, those whose rank changed."""
    ranks = {held.arrival: rank for held, rank in turned.before}
    for held, rank in turned.after:
        known = ranks.get(held.arrival)
        if known is None or (ranked and known != rank):
            yield Told(held.row, rank, INSERT)


def by_rank(turned: Turned, *, before: bool) -> Iterator[Told]:
    """Give the change of a table whose key is the rank; with ``before`` old rows go out first."""
    shared = min(len(turned.before), len(turned.after))
    for old, new in zip(turned.before[:shared], turned.after[:shared], strict=True):
        if before:
            yield Told(old.held.row, old.rank, UPDATE_BEFORE)
        yield Told(new.held.row, new.rank, UPDATE_AFTER)
    for old in turned.before[shared:]:
        yield Told(old.held.row, old.rank, DELETE)
    for new in turned.after[shared:]:
        yield Told(new.held.row, new.rank, INSERT)


def by_row(turned: Turned, *, ranked: bool) -> Iterator[Told]:
    """Give the change of a table of whole rows: what is gone is taken back."""
    ranks = {held.arrival: rank for held, rank in turned.after}
    known = {held.arrival: rank for held, rank in turned.before}
    for held, rank in turned.before:
        if held.arrival not in ranks:
            yield Told(held.row, rank, DELETE)
    for held, rank in turned.after:
        earlier = known.get(held.arrival)
        if earlier is None:
            yield Told(held.row, rank, INSERT)
        elif ranked and earlier != rank:
            yield Told(held.row, earlier, UPDATE_BEFORE)
            yield Told(held.row, rank, UPDATE_AFTER)
