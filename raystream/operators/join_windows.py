"""Rows of both sides that wait for windows of a grid, and the windows that a watermark ends.

A row is held once, in its pane, however many windows it lies in; it gets an entry for each when
that fires.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.window import Grid, expand
from raystream.keyed.bucket_rows import BucketRows
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.window_admission import admit
from raystream.operators.join_matching import Pair, Windowed
from raystream.operators.join_plan import JoinPlan, side_schema

FROM: Final = "__from"
"""The column with the first window that has not fired for a row. Rows that subtasks held at
different points of a firing differ in it, and may meet in one where the parallelism changes."""

_FROM_FIELD = pa.field(FROM, pa.int64(), nullable=False)


class GridRows:
    """The rows of one subtask."""

    def __init__(self, plan: JoinPlan, grid: Grid, limits: Limits) -> None:
        self.watermark_us = MIN_TIME
        self._plan = plan
        self._grid = grid
        self._rows_max = limits.firing_rows_max
        self._tables = tuple(
            BucketRows(side_schema(plan, port).append(_FROM_FIELD), keys)
            for port, keys in enumerate((plan.left_keys, plan.right_keys))
        )
        self._fired = grid.due(MIN_TIME)

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        return sum(table.row_count for table in self._tables)

    @property
    def behind(self) -> bool:
        """Whether windows that the watermark has ended may not have been taken."""
        return self._fired < self._grid.due(self.watermark_us)

    def times(self, windows: Int64s) -> Int64s:
        """Give the event time of what windows give."""
        return self._grid.ends(windows) - 1

    def add(self, port: int, rows: pa.RecordBatch, times_us: Int64s) -> int:
        """Hold rows of one side; tell how many are late: all their windows have fired.

        Shapes: rows [n], times_us int64 [n], n > 0.
        """
        admitted = admit(self._grid, times_us, self.watermark_us)
        wanted = admitted.rows
        sides_kept = (self._plan.keeps_left, self._plan.keeps_right)
        matchable = None if sides_kept[port] else self._plan.matchable(port, rows)
        if matchable is not None:
            every = np.flatnonzero(matchable)
            wanted = every if wanted is None else wanted[matchable[wanted]]
        if wanted is not None:
            rows, times_us = rows.take(pa.array(wanted)), times_us[wanted]
        if rows.num_rows:
            start = pa.array(np.full(rows.num_rows, MIN_TIME))
            table = self._tables[port]
            whole = pa.RecordBatch.from_arrays([*rows.columns, start], schema=table.schema)
            table.add(whole, self._grid.panes_of(times_us))
        return admitted.late_count

    def settle(self) -> Iterator[None]:
        """Merge what is to be merged, in bounded steps."""
        for table in self._tables:
            yield from table.settle()

    def take(self) -> Pair | None:
        """Take the rows of the next windows that have ended, in one step; None: no more.

        The rows of a step are bounded, unless one window alone has more.
        """
        grid, cover = self._grid, self._grid.cover
        due = grid.due(self.watermark_us)
        if self._fired >= due:
            return None
        buckets = [table.first_bucket() for table in self._tables]
        least = min((bucket for bucket in buckets if bucket is not None), default=None)
        first = due + 1
        if least is not None:
            first = max(self._fired + 1, int(cover.first(np.array([least]))[0]))
        if first > due:
            self._fired = due
            return None
        last = self._last_of_step(first, due)
        left, right = (self._entries(table, first, last) for table in self._tables)
        self._fired = last
        for table in self._tables:
            table.drop_below(cover.start(last + 1))
        return left, right

    def kept(self, port: int) -> pa.RecordBatch:
        """Give the rows of one side as another takes them up."""
        rows, buckets = self._tables[port].held()
        start = min(max(self._fired + 1, MIN_TIME), MAX_TIME)
        starts = np.maximum(rows.column(FROM).to_numpy(), start)
        columns = [*rows.columns[:-1], pa.array(starts), pa.array(buckets)]
        return pa.RecordBatch.from_arrays(columns, names=[*rows.schema.names, BUCKET])

    def restore(self, rows: tuple[pa.RecordBatch | None, ...], watermark_us: int) -> None:
        """Take up what was kept, by one or by many."""
        self.watermark_us = watermark_us
        fired = self._grid.due(watermark_us)
        for table, some in zip(self._tables, rows, strict=True):
            if some is not None and some.num_rows:
                fired = min(fired, int(some.column(FROM).to_numpy().min()) - 1)
                whole = pa.RecordBatch.from_arrays(some.columns[:-1], schema=table.schema)
                table.add(whole, some.column(BUCKET).to_numpy())
        self._fired = fired

    def _last_of_step(self, first: int, due: int) -> int:
        """Give the last window of a step: as many as fit into its rows, one at least."""
        if self._count(first, due) <= self._rows_max:
            return due
        fits, more = first, due
        while more - fits > 1:
            middle = (fits + more) // 2
            if self._count(first, middle) <= self._rows_max:
                fits = middle
            else:
                more = middle
        return fits

    def _count(self, first: int, last: int) -> int:
        """Count the entries of some windows, or more."""
        stop = self._grid.cover.stop(last)
        rows = sum(table.count_below(stop) for table in self._tables)
        return rows * min(self._grid.copies, last - first + 1)

    def _entries(self, table: BucketRows, first: int, last: int) -> Windowed:
        cover = self._grid.cover
        rows, buckets = table.between(cover.start(first), cover.stop(last))
        begins = np.maximum(cover.first(buckets), rows.column(FROM).to_numpy())
        ends = np.minimum(cover.last(buckets), last)
        items, windows = expand(np.maximum(begins, first), ends)
        rows = rows.select(rows.schema.names[:-1])
        return Windowed(rows, items, windows, np.zeros(len(items), np.int64))
