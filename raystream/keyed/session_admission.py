"""Which rows a session still wants, and the cells that they come to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME
from raystream.keyed.older_cells import NO_CELL
from raystream.keyed.session_cells import SessionCells


def last_due(watermark_us: int, gap_us: int) -> int:
    """Give the last time of a row whose session is over if nothing follows it; any int."""
    if watermark_us >= MAX_TIME - 1:
        return MAX_TIME
    return watermark_us + 1 - gap_us


def admit(
    cells: SessionCells, gap_us: int, due_us: int, slots: Int64s, times_us: Int64s
) -> npt.NDArray[np.bool_] | None:
    """Tell which rows join a session or open one; None: all do.

    A row that is late on its own is saved by the session that it touches, whether that was open
    before or a row before it has brought it so far.
    Shapes: slots, times_us int64 [n], n > 0 -> bool [n].
    """
    if int(times_us.min()) > due_us:
        return None
    admitted: npt.NDArray[np.bool_] = times_us > due_us
    late = np.flatnonzero(~admitted)
    touched = np.unique(slots[late])
    found = cells.earliest(touched, due_us)
    # Only rows up to here can bring a session to where a late row touches it.
    near = admitted & (times_us <= min(due_us + gap_us, MAX_TIME))
    near &= np.isin(slots, touched)
    hopeful = np.isin(slots[late], np.union1d(touched[found != NO_CELL], slots[near]))
    rows = np.sort(np.concatenate((late[hopeful], np.flatnonzero(near))))
    has = found != NO_CELL
    first = dict(zip(touched[has].tolist(), cells.first_us(found[has]).tolist(), strict=True))
    # A loop over rows, because each may save the next one: late ones of keys that have an open
    # session near the watermark, and rows of the same keys that lie there.
    saved = []
    for row, slot, time in zip(
        rows.tolist(), slots[rows].tolist(), times_us[rows].tolist(), strict=True
    ):
        begin = first.get(slot)
        if time > due_us:
            first[slot] = time if begin is None else min(begin, time)
        elif begin is not None and begin - gap_us <= time:
            first[slot] = min(begin, time)
            saved.append(row)
    admitted[saved] = True
    return admitted


def place(cells: SessionCells, due_us: int, slots: Int64s, times_us: Int64s) -> Int64s:
    """Give the cell of each row, which is open from now on; all rows are admitted.

    Shapes: slots, times_us int64 [n], n > 0 -> int64 [n].
    """
    if int(times_us.min()) > due_us:
        return cells.put(slots, times_us)
    own = times_us > due_us
    placed = np.empty_like(slots)
    placed[own] = cells.put(slots[own], times_us[own])
    saved = cells.earliest(slots[~own], due_us)
    assert (saved != NO_CELL).all(), "a row that is late on its own joins a session"
    cells.widen(saved, times_us[~own])
    placed[~own] = saved
    return placed
