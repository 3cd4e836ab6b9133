"""Aggregate columns in event-time windows, per key or over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import GridWindow, needs_event_time
from raystream.contracts.window_lengths import text
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME, Side
from raystream.flow.ordering import stable_order
from raystream.flow.window import Grid
from raystream.keyed.fired_windows import FiredWindows
from raystream.keyed.folding import PAGED_WORTH_MAX, WORTH_MAX, Folding
from raystream.keyed.measures import Measures, buckets_of
from raystream.keyed.measures_rules import two_phase
from raystream.keyed.snapshot import BUCKET, Snapshot, arrival_section, restored_arrival
from raystream.keyed.window_changes import WindowChanges
from raystream.keyed.window_snapshot import (
    restore_windows,
    restored_waiting,
    waiting_section,
    window_snapshot,
)
from raystream.keyed.window_state import WindowState
from raystream.operators.aggregate_function import GuardedAggregate
from raystream.operators.operator import Operator, Output
from raystream.operators.window_times import WindowTimes, without

LATE_ROWS = "late_rows"
"""The counter of rows that came when all their windows had fired."""


@dataclass(frozen=True)
class WindowAggregateSpec:
    """One row per key and window, when the watermark passes the window's last instant.

    ``output`` is the wire schema: keys, ``window_start``, ``window_end``, aggregates, event time.
    With ``partial_input`` the batches are those of a ``WindowPartialSpec``. Windows may fire again
    for ``lateness_us``; rows all of whose windows are gone go to the side output ``late_tag``, if
    there is one, without the ``hidden`` columns, which were computed for the aggregates.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    keys: tuple[str, ...]
    window: GridWindow
    aggregates: tuple[Bound, ...]
    output: pa.Schema
    partial_input: bool = False
    lateness_us: int = 0
    late_tag: str | None = None
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Made for its checks: what cannot be aggregated is refused before any actor starts.
        Measures([], [bound for bound in self.aggregates if bound.kind != "function"])

    @property
    def two_phase(self) -> bool:
        """Whether rows may be aggregated before they are exchanged by key."""
        plain = needs_event_time(self.window) and not self.lateness_us and self.late_tag is None
        return plain and two_phase(self.aggregates)

    @property
    def verb(self) -> str:
        return "window_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(map(describe_aggregate, self.aggregates))
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        merged = " of partials" if self.partial_input else ""
        lateness = f", lateness {text(self.lateness_us)}" if self.lateness_us else ""
        return f"{self.window}{by}{lateness}: {aggregates}{merged}"

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
        self._nothing = Columns(pa.RecordBatch.from_pylist([], schema=spec.output))

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
        self._changes = WindowChanges(self._state, self._measures, spec.keys, ctx.max_parallelism)
        worth_max = PAGED_WORTH_MAX if self._state.adds_up else WORTH_MAX
        self._folding = Folding(self._measures, worth_max)
        self._times = WindowTimes(ctx, spec.window.time, numbered=self._measures.needs_arrival)
        self._late = ctx.metrics.counter(LATE_ROWS)
        # What has fired is kept only where it may fire again.
        self._fired: FiredWindows | None = None
        if spec.lateness_us:
            types = [spec.output.field(name).type for name in spec.keys]
            self._fired = FiredWindows(types, self._measures)

    def restore(self, snapshot: Snapshot) -> None:
        restore_windows(self._state, snapshot, self._measures.unpack)
        self._waiting = restored_waiting(snapshot, self._measures.unpack)
        self._times.arrived = restored_arrival(snapshot)
        fired = restored_waiting(snapshot, self._measures.unpack, "fired")
        if fired is not None and self._fired is not None:
            self._fired.keep(fired, int(buckets_of(fired)[-1]))

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if self._waiting is not None or self._state.behind:
            # What was taken up in the middle of a firing: rows that come now are not part of it.
            yield from self._fire(self._state.watermark_us)
        if batch.num_rows:
            if self._spec.partial_input:
                self._add_partials(batch.record)
            else:
                yield from self._add_rows(batch)
            for _ in self._state.settle():
                yield self._nothing

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        return self._fire(time_us) if self._times.by_event else iter(())

    def timer_due_us(self) -> int | None:
        if self._waiting is not None:
            return MIN_TIME
        return self._times.timer_us(self._state.next_end_us())

    def on_timer(self, now_us: int) -> Iterator[Batch]:
        return self._fire(now_us)

    def snapshot(self) -> Snapshot:
        keys, groups, pack = self._spec.keys, self._ctx.max_parallelism, self._measures.pack
        kept = window_snapshot(self._state, keys, self._measures.schema, groups, pack)
        return kept + self._beside()

    def changes(self) -> Snapshot:
        return self._changes.take() + self._beside()

    def _beside(self) -> Snapshot:
        """Keep what has fired and not gone out, or may fire again."""
        keys, groups, pack = self._spec.keys, self._ctx.max_parallelism, self._measures.pack
        kept: Snapshot = ()
        pieces = self._state.firing()
        waiting = pieces + ([] if self._waiting is None else [self._waiting])
        if waiting:
            kept += (waiting_section(waiting, keys, groups, pack),)
        if self._fired is not None and (fired := self._fired.kept() + pieces):
            kept += (waiting_section(fired, keys, groups, pack, "fired"),)
        return (
            (*kept, arrival_section(self._times.arrived)) if self._measures.needs_arrival else kept
        )

    def close(self) -> None:
        self._waiting = None

    def _fire(self, time_us: int) -> Iterator[Batch]:
        yield from self._results()
        while (taken := self._state.take(time_us)) is not None:
            if not taken.num_rows:
                yield self._nothing
                continue
            self._waiting = taken
            if self._fired is not None:
                self._fired.keep(taken, self._state.fired)
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del taken
            yield from self._results()
        if self._fired is not None:
            self._fired.forget(self._gone)

    @property
    def _gone(self) -> int:
        """The last window for which nothing is kept any more; any int."""
        watermark_us = self._state.watermark_us
        if watermark_us < MAX_TIME - 1:
            watermark_us -= self._spec.lateness_us
        return self._spec.window.grid.due(watermark_us)

    def _add_rows(self, batch: Columns) -> Iterator[Output]:
        times = self._times.of(batch, self._state.watermark_us, self._state.live_us)
        admitted = self._state.admit(times)
        record = self._times.numbered(batch)
        late, firing = admitted.late, None
        if self._fired is not None and int(times.min()) < self._state.fired_us:
            items, windows = self._state.fired_windows(times, self._gone)
            late = np.setdiff1d(late, items)
            firing = self._fire_again(record, items, windows)
        if admitted.rows is None:
            self._hold(record, times)
        elif len(admitted.rows):
            self._hold(record.take(pa.array(admitted.rows)), times[admitted.rows])
        yield from firing or ()
        if len(late):
            self._late.inc(len(late))
            if self._spec.late_tag is not None:
                yield Side(self._spec.late_tag, without(batch.take(late), self._spec.hidden))

    def _hold(self, record: pa.RecordBatch, times: Int64s) -> None:
        """Hold rows for their windows that have not fired."""
        for rows, buckets in self._state.assign(record, times):
            partials, merged = self._folding(rows, buckets)
            if self._state.adds_up and self._folding.scattered:
                self._state.add_up(partials)
                self._changes.add(partials, own=False)
                continue
            if not merged:
                # Taking copies what is a view of the whole input.
                order = stable_order(buckets_of(partials))
                partials = partials.take(pa.array(order))
            self._state.add(partials, merged=merged)
            self._changes.add(partials)

    def _fire_again(
        self, record: pa.RecordBatch, items: Int64s, windows: Int64s
    ) -> Iterator[Output]:
        """Let each row fire again those of its windows that had fired, with all that they hold."""
        assert self._fired is not None, "what may fire again is kept"
        rows_max = self._ctx.limits.batch_rows_max
        for start in range(0, len(items), rows_max):
            some = slice(start, start + rows_max)
            yield self._result(self._fired.add(record, items[some], windows[some]))

    def _add_partials(self, record: pa.RecordBatch) -> None:
        partials = record.select(self._measures.schema.names)
        late = self._state.late_panes(partials.column(BUCKET).to_numpy())
        if late.any():
            counts = partials.column(len(self._spec.keys) + 1).to_numpy()
            self._late.inc(int(counts[late].sum()))
            partials = partials.take(pa.array(np.flatnonzero(~late)))
        if partials.num_rows:
            # Either copies: what came through a channel is a view of its whole envelope.
            if self._state.adds_up and self._folding.lifts_next():
                self._state.add_up(partials)
                self._changes.add(partials, own=False)
                return
            merged = self._measures.merge([partials])
            self._folding.note(merged.num_rows, partials.num_rows)
            if self._state.adds_up and self._folding.scattered:
                self._state.add_up(merged)
            else:
                self._state.add(merged)
            self._changes.add(merged)

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
