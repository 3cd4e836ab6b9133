"""What running operators say of their tables: each row in, and what it does to the row of its key.

Where an update goes out as two rows, the old one stands directly before the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.keyed.groups import Groups

Bools = npt.NDArray[np.bool_]


class Changes(NamedTuple):
    """Rows that go out, in order of the rows that made them.

    Shapes: rows int64 [k], the row that made each; places int64 [k], where its values stand: by
    position behind the row, and, n further, by segment before the batch; ops int8 [k].
    """

    rows: Int64s
    places: Int64s
    ops: npt.NDArray[np.int8]


def changes(groups: Groups, born: Bools, gone: Bools, *, before: bool) -> Changes:
    """Say what the rows of a batch do to the row of their key.

    ``born``: its key had no row before; ``gone``: it has none behind it, and is taken back whole;
    with ``before`` every update takes the old row back first.
    Shapes: bool [n] by position of ``groups``.
    """
    n, inverse = len(groups.order), groups.inverse
    born, gone = born[inverse], gone[inverse]
    old, new = gone | (~born if before else np.zeros(n, np.bool_)), ~gone
    many = old.astype(np.int64) + new
    rows = np.repeat(np.arange(n), many)
    of_old = np.zeros(len(rows), np.bool_)
    of_old[(np.cumsum(many) - many)[old]] = True
    earlier = np.arange(-1, n - 1)
    earlier[groups.starts] = n + np.arange(len(groups.starts))
    positions = inverse[rows]
    places = np.where(of_old, earlier[positions], positions)
    ops = np.where(
        of_old,
        np.where(gone[rows], DELETE, UPDATE_BEFORE),
        np.where(born[rows], INSERT, UPDATE_AFTER),
    )
    return Changes(rows, places, ops.astype(np.int8))


def bounded(ops: npt.NDArray[np.int8], rows_max: int) -> Iterator[slice]:
    """Cut changes into batches of at most ``rows_max``, but never between old and new.

    Shapes: int8 [k] -> slices of [k].
    """
    start = 0
    while start < len(ops):
        stop = min(start + max(rows_max, 2), len(ops))
        if stop < len(ops) and ops[stop - 1] == UPDATE_BEFORE:
            stop -= 1
        yield slice(start, stop)
        start = stop
