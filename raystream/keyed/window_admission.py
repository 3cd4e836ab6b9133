"""Which rows windows still want, and the panes in which these lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME
from raystream.flow.window import Grid

_NONE: Int64s = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """Which rows of a batch a window still wants: all where ``rows`` is None; and late ones."""

    rows: Int64s | None
    late: Int64s

    @property
    def late_count(self) -> int:
        return len(self.late)


def panes_of(grid: Grid, times_us: Int64s) -> Int64s | int:
    """Give the pane of each time, or the one pane of all.

    Shapes: times_us int64 [n], n > 0 -> int64 [n] or int.
    """
    first, last = grid.pane_of(int(times_us.min())), grid.pane_of(int(times_us.max()))
    return first if first == last else grid.panes_of(times_us)


def admit(grid: Grid, times_us: Int64s, watermark_us: int) -> Admitted:
    """Leave out rows whose windows have all fired, and rows that lie in no window.

    Only the former are late.
    Shapes: times_us int64 [n], n > 0.
    """
    live_us = grid.live_us(watermark_us)
    late: npt.NDArray[np.bool_] | None = None
    if int(times_us.min()) < live_us:
        # What is beyond int64 is later than every row.
        late = times_us < live_us if live_us <= MAX_TIME else np.ones(len(times_us), np.bool_)
    inside = grid.covered(times_us) if grid.gaps else None
    if late is None:
        return Admitted(None if inside is None else np.flatnonzero(inside), _NONE)
    if inside is None:
        return Admitted(np.flatnonzero(~late), np.flatnonzero(late))
    return Admitted(np.flatnonzero(inside & ~late), np.flatnonzero(inside & late))
