"""Prune rows for a top-k before they are sent: each batch keeps only what may still be best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Columns
from raystream.flow.element import Watermark
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.top_rows import TopRows
from raystream.operators.operator import Operator
from raystream.operators.window_times import event_times
from raystream.operators.window_top_k import WindowTopKSpec


@dataclass(frozen=True)
class WindowTopKPartialSpec:
    """The best rows of each batch by key and window, for ``top_k`` behind an exchange.

    Only for windows that do not overlap. Late rows are counted behind the exchange, and only those
    that come that far. ``schema`` has the columns that are compared, and may leave out others.
    """

    top_k: WindowTopKSpec
    schema: pa.Schema

    @property
    def verb(self) -> str:
        return "window_top_k_partial"

    def describe(self) -> str:
        return f"{self.top_k.describe()}, of each batch"

    def build(self) -> WindowTopKPartial:
        return WindowTopKPartial(self)


class WindowTopKPartial(Operator):
    """The operator of one subtask: it holds nothing."""

    def __init__(self, spec: WindowTopKPartialSpec) -> None:
        top_k = spec.top_k
        held = spec.schema.append(pa.field(BUCKET, pa.int64()))
        self._grid = top_k.window.grid
        self._top = TopRows(top_k.keys, top_k.k, top_k.by, ties=top_k.ties, schema=held)

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if batch.num_rows:
            buckets = self._grid.panes_of(event_times(batch, self._ctx))
            best = self._top.best(batch.record.select(self._top.schema.names[:-1]), buckets)
            yield Columns(best.select(best.schema.names[:-1]))
