"""Whole rows, kept as columns and named by number: what operators that give rows back hold.

Rows get numbers as they come and are read by them. They lie in chunks that double until they are
large, so that a row is copied a few times and reading looks at few chunks. Chunks do not grow on:
putting them together would take as much memory again, and pause for as long as that takes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.gather import piece, pieces

_CHUNK_BYTES_MAX = 32 << 20
"""Reading meets a chunk for each so many bytes that are held; and no column of texts overflows."""


class RowStore:
    """Rows of one schema, numbered in order of arrival from ``first`` to ``stop`` - 1."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.first = 0
        self.stop = 0
        self._starts: list[int] = []
        self._chunks: list[pa.RecordBatch] = []

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        return self.stop - self.first

    @property
    def chunk_count(self) -> int:
        """Chunks that reading may have to look at."""
        return len(self._chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows that lie in memory, those among them that were dropped."""
        return sum(chunk.nbytes for chunk in self._chunks)

    def append(self, rows: pa.RecordBatch) -> int:
        """Add rows that nobody else will change; give the number of the first."""
        start = self.stop
        if not rows.num_rows:
            return start
        self.stop += rows.num_rows
        self._starts.append(start)
        self._chunks.append(rows)
        while self._joins_last():
            last = self._chunks.pop()
            self._starts.pop()
            self._chunks[-1] = pa.concat_batches([self._chunks[-1], last])
        return start

    def _joins_last(self) -> bool:
        """Tell whether the last two chunks had better be one."""
        if len(self._chunks) < 2 or self._chunks[-2].num_rows >= 2 * self._chunks[-1].num_rows:
            return False
        joined_bytes: int = self._chunks[-2].nbytes + self._chunks[-1].nbytes
        return joined_bytes <= _CHUNK_BYTES_MAX

    def take(self, numbers: Int64s, names: list[str] | None = None) -> pa.RecordBatch:
        """Copy the rows that have these numbers, in that order; only columns of these names.

        Shapes: int64 [n] -> [n].
        """
        chunks = self._chunks
        if names is not None:
            chunks = [chunk.select(names) for chunk in chunks]
        if not chunks or not len(numbers):
            fields = [self.schema.field(name) for name in names or self.schema.names]
            return pa.RecordBatch.from_arrays(
                [pa.array([], field.type) for field in fields], schema=pa.schema(fields)
            )
        return piece(chunks, self._starts, numbers)

    def table(self, numbers: Int64s) -> pa.Table:
        """Copy as many rows as there may be: in several batches where they are large.

        Shapes: int64 [n] -> [n].
        """
        if not len(numbers):
            return pa.Table.from_batches([], self.schema)
        return pa.Table.from_batches(pieces(self._chunks, self._starts, numbers), self.schema)

    def drop_below(self, number: int) -> None:
        """Forget earlier rows; their memory goes when half of a chunk is forgotten."""
        self.first = min(max(self.first, number), self.stop)
        while self._chunks and self._starts[0] + self._chunks[0].num_rows <= self.first:
            self._chunks.pop(0)
            self._starts.pop(0)
        if not self._chunks:
            return
        gone = self.first - self._starts[0]
        if 2 * gone > self._chunks[0].num_rows:
            # A slice would keep the whole chunk alive; taking its rows copies them.
            left = np.arange(gone, self._chunks[0].num_rows)
            self._chunks[0] = self._chunks[0].take(pa.array(left))
            self._starts[0] += gone

    def keep(self, numbers: Int64s) -> None:
        """Forget all other rows; those that stay are numbered anew, from 0 in this order."""
        kept = self.table(numbers).to_batches()
        self.first = self.stop = 0
        self._starts, self._chunks = [], []
        for rows in kept:
            self.append(rows)
