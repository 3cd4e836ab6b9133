"""Rows of both sides whose windows have ended, matched: what comes out is numbered, not made.

Rows are sorted by window and key, so that the partners of a row are a range of the other side, and
what a row gives is a count. Output rows then have numbers, and any range of them is made when it is
asked for: nothing of the cross product of two large sides is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Columns, Int64s
from raystream.flow.hashing import hash_columns
from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.slots import distinct
from raystream.operators.join_plan import JoinPlan

_NO_KEY = (-1, -2)
"""The codes of rows that match nothing, left and right."""


@dataclass(frozen=True, slots=True, eq=False)
class Windowed:
    """Rows of one side, each in some windows.

    Entry ``i`` is row ``items[i]`` in window ``windows[i]``; ``given[i]`` of what it matches have
    gone out already.
    Shapes: rows [r]; items, windows, given int64 [n].
    """

    rows: pa.RecordBatch
    items: Int64s
    windows: Int64s
    given: Int64s

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def flat(self) -> pa.RecordBatch:
        """One row an entry."""
        return self.rows.take(pa.array(self.items))

    def take(self, entries: Int64s) -> Windowed:
        """Give some of the entries, of the same rows."""
        return Windowed(self.rows, self.items[entries], self.windows[entries], self.given[entries])

    def compacted(self) -> Windowed:
        """Copy the rows that have entries, so that the others may go."""
        rows, items = np.unique(self.items, return_inverse=True)
        return Windowed(self.rows.take(pa.array(rows)), items, self.windows, self.given)


Pair = tuple[Windowed, Windowed]
"""The left's rows and the right's."""


class Matching:
    """What rows of both sides give; ``times`` makes of windows the event times of the output."""

    def __init__(self, plan: JoinPlan, pair: Pair, times: Callable[[Int64s], Int64s]) -> None:
        self._plan = plan
        self._times = times
        codes = _codes(plan, pair)
        orders = [stable_order(some) for some in codes]
        self._left, self._right = (
            side.take(order) for side, order in zip(pair, orders, strict=True)
        )
        left, right = (some[order] for some, order in zip(codes, orders, strict=True))
        self._begins = np.searchsorted(right, left, "left")
        self._matches = np.searchsorted(right, left, "right") - self._begins
        sizes = _sizes(plan, self._matches) - self._left.given
        self._stops = np.cumsum(sizes)
        self._left_stop = int(self._stops[-1]) if len(sizes) else 0
        self._alone = np.zeros(0, np.int64)
        if plan.keeps_right:
            partners = np.searchsorted(left, right, "right") - np.searchsorted(left, right, "left")
            self._alone = np.flatnonzero(partners == 0)
        self._next = 0

    @property
    def over(self) -> bool:
        """Whether everything has been given."""
        return self._next == self._left_stop + len(self._alone)

    def next(self, rows_max: int) -> Columns:
        """Make the next rows of the output."""
        first = self._next
        if first < self._left_stop:
            self._next = min(first + rows_max, self._left_stop)
            return self._of_left(np.arange(first, self._next))
        some = self._alone[first - self._left_stop :][:rows_max]
        self._next += len(some)
        side = self._right.take(some)
        return self._plan.rights(side.flat, self._times(side.windows))

    def rest(self) -> Pair:
        """Give what is left, as another matching takes it: each row with all its partners."""
        place = int(np.searchsorted(self._stops, self._next, "right"))
        sizes = np.diff(self._stops, prepend=0)
        lefts = place + np.flatnonzero(sizes[place:])
        left = self._left.take(lefts)
        if len(lefts) and lefts[0] == place:
            # Of the one in hand some have gone out.
            left.given[0] += self._next - int(self._stops[place] - sizes[place])
        wanted = np.zeros(self._right.count + 1, np.int64)
        some = lefts[self._matches[lefts] > 0]
        np.add.at(wanted, self._begins[some], 1)
        np.add.at(wanted, self._begins[some] + self._matches[some], -1)
        needed = np.cumsum(wanted[:-1]) > 0
        needed[self._alone[max(0, self._next - self._left_stop) :]] = True
        return left, self._right.take(np.flatnonzero(needed))

    def _of_left(self, numbers: Int64s) -> Columns:
        """Make rows of the output that have a row of the left."""
        entries = np.searchsorted(self._stops, numbers, "right")
        side = self._left.take(entries)
        times = self._times(side.windows)
        if self._plan.left_only:
            return self._plan.lefts(side.flat, times)
        # Numbers count back from where an entry stops, whatever it had given before.
        partners = self._begins[entries] + self._matches[entries]
        partners -= self._stops[entries] - numbers
        alone = self._matches[entries] == 0
        if alone.all():
            return self._plan.lefts(side.flat, times)
        partners[alone] = 0
        rights = pa.array(self._right.items[partners], mask=alone)
        return self._plan.pairs(side.flat, self._right.rows.take(rights), times)


def cut(plan: JoinPlan, pair: Pair, rows_max: int) -> list[Pair]:
    """Cut entries by key into pairs of about ``rows_max``, so that one can be matched at a time."""
    count = -(-(pair[0].count + pair[1].count) // rows_max)
    if count < 2:
        return [pair]
    parts = []
    for port, side in enumerate(pair):
        hashes = hash_columns(plan.keys(port, side.rows))
        # The low bits decide the key group, and are alike in a subtask.
        places = ((hashes >> np.uint64(32)) % np.uint64(count)).astype(np.int64)[side.items]
        order = stable_order(places)
        stops = np.cumsum(np.bincount(places, minlength=count))
        parts.append([side.take(some).compacted() for some in np.split(order, stops[:-1])])
    return [(left, right) for left, right in zip(*parts, strict=True) if left.count or right.count]


def _sizes(plan: JoinPlan, matches: Int64s) -> Int64s:
    """Say how many rows each row of the left gives."""
    sizes: Int64s
    match plan.how:
        case "semi":
            sizes = np.minimum(matches, 1)
        case "anti":
            sizes = 1 - np.minimum(matches, 1)
        case "left" | "full":
            sizes = np.maximum(matches, 1)
        case _:
            sizes = matches
    return sizes


def _codes(plan: JoinPlan, pair: Pair) -> tuple[Int64s, Int64s]:
    """Give each entry a number: those of one key and window have the same, the others do not."""
    index = KeyIndex(plan.key_types)
    slots = [index.lookup(plan.keys(port, side.rows))[0] for port, side in enumerate(pair)]
    windows = distinct(np.concatenate([side.windows for side in pair]))
    codes = []
    for port, side in enumerate(pair):
        code = slots[port][side.items]
        if len(windows) > 1:
            # Ranks and slots are both below the number of entries.
            code = np.searchsorted(windows, side.windows) * np.int64(index.count) + code
        matchable: npt.NDArray[np.bool_] | None = plan.matchable(port, side.rows)
        codes.append(code if matchable is None else _without(code, matchable[side.items], port))
    return codes[0], codes[1]


def _without(codes: Int64s, matchable: npt.NDArray[np.bool_], port: int) -> Int64s:
    marked: Int64s = np.where(matchable, codes, _NO_KEY[port])
    return marked
