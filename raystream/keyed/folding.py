"""Decide, batch by batch, whether grouping a batch before it is merged or sent is worth it."""

from __future__ import annotations

import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.measures import Measures

WORTH_MAX = 0.5
"""Where more partials than this come out of a row, grouping has cost more than it has saved."""

PAGED_WORTH_MAX = 0.2
"""The same where partials are added where their keys stand, which costs less than merging."""

_LIFTED_BATCHES_MAX = 127
"""After this many batches that were not grouped, one is grouped to measure again."""

_MEMORY = 0.75
"""How much of the old measure stays when a batch brings a new one."""

_SMALL_ROWS = 256
"""Fewer rows tell little, and grouping them costs little."""


class Folding:
    """Turns batches into partials: grouped, or each row as its own while that is cheaper."""

    def __init__(self, measures: Measures, worth_max: float = WORTH_MAX) -> None:
        self._measures = measures
        self._worth_max = worth_max
        self._able = measures.liftable
        self._partials_per_row = 0.0
        self._lifted_batches = 0

    @property
    def scattered(self) -> bool:
        """Whether grouping batches has not been worth it lately."""
        return self._able and self._partials_per_row > self._worth_max

    def note(self, grouped: int, rows: int) -> None:
        """Learn from rows that somebody else has grouped."""
        if rows >= _SMALL_ROWS:
            self._partials_per_row += (1 - _MEMORY) * (grouped / rows - self._partials_per_row)

    def lifts_next(self) -> bool:
        """Tell whether the next batch is not to be grouped; each call counts as a batch."""
        lifts = self.scattered and self._lifted_batches < _LIFTED_BATCHES_MAX
        self._lifted_batches = self._lifted_batches + 1 if lifts else 0
        return lifts

    def __call__(self, rows: pa.RecordBatch, buckets: Int64s | int) -> tuple[pa.RecordBatch, bool]:
        """Give partials, and whether they were grouped.

        Shapes: rows [n], buckets int64 [n] or one for all -> partials [m].
        """
        if self.lifts_next():
            return self._measures.lift(rows, buckets), False
        partials = self._measures.fold(rows, buckets)
        self.note(partials.num_rows, rows.num_rows)
        return partials, True
