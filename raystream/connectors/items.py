"""Rows that are already in the script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.batch import Batch
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import NO_TIME, Int64s
from raystream.flow.element import MAX_TIME
from raystream.flow.normal import normal_record, normal_schema
from raystream.flow.time import Instant, micros
from raystream.operators.pyrows import to_columns


class ItemsSource(Source):
    """Give rows of the script: the items of an iterable, read once, here, or a table.

    Guarantee: exactly once; the rows travel with the job.

    Dicts with ``schema`` and tables give columns, all else an object stream. ``timestamps`` are
    event times: points in time, one a row.

    Raises: PlanError for a row that does not fit the schema, timestamps of another length, or one
    that 64 bits do not hold.
    """

    def __init__(
        self,
        items: Iterable[Any] | pa.Table | pa.RecordBatch,
        schema: pa.Schema | None = None,
        timestamps: Iterable[Instant] | None = None,
    ) -> None:
        self._rows: list[Any] | pa.RecordBatch
        if isinstance(items, pa.Table | pa.RecordBatch):
            self._rows = _of_table(items, schema)
        elif schema is not None:
            self._rows = _of_dicts(list(items), normal_schema(schema))
        else:
            self._rows = list(items)
        self._count = len(self._rows)
        self.schema = None if isinstance(self._rows, list) else self._rows.schema
        self._times = None if timestamps is None else _times(timestamps)
        self.timed = self._times is not None
        if self._times is not None and len(self._times) != self._count:
            raise PlanError(f"{len(self._times)} timestamps for {self._count} rows")

    def splits(self) -> Sequence[Split]:
        return [Split("items")]

    def open(self, split: Split, position: Any) -> Reader:
        return _ItemsReader(self._rows, self._times, 0 if position is None else int(position))

    def describe(self) -> str:
        return f"{self._count:,} items"


class _ItemsReader(Reader):
    def __init__(
        self, rows: list[Any] | pa.RecordBatch, times: Int64s | None, position: int
    ) -> None:
        self._rows = rows
        self._times = times
        self._position = position

    def poll(self, max_rows: int) -> Polled:
        start = self._position
        stop = min(start + max_rows, len(self._rows))
        if start >= stop:
            return END
        self._position = stop
        whole = self._rows
        rows = whole[start:stop] if isinstance(whole, list) else whole.slice(start, stop - start)
        return Batch(rows, None if self._times is None else self._times[start:stop])

    def position(self) -> int:
        return self._position


def _of_table(items: pa.Table | pa.RecordBatch, schema: pa.Schema | None) -> pa.RecordBatch:
    table = pa.Table.from_batches([items]) if isinstance(items, pa.RecordBatch) else items
    if schema is not None:
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise PlanError(
                f'the table has no column "{missing[0]}", which schema= names',
                hint=f"it has {', '.join(table.column_names)}",
            )
        table = table.select(schema.names)
    wanted = normal_schema(table.schema if schema is None else schema)
    try:
        batches = table.combine_chunks().to_batches()
        records = [normal_record(record, wanted) for record in batches if record.num_rows]
        return pa.concat_batches(records) if records else pa.RecordBatch.from_pylist([], wanted)
    except pa.ArrowException as error:
        raise PlanError(f"the table does not fit the schema: {error}") from error


def _of_dicts(rows: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    try:
        return to_columns(rows, schema, None, operator="from_items").record
    except UserFunctionError as error:
        raise PlanError(error.message, hint=error.hint) from error


def _times(timestamps: Iterable[Instant]) -> Int64s:
    if isinstance(timestamps, np.ndarray) and timestamps.dtype.kind in "iuM":
        known = timestamps.astype("M8[us]") if timestamps.dtype.kind == "M" else timestamps
        return known.astype(np.int64)
    # A loop over points in time, of which Python has several kinds.
    times = [micros(time) for time in timestamps]
    if times and not (min(times) > NO_TIME and max(times) <= MAX_TIME):
        raise PlanError("a timestamp lies outside of what 64 bits of microseconds hold")
    return np.array(times, dtype=np.int64)
