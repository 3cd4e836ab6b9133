"""A slow sink slows the source; memory stays flat; nothing is dropped."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

ROWS, BATCH = 3_000_000, 20_000
PAYLOAD = "x" * 120
GROWTH_MAX_MB = 200


class Wide(rs.Source):
    """Rows of 128 bytes as fast as they can be made: 384 MB in all."""

    schema = pa.schema({"n": pa.int64(), "payload": pa.string()})

    def splits(self):
        return [rs.Split("all")]

    def open(self, split, position):
        return WideReader()


class WideReader(rs.Reader):
    def __init__(self):
        self.n = 0

    def poll(self, max_rows):
        if self.n == ROWS:
            return rs.END
        start, self.n = self.n, self.n + BATCH
        payload = pa.array([PAYLOAD]).take(pa.array(np.zeros(BATCH, np.int32)))
        numbers = pa.array(np.arange(start, self.n))
        return pa.RecordBatch.from_arrays([numbers, payload], ["n", "payload"])

    def position(self):
        return self.n


def resident_mb() -> float:
    pages, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (pages - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Slow(rs.Sink):
    """Takes its time over each row; writes what it saw, and how its memory grew, to a file."""

    def __init__(self, path, pause_s):
        self.path, self.pause_s = path, pause_s

    def open(self, ctx):
        return SlowWriter(self.path, self.pause_s)


class SlowWriter(rs.Writer):
    def __init__(self, path, pause_s):
        self.path, self.pause_s = path, pause_s
        self.rows = self.batches = self.largest = 0
        self.before, self.peak = resident_mb(), 0.0

    def write(self, batch):
        threading.Event().wait(len(batch) * self.pause_s)
        self.rows += len(batch)
        self.batches += 1
        self.largest = max(self.largest, len(batch))
        self.peak = max(self.peak, resident_mb())

    def close(self):
        told = f"{self.rows} {self.largest} {self.peak - self.before:.0f}"
        Path(self.path).write_text(told)


class Watched:
    """Passes batches on; fails if its process grows past the bound."""

    def open(self, ctx):
        self.before = resident_mb()

    def __call__(self, batch):
        grown = resident_mb() - self.before
        if grown > GROWTH_MAX_MB:
            raise MemoryError(f"grew by {grown:.0f} MB")
        return batch


def told(path: Path) -> tuple[int, int, float]:
    rows, largest, grown = path.read_text().split()
    return int(rows), int(largest), float(grown)


def test_a_slow_sink_slows_the_source_and_memory_stays_flat(tmp_path):
    path = tmp_path / "told"
    job = rs.Job("slow-sink")
    rows = job.source(Wide()).map_batches(Watched)
    rows.sink(Slow(str(path), 2e-6)).disable_chaining()
    job.run()
    seen, _, grown = told(path)
    assert seen == ROWS
    assert grown < GROWTH_MAX_MB


def test_a_function_that_makes_a_hundred_thousand_rows_of_one_stays_bounded(tmp_path):
    def many(row):
        for i in range(100_000):
            yield {"n": row["n"] * 100_000 + i, "payload": PAYLOAD}

    path = tmp_path / "told"
    job = rs.Job("many-of-one")
    one = job.from_items([{"n": n} for n in range(10)], schema=pa.schema({"n": pa.int64()}))
    rows = one.flat_map(many, schema=Wide.schema).map_batches(Watched)
    rows.sink(Slow(str(path), 2e-6)).disable_chaining()
    job.run()
    seen, largest, grown = told(path)
    assert seen == 1_000_000
    assert largest <= rs.Limits().batch_rows_max
    assert grown < GROWTH_MAX_MB


def test_a_window_that_fires_a_million_rows_at_once_stays_bounded(tmp_path):
    path = tmp_path / "told"
    job = rs.Job("million-at-once")
    numbers = job.source(Numbers(), watermark=rs.WatermarkStrategy("t"))
    counts = numbers.key_by("n").window(rs.Tumbling("1d")).aggregate(k=rs.count())
    counts.sink(Slow(str(path), 2e-6)).disable_chaining()
    job.run()
    seen, largest, grown = told(path)
    assert seen == 1_000_000
    assert largest <= rs.Limits().batch_rows_max
    assert grown < GROWTH_MAX_MB


class Numbers(rs.Source):
    """A million keys in one window."""

    schema = pa.schema({"n": pa.int64(), "t": pa.int64()})

    def splits(self):
        return [rs.Split("all")]

    def open(self, split, position):
        return NumbersReader()


class NumbersReader(rs.Reader):
    def __init__(self):
        self.n = 0

    def poll(self, max_rows):
        if self.n == 1_000_000:
            return rs.END
        n = np.arange(self.n, self.n + BATCH)
        self.n += BATCH
        return pa.RecordBatch.from_arrays([pa.array(n), pa.array(n * 0 + 5)], ["n", "t"])

    def position(self):
        return self.n
