"""Nexmark's events as tests feed them: read without the engine, and laid into files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from goldens import micros

import raystream as rs

JITTER_US = 3_900_000
"""Less than the four seconds that the job's watermark waits."""


def made(source: rs.NexmarkSource) -> pa.Table:
    """All rows of a source, read by no engine."""
    records = []
    for split in source.splits():
        reader = source.open(split, None)
        while (record := reader.poll(10_000)) is not rs.END:
            records.append(record)
    return pa.Table.from_batches(records).sort_by("dateTime")


def side_by_side(table: pa.Table, folder: Path) -> rs.FileSource:
    """A large file of several splits, then small ones: each begins where another ended."""
    folder.mkdir(parents=True)
    ends = [0, table.num_rows * 3 // 4, table.num_rows * 7 // 8, table.num_rows]
    for start, end in itertools.pairwise(ends):
        part = table.slice(start, end - start)
        pq.write_table(part, folder / f"{start:06}.parquet", row_group_size=20_000)
    return rs.FileSource(str(folder))


def overlapping(table: pa.Table, folder: Path) -> rs.FileSource:
    """Files that all cover the whole time, whose rows are late by up to 3.9 seconds."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    times = micros(table)["dateTime"].to_numpy()
    order = np.argsort(times + rng.integers(0, JITTER_US, len(times)), kind="stable")
    assert (np.diff(times[order]) < 0).any()
    file = rng.integers(0, 3, len(times))
    for index in range(3):
        part = table.take(order[file[order] == index])
        pq.write_table(part, folder / f"{index}.parquet", row_group_size=3_000)
    return rs.FileSource(str(folder / "*.parquet"))
