"""The head of a chain that reads: what readers give becomes batches with event time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.batch import Batch as Rows
from raystream.contracts.context import OpenContext
from raystream.contracts.source import Source, Split
from raystream.contracts.watermark import WatermarkStrategy
from raystream.errors import SourceError
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s, Objects, with_times
from raystream.flow.element import MIN_TIME, Watermark
from raystream.flow.normal import normal_record
from raystream.operators.timestamps import TimestampReader, lower_bound


@dataclass(frozen=True)
class SourceSpec:
    """Read a source; ``schema`` is what leaves: its columns, and event time if ``timed``."""

    source: Source
    schema: pa.Schema | None
    watermark: WatermarkStrategy | None
    name: str
    where: str
    timed: bool

    @property
    def verb(self) -> str:
        return "source"

    def describe(self) -> str:
        text = self.source.describe()
        if self.watermark is None:
            return text
        timestamp = self.watermark.timestamp
        named = timestamp if isinstance(timestamp, str) else getattr(timestamp, "__name__", "expr")
        return f"{text} by {named}, up to {self.watermark.out_of_orderness} late"

    def build(self) -> SourceOperator:
        return SourceOperator(self)


class SourceOperator:
    """Turns what a reader gave into a batch, and knows what that says about time."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._times = (
            None
            if spec.watermark is None
            else TimestampReader(spec.watermark, spec.name, spec.where)
        )
        schema = spec.schema
        if schema is not None and spec.timed:
            schema = schema.remove(schema.get_field_index(EVENT_TIME))
        self._visible = schema

    def open(self, ctx: OpenContext) -> None:
        """Nothing to get ready: readers are opened by the shell."""

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        raise AssertionError("a source has no input: its rows come from readers")

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        return time_us

    def on_end(self) -> Iterator[Batch]:
        return iter(())

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def bounded(self) -> bool:
        return self._spec.source.bounded

    @property
    def idleness_us(self) -> int | None:
        watermark = self._spec.watermark
        return None if watermark is None else watermark.idleness_us

    def first_watermark(self, split: Split) -> int:
        """Give the watermark that a split stands at before its first row."""
        if self._spec.watermark is None:
            return MIN_TIME
        bound = lower_bound(self._spec.watermark, dict(split.earliest))
        return MIN_TIME if bound is None else bound

    def convert(self, polled: Rows | pa.RecordBatch | list[Any]) -> tuple[Batch, int | None]:
        """Make a batch of what a reader gave; and the watermark that its rows bring."""
        given: Int64s | None = None
        rows: Any = polled
        if isinstance(polled, Rows):
            rows, given = polled.rows, polled.timestamps
        batch = self._batch(rows)
        if self._times is not None and batch.num_rows:
            given = self._times.read(batch)
        if not self._spec.timed:
            return batch, None
        if given is None:
            if batch.num_rows:
                raise SourceError(
                    f'source "{self._spec.name}" gave rows without event time',
                    where=self._spec.where,
                    hint="give a watermark strategy, or timestamps with every batch",
                )
            given = np.empty(0, np.int64)
        timed: Batch = (
            with_times(batch.record, given)
            if isinstance(batch, Columns)
            else Objects(batch.values, given)
        )
        if self._spec.watermark is None or not batch.num_rows:
            return timed, None
        return timed, int(given.max()) - self._spec.watermark.out_of_orderness_us - 1

    def _batch(self, rows: pa.RecordBatch | list[Any]) -> Batch:
        if self._visible is None:
            return Objects(rows if isinstance(rows, list) else rows.to_pylist())
        record = (
            pa.RecordBatch.from_pylist(rows, schema=self._visible)
            if isinstance(rows, list)
            else rows
        )
        if not record.schema.equals(self._visible):
            record = self._fit(record, self._visible)
        return Columns(record)

    def _fit(self, record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        missing = [name for name in schema.names if name not in record.schema.names]
        if missing:
            raise SourceError(
                f'source "{self._spec.name}" gave rows without {", ".join(missing)}; '
                f"they have {', '.join(record.schema.names)}",
                where=self._spec.where,
                hint="the source's schema and what its readers give must agree",
            )
        return normal_record(record.select(schema.names), schema)
