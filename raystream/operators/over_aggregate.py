"""Give every row whole, with aggregates over the rows of its key that stand shortly before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.gather import one_record, take_rows
from raystream.flow.hashing import hash_columns
from raystream.flow.key import check_key_type
from raystream.keyed.event_rows import EventRows
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures import Measures
from raystream.keyed.partials import PartialTable
from raystream.keyed.snapshot import (
    BUCKET,
    Section,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.aggregate_function import GuardedAggregate
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS, describe_aggregate
from raystream.operators.window_times import event_times

_TIME = "__time"
"""Where the rows of a stream without event time keep their order."""


@dataclass(frozen=True)
class OverAggregateSpec:
    """Each row's columns and the aggregates over its key's rows up to it, in order of event time.

    ``over_us``: those in ``(time - over_us, time]``, rows of the same time included; ``over_rows``:
    the last so many, itself the last of them. Rows wait for the watermark. ``input`` and ``output``
    are wire schemas.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    keys: tuple[str, ...]
    aggregates: tuple[Bound, ...]
    over_us: int | None
    over_rows: int | None
    input: pa.Schema
    output: pa.Schema

    def __post_init__(self) -> None:
        # Made for its checks: what cannot be aggregated is refused before any actor starts.
        Measures([], [bound for bound in self.aggregates if bound.kind != "function"])
        for key in self.keys:
            check_key_type(self.input.field(key).type)

    @property
    def verb(self) -> str:
        return "over_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(map(describe_aggregate, self.aggregates))
        rows = f"{self.over_rows} rows"
        over = rows if self.over_us is None else text(self.over_us)
        return f"over {over} by {', '.join(self.keys)}: {aggregates}"

    def build(self) -> OverAggregate:
        return OverAggregate(self)


