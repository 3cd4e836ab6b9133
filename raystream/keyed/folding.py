"""Decide, batch by batch, whether grouping a batch before it is merged or sent is worth it."""

from __future__ import annotations

import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.measures import Measures

WORTH_MAX = 0.5
"""Where more partials than this come out of a row, grouping has cost more than it has saved."""

_LIFTED_BATCHES_MAX = 31
"""After this many batches that were not grouped, one is grouped to measure again."""

_MEMORY = 0.75
"""How much of the old measure stays when a batch brings a new one."""

_SMALL_ROWS = 256
"""Fewer rows tell little, and grouping them costs little."""


class Folding:
    """Turns batches into partials: grouped, or each row as its own while that is cheaper."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._able = measures.liftable
        self._partials_per_row = 0.0
        self._lifted_batches = 0

    def __call__(self, rows: pa.RecordBatch, buckets: Int64s | int) -> tuple[pa.RecordBatch, bool]:
        """Give partials, and whether they were grouped.

        Shapes: rows [n], buckets int64 [n] or one for all -> partials [m].
        """
        if (
            self._able
            and self._partials_per_row > WORTH_MAX
            and self._lifted_batches < _LIFTED_BATCHES_MAX
        ):
            self._lifted_batches += 1
            return self._measures.lift(rows, buckets), False
        self._lifted_batches = 0
        partials = self._measures.fold(rows, buckets)
        if rows.num_rows >= _SMALL_ROWS:
            seen = partials.num_rows / rows.num_rows
            self._partials_per_row += (1 - _MEMORY) * (seen - self._partials_per_row)
        return partials, True
