"""One window operator driven by hand, over columns or over objects: what comes out of each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

import raystream as rs
from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Columns, Objects, with_times
from raystream.flow.element import MAX_TIME, Side
from raystream.keyed.snapshot import share

SCHEMA = pa.schema([("k", pa.string()), ("v", pa.int64())])


def stream(*, columnar: bool = True, timed: bool = True) -> rs.Stream:
    """Give a stream of rows of k and v, whose rows are given by hand."""
    schema = SCHEMA if columnar else None
    return rs.Job("by-hand").from_items([], schema=schema, timestamps=[] if timed else None)


class ByHand:
    """The operator of the stream that ``made`` ends in, opened; ``keyed`` rows carry their k."""

    def __init__(
        self, made: rs.Stream, *, keyed: bool = True, rows_max: int = 4_096, **limits: Any
    ) -> None:
        node = made._tip.node
        (given,) = node.inputs
        self.spec: Any = node.spec
        self.input = given.node.type
        self.keyed = keyed
        self.clock = ManualClock(0)
        given_limits = Limits(row_batch_rows_max=rows_max, batch_rows_max=rows_max, **limits)
        self.context = OpenContext("it", "by_hand.py:1", clock=self.clock, limits=given_limits)
        self.before: Any = None
        if given.prepared is not None:
            self.before = given.prepared.spec.build()
            self.before.open(self.context)
        self.operator: Any = self.spec.build()
        self.operator.open(self.context)
        self.late: list[Any] = []

    def rows(self, *rows: tuple[int | None, Any]) -> list[Any]:
        """Take rows of (event time, value), or of (event time, key, value), in one batch."""
        values = [{"k": row[1] if len(row) > 2 else "a", "v": row[-1]} for row in rows]
        times = np.array([row[0] for row in rows], np.int64) if self.input.timed else None
        batch: Batch
        if self.input.schema is None:
            keys = [value["k"] for value in values] if self.keyed else None
            batch = Objects(values, times, keys)
        else:
            record = pa.RecordBatch.from_pylist(values, schema=self.input.schema)
            batch = with_times(record, times)
            if self.before is not None:
                (batch,) = self.before.on_batch(0, batch)
        return self._out(self.operator.on_batch(0, batch))

    def watermark(self, time_us: int) -> list[Any]:
        """Let the watermark pass."""
        return self._out(self.operator.on_watermark(time_us))

    def end(self) -> list[Any]:
        """End the input."""
        return self.watermark(MAX_TIME) + self._out(self.operator.on_end())

    def advance(self, us: int) -> list[Any]:
        """Let processing time pass."""
        until_us, out = self.clock.now_us() + us, []
        while (due_us := self.operator.timer_due_us()) is not None and due_us <= until_us:
            self.clock.advance(max(0, due_us - self.clock.now_us()))
            out += self._out(self.operator.on_timer(self.clock.now_us()))
        self.clock.advance(until_us - self.clock.now_us())
        return out

    def again(self, *others: ByHand) -> None:
        """Throw the operator away; another one takes up what it kept, and what others did."""
        every = [one.operator.snapshot() for one in (self, *others)]
        kept = share(every, 0, 1, self.context.max_parallelism)
        self.operator.close()
        self.operator = self.spec.build()
        self.operator.open(self.context)
        self.operator.restore(kept)

    @property
    def late_count(self) -> int:
        return self.context.metrics.counter("late_rows").value

    @property
    def timers(self) -> list[int]:
        """The times of all timers that are registered."""
        sections = {one.name: one.table for one in self.operator.snapshot()}
        return sorted(sections["timers"].column("time").to_pylist())

    @property
    def held(self) -> int:
        """How many keys and windows state is kept for."""
        return sum(
            one.table.num_rows for one in self.operator.snapshot() if one.name.startswith("state:")
        )

    def _out(self, outs: Any) -> list[Any]:
        found = []
        for out in outs:
            if isinstance(out, Side):
                self.late += shown(out.batch)
            else:
                found += shown(out)
        return found


def shown(batch: Batch) -> list[Any]:
    """Give (event time, row) with the bounds of windows as numbers, and without the key ``a``."""
    rows = batch.visible.to_pylist() if isinstance(batch, Columns) else batch.values
    times = [None] * len(rows) if batch.timestamps is None else batch.timestamps.tolist()
    return [(time, _plain(row)) for time, row in zip(times, rows, strict=True)]


def _plain(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    plain = {name: value for name, value in row.items() if (name, value) != ("k", "a")}
    for name in ("window_start", "window_end"):
        if name in plain:
            plain[name] = rs.micros(plain[name])
    if "window_start" in plain:
        plain["window"] = (plain.pop("window_start"), plain.pop("window_end"))
    return plain
