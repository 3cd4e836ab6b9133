"""Aggregate columns in sessions: rows of a key that follow each other within a gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, Side
from raystream.flow.hashing import hash_columns
from raystream.keyed.measures import Measures
from raystream.keyed.measures_parts import ARRIVAL
from raystream.keyed.session_state import CELL_FIELD, FIRST, LAST, SessionState
from raystream.keyed.snapshot import (
    Section,
    Share,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS, describe_aggregate, event_times


@dataclass(frozen=True)
class WindowSessionSpec:
    """One row per key and session, when the watermark passes the session's last instant.

    ``output`` is the wire schema: keys, ``window_start``, ``window_end``, aggregates, event time.
    Rows that come behind their session's end go to the side output ``late_tag``, if there is one.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    keys: tuple[str, ...]
    gap_us: int
    aggregates: tuple[Bound, ...]
    output: pa.Schema
    late_tag: str | None = None

    def __post_init__(self) -> None:
        _measures(self.aggregates)

    @property
    def verb(self) -> str:
        return "window_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(map(describe_aggregate, self.aggregates))
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        return f"session {self.gap_us}us{by}: {aggregates}"

    def build(self) -> WindowSession:
        return WindowSession(self)


class WindowSession(Operator):
    """The operator of one subtask."""

    def __init__(self, spec: WindowSessionSpec) -> None:
        self._spec = spec
        self._waiting: pa.RecordBatch | None = None
        self._arrived = 0

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        self._measures = _measures(spec.aggregates)
        keys = [spec.output.field(name) for name in spec.keys]
        self._state = SessionState(keys, spec.gap_us, ctx.limits, self._measures)
        self._late = ctx.metrics.counter(LATE_ROWS)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._state.watermark_us = watermark_us
        arrived = section(snapshot, "arrival")
        if arrived is not None:
            self._arrived = int(np.max(arrived.column("arrived").to_numpy()))
        sessions, waiting = section(snapshot, "sessions"), section(snapshot, "waiting")
        if sessions is not None:
            self._state.restore(_whole(sessions, self._state.schema))
        if waiting is not None:
            self._waiting = _whole(waiting, self._state.schema)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        # Only behind a restore: what was due when the snapshot was taken takes no more rows.
        yield from self._fire(self._state.watermark_us)
        if not batch.num_rows:
            return
        times = event_times(batch, self._ctx)
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
            self._state.add(self._numbered(batch.record), slots, times)
        if late is not None and self._spec.late_tag is not None:
            yield Side(self._spec.late_tag, late)

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        return self._fire(time_us)

    def snapshot(self) -> Snapshot:
        sections = [watermark_section(self._state.watermark_us)]
        if self._measures.needs_arrival:
            table = pa.table({"arrived": pa.array([self._arrived], pa.int64())})
            sections.append(Section("arrival", table, Share.UNION))
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

    def _numbered(self, record: pa.RecordBatch) -> pa.RecordBatch:
        if not self._measures.needs_arrival:
            return record
        first, self._arrived = self._arrived, self._arrived + record.num_rows
        return record.append_column(ARRIVAL, pa.array(np.arange(first, self._arrived)))

    def _section(self, name: str, sessions: pa.RecordBatch) -> Section:
        columns = sessions.columns[: len(self._spec.keys)]
        hashes = hash_columns(columns) if columns else np.zeros(sessions.num_rows, np.uint64)
        return keyed_section(name, sessions, hashes, self._ctx.max_parallelism)


def _measures(aggregates: tuple[Bound, ...]) -> Measures:
    """Make the aggregates' parts: those of a session never come together in order of arrival."""
    return Measures([CELL_FIELD], [_by_arrival(bound) for bound in aggregates], arrival=True)


def _by_arrival(bound: Bound) -> Bound:
    """Write ``first`` and ``last`` as ``min_by`` and ``max_by``, which tell ties by arrival."""
    if bound.kind not in ("first", "last"):
        return bound
    kind = "min_by" if bound.kind == "first" else "max_by"
    return replace(bound, kind=kind, by=EVENT_TIME, by_type=pa.int64())


def _whole(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
