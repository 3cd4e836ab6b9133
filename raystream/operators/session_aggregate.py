"""Aggregate columns in sessions: rows of a key that follow each other within a gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window_unaligned import Session
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME, Side
from raystream.flow.hashing import hash_columns
from raystream.keyed.measures import Measures
from raystream.keyed.session_state import FIRST, LAST, SessionState
from raystream.keyed.session_table import CELL_FIELD
from raystream.keyed.snapshot import (
    Section,
    Snapshot,
    arrival_section,
    keyed_section,
    restored_arrival,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS, describe_aggregate
from raystream.operators.window_times import WindowTimes, without


@dataclass(frozen=True)
class SessionAggregateSpec:
    """One row per key and session, when its time's watermark or clock is at its last instant.

    ``output`` is the wire schema: keys, ``window_start``, ``window_end``, aggregates, event time.
    Rows that come behind their session's end go to the side output ``late_tag``, if there is one,
    without the ``hidden`` columns, which were computed for the aggregates.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    keys: tuple[str, ...]
    window: Session
    aggregates: tuple[Bound, ...]
    output: pa.Schema
    late_tag: str | None = None
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Made for its checks: what cannot be aggregated is refused before any actor starts.
        _measures(self.aggregates)

    @property
    def gap_us(self) -> int:
        gap_us = self.window.gap_us
        assert gap_us is not None, "rows that have gaps of their own are gathered one by one"
        return gap_us

    @property
    def verb(self) -> str:
        return "window_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(map(describe_aggregate, self.aggregates))
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        return f"{self.window}{by}: {aggregates}"

    def build(self) -> SessionAggregate:
        return SessionAggregate(self)


class SessionAggregate(Operator):
    """The operator of one subtask."""

    def __init__(self, spec: SessionAggregateSpec) -> None:
        self._spec = spec
        self._waiting: pa.RecordBatch | None = None

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        self._measures = _measures(spec.aggregates)
        keys = [spec.output.field(name) for name in spec.keys]
        self._state = SessionState(keys, spec.gap_us, ctx.limits, self._measures)
        self._times = WindowTimes(ctx, spec.window.time, numbered=self._measures.needs_arrival)
        self._late = ctx.metrics.counter(LATE_ROWS)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        # Subtasks differ where rows wait in the channels of an unaligned checkpoint: those are not
        # late for the subtask that has yet to take them.
        self._state.watermark_us = watermark_us
        self._times.arrived = restored_arrival(snapshot)
        sessions, waiting = section(snapshot, "sessions"), section(snapshot, "waiting")
        if sessions is not None:
            self._state.restore(_whole(sessions, self._state.schema))
        if waiting is not None:
            self._waiting = _whole(waiting, self._state.schema)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        # Behind a restore: what was due when the snapshot was taken takes no more rows.
        yield from self._fire(self._state.watermark_us)
        if not batch.num_rows:
            return
        times = self._times.of(batch, self._state.watermark_us, self._state.due_us + 1)
        keys = [batch.record.column(name) for name in self._spec.keys]
        slots = self._state.slots(keys, batch.num_rows)
        admitted = self._state.admit(slots, times)
        late = None
        if admitted is not None and not admitted.all():
            late = batch.take(np.flatnonzero(~admitted))
            self._late.inc(late.num_rows)
            rows = np.flatnonzero(admitted)
            batch, slots, times = batch.take(rows), slots[rows], times[rows]
        if batch.num_rows:
            self._state.add(self._times.numbered(batch), slots, times)
        if late is not None and self._spec.late_tag is not None:
            yield Side(self._spec.late_tag, without(late, self._spec.hidden))

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        return self._fire(time_us) if self._times.by_event else iter(())

    def timer_due_us(self) -> int | None:
        if self._waiting is not None:
            return MIN_TIME
        return self._times.timer_us(self._state.next_end_us())

    def on_timer(self, now_us: int) -> Iterator[Output]:
        return self._fire(now_us)

    def snapshot(self) -> Snapshot:
        sections = [watermark_section(self._state.watermark_us)]
        if self._measures.needs_arrival:
            sections.append(arrival_section(self._times.arrived))
        sections.append(self._section("sessions", self._state.kept()))
        if self._waiting is not None:
            sections.append(self._section("waiting", self._waiting))
        return tuple(sections)

    def close(self) -> None:
        self._waiting = None

    def _fire(self, time_us: int) -> Iterator[Output]:
        yield from self._results()
        while (ended := self._state.take(time_us)) is not None:
            self._waiting = ended
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del ended
            yield from self._results()

    def _results(self) -> Iterator[Output]:
        """Turn what waits into results, batch by batch; each is forgotten before it is given."""
        rows_max = self._ctx.limits.batch_rows_max
        while (waiting := self._waiting) is not None:
            rest = waiting.num_rows - rows_max
            self._waiting = waiting.slice(rows_max) if rest > 0 else None
            some = waiting.slice(0, rows_max)
            del waiting
            if some.num_rows:
                yield self._result(some)

    def _result(self, sessions: pa.RecordBatch) -> Columns:
        keys = sessions.columns[: len(self._spec.keys)]
        last: Int64s = sessions.column(LAST).to_numpy()
        # Ends saturate at the end of time.
        gap_us = self._spec.gap_us
        ends = np.where(last > MAX_TIME - gap_us, MAX_TIME, last + gap_us)
        stamp = pa.timestamp("us", "UTC")
        bounds = [sessions.column(FIRST).cast(stamp), pa.array(ends).cast(stamp)]
        arrays = [*keys, *bounds, *self._state.results(sessions), pa.array(ends - 1)]
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))

    def _section(self, name: str, sessions: pa.RecordBatch) -> Section:
        columns = sessions.columns[: len(self._spec.keys)]
        hashes = hash_columns(columns) if columns else np.zeros(sessions.num_rows, np.uint64)
        return keyed_section(name, sessions, hashes, self._ctx.max_parallelism)


def _measures(aggregates: tuple[Bound, ...]) -> Measures:
    """Make the aggregates' parts: those of a session never come together in order of arrival."""
    return Measures([CELL_FIELD], aggregates, arrival=True, mixed=True)


def _whole(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
