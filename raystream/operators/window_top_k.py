"""Keep the best rows of each key and event-time window, whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window import GridWindow
from raystream.errors import PlanError
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s
from raystream.flow.element import MIN_TIME, Watermark
from raystream.keyed.measures import buckets_of
from raystream.keyed.measures_parts import ARRIVAL
from raystream.keyed.snapshot import (
    BUCKET,
    Snapshot,
    arrival_section,
    restored_arrival,
    restored_watermark,
    watermark_section,
)
from raystream.keyed.top_bounds import TopBounds
from raystream.keyed.top_rows import TopRows
from raystream.keyed.window_snapshot import (
    held_schema,
    restore_windows,
    restored_waiting,
    waiting_section,
    window_snapshot,
)
from raystream.keyed.window_state import WindowState
from raystream.operators.operator import Operator
from raystream.operators.window_aggregate import LATE_ROWS
from raystream.operators.window_times import event_times

_RANK = "__rank"
"""The rank of rows that had fired, and not gone out, when they were kept."""


@dataclass(frozen=True)
class WindowTopKSpec:
    """The ``k`` best rows of each key and window by ``by``, pairs of (column, descending).

    ``ties`` keeps all rows that equal the k-th; without it ties go to the row that came first.
    ``rank`` names a column of ranks from 1, equal for ties where they are kept. ``output`` is the
    wire schema: the input's visible columns, the rank, event time (the window's last instant).
    Raises: PlanError for a ``k`` below 1.
    """

    keys: tuple[str, ...]
    window: GridWindow
    k: int
    by: tuple[tuple[str, bool], ...]
    ties: bool
    rank: str | None
    output: pa.Schema

    def __post_init__(self) -> None:
        if self.k < 1:
            raise PlanError(f"top_k keeps at least one row, got k={self.k}")
        if not self.by:
            raise PlanError("top_k needs a column to go by", hint='top_k(3, by="price")')

    @property
    def verb(self) -> str:
        return "window_top_k"

    def describe(self) -> str:
        order = ", ".join(f"{name}{' desc' if down else ''}" for name, down in self.by)
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        ties = ", with ties" if self.ties else ""
        return f"{self.window}{by}: {self.k} by {order}{ties}"

    def build(self) -> WindowTopK:
        return WindowTopK(self)


class WindowTopK(Operator):
    """The operator of one subtask; a batch is pruned to its best rows before it is held."""

    def __init__(self, spec: WindowTopKSpec) -> None:
        self._spec = spec
        self._arrived = 0
        self._watermark_us = MIN_TIME
        self._state: WindowState | None = None
        self._waiting: tuple[pa.RecordBatch, Int64s] | None = None
        # Panes that windows share say nothing of one window's best; keys have bests of their own.
        bounded = not spec.keys and spec.window.grid.cover.alone
        self._nothing = Columns(pa.RecordBatch.from_pylist([], schema=spec.output))
        self._bounds = TopBounds(spec.k, spec.by[0]) if bounded else None

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._watermark_us = watermark_us
        schema = held_schema(snapshot)
        if schema is None:
            return
        restore_windows(self._begin(schema), snapshot)
        self._arrived = restored_arrival(snapshot)
        waiting = restored_waiting(snapshot)
        if waiting is not None:
            ranks: Int64s = waiting.column(_RANK).to_numpy()
            self._waiting = (waiting.select(self._top.schema.names), ranks)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if self._waiting is not None or (self._state is not None and self._state.behind):
            # What was taken up in the middle of a firing: rows that come now are not part of it.
            yield from self.on_watermark(self._watermark_us)
        if batch.num_rows:
            self._add(batch)
            for _ in self._state.settle() if self._state is not None else ():
                yield self._nothing

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        yield from self._results()
        self._watermark_us = max(self._watermark_us, time_us)
        if self._state is None:
            return
        if self._bounds is not None:
            self._bounds.forget(self._spec.window.grid.due(self._watermark_us))
        while (taken := self._state.take(time_us)) is not None:
            if not taken.num_rows:
                yield self._nothing
                continue
            self._waiting = self._top.ranked(taken)
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del taken
            yield from self._results()

    def snapshot(self) -> Snapshot:
        if self._state is None:
            return (watermark_section(self._watermark_us),)
        keys, groups = self._spec.keys, self._ctx.max_parallelism
        kept = window_snapshot(self._state, keys, self._top.schema, groups)
        waiting = [self._top.ranked(rows) for rows in self._state.firing()]
        waiting += [] if self._waiting is None else [self._waiting]
        if waiting:
            rows = [some.append_column(_RANK, pa.array(ranks)) for some, ranks in waiting]
            kept += (waiting_section(rows, keys, groups),)
        return (*kept, arrival_section(self._arrived))

    def close(self) -> None:
        self._waiting = None
        self._state = None

    def _add(self, batch: Columns) -> None:
        times = event_times(batch, self._ctx)
        state = self._state or self._begin(batch.record.schema)
        admitted = state.admit(times)
        if admitted.rows is not None:
            self._late.inc(admitted.late_count)
            if not len(admitted.rows):
                return
            batch, times = batch.take(admitted.rows), times[admitted.rows]
        record = batch.record
        if ARRIVAL in self._top.schema.names:
            first, self._arrived = self._arrived, self._arrived + len(times)
            record = record.append_column(ARRIVAL, pa.array(np.arange(first, self._arrived)))
        record = record.select(self._top.schema.names[:-1])
        for assigned in state.assign(record, times):
            rows, buckets = assigned if self._bounds is None else self._bounds.hopeful(*assigned)
            if rows.num_rows:
                state.add(self._top.best(rows, buckets))

    def _begin(self, schema: pa.Schema) -> WindowState:
        """Learn from the first batch the types of columns that are compared and do not go out."""
        spec = self._spec
        names = [name for name in spec.output.names[:-1] if name != spec.rank]
        compared = [*spec.keys, *(name for name, _ in spec.by)]
        names += [name for name in dict.fromkeys(compared) if name not in names]
        fields = [schema.field(name) for name in names]
        grid = spec.window.grid
        if not grid.cover.alone:
            fields.append(pa.field(ARRIVAL, pa.int64()))
        held = pa.schema([*fields, pa.field(BUCKET, pa.int64())])
        self._top = TopRows(spec.keys, spec.k, spec.by, ties=spec.ties, schema=held)
        limits, watermark_us = self._ctx.limits, self._watermark_us
        self._state = WindowState(grid, limits, self._top, watermark_us=watermark_us)
        return self._state

    def _results(self) -> Iterator[Batch]:
        rows_max = self._ctx.limits.batch_rows_max
        while self._waiting is not None:
            rows, ranks = self._waiting
            more = rows.num_rows > rows_max
            self._waiting = (rows.slice(rows_max), ranks[rows_max:]) if more else None
            yield self._result(rows.slice(0, rows_max), ranks[:rows_max])
            del rows, ranks

    def _result(self, rows: pa.RecordBatch, ranks: Int64s) -> Columns:
        times = self._spec.window.grid.ends(buckets_of(rows)) - 1
        own = {self._spec.rank: ranks, EVENT_TIME: times}
        arrays = [
            pa.array(own[name]) if name in own else rows.column(name)
            for name in self._spec.output.names
        ]
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))
