"""Which row of a batch is the first partner of each row that waits, without looking at all pairs.

Shapes: the rows of a batch, each int64 [n], stand in order of key and time.
"""

from __future__ import annotations

import numpy as np

from raystream.flow.batch import Int64s
from raystream.keyed.time_segments import bisect


def ranges_once(slots: Int64s, firsts: Int64s, stops: Int64s) -> tuple[Int64s, Int64s]:
    """Cut ranges that overlap, so that none holds what an earlier one of its key has held.

    Within a key both ends rise.
    Shapes: int64 [n] each -> the new firsts and the counts, int64 [n].
    """
    before = np.concatenate([firsts[:1], stops[:-1]])
    same = slots == np.concatenate([[-1], slots[:-1]])
    firsts = np.where(same, np.maximum(firsts, before), firsts)
    return firsts, np.maximum(stops - firsts, 0)


def first_partners(
    rows: tuple[Int64s, Int64s], arrivals: Int64s, wanted: Int64s, spans: tuple[Int64s, Int64s]
) -> Int64s:
    """Find the row of a batch that came first, of those of a key with ``low <= time <= high``.

    There is one for each.
    Shapes: rows, their slots and times, and their arrivals, each [n]; slots that are wanted and
    spans, lows and highs, each [m] -> int64 [m] of places among the rows.
    Source: Bender and Farach-Colton, The LCA Problem Revisited, 2000: the sparse table.
    """
    slots, times = rows
    starts = np.searchsorted(slots, wanted, side="left")
    stops = np.searchsorted(slots, wanted, side="right")
    firsts = bisect(times, starts, stops, spans[0], right=False)
    stops = bisect(times, firsts, stops, spans[1], right=True)
    assert (stops > firsts).all(), "each has a partner"
    levels = np.frexp(stops - firsts)[1].astype(np.int64) - 1  # of two halves that overlap
    row_of = np.empty_like(arrivals)
    row_of[arrivals] = np.arange(len(arrivals))
    earliest = np.empty_like(firsts)
    least = arrivals
    for level in range(int(levels.max(initial=-1)) + 1):
        here = np.flatnonzero(levels == level)
        earliest[here] = np.minimum(least[firsts[here]], least[stops[here] - (1 << level)])
        least = np.minimum(least[: -(1 << level)], least[1 << level :])
    return row_of[earliest]
