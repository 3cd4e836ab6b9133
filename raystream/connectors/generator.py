"""Rows made up as they are asked for: random columns, or what a function of the number says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.clock import Clock, SystemClock
from raystream.connectors.random_columns import BASE_TIME_US, random_column
from raystream.connectors.seeded import Blocks
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import PlanError
from raystream.flow.batch import Int64s
from raystream.flow.normal import normal_schema
from raystream.operators.guard import call_each

_BLOCK_ROWS = 4_096
_SPLIT_ROWS_MIN = 65_536
_SPLITS_MAX = 32
_SPLIT_RATE_MIN = 100_000
"""Rows a second that a split should bring at least: slower ones give many tiny batches."""


class DataGenSource(Source):
    """Make up rows: random columns of a schema, or ``fn(i)`` for row number i.

    Guarantee: exactly once; a row is a function of its number, so any reader can make it again
    (which asks of ``fn`` that it be one).

    A schema gives a columnar stream: integers from 0 up, floats in [0, 1), strings of 8 letters;
    timestamps advance by a millisecond a row, or by what ``rows_per_second`` says. A function gives
    an object stream. ``rows=None`` never ends. ``rows_per_second`` holds rows back until the wall
    clock says that they are due.

    Raises: PlanError for a number that is not positive, or a type that has no random values.
    """

    def __init__(
        self,
        schema_or_fn: pa.Schema | Callable[[int], Any],
        rows: int | None = None,
        rows_per_second: float | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        if rows is not None and rows < 0:
            raise PlanError(f"rows must not be negative, got {rows!r}")
        if rows_per_second is not None and rows_per_second <= 0:
            raise PlanError(f"rows_per_second must be more than 0, got {rows_per_second!r}")
        self._rows = rows
        self._rate = rows_per_second
        self._clock = clock or SystemClock()
        self._step_us = max(1, round(1_000_000 / (rows_per_second or 1_000)))
        self._fn: Callable[[int], Any] | None = None
        self.schema: pa.Schema | None = None
        self._purposes: dict[str, int] = {}
        if isinstance(schema_or_fn, pa.Schema):
            self.schema = normal_schema(schema_or_fn)
            self._purposes = {name: number for number, name in enumerate(self.schema.names)}
            self.make(np.zeros(1, dtype=np.int64))
        elif callable(schema_or_fn):
            self._fn = schema_or_fn
        else:
            raise PlanError(f"DataGenSource takes a schema or a function, got {schema_or_fn!r}")
        self.bounded = rows is not None
        self._blocks = Blocks(rows, _BLOCK_ROWS, _split_count(rows, rows_per_second))

    def splits(self) -> Sequence[Split]:
        return [
            self._blocks.split(index, self._earliest(index * _BLOCK_ROWS))
            for index in range(self._blocks.count)
        ]

    def open(self, split: Split, position: Any) -> Reader:
        start = 0 if position is None else int(position)
        return _GeneratorReader(self, self._blocks, int(split.payload), start, self._pace())

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that makes only these columns; of none, the first."""
        if self.schema is None:
            return self
        wanted = set(columns) & set(self.schema.names)
        kept = [name for name in self.schema.names if name in wanted] or self.schema.names[:1]
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self.schema.field(name) for name in kept])
        return narrow

    def describe(self) -> str:
        rows = "endless" if self._rows is None else f"{self._rows:,} rows"
        rate = "" if self._rate is None else f", {self._rate:,g}/s"
        return f"DataGenSource({rows}{rate})"

    def make(self, ids: Int64s) -> pa.RecordBatch | list[Any]:
        """Make the rows of these numbers."""
        if self._fn is not None:
            return call_each(self._fn, ids.tolist(), operator=self.describe(), where="")
        assert self.schema is not None, "a source without a function has a schema"
        arrays = [
            random_column(field.type, ids, self._purposes[field.name], self._step_us)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _pace(self) -> _Pace | None:
        if self._rate is None:
            return None
        return _Pace(self._clock, self._rate / self._blocks.count)

    def _earliest(self, first: int) -> dict[str, int]:
        return {
            field.name: BASE_TIME_US + first * self._step_us
            for field in self.schema or ()
            if pa.types.is_timestamp(field.type)
        }


def _split_count(rows: int | None, rate: float | None) -> int:
    by_rate = _SPLITS_MAX if rate is None else int(rate // _SPLIT_RATE_MIN)
    by_rows = _SPLITS_MAX if rows is None else rows // _SPLIT_ROWS_MIN
    return max(1, min(by_rate, by_rows, _SPLITS_MAX))


class _Pace:
    """How many rows are due by the clock."""

    def __init__(self, clock: Clock, rows_per_second: float) -> None:
        self._clock = clock
        self._rate = rows_per_second
        self._started_us: int | None = None

    def due(self) -> int:
        """Give the number of rows since the first call: opening all splits may take a while."""
        now_us = self._clock.monotonic_us()
        if self._started_us is None:
            self._started_us = now_us
        return int((now_us - self._started_us) * self._rate / 1_000_000)


class _GeneratorReader(Reader):
    """Makes the rows of a split that are due; its position is the number of rows given."""

    def __init__(
        self, source: DataGenSource, blocks: Blocks, split: int, position: int, pace: _Pace | None
    ) -> None:
        self._source = source
        self._blocks = blocks
        self._split = split
        self._first = self._position = position
        self._end = blocks.rows_of(split)
        self._pace = pace

    def poll(self, max_rows: int) -> Polled:
        start, stop = self._position, self._position + max_rows
        if self._end is not None:
            stop = min(stop, self._end)
            if start >= stop:
                return END
        if self._pace is not None:
            stop = min(stop, self._first + self._pace.due())
            if start >= stop:
                return None
        rows = self._source.make(self._blocks.ids(self._split, start, stop))
        self._position = stop
        return rows

    def position(self) -> int:
        return self._position

    def backlog(self) -> int | None:
        left = None if self._end is None else self._end - self._position
        if self._pace is None:
            return left
        due = max(0, self._first + self._pace.due() - self._position)
        return due if left is None else min(due, left)
