"""Give rows an event time in the middle of a stream, and make watermarks from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import WatermarkStrategy
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Objects, with_times
from raystream.flow.element import MAX_TIME, MIN_TIME, Watermark
from raystream.operators.operator import Operator
from raystream.operators.timestamps import TimestampReader


@dataclass(frozen=True)
class AssignTimestampsSpec:
    """Replace the event time of a stream; upstream's watermarks end here."""

    watermark: WatermarkStrategy
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "assign_timestamps"

    def describe(self) -> str:
        timestamp = self.watermark.timestamp
        named = timestamp if isinstance(timestamp, str) else getattr(timestamp, "__name__", "expr")
        return f"by {named}, up to {self.watermark.out_of_orderness} late"

    def build(self) -> AssignTimestamps:
        return AssignTimestamps(self)


class AssignTimestamps(Operator):
    """Reads event times and follows each batch with the watermark it allows."""

    def __init__(self, spec: AssignTimestampsSpec) -> None:
        self._reader = TimestampReader(spec.watermark, spec.operator, spec.where)
        # Not all columns of the input: those that nobody behind reads may be left out here.
        self._names = (
            None if spec.output is None else [n for n in spec.output.names if n != EVENT_TIME]
        )
        self._lateness_us = spec.watermark.out_of_orderness_us
        self._watermark_us = MIN_TIME
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        batch, times = self._reader.read(batch, self._errors)
        if isinstance(batch, Columns):
            visible = batch.visible
            yield with_times(visible if self._names is None else visible.select(self._names), times)
        else:
            yield Objects(batch.values, times, batch.keys)
        if len(times):
            allowed = int(times.max()) - self._lateness_us - 1
            if allowed > self._watermark_us:
                self._watermark_us = allowed
                yield Watermark(allowed)

    def output_watermark(self, time_us: int) -> int | None:
        return time_us if time_us == MAX_TIME else None
