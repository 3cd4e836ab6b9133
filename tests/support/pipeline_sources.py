"""Random tables, cut into splits that overlap in time, read a few rows at a time."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pyarrow as pa

import raystream as rs

TIMES = pl.Datetime("us", "UTC")
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "k": pa.int64(),
        "s": pa.string(),
        "x": pa.int64(),
        "f": pa.float64(),
        "at": pa.timestamp("us", "UTC"),
    }
)
STARTS_US = (-20_000_000, 0, 1_436_918_400_000_000)
"""Around the epoch times are negative too, where floors differ from truncation."""


class TableParts(rs.Source):
    """Tables as splits; each reader gives a random number of rows a poll."""

    def __init__(self, parts: list[pa.RecordBatch], seed: int) -> None:
        self._parts, self._seed = parts, seed
        self.schema = parts[0].schema if parts else SCHEMA

    def splits(self) -> list[rs.Split]:
        return [rs.Split(f"part-{index}", index) for index in range(len(self._parts))]

    def open(self, split: rs.Split, position: int | None) -> _PartReader:
        rng = random.Random(self._seed + split.payload)
        return _PartReader(self._parts[split.payload], rng, position or 0)


class _PartReader(rs.Reader):
    def __init__(self, part: pa.RecordBatch, rng: random.Random, position: int) -> None:
        self._part, self._rng, self._next = part, rng, position

    def poll(self, max_rows: int) -> Any:
        if self._next == self._part.num_rows:
            return rs.END
        if self._rng.random() < 0.1:
            return None
        count = self._rng.randint(1, max_rows)
        rows = self._part.slice(self._next, count)
        self._next += rows.num_rows
        return rows

    def position(self) -> int:
        return self._next


def table_source(rng: random.Random) -> tuple[rs.Source, pl.DataFrame, int]:
    """Give a source, all its rows, and by how many microseconds they come late at most."""
    start_us, span_us = rng.choice(STARTS_US), rng.choice([5_000_000, 60_000_000])
    delay_us = rng.choice([0, 1, 3_000_000])
    parts, number = [], rng.choice([1, 1, 2, 3, 5])
    for index in range(number):
        rows = rng.choice([0, 1, 10, 25]) * (2 if number == 1 else 1)
        times = sorted(start_us + rng.randrange(span_us) for _ in range(rows))
        times.sort(key=lambda time: time + rng.randint(0, delay_us))
        parts.append(_part(rng, times, 1_000 * index))
    tables = pl.from_arrow(pa.Table.from_batches(parts, SCHEMA))
    assert isinstance(tables, pl.DataFrame)
    rows = tables.with_columns(pl.col("at").cast(TIMES))
    return TableParts(parts, rng.randrange(1_000)), rows, delay_us


def _part(rng: random.Random, times: list[int], first_id: int) -> pa.RecordBatch:
    rows = len(times)
    keys = rng.choice([1, 3, 50])

    def some(make: Any, nulls: float = 0.15) -> list[Any]:
        return [None if rng.random() < nulls else make() for _ in range(rows)]

    columns = {
        "id": list(range(first_id, first_id + rows)),
        "k": some(lambda: rng.randrange(keys)),
        "s": some(lambda: rng.choice(["a", "b", "cc", "ä", ""])),
        "x": some(lambda: rng.randint(-50, 50)),
        "f": some(lambda: rng.randint(-200, 200) / 4),
        "at": times,
    }
    return pa.RecordBatch.from_pydict(columns, SCHEMA)
