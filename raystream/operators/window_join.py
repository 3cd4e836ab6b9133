"""Join two streams in event-time windows: the cross product of each key and window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window import TimeWindow
from raystream.contracts.window_unaligned import Session
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.hashing import hash_columns
from raystream.keyed.snapshot import (
    Section,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.join_matching import Matching, Pair, Windowed, cut
from raystream.operators.join_plan import JoinPlan, side_schema
from raystream.operators.join_sessions import SessionRows
from raystream.operators.join_windows import GridRows
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS
from raystream.operators.window_times import event_times

_SIDES: Final = ("left", "right")
_WINDOW: Final = "__window"
_GIVEN: Final = "__given"


@dataclass(frozen=True, slots=True, eq=False)
class WindowJoinSpec:
    """Each row beside those of the other side that have its key, in each of its windows.

    Rows go out with the last instant of their window, when the watermark passes it; those that
    match nothing too, where the kind of join has them.
    """

    plan: JoinPlan
    window: TimeWindow

    @property
    def verb(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"{self.plan} in {self.window}"

    def build(self) -> WindowJoin:
        return WindowJoin(self)


class Waiting(Protocol):
    """The rows of one subtask that wait for their windows to end."""

    watermark_us: int

    @property
    def behind(self) -> bool:
        """Whether windows that the watermark has ended may not have been taken."""

    def times(self, windows: Int64s) -> Int64s:
        """Give the event time of what windows give."""

    def add(self, port: int, rows: pa.RecordBatch, times_us: Int64s) -> int:
        """Hold rows of one side; tell how many are late."""

    def settle(self) -> Iterator[None]:
        """Tidy up behind ``add``, in bounded steps."""

    def take(self) -> Pair | None:
        """Take the rows of the next windows that have ended; None: no more."""

    def kept(self, port: int) -> pa.RecordBatch:
        """Give the rows of one side as another takes them up."""

    def restore(self, rows: tuple[pa.RecordBatch | None, ...], watermark_us: int) -> None:
        """Take up what was kept."""


class WindowJoin(Operator):
    """The operator of one subtask.

    What a firing takes out of the rows that wait is matched pair by pair; how far the one in hand
    has come is how many of its rows have gone out.
    """

    def __init__(self, spec: WindowJoinSpec) -> None:
        self._spec = spec
        self._plan = spec.plan
        self._pairs: list[Pair] = []
        self._hand: Matching | None = None

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)
        self._waiting = _waiting(self._spec, ctx)
        self._schemas = [side_schema(self._plan, port) for port in (0, 1)]
        self._nothing = Columns(pa.RecordBatch.from_pylist([], schema=self._plan.output))

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a join takes columns"
        if self._hand is not None or self._pairs or self._waiting.behind:
            # Behind a restore: what was due when the snapshot was taken takes no more rows.
            yield from self._fire()
        if not batch.num_rows:
            return
        times = event_times(batch, self._ctx)
        rows = batch.record.select(self._schemas[port].names)
        self._late.inc(self._waiting.add(port, rows, times))
        for _ in self._waiting.settle():
            yield self._nothing

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        self._waiting.watermark_us = max(self._waiting.watermark_us, time_us)
        yield from self._fire()

    def snapshot(self) -> Snapshot:
        sections = [watermark_section(self._waiting.watermark_us)]
        for port, side in enumerate(_SIDES):
            sections.append(self._section(side, port, self._waiting.kept(port)))
        pairs = self._pairs if self._hand is None else [self._hand.rest(), *self._pairs]
        for port, side in enumerate(_SIDES):
            if some := [_written(pair[port]) for pair in pairs]:
                sections.append(self._section(f"firing:{side}", port, pa.concat_batches(some)))
        return tuple(sections)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        kept = tuple(_whole(section(snapshot, side)) for side in _SIDES)
        self._waiting.restore(kept, watermark_us)
        left, right = (
            self._read(port, _whole(section(snapshot, f"firing:{side}")))
            for port, side in enumerate(_SIDES)
        )
        if left.count or right.count:
            self._pairs = self._cut((left, right))

    def close(self) -> None:
        self._pairs, self._hand = [], None

    def _fire(self) -> Iterator[Output]:
        yield from self._out()
        while (pair := self._waiting.take()) is not None:
            self._pairs = self._cut(pair)
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del pair
            yield from self._out()

    def _out(self) -> Iterator[Output]:
        """Give what the pairs in hand give, batch by batch; each is forgotten before."""
        while self._hand is not None or self._pairs:
            if self._hand is None:
                self._hand = Matching(self._plan, self._pairs.pop(0), self._waiting.times)
                if self._hand.over:
                    self._hand = None
                    # Matching takes long where there is much.
                    yield self._nothing
                    continue
            batch = self._hand.next(self._ctx.limits.batch_rows_max)
            if self._hand.over:
                self._hand = None
            yield batch

    def _cut(self, pair: Pair) -> list[Pair]:
        return cut(self._plan, pair, self._ctx.limits.firing_rows_max)

    def _section(self, name: str, port: int, rows: pa.RecordBatch) -> Section:
        keys = self._plan.right_keys if port else self._plan.left_keys
        hashes = hash_columns([rows.column(key) for key in keys])
        return keyed_section(name, rows, hashes, self._ctx.max_parallelism)

    def _read(self, port: int, rows: pa.RecordBatch | None) -> Windowed:
        """Read what a firing had left; there may be nothing."""
        schema, none = self._schemas[port], np.zeros(0, np.int64)
        if rows is None:
            return Windowed(pa.RecordBatch.from_pylist([], schema=schema), none, none, none)
        windows, given = (rows.column(name).to_numpy() for name in (_WINDOW, _GIVEN))
        items = np.arange(rows.num_rows)
        return Windowed(rows.select(schema.names), items, windows, given)


def _waiting(spec: WindowJoinSpec, ctx: OpenContext) -> Waiting:
    window = spec.window
    if isinstance(window, Session):
        gap_us = window.gap_us
        assert gap_us is not None, "sessions of one gap"
        return SessionRows(spec.plan, gap_us, ctx.limits)
    return GridRows(spec.plan, window.grid, ctx.limits)


def _written(side: Windowed) -> pa.RecordBatch:
    rows = side.flat
    columns = [*rows.columns, pa.array(side.windows), pa.array(side.given)]
    return pa.RecordBatch.from_arrays(columns, names=[*rows.schema.names, _WINDOW, _GIVEN])


def _whole(table: pa.Table | None) -> pa.RecordBatch | None:
    if table is None:
        return None
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, names=table.column_names)
