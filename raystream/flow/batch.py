"""The two kinds of batches: Arrow columns, and Python objects.

Event time travels beside what users see: in a columnar batch as a hidden last column ``__ts``, in
an object batch as an array of the same length. In a changelog the kind of each row stands before
it, in the hidden column ``__op``. A stream without event time has neither. One row
without event time in a stream that has it (a row made by a processing timer) carries ``NO_TIME``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.changes import OP, OP_FIELD

Int64s: TypeAlias = npt.NDArray[np.int64]

EVENT_TIME = "__ts"
"""Name of the hidden event-time column: int64 microseconds since the epoch, UTC."""

NO_TIME = -(2**63)
"""The event time of a row that has none."""

EVENT_TIME_FIELD = pa.field(EVENT_TIME, pa.int64(), nullable=False)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Rows as one Arrow RecordBatch; its last column is ``__ts`` if the stream has event time."""

    record: pa.RecordBatch

    @property
    def num_rows(self) -> int:
        return int(self.record.num_rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows themselves, also where the record is a slice of a larger one."""
        return int(self.record.nbytes)

    @property
    def timestamps(self) -> Int64s | None:
        """Event times, int64 [n], or None where the stream has none."""
        names = self.record.schema.names
        if not names or names[-1] != EVENT_TIME:
            return None
        times: Int64s = self.record.column(len(names) - 1).to_numpy(zero_copy_only=False)
        return times

    @property
    def visible(self) -> pa.RecordBatch:
        """The rows as users see them: without event time and row kinds."""
        names = visible_names(self.record.schema)
        return self.record.select(names) if len(names) < self.record.num_columns else self.record

    @property
    def ops(self) -> npt.NDArray[np.int8] | None:
        """The kind of each row (``flow.changes``), int8 [n]; None where rows are just rows."""
        place = len(visible_names(self.record.schema))
        if place == self.record.num_columns or self.record.schema.names[place] != OP:
            return None
        ops: npt.NDArray[np.int8] = self.record.column(place).to_numpy()
        return ops

    def take(self, indices: Int64s) -> Columns:
        """Copy the rows at ``indices``, in that order."""
        return Columns(self.record.take(pa.array(indices)))

    def slice(self, start: int, count: int) -> Columns:
        """View ``count`` rows from ``start``; views are for sending, never for keeping."""
        return Columns(self.record.slice(start, count))


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Rows as Python objects, with event times and, behind a ``key_by``, their keys."""

    values: list[Any]
    timestamps: Int64s | None = None
    keys: list[Any] | None = None

    @property
    def num_rows(self) -> int:
        return len(self.values)

    def take(self, indices: Int64s) -> Objects:
        """Copy the rows at ``indices``, in that order."""
        chosen = indices.tolist()
        return Objects(
            [self.values[i] for i in chosen],
            None if self.timestamps is None else self.timestamps[indices],
            None if self.keys is None else [self.keys[i] for i in chosen],
        )

    def slice(self, start: int, count: int) -> Objects:
        """Copy ``count`` rows from ``start``."""
        stop = start + count
        return Objects(
            self.values[start:stop],
            None if self.timestamps is None else self.timestamps[start:stop],
            None if self.keys is None else self.keys[start:stop],
        )


Batch: TypeAlias = Columns | Objects


def with_times(visible: pa.RecordBatch, timestamps: Int64s | None) -> Columns:
    """Put event times beside the columns that users see.

    Shapes: visible [n], timestamps int64 [n] or None -> Columns [n].
    """
    if timestamps is None:
        return Columns(visible)
    assert len(timestamps) == visible.num_rows, "one event time a row"
    times = pa.array(timestamps, pa.int64())
    schema = visible.schema.append(EVENT_TIME_FIELD)
    return Columns(pa.RecordBatch.from_arrays([*visible.columns, times], schema=schema))


def with_ops(rows: Columns, ops: npt.NDArray[np.int8]) -> Columns:
    """Say what each row does to the table whose changes flow.

    Shapes: rows [n] without kinds, ops int8 [n] -> Columns [n].
    """
    place = len(visible_names(rows.record.schema))
    columns = list(rows.record.columns)
    columns.insert(place, pa.array(ops, pa.int8()))
    schema = rows.record.schema.insert(place, OP_FIELD)
    return Columns(pa.RecordBatch.from_arrays(columns, schema=schema))


def bounded(batch: Batch, limit: int) -> Iterator[Batch]:
    """View a batch as some of at most ``limit`` rows."""
    for start in range(0, batch.num_rows, limit):
        yield batch if batch.num_rows <= limit else batch.slice(start, limit)


def wire_schema(schema: pa.Schema, *, timed: bool, changes: bool = False) -> pa.Schema:
    """The schema of the records of a columnar stream: what users see, row kinds, event time."""
    if changes:
        schema = schema.append(OP_FIELD)
    return schema.append(EVENT_TIME_FIELD) if timed else schema


def visible_names(schema: pa.Schema) -> list[str]:
    """Give the names of a wire schema that users see."""
    names: list[str] = schema.names
    hidden = 0
    for name in (EVENT_TIME, OP):
        if hidden < len(names) and names[-1 - hidden] == name:
            hidden += 1
    return names[: len(names) - hidden]


def visible_schema(schema: pa.Schema) -> pa.Schema:
    """Give a wire schema as users see it: without row kinds and event time."""
    return pa.schema([schema.field(name) for name in visible_names(schema)])


def concat(batches: list[Batch]) -> Batch:
    """Join batches of one stream into one, in order."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Columns):
        return Columns(pa.concat_batches([b.record for b in batches if isinstance(b, Columns)]))
    objects = [b for b in batches if isinstance(b, Objects)]
    times = [b.timestamps for b in objects if b.timestamps is not None]
    assert len(times) in (0, len(objects)), "event time is a matter of the stream, not of a batch"
    keys = [b.keys for b in objects if b.keys is not None]
    return Objects(
        [value for b in objects for value in b.values],
        np.concatenate(times) if times else None,
        [key for some in keys for key in some] if keys else None,
    )