class OverAggregate(Operator):
    """The operator of one subtask.

    Rows that the watermark has not reached wait by event time; those that it has are joined to the
    rows of their key, of which only the columns are held that the aggregates read.
    """

    def __init__(self, spec: OverAggregateSpec) -> None:
        self._spec = spec
        self._timed = EVENT_TIME in spec.input.names
        self._index = KeyIndex([spec.input.field(key).type for key in spec.keys])
        self._pending = PartialTable(_by_time)
        self._waiting: pa.RecordBatch | None = None
        self._watermark_us = MIN_TIME
        self._arrived = 0
        self._rows = EventRows(_read_schema(spec))

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)
        guarded = [ctx.operator, ctx.where]
        self._measures = Measures(
            [], self._spec.aggregates, lambda bound: GuardedAggregate(bound, *guarded)
        )

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        record = batch.record
        if not self._timed:
            times = self._arrived + np.arange(record.num_rows)
            self._arrived += record.num_rows
            self._due(record, times)
            yield from self._out()
            return
        times = event_times(batch, self._ctx)
        live = np.flatnonzero(times > self._watermark_us)
        self._late.inc(len(times) - len(live))
        if len(live):
            order = live[np.argsort(times[live], kind="stable")]
            kept = record.take(pa.array(order)).append_column(BUCKET, pa.array(times[order]))
            self._pending.append(kept)

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        yield from self._out()
        self._watermark_us = max(self._watermark_us, time_us)
        while (first := self._pending.first_bucket()) is not None and first <= time_us:
            stop = self._stop(time_us)
            due = _by_time(self._pending.between(first, stop))
            self._pending.drop_below(stop)
            self._due(due.drop_columns([BUCKET]), due.column(BUCKET).to_numpy())
            # The loop's own name would keep the rows alive while the subtask is suspended.
            del due
            yield from self._out()
        if self._spec.over_us is not None and self._watermark_us != MAX_TIME:
            self._rows.drop_until(max(self._watermark_us - self._spec.over_us, MIN_TIME))

    def snapshot(self) -> Snapshot:
        numbers = np.arange(self._rows.store.first, self._rows.store.stop)
        times = pa.array(self._rows.times(numbers))
        held = self._rows.store.table(numbers).append_column(_TIME, times)
        pending = self._pending.between(MIN_TIME, MAX_TIME + 1)
        waiting = [] if self._waiting is None else [self._waiting]
        return (
            self._section("rows", held, self._index.keys(self._rows.slots(numbers))),
            self._keyed("pending", pending, self._spec.input.append(_BUCKET_FIELD)),
            self._keyed("waiting", waiting, self._spec.output),
            watermark_section(self._watermark_us),
        )

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        self._watermark_us = MIN_TIME if watermark_us is None else watermark_us
        held = section(snapshot, "rows")
        if held is not None:
            held = take_rows(held, np.argsort(held.column(_TIME).to_numpy(), kind="stable"))
        for record in [] if held is None else held.to_batches():
            slots, _ = self._index.lookup([record.column(f"key.{k}") for k in self._spec.keys])
            times = record.column(_TIME).to_numpy()
            self._rows.append(record.select(self._rows.store.schema.names), times, slots)
            self._arrived = int(times[-1]) + 1
        pending = section(snapshot, "pending")
        for record in [] if pending is None else pending.to_batches():
            self._pending.append(_by_time([record]))
        waiting = section(snapshot, "waiting")
        if waiting is not None and waiting.num_rows:
            self._waiting = one_record(waiting)

    def close(self) -> None:
        self._waiting = None

    def _stop(self, time_us: int) -> int:
        """Give where a step ends: so many times as fit into a batch, one at least."""
        times, counts = self._pending.row_counts(time_us + 1)
        fits = int(np.searchsorted(np.cumsum(counts), self._ctx.limits.batch_rows_max, "right"))
        return int(times[min(max(fits, 1), len(times)) - 1]) + 1

    def _due(self, record: pa.RecordBatch, times: Int64s) -> None:
        """Take in the next rows in order of time, and get ready what they give."""
        spec = self._spec
        slots, _ = self._index.lookup([record.column(key) for key in spec.keys])
        read = record.select([n for n in self._rows.store.schema.names if n != _TIME])
        if not read.num_columns:
            read = pa.RecordBatch.from_arrays([pa.array(times)], names=[_TIME])
        numbers = self._rows.append(read, times, slots)
        ends, frames = numbers, np.arange(len(numbers))
        if spec.over_us is not None:
            ends, frames = _last_of_equals(numbers, times, slots)
        results = [array.take(pa.array(frames)) for array in self._over(ends)]
        columns = [record.column(name) for name in spec.output.names if name in record.schema.names]
        place = len(columns) - self._timed
        columns[place:place] = results
        self._waiting = pa.RecordBatch.from_arrays(columns, schema=spec.output)
        if spec.over_rows is not None:
            self._rows.drop_beyond(spec.over_rows)

    def _over(self, ends: Int64s) -> list[pa.Array]:
        """Aggregate the rows up to each of ``ends``.

        Shapes: int64 [n] -> arrays, each [n].
        """
        spec, limit = self._spec, self._ctx.limits.firing_rows_max
        above = None
        if spec.over_us is not None:
            above = np.maximum(self._rows.times(ends), MIN_TIME + spec.over_us) - spec.over_us
        partials: list[pa.RecordBatch] = []
        gathered: list[tuple[Int64s, Int64s]] = []
        count = 0
        for pair in self._rows.walk(ends, above, spec.over_rows):
            gathered.append(pair)
            count += len(pair[0])
            if count >= limit:
                partials.append(self._folded(gathered))
                gathered, count = [], 0
        if gathered:
            partials.append(self._folded(gathered))
        # The walk goes back in time, the merge wants the earlier rows first.
        merged = partials[0] if len(partials) == 1 else self._measures.merge(partials[::-1])
        return self._measures.results(merged)

    def _folded(self, gathered: list[tuple[Int64s, Int64s]]) -> pa.RecordBatch:
        places = np.concatenate([places for places, _ in reversed(gathered)])
        numbers = np.concatenate([numbers for _, numbers in reversed(gathered)])
        return self._measures.fold(self._rows.store.take(numbers), places)

    def _out(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        while (waiting := self._waiting) is not None:
            more = waiting.num_rows > rows_max
            self._waiting = waiting.slice(rows_max) if more else None
            yield Columns(waiting.slice(0, rows_max))

    def _keyed(self, name: str, records: list[pa.RecordBatch], schema: pa.Schema) -> Section:
        """Make a section of rows that have their key columns."""
        table = pa.Table.from_batches(records, schema)
        keys = [table.column(key).combine_chunks() for key in self._spec.keys]
        return keyed_section(name, table, hash_columns(keys), self._ctx.max_parallelism)

    def _section(self, name: str, table: pa.Table, keys: list[pa.Array]) -> Section:
        """Make a section of rows whose keys stand beside them."""
        for key, column in zip(self._spec.keys, keys, strict=True):
            table = table.append_column(f"key.{key}", column)
        return keyed_section(name, table, hash_columns(keys), self._ctx.max_parallelism)


_BUCKET_FIELD = pa.field(BUCKET, pa.int64())


def _by_time(records: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Join rows in order of arrival, sorted by time."""
    joined = records[0] if len(records) == 1 else pa.concat_batches(records)
    times = joined.column(BUCKET).to_numpy()
    if len(records) == 1 and (np.diff(times) >= 0).all():
        return joined
    return joined.take(pa.array(np.argsort(times, kind="stable")))


def _read_schema(spec: OverAggregateSpec) -> pa.Schema:
    """Give the columns that the aggregates read."""
    wanted: set[str] = {EVENT_TIME}
    for bound in spec.aggregates:
        columns = (bound.value, bound.by, bound.condition, *bound.row_columns)
        wanted |= {name for name in columns if name is not None}
    fields = [field for field in spec.input if field.name in wanted]
    return pa.schema(fields or [pa.field(_TIME, pa.int64())])


def _last_of_equals(numbers: Int64s, times: Int64s, slots: Int64s) -> tuple[Int64s, Int64s]:
    """Give the last row of each key and time, and for each row which of these is its own.

    Shapes: numbers, times, slots int64 [n], in order of time -> int64 [m], int64 [n].
    """
    order = np.lexsort((numbers, times, slots))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(slots[order]) != 0) | (np.diff(times[order]) != 0)
    ends = numbers[order[np.append(np.flatnonzero(new)[1:], len(order)) - 1]]
    frames = np.empty(len(order), np.int64)
    frames[order] = np.cumsum(new) - 1
    return ends, frames
