"""What comes out of a join for one batch, said before it is made: so that it comes in pieces.

A row of a key that many have gives millions of rows. An *item* is one row of the batch and what
comes out for it: the row beside rows of the other side, the row alone, or rows of the other side
alone. Items name a range of the other side's lists, not rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import EVENT_TIME, NO_TIME, Columns, Int64s
from raystream.flow.changes import DELETE, INSERT, OP
from raystream.keyed.join_side import JoinSide
from raystream.operators.join_plan import JoinPlan

PAIR: Final = 0
OWN: Final = 1
OTHER: Final = 2

BEFORE: Final = 0
MIDST: Final = 1
BEHIND: Final = 2

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items by column, in the order in which they come out; all arrays are [m].

    ``positions`` are rows of the batch, ``kinds`` PAIR, OWN or OTHER; ``starts`` and ``counts``
    name the range of the other side's lists, ``removes`` tells what takes rows back. ``phases`` put
    items of one row in order. ``unmet``: only rows that have not met a partner.
    """

    positions: Int64s
    kinds: Int8s
    starts: Int64s
    counts: Int64s
    removes: Bools
    phases: Int8s
    unmet: Bools

    @staticmethod
    def none() -> Items:
        """Give no items."""
        return Items.own(np.zeros(0, np.int64), np.zeros(0, np.bool_))

    @staticmethod
    def own(positions: Int64s, removes: Bools) -> Items:
        """Let rows of the batch come out alone; ``removes`` is by row of the batch."""
        starts = np.zeros(len(positions), np.int64)
        return Items.beside(positions, starts, starts + 1, removes, OWN)

    @staticmethod
    def beside(
        positions: Int64s, starts: Int64s, counts: Int64s, removes: Bools, kind: int = PAIR
    ) -> Items:
        """Let rows of the batch come out beside those of lists; ``removes`` is by row of it."""
        size = len(positions)
        kinds, phases = np.full(size, kind, np.int8), np.full(size, MIDST, np.int8)
        unmet = np.zeros(size, np.bool_)
        return Items(positions, kinds, starts, counts, removes[positions], phases, unmet)

    def take(self, places: Int64s | Bools) -> Items:
        """Keep some, in this order."""
        return Items(*(array[places] for array in self.arrays))

    def placed(self, positions: Int64s) -> Items:
        """Name rows of a larger batch: row i is ``positions[i]`` of it."""
        return replace(self, positions=positions[self.positions])

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """All columns."""
        return [getattr(self, one.name) for one in fields(self)]


def merged(parts: Sequence[Items]) -> Items:
    """Put items in order: by row, then by phase."""
    some = [part for part in parts if len(part.positions)]
    if not some:
        return Items.none()
    columns = zip(*(part.arrays for part in some), strict=True)
    together = Items(*(np.concatenate(column) for column in columns))
    return together.take(np.argsort(3 * together.positions + together.phases, kind="stable"))


class JoinedRows:
    """Makes rows of the output: of a batch at ``port``, and of the rows of the other side."""

    def __init__(self, plan: JoinPlan, port: int, rows: Columns, other: JoinSide) -> None:
        self._plan, self._port, self._rows, self._other = plan, port, rows, other
        self._timed = EVENT_TIME in plan.output.names
        self._changes = OP in plan.output.names

    def of(self, items: Items, limit: int) -> Iterator[Columns]:
        """Make what items say, at most ``limit`` rows at a time."""
        other = self._other
        ends = np.cumsum(items.counts)
        begins, total = ends - items.counts, int(ends[-1]) if len(ends) else 0
        for start in range(0, total, limit):
            stop = min(start + limit, total)
            low = int(np.searchsorted(ends, start, side="right"))
            high = int(np.searchsorted(ends, stop, side="left")) + 1
            here = np.minimum(ends[low:high], stop) - np.maximum(begins[low:high], start)
            which = np.repeat(np.arange(low, high), here)
            numbers = other.lists.at(items.starts[which] + np.arange(start, stop) - begins[which])
            kinds = items.kinds[which]
            if other.dead:
                kept = (kinds == OWN) | other.alive(numbers)
                which, numbers, kinds = which[kept], numbers[kept], kinds[kept]
            unmet = items.unmet[which]
            if unmet.any():
                kept = ~(unmet & other.met(numbers))
                which, numbers, kinds = which[kept], numbers[kept], kinds[kept]
            if len(which):
                yield self._piece(kinds, items.positions[which], numbers, items.removes[which])

    def _piece(self, kinds: Int8s, positions: Int64s, numbers: Int64s, removes: Bools) -> Columns:
        """Make rows of several kinds, in order.

        Shapes: int8 [n], int64 [n], int64 [n], bool [n] -> [n].
        """
        parts, places = [], []
        for kind, make in ((PAIR, self._pairs), (OWN, self._own), (OTHER, self._others)):
            where = np.flatnonzero(kinds == kind)
            if len(where) == len(kinds):
                return make(positions, numbers, removes)
            if len(where):
                parts.append(make(positions[where], numbers[where], removes[where]).record)
                places.append(where)
        order = np.empty(len(kinds), np.int64)
        order[np.concatenate(places)] = np.arange(len(kinds))
        return Columns(pa.concat_batches(parts).take(pa.array(order)))

    def _pairs(self, positions: Int64s, numbers: Int64s, removes: Bools) -> Columns:
        mine, theirs = self._rows.take(positions), Columns(self._other.take(numbers))
        left, right = (theirs, mine) if self._port else (mine, theirs)
        times, ops = self._later(mine, theirs), self._ops(removes)
        return self._plan.pairs(left.record, right.record, times, ops)

    def _own(self, positions: Int64s, numbers: Int64s, removes: Bools) -> Columns:
        mine = self._rows.take(positions)
        make = self._plan.rights if self._port else self._plan.lefts
        return make(mine.record, self._times(mine), self._ops(removes))

    def _others(self, positions: Int64s, numbers: Int64s, removes: Bools) -> Columns:
        theirs = Columns(self._other.take(numbers))
        times, own = self._later(self._rows.take(positions), theirs), self._times(theirs)
        if times is not None and own is not None and self._plan.how != "semi":
            # A row that nothing matches any more is what it was, at its own time.
            times = np.where(removes, times, own)
        make = self._plan.lefts if self._port else self._plan.rights
        return make(theirs.record, times, self._ops(removes))

    def _times(self, rows: Columns) -> Int64s | None:
        if not self._timed:
            return None
        times = rows.timestamps
        return np.full(rows.num_rows, NO_TIME) if times is None else times

    def _later(self, rows: Columns, others: Columns) -> Int64s | None:
        one, other = self._times(rows), self._times(others)
        return None if one is None or other is None else np.maximum(one, other)

    def _ops(self, removes: Bools) -> Int8s | None:
        return np.where(removes, DELETE, INSERT).astype(np.int8) if self._changes else None
