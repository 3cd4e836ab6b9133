"""The best rows of each key where rows are taken back: all are kept, for one lets the next in."""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.keyed.ranking import Told


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
    """What one row did to its key's best: those from the first that changed, before and after."""

    place: int
    before: list[Placed]
    after: list[Placed]


class RetractingRanking:
    """All rows of each key, sorted: the first ``k`` are the best, with ``ties`` their equals too."""

    def __init__(self, k: int, *, ties: bool) -> None:
        self._k = k
        self._ties = ties
        self.rows: dict[Any, list[Held]] = {}

    def add(self, key: Hashable, held: Held) -> Turned | None:
        """Take a row in; None where it is not among the best of its key."""
        rows = self.rows.setdefault(key, [])
        place = bisect.bisect(rows, held[:2], key=lambda one: one[:2])
        before = self.best(key)
        rows.insert(place, held)
        return self._turned(key, place, before)

    def take_back(self, key: Hashable, sort: Any, which: int) -> tuple[bool, Turned | None]:
        """Let the earliest such row go: whether there was one, and what that changed."""
        rows = self.rows.get(key, [])
        place = bisect.bisect_left(rows, sort, key=lambda one: one.sort)
        while place < len(rows) and rows[place].sort == sort and rows[place].which != which:
            place += 1
        if place == len(rows) or rows[place].sort != sort:
            return False, None
        before = self.best(key)
        del rows[place]
        turned = self._turned(key, place, before)
        if not rows:
            del self.rows[key]
        return True, turned

    def best(self, key: Hashable) -> list[Placed]:
        """Give the best of a key, in order; equal rows share a rank where ties are kept."""
        rows, best = self.rows.get(key, []), []
        rank = 0
        for place, held in enumerate(rows):
            if not (self._ties and place and held.sort == rows[place - 1].sort):
                rank = place + 1
            if rank > self._k:
                break
            best.append(Placed(held, rank))
        return best

    def _turned(self, key: Hashable, place: int, before: list[Placed]) -> Turned | None:
        after = self.best(key)
        if place >= max(len(before), len(after)):
            return None
        return Turned(place, before[place:], after[place:])


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
