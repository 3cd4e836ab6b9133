"""Rows of a changelog as aggregates see them: some add, some take back, each in its turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.slots import SlotColumn

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Turn:
    """The rows of a batch that count for one aggregate, sorted by key; none takes back too much.

    Shapes: by position of ``groups``: signs int64 [n], 1 where a row adds and -1 where it takes
    back; counts int64 [n], how many values its key has after it.
    """

    groups: Groups
    rows: Rows
    signs: Int64s
    counts: Int64s

    @cached_property
    def runs(self) -> Groups:
        """The segments, cut behind each position that leaves its key without values."""
        groups = self.groups
        begins = np.zeros(len(groups.order), np.bool_)
        begins[1:] = self.counts[:-1] == 0
        begins[groups.starts] = True
        starts = np.flatnonzero(begins)
        return Groups(groups.order, starts, groups.slots[groups.segments[starts]])

    @cached_property
    def fresh(self) -> npt.NDArray[np.bool_]:
        """Tell which runs begin with nothing: bool [runs]."""
        starts = self.runs.starts
        none: npt.NDArray[np.bool_] = self.counts[starts] == self.signs[starts]
        return none

    def before(self, column: SlotColumn) -> npt.NDArray[Any]:
        """Give what a column holds where each run begins, 0 where that is with nothing."""
        held: npt.NDArray[Any] = column.values[self.runs.slots]
        held[self.fresh] = 0
        return held

    def sums(self, column: SlotColumn, values: Int64s) -> Int64s:
        """Add signed numbers up, onto what a column holds, and leave there what comes out.

        Shapes: int64 [n] -> int64 [n].
        """
        runs = self.runs
        sums: Int64s = np.cumsum(values)
        sums += runs.spread(self.before(column) - (sums[runs.starts] - values[runs.starts]))
        self.leave(column, sums)
        return sums

    def leave(self, column: SlotColumn, after: npt.NDArray[_T]) -> None:
        """Put what stands behind the last row of each key into a column; 0 without values.

        Shapes: [n] by position.
        """
        ends = self.groups.ends
        left = after[ends]
        left[self.counts[ends] == 0] = 0
        column.values[self.groups.slots] = left


def counted(
    groups: Groups, signs: Int64s, before: Int64s
) -> tuple[Int64s, npt.NDArray[np.bool_] | None]:
    """Count up and down; a row that would take a count below 0 is passed over.

    Gives the count after each position, and which ones are passed over, None where none is.
    Shapes: signs int64 [n], before int64 [m] by segment -> int64 [n], bool [n].
    """
    counts: Int64s = np.cumsum(signs)
    counts += groups.spread(before - (counts[groups.starts] - signs[groups.starts]))
    if counts.min(initial=0) >= 0:
        return counts, None
    # However deep a count would have gone by then is given back. Segments are kept apart by moving
    # each below all that stand before it.
    apart = groups.segments * (len(signs) + 1)
    lowest = np.minimum.accumulate(np.minimum(counts, 0) - apart) + apart
    earlier = np.roll(lowest, 1)
    earlier[groups.starts] = 0
    return counts - lowest, lowest < earlier
