"""Keep rows in the process that started the job."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pyarrow as pa

from raystream.connectors.driver import Delivery, rows_of
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import SinkError
from raystream.flow.changes import apply_changes
from raystream.flow.key import canonical


class MemorySink(Sink):
    """Keep all rows: ``sink.rows`` after the job, or while it runs.

    Guarantee: at least once; rows that come again after a failure are kept again.

    ``limit`` ends the job once that many rows are there, and keeps no more.
    """

    to_driver = True

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._batches: list[Batch] = []
        self._count = 0
        self._rows: list[Any] = []
        self._rows_of = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, **MemorySink(self._limit).__dict__}

    def __len__(self) -> int:
        return self._count

    def open(self, ctx: OpenContext) -> Writer:
        return Delivery(ctx)

    def receive(self, batch: Batch) -> bool:
        left = len(batch) if self._limit is None else self._limit - self._count
        if len(batch) > left:
            batch = _first(batch, left)
        if len(batch):
            self._batches.append(batch)
            self._count += len(batch)
        return self._limit is not None and self._count >= self._limit

    @property
    def rows(self) -> list[Any]:
        """The rows as Python values, dicts where the stream has columns; always the same list."""
        while self._rows_of < len(self._batches):
            self._rows.extend(rows_of(self._batches[self._rows_of]))
            self._rows_of += 1
        return self._rows

    def table(self, schema: pa.Schema | None = None) -> pa.Table:
        """Give the rows as a table; ``schema`` is for a stream that had none.

        Raises: SinkError if rows are no dicts, or the schema is unknown because none came.
        """
        records = [batch.rows for batch in self._batches if isinstance(batch.rows, pa.RecordBatch)]
        if records:
            return pa.Table.from_batches(records)
        if schema is None and not self._count:
            raise SinkError("no rows came, so their columns are unknown", hint="give schema=")
        # A loop over rows: Arrow would take what is no dict for a row of nulls.
        other = next((row for row in self.rows if not isinstance(row, dict)), None)
        if other is not None:
            raise SinkError(f"these rows make no table: one is {other!r:.80}, which is no dict")
        try:
            return pa.Table.from_pylist(self.rows, schema)
        except (TypeError, pa.ArrowException) as error:
            raise SinkError(
                f"these rows make no table: {error}", hint="schema= gives the types of the columns"
            ) from error

    def describe(self) -> str:
        return "MemorySink()" if self._limit is None else f"MemorySink(limit={self._limit})"


class TableSink(MemorySink):
    """Keep the changes of a table, and give the table that they end in.

    ``key`` names its key columns; where those are all columns, equal rows may stand side by side.
    """

    upserts = True
    any_order = True

    def __init__(self, key: tuple[str, ...], limit: int | None = None) -> None:
        super().__init__(limit)
        self._key = key

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_key": self._key}

    @property
    def rows(self) -> list[Any]:
        """The rows of the table, in the order in which they came into it."""
        changes = super().rows
        return [changes[place] for place in self._places()]

    def table(self, schema: pa.Schema | None = None) -> pa.Table:
        """Give the table; ``schema`` is that of its columns."""
        if not len(self):
            return super().table(schema)
        return super().table(schema).take(pa.array(self._places(), pa.int64()))

    def _places(self) -> list[int]:
        changes = super().rows
        names = list(changes[0]) if changes else []
        at = [names.index(name) for name in self._key if names]
        rows = [tuple(map(_hashable, row.values())) for row in changes]
        keys = [tuple(row[place] for place in at) for row in rows]
        ops = [op for batch in self._batches for op in batch.ops or ()]
        return apply_changes(keys, rows, ops, unique=len(at) < len(names))


def _hashable(value: Any) -> Hashable:
    # repr tells a list or a struct from another, which have no hash.
    return repr(value) if isinstance(value, (list, dict)) else canonical(value)


def _first(batch: Batch, count: int) -> Batch:
    rows = batch.rows[:count] if isinstance(batch.rows, list) else batch.rows.slice(0, count)
    times = None if batch.timestamps is None else batch.timestamps[:count]
    return Batch(rows, times, None if batch.ops is None else batch.ops[:count])
