"""Aggregate columns in event-time windows, per key or over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import GridWindow, needs_event_time
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.element import MIN_TIME, Watermark
from raystream.flow.window import Grid
from raystream.keyed.folding import Folding
from raystream.keyed.measures import BUCKET, Measures, buckets_of
from raystream.keyed.measures_rules import two_phase
from raystream.keyed.snapshot import Snapshot, arrival_section, restored_arrival
from raystream.keyed.window_snapshot import (
    restore_windows,
    restored_waiting,
    waiting_section,
    window_snapshot,
)
from raystream.keyed.window_state import WindowState
from raystream.operators.aggregate_function import GuardedAggregate
from raystream.operators.operator import Operator
from raystream.operators.window_times import WindowTimes

LATE_ROWS = "late_rows"
"""The counter of rows that came when all their windows had fired."""


@dataclass(frozen=True)
class WindowAggregateSpec:
    """One row per key and window, when the watermark passes the window's last instant.

    ``output`` is the wire schema: keys, ``window_start``, ``window_end``, aggregates, event time.
    With ``partial_input`` the batches are those of a ``WindowPartialSpec``.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    keys: tuple[str, ...]
    window: GridWindow
    aggregates: tuple[Bound, ...]
    output: pa.Schema
    partial_input: bool = False

    def __post_init__(self) -> None:
        # Made for its checks: what cannot be aggregated is refused before any actor starts.
        Measures([], [bound for bound in self.aggregates if bound.kind != "function"])

    @property
    def two_phase(self) -> bool:
        """Whether rows may be aggregated before they are exchanged by key."""
        return needs_event_time(self.window) and two_phase(self.aggregates)

    @property
    def verb(self) -> str:
        return "window_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(map(describe_aggregate, self.aggregates))
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        merged = " of partials" if self.partial_input else ""
        return f"{self.window}{by}: {aggregates}{merged}"

    def build(self) -> WindowAggregate:
        return WindowAggregate(self)


class WindowAggregate(Operator):
    """The operator of one subtask.

    What a firing takes out of state is merged rows; they wait here, and each batch of them is
    turned into results and forgotten before it is yielded.
    """

    def __init__(self, spec: WindowAggregateSpec) -> None:
        self._spec = spec
        self._waiting: pa.RecordBatch | None = None

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        self._measures = Measures(
            [spec.output.field(name) for name in spec.keys],
            spec.aggregates,
            lambda bound: GuardedAggregate(bound, ctx.operator, ctx.where),
            row_count=spec.partial_input,
            arrival=not spec.window.grid.cover.alone,
            mixed=spec.window.grid.cover.nested,
        )
        self._state = WindowState(
            spec.window.grid, ctx.limits, self._measures, by_pane=spec.partial_input
        )
        self._folding = Folding(self._measures)
        self._times = WindowTimes(ctx, spec.window.time, numbered=self._measures.needs_arrival)
        self._late = ctx.metrics.counter(LATE_ROWS)

    def restore(self, snapshot: Snapshot) -> None:
        restore_windows(self._state, snapshot, self._measures.unpack)
        self._waiting = restored_waiting(snapshot, self._measures.unpack)
        self._times.arrived = restored_arrival(snapshot)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if self._waiting is not None or self._state.behind:
            # What was taken up in the middle of a firing: rows that come now are not part of it.
            yield from self._fire(self._state.watermark_us)
        if batch.num_rows:
            if self._spec.partial_input:
                self._add_partials(batch.record)
            else:
                self._add_rows(batch)

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        return self._fire(time_us) if self._times.by_event else iter(())

    def timer_due_us(self) -> int | None:
        if self._waiting is not None:
            return MIN_TIME
        return self._times.timer_us(self._state.next_end_us())

    def on_timer(self, now_us: int) -> Iterator[Batch]:
        return self._fire(now_us - 1)

    def snapshot(self) -> Snapshot:
        keys, groups, pack = self._spec.keys, self._ctx.max_parallelism, self._measures.pack
        kept = window_snapshot(self._state, keys, self._measures.schema, groups, pack)
        if self._waiting is not None:
            kept += (waiting_section(self._waiting, keys, groups, pack),)
        return (
            (*kept, arrival_section(self._times.arrived)) if self._measures.needs_arrival else kept
        )

    def close(self) -> None:
        self._waiting = None

    def _fire(self, time_us: int) -> Iterator[Batch]:
        yield from self._results()
        while (taken := self._state.take(time_us)) is not None:
            self._waiting = taken
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del taken
            yield from self._results()

    def _add_rows(self, batch: Columns) -> None:
        times = self._times.of(batch, self._state.watermark_us)
        admitted = self._state.admit(times)
        if admitted.rows is not None:
            self._late.inc(admitted.late_count)
            if not len(admitted.rows):
                return
            batch, times = batch.take(admitted.rows), times[admitted.rows]
        record = self._times.numbered(batch)
        for rows, buckets in self._state.assign(record, times):
            partials, merged = self._folding(rows, buckets)
            if not merged:
                # Taking copies what is a view of the whole input.
                order = np.argsort(buckets_of(partials), kind="stable")
                partials = partials.take(pa.array(order))
            self._state.add(partials, merged=merged)

    def _add_partials(self, record: pa.RecordBatch) -> None:
        partials = record.select(self._measures.schema.names)
        late = self._state.late_panes(partials.column(BUCKET).to_numpy())
        if late.any():
            counts = partials.column(len(self._spec.keys) + 1).to_numpy()
            self._late.inc(int(counts[late].sum()))
            partials = partials.take(pa.array(np.flatnonzero(~late)))
        if partials.num_rows:
            # Merging also copies: what came through a channel is a view of its whole envelope.
            self._state.add(self._measures.merge([partials]))

    def _results(self) -> Iterator[Batch]:
        rows_max = self._ctx.limits.batch_rows_max
        while (waiting := self._waiting) is not None:
            self._waiting = waiting.slice(rows_max) if waiting.num_rows > rows_max else None
            yield self._result(waiting.slice(0, rows_max))

    def _result(self, merged: pa.RecordBatch) -> Columns:
        keys = merged.columns[: len(self._spec.keys)]
        windows = merged.column(len(keys)).to_numpy()
        starts, ends, times = window_columns(self._spec.window.grid, windows)
        arrays = [*keys, starts, ends, *self._measures.results(merged), times]
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))


def window_columns(grid: Grid, windows: Int64s) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Give ``window_start``, ``window_end`` and the event time of rows of windows.

    Shapes: windows int64 [n] -> timestamp[us, UTC] [n], timestamp[us, UTC] [n], int64 [n].
    """
    stamp = pa.timestamp("us", "UTC")
    ends = grid.ends(windows)
    return (
        pa.array(grid.starts(windows)).cast(stamp),
        pa.array(ends).cast(stamp),
        pa.array(ends - 1),
    )


def describe_aggregate(bound: Bound) -> str:
    """Write an aggregate as ``highest=max(price)``."""
    if bound.kind == "function":
        return f"{bound.name}={type(bound.function).__name__}"
    arguments = [part for part in (bound.value, bound.by) if part is not None]
    if bound.q is not None:
        arguments.append(str(bound.q))
    return f"{bound.name}={bound.kind}({', '.join(arguments)})"
