"""Give rows an event time in the middle of a stream, and make watermarks from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import Strategy
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s, Objects, with_times
from raystream.flow.element import MAX_TIME, MIN_TIME, Status, Watermark
from raystream.keyed.snapshot import Snapshot, restored_watermark, watermark_section
from raystream.operators.operator import Operator, Output
from raystream.operators.silence import Silence
from raystream.operators.timestamps import TimestampReader
from raystream.operators.watermarks import cut, watermarks_of


@dataclass(frozen=True)
class AssignTimestampsSpec:
    """Replace the event time of a stream; upstream's watermarks end here."""

    watermark: Strategy
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "assign_timestamps"

    def describe(self) -> str:
        return self.watermark.describe()

    def build(self) -> AssignTimestamps:
        return AssignTimestamps(self)


class AssignTimestamps(Operator):
    """Reads event times and follows rows with the watermarks that they allow."""

    def __init__(self, spec: AssignTimestampsSpec) -> None:
        self._reader = TimestampReader(spec.watermark, spec.operator, spec.where)
        # Not all columns of the input: those that nobody behind reads may be left out here.
        self._names = (
            None if spec.output is None else [n for n in spec.output.names if n != EVENT_TIME]
        )
        self._watermarks = watermarks_of(spec.watermark, spec.operator, spec.where)
        self._watermark_us = MIN_TIME
        self._silence = Silence(spec.watermark.idleness_us)
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        """Open the functions that read time, where there are any."""
        self._errors = ctx.errors
        self._clock = ctx.clock
        self._silence.begin(ctx.clock.now_us())
        self._reader.open(ctx)
        self._watermarks.open(ctx)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._watermark_us = watermark_us

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        yield from self._silence.broken()
        batch, times = self._reader.read(batch, self._errors)
        batch, times, marks = self._watermarks.marks(batch, times, self._watermark_us, self._errors)
        for part, watermark_us in cut(self._timed(batch, times), marks):
            yield part
            if watermark_us is not None:
                self._watermark_us = watermark_us
                yield Watermark(watermark_us)
        # Behind the rows: how long they have waited for room was no silence.
        self._silence.begin(self._clock.now_us())

    def on_status(self, status: Status) -> Iterator[Output]:
        return self._silence.told(status)

    def timer_due_us(self) -> int | None:
        return self._silence.due_us

    def on_timer(self, now_us: int) -> Iterator[Output]:
        return self._silence.look(now_us)

    def output_watermark(self, time_us: int) -> int | None:
        return time_us if time_us == MAX_TIME else None

    def snapshot(self) -> Snapshot:
        return (watermark_section(self._watermark_us),)

    def close(self) -> None:
        """Close the functions that read time."""
        try:
            self._reader.close()
        finally:
            self._watermarks.close()

    def _timed(self, batch: Batch, times: Int64s) -> Batch:
        if not isinstance(batch, Columns):
            return Objects(batch.values, times, batch.keys)
        visible = batch.visible
        return with_times(visible if self._names is None else visible.select(self._names), times)
