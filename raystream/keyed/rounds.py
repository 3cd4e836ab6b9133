"""Changes of a batch in rounds: what takes rows back acts in order, and is still done by column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s


def sign_rounds(slots: Int64s, removes: npt.NDArray[np.bool_]) -> Iterator[Int64s]:
    """Give the positions of rows, round by round.

    Within a round all rows of a slot add, or all remove; what stands before a row of its slot is in
    the same round or in an earlier one. Rows of a round are in order of position. One round where
    nothing is removed, none without rows.
    Shapes: slots int64 [n], removes bool [n] -> int64 [m] each, n in all.
    """
    if not len(slots):
        return
    if not removes.any() or removes.all():
        yield np.arange(len(slots))
        return
    order = np.argsort(slots, kind="stable")
    slot, sign = slots[order], removes[order]
    first = np.diff(slot, prepend=slot[0] - 1) != 0
    turns = first.copy()
    turns[1:] |= sign[1:] != sign[:-1]
    turn = np.cumsum(turns)
    # The turn at which a slot begins is carried along its rows: turns grow, so a maximum does it.
    rounds = np.empty(len(slots), np.int64)
    rounds[order] = turn - np.maximum.accumulate(np.where(first, turn, 0))
    by_round = np.argsort(rounds, kind="stable")
    cuts = np.flatnonzero(np.diff(rounds[by_round])) + 1
    yield from np.split(by_round, cuts)
