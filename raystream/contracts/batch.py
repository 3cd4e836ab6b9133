"""The batch that readers give and writers get: rows, their event times, their change kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.errors import RaystreamError
from raystream.flow.batch import Int64s
from raystream.flow.time import Instant, micros


class Batch:
    """Rows of one stream, as an Arrow RecordBatch or as a list of objects.

    ``rows`` is a ``pa.RecordBatch`` on a columnar stream and a ``list`` on an object stream;
    ``timestamps`` are event times, one a row, or None: microseconds since the epoch, or datetimes,
    which become that. Iterating gives Python rows: dicts on a columnar stream. ``unreadable`` are
    records that a reader found between them and could make no row of: what was there, and why not.
    """

    __slots__ = ("ops", "rows", "timestamps", "unreadable")

    def __init__(
        self,
        rows: pa.RecordBatch | list[Any],
        timestamps: Int64s | Sequence[Instant] | None = None,
        ops: Sequence[str] | None = None,
        unreadable: Sequence[tuple[Any, RaystreamError]] = (),
    ) -> None:
        self.rows = rows
        self.timestamps: Int64s | None = None if timestamps is None else _times(timestamps)
        self.ops = ops
        self.unreadable = unreadable

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_pylist())

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @property
    def schema(self) -> pa.Schema | None:
        """The columns, or None on an object stream."""
        return None if isinstance(self.rows, list) else self.rows.schema

    def to_pylist(self) -> list[Any]:
        """Give the rows as Python values: dicts on a columnar stream."""
        if isinstance(self.rows, list):
            return self.rows
        rows: list[Any] = self.rows.to_pylist()
        return rows

    def to_arrow(self) -> pa.RecordBatch:
        """Give the rows as columns; an object stream must hold dicts."""
        if isinstance(self.rows, list):
            return pa.RecordBatch.from_pylist(self.rows)
        return self.rows


def _times(timestamps: Int64s | Sequence[Instant]) -> Int64s:
    if isinstance(timestamps, np.ndarray) and timestamps.dtype.kind in "iu":
        return timestamps.astype(np.int64, copy=False)
    # A loop over rows: each may be a datetime of another zone.
    return np.fromiter(map(micros, timestamps), np.int64, len(timestamps))
