"""The best rows of each key, one row at a time: what a running top-k is made of.

A key's best are a sorted list of entries ``(sort, arrival, row)``: ``sort`` compares as the rows
do, arrival breaks ties, and ``row`` is whatever stands for the row.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.keyed.measures_pick import sort_key

Entry: TypeAlias = tuple[Any, int, Any]
_SORT = itemgetter(0)

_VALUE, _NAN, _NULL = 0, 1, 2
"""How a value sorts whatever it is: NaN behind all values, null behind NaN, either way."""


class Told(NamedTuple):
    """A row to give: what stands for it, its rank from 1, its kind."""

    row: Any
    rank: int
    op: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one row did to its key's best: its place, and who had to go."""

    best: list[Entry]
    place: int
    before: list[int]
    dropped: list[tuple[Entry, int]]


class Ranking:
    """The ``k`` best of each key; with ``ties`` all that equal the k-th."""

    def __init__(self, k: int, *, ties: bool) -> None:
        self._k = k
        self._ties = ties
        self.best: dict[Any, list[Entry]] = {}

    def offer(self, key: Hashable, entry: Entry) -> Change | None:
        """Take a row in; None where it is not among the best of its key."""
        best = self.best.setdefault(key, [])
        if len(best) >= self._k and not self._enters(entry, best[-1]):
            return None
        before = self.ranks(best)
        place = bisect.bisect(best, entry[:2], key=lambda one: one[:2])
        best.insert(place, entry)
        stop = self._stop(best)
        gone = best[stop:]
        del best[stop:]
        ranks = before[len(before) - len(gone) :] if gone else []
        return Change(best, place, before, list(zip(gone, ranks, strict=True)))

    def ranks(self, best: list[Entry]) -> list[int]:
        """Give the rank of each, from 1; equal rows share one where ties are kept."""
        ranks = list(range(1, len(best) + 1))
        if self._ties:
            for place in range(1, len(best)):
                if best[place][0] == best[place - 1][0]:
                    ranks[place] = ranks[place - 1]
        return ranks

    def worst(self, key: Hashable) -> Any:
        """Give the ``sort`` that a row must beat to enter; None while any row enters."""
        best = self.best[key]
        return best[self._k - 1][0] if len(best) >= self._k else None

    def newest(self, change: Change, *, ranked: bool) -> Iterator[Told]:
        """Give the row that came, and, ``ranked``, those whose rank it changed."""
        ranks = self.ranks(change.best)
        for place in range(change.place, len(change.best) if ranked else change.place + 1):
            moved = place == change.place or ranks[place] != change.before[place - 1]
            if moved:
                yield Told(change.best[place][2], ranks[place], INSERT)

    def by_rank(self, change: Change, *, before: bool = False) -> Iterator[Told]:
        """Give the change of a table whose key is the rank: rows replace those of their rank.

        With ``before``, what is replaced goes out first.
        """
        earlier = [*change.best[change.place + 1 :], *(entry for entry, _ in change.dropped)]
        for place in range(change.place, len(change.best)):
            replaces = place < len(change.before)
            if replaces and before:
                yield Told(earlier[place - change.place][2], place + 1, UPDATE_BEFORE)
            op = UPDATE_AFTER if replaces else INSERT
            yield Told(change.best[place][2], place + 1, op)

    def by_row(self, change: Change, *, ranked: bool) -> Iterator[Told]:
        """Give the change of a table of whole rows: what is gone is taken back."""
        for entry, rank in change.dropped:
            yield Told(entry[2], rank, DELETE)
        ranks = self.ranks(change.best)
        for place in range(change.place + 1, len(change.best) if ranked else 0):
            before, after = change.before[place - 1], ranks[place]
            if before != after:
                yield Told(change.best[place][2], before, UPDATE_BEFORE)
                yield Told(change.best[place][2], after, UPDATE_AFTER)
        yield Told(change.best[change.place][2], ranks[change.place], INSERT)

    def _enters(self, entry: Entry, last: Entry) -> bool:
        enters: bool = not last[0] < entry[0] if self._ties else entry[0] < last[0]
        return enters

    def _stop(self, best: list[Entry]) -> int:
        stop = min(self._k, len(best))
        if self._ties:
            kth = best[stop - 1][0]
            while stop < len(best) and best[stop][0] == kth:
                stop += 1
        return stop


class Down:
    """A text or bytes that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Down) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: Down) -> bool:
        return bool(other.value < self.value)


def sort_values(column: pa.Array, *, descending: bool) -> list[Any]:
    """Give what each value sorts by, least first; nulls and NaN last either way.

    Shapes: column [n] -> [n].
    """
    kind, types = column.type, pa.types
    if types.is_null(kind):
        return [(_NULL, 0)] * len(column)
    if types.is_floating(kind):
        column = column.cast(pa.float64())
        floats = column.fill_null(0.0).to_numpy(zero_copy_only=False)
        nan = np.isnan(floats)
        values = (np.where(nan, 0.0, -floats if descending else floats) + 0.0).tolist()
        flags = np.where(nan, _NAN, _VALUE)
    elif (types.is_integer(kind) and kind != pa.uint64()) or types.is_temporal(kind):
        values = sort_key(column, greatest=descending).tolist()
        flags = np.full(len(column), _VALUE)
    else:
        values = [object_sort(value, descending=descending)[1] for value in column.to_pylist()]
        flags = np.full(len(column), _VALUE)
    if column.null_count:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        flags = np.where(missing, _NULL, flags)
        values = [0 if null else v for v, null in zip(values, missing.tolist(), strict=True)]
    return list(zip(flags.tolist(), values, strict=True))


def object_sort(value: Any, *, descending: bool) -> tuple[int, Any]:
    """Give what a Python value sorts by; None and NaN last either way."""
    if value is None:
        return (_NULL, 0)
    if value != value:  # noqa: PLR0124  NaN alone
        return (_NAN, 0)
    if not descending:
        return (_VALUE, value)
    # Only numbers have an opposite.
    return (_VALUE, -value if isinstance(value, (int, float)) else Down(value))
