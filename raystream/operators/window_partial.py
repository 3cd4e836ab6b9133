"""The first phase of a two-phase window aggregate: each batch grouped before it is exchanged.

It holds nothing and decides nothing about lateness: one batch in, one batch of partials out. The
second phase is a ``WindowAggregateSpec`` with ``partial_input``; it tells by its own watermark
which panes are late, and counts their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import GridWindow
from raystream.flow.batch import EVENT_TIME, EVENT_TIME_FIELD, Batch, Columns
from raystream.flow.element import Watermark
from raystream.keyed.folding import Folding
from raystream.keyed.measures import Measures
from raystream.keyed.measures_parts import ARRIVAL
from raystream.keyed.measures_rules import two_phase
from raystream.keyed.snapshot import Snapshot, arrival_section, restored_arrival
from raystream.keyed.window_admission import panes_of
from raystream.operators.operator import Operator
from raystream.operators.window_aggregate import describe_aggregate
from raystream.operators.window_times import event_times

_LATEST = Bound(EVENT_TIME, "max", pa.int64(), EVENT_TIME, pa.int64())
"""The event time of a partial: that of its last row."""


@dataclass(frozen=True)
class WindowPartialSpec:
    """Group each batch by key and pane; ``output`` is ``partial_schema`` of the same arguments."""

    keys: tuple[str, ...]
    window: GridWindow
    aggregates: tuple[Bound, ...]
    output: pa.Schema

    def __post_init__(self) -> None:
        assert two_phase(self.aggregates), "these aggregates do not go in two phases"

    @property
    def verb(self) -> str:
        return "window_partial"

    def describe(self) -> str:
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        return f"{self.window}{by}: {', '.join(map(describe_aggregate, self.aggregates))}"

    def build(self) -> WindowPartial:
        return WindowPartial(self)


def partial_schema(
    keys: Sequence[pa.Field], window: GridWindow, aggregates: Sequence[Bound]
) -> pa.Schema:
    """Give the wire schema of partials: keys, bucket, row count, the aggregates' parts, event time.

    Raises: PlanError where an aggregate is not defined for the type of its column.
    """
    schema = _measures(keys, window, aggregates).schema
    return schema.set(len(schema) - 1, EVENT_TIME_FIELD)


def _measures(
    keys: Sequence[pa.Field], window: GridWindow, aggregates: Sequence[Bound]
) -> Measures:
    cover = window.grid.cover
    aggregates = [*aggregates, _LATEST]
    return Measures(keys, aggregates, row_count=True, arrival=not cover.alone, mixed=cover.nested)


class WindowPartial(Operator):
    """The operator of one subtask."""

    def __init__(self, spec: WindowPartialSpec) -> None:
        self._spec = spec
        self._grid = spec.window.grid
        self._arrived = 0

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        keys = [spec.output.field(name) for name in spec.keys]
        self._measures = _measures(keys, spec.window, spec.aggregates)
        self._folding = Folding(self._measures)

    def restore(self, snapshot: Snapshot) -> None:
        self._arrived = restored_arrival(snapshot)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        times = event_times(batch, self._ctx)
        if self._grid.gaps:
            inside = np.flatnonzero(self._grid.covered(times))
            if not len(inside):
                return
            batch, times = batch.take(inside), times[inside]
        record = batch.record
        if self._measures.needs_arrival:
            first, self._arrived = self._arrived, self._arrived + len(times)
            record = record.append_column(ARRIVAL, pa.array(np.arange(first, self._arrived)))
        partials, _ = self._folding(record, panes_of(self._grid, times))
        yield Columns(pa.RecordBatch.from_arrays(partials.columns, schema=self._spec.output))

    def snapshot(self) -> Snapshot:
        # The partials of later rows must say that they came later than those that are merged now.
        return (arrival_section(self._arrived),) if self._measures.needs_arrival else ()
