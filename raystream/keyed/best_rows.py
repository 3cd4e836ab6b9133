"""The best rows of each key, many keys at once: what a running top-k over columns is made of.

A key's best are numbers of rows, the best first, in a row of a table. Of a batch, each key's next
row is taken at once for all keys, so that each meets what the one before left; rows that cannot
enter any more are left out in between. The last few keys with many rows are done one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.flow.window import expand
from raystream.keyed.groups import Grouper, Groups
from raystream.keyed.slots import SlotColumn

NOBODY: Final = -1
"""Where no row stands."""

_MOST: Final = np.iinfo(np.int64).max

_FEW_KEYS: Final = 16
"""So few keys are done sooner one by one."""

CELLS_MAX: Final = 1 << 20
"""So many places of lists are looked at in one step: 8 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Rows that came to be among the best of their keys, in order of arrival.

    Shapes: rows int64 [n], by place in the batch; slots, those of their keys; places, from 0, where
    they came to stand; before, how many stood there; lists [n, k], the numbers of the best with
    them; gone, the number of the row that had to go, NOBODY where none had: all int64 [n].
    """

    rows: Int64s
    slots: Int64s
    places: Int64s
    before: Int64s
    lists: Int64s
    gone: Int64s


class BestRows:
    """The ``k`` best rows of each key; of equal ones that of the lower number is better."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._grouper = Grouper()
        self._counts = SlotColumn("i8")
        # As wide as the longest list so far.
        self._lists: Int64s = np.full((len(self._counts.values), 1), NOBODY)

    def offer(
        self, slots: Int64s, first: int, codes_of: Callable[[Int64s], Int64s], count: int
    ) -> Entries:
        """Take in rows, and number those that enter from ``first`` on.

        ``codes_of`` gives codes that compare as rows do, least best: of rows that are held, by
        their numbers, and then of those that come. ``count`` is above every slot.
        Shapes: slots int64 [n], n > 0.
        """
        self._reserve(count)
        groups = self._grouper.group(slots, count)
        counts = self._counts.values[groups.slots]
        held = self._lists[groups.slots]
        there = np.arange(held.shape[1]) < counts[:, None]
        numbers = held[there]
        codes = codes_of(numbers)
        lists = np.full((len(counts), self._k), NOBODY)
        lists[:, : held.shape[1]] = held
        standing = np.full(lists.shape, _MOST)
        standing[:, : held.shape[1]][there] = codes[: len(numbers)]
        step = _Step(first, codes[len(numbers) :], counts, lists, standing)
        entries = step.run(groups)
        if len(entries.rows) < len(slots):
            number_of = np.empty(len(slots), np.int64)
            number_of[entries.rows] = first + np.arange(len(entries.rows))
            for table in (lists, entries.lists, entries.gone):
                new = table >= first
                table[new] = number_of[table[new] - first]
        self._widen(int(counts.max()))
        self._counts.values[groups.slots] = counts
        self._lists[groups.slots] = lists[:, : self._lists.shape[1]]
        return replace(entries, slots=groups.slots[entries.slots])

    def counts(self, slots: Int64s) -> Int64s:
        """Tell how many rows are held of some keys; there is room for their slots.

        Shapes: int64 [n] -> int64 [n].
        """
        counts: Int64s = self._counts.values[slots]
        return counts

    def last(self, slots: Int64s) -> Int64s:
        """Give the number of the k-th row of keys that have so many.

        Shapes: int64 [n] -> int64 [n].
        """
        last: Int64s = self._lists[slots, self._k - 1]
        return last

    def whole(self, slots: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Give the numbers of the best of some keys, key by key, their ranks from 1, their keys.

        Shapes: int64 [n] -> int64 [m] each; keys by place in ``slots``.
        """
        keys, places = np.nonzero(
            np.arange(self._lists.shape[1]) < self._counts.values[slots][:, None]
        )
        return self._lists[slots[keys], places], places + 1, keys

    def renumber(self, kept: Int64s) -> None:
        """Call row ``kept[i]`` i; they are all that are held, in order."""
        there = self._lists != NOBODY
        self._lists[there] = np.searchsorted(kept, self._lists[there])

    def held(self) -> Int64s:
        """Give the numbers of all rows, in order."""
        return np.sort(self._lists[self._lists != NOBODY])

    def _reserve(self, count: int) -> None:
        self._counts.reserve(count)
        more = len(self._counts.values) - len(self._lists)
        if more:
            room = np.full((more, self._lists.shape[1]), NOBODY)
            self._lists = np.concatenate((self._lists, room))

    def _widen(self, width: int) -> None:
        have = self._lists.shape[1]
        if width > have:
            room = np.full((len(self._lists), min(self._k, 2 * width) - have), NOBODY)
            self._lists = np.concatenate((self._lists, room), axis=1)


class _Step:
    """The rows of a batch meet the lists of their keys, which change.

    Shapes: codes int64 [n], by row; counts int64 [m], lists, and the codes of those that stand in
    them, int64 [m, k], by segment.
    """

    def __init__(
        self, first: int, codes: Int64s, counts: Int64s, lists: Int64s, standing: Int64s
    ) -> None:
        self._first = first
        self._codes = codes
        self._counts = counts
        self._lists = lists
        self._standing = standing
        self._k = lists.shape[1]
        self._found: list[Entries] = []

    def run(self, groups: Groups) -> Entries:
        """Take in all rows, each key's in order of arrival."""
        rows, segments = groups.order, np.arange(len(groups.starts))
        at, stop = groups.starts, groups.starts + groups.lengths
        rounds = 0
        while len(segments) >= _FEW_KEYS:
            self._take(segments, rows[at])
            rounds += 1
            left = np.flatnonzero(at + 1 < stop)
            segments, at, stop = segments[left], at[left] + 1, stop[left]
            if rounds & (rounds - 1) == 0:
                rows, segments, at, stop = self._hopeful(rows, segments, at, stop)
        for segment, start, end in zip(segments.tolist(), at.tolist(), stop.tolist(), strict=True):
            self._take_each(segment, rows[start:end])
        return self._in_order()

    def _hopeful(
        self, rows: Int64s, segments: Int64s, at: Int64s, stop: Int64s
    ) -> tuple[Int64s, Int64s, Int64s, Int64s]:
        """Leave out rows that cannot enter any more; looking costs what all that are left cost."""
        which, positions = expand(at, stop - 1)
        rows = rows[positions]
        owners = segments[which]
        full = self._counts[owners] == self._k
        kept = np.flatnonzero(~full | (self._codes[rows] < self._standing[owners, -1]))
        lengths = np.bincount(which[kept], minlength=len(segments))
        left = np.flatnonzero(lengths)
        stop = np.cumsum(lengths[left])
        return rows[kept], segments[left], stop - lengths[left], stop

    def _take(self, segments: Int64s, rows: Int64s) -> None:
        """Take in one row of each of some keys."""
        codes, standing = self._codes[rows], self._standing[segments]
        before = self._counts[segments]
        # Empty places hold the greatest code, behind all that stand.
        places = np.minimum((standing <= codes[:, None]).sum(axis=1), before)
        enter = np.flatnonzero(places < self._k)
        if len(enter) < len(rows):
            rows, segments, codes = rows[enter], segments[enter], codes[enter]
            places, before, standing = places[enter], before[enter], standing[enter]
        if not len(rows):
            return
        lists = self._lists[segments]
        gone = lists[:, -1].copy()
        self._standing[segments] = _inserted(standing, places, codes)
        lists = _inserted(lists, places, self._first + rows)
        self._lists[segments] = lists
        self._counts[segments] = np.minimum(before + 1, self._k)
        self._found.append(Entries(rows, segments, places, before, lists, gone))

    def _take_each(self, segment: int, rows: Int64s) -> None:
        """Take in rows of one key, one by one."""
        count = int(self._counts[segment])
        standing = self._standing[segment, :count].tolist()
        numbers = self._lists[segment].tolist()
        found = []
        for row, code in zip(rows.tolist(), self._codes[rows].tolist(), strict=True):
            place = bisect_right(standing, code)
            if place == self._k:
                continue
            before = len(standing)
            standing.insert(place, code)
            del standing[self._k :]
            numbers.insert(place, self._first + row)
            gone = numbers.pop()
            found.append((row, place, before, gone, numbers.copy()))
        if not found:
            return
        self._counts[segment] = len(standing)
        self._standing[segment, : len(standing)] = standing
        self._lists[segment] = numbers
        taken, places, befores, going, lists = zip(*found, strict=True)
        self._found.append(
            Entries(
                np.array(taken),
                np.full(len(found), segment),
                np.array(places),
                np.array(befores),
                np.array(lists),
                np.array(going),
            )
        )

    def _in_order(self) -> Entries:
        """Join all entries, in order of arrival."""
        if not self._found:
            none = np.zeros(0, np.int64)
            return Entries(none, none, none, none, none.reshape(0, self._k), none)
        joined = [
            np.concatenate([getattr(some, name.name) for some in self._found])
            for name in fields(Entries)
        ]
        order = stable_order(joined[0])
        return Entries(*(column[order] for column in joined))


def _inserted(table: Int64s, places: Int64s, values: Int64s) -> Int64s:
    """Put a value into each row of a table at a place; what stands from there on moves by one.

    Shapes: table int64 [n, k], places, values int64 [n] -> int64 [n, k].
    """
    moved = np.empty_like(table)
    moved[:, 1:] = table[:, :-1]
    inserted = np.where(np.arange(table.shape[1]) < places[:, None], table, moved)
    inserted[np.arange(len(places)), places] = values
    return inserted
