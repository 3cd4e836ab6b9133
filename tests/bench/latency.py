"""How long a row takes from the moment it is due to the moment its count is written."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import raystream as rs

_WARM_SHARE = 0.3


class DueReader(rs.Reader):
    """Gives each row when it is due, and says in the row when that was."""

    def __init__(self, rows_per_second: int, rows: int) -> None:
        self._step_ns = 1_000_000_000 // rows_per_second
        self._rows = rows
        self._next = 0
        self._start_ns = 0

    def poll(self, max_rows: int) -> Any:
        now_ns = time.time_ns()
        self._start_ns = self._start_ns or now_ns
        due = min((now_ns - self._start_ns) // self._step_ns, self._rows, self._next + max_rows)
        if self._next >= self._rows:
            return rs.END
        if due <= self._next:
            return None
        n = np.arange(self._next, due)
        self._next = int(due)
        born = self._start_ns + n * self._step_ns
        return pa.RecordBatch.from_arrays([pa.array(n % 1_000), pa.array(born)], ["key", "born"])

    def position(self) -> int:
        return self._next


class DueSource(rs.Source):
    """Rows at a steady rate. Guarantee: none."""

    schema = pa.schema({"key": pa.int64(), "born": pa.int64()})

    def __init__(self, rows_per_second: int, rows: int) -> None:
        self._args = (rows_per_second, rows)

    def splits(self) -> list[rs.Split]:
        return [rs.Split("all")]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return DueReader(*self._args)


class AgeWriter(rs.Writer):
    """Notes how old each row is when it arrives."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._ages: list[Any] = []

    def write(self, batch: rs.Batch) -> None:
        self._ages.append(time.time_ns() - batch.to_arrow().column("born").to_numpy())

    def close(self) -> None:
        ages = np.concatenate(self._ages) if self._ages else np.zeros(0)
        np.save(self._path, ages)


class AgeSink(rs.Sink):
    """Writes the ages of its rows into one file. Guarantee: none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, ctx: Any) -> rs.Writer:
        return AgeWriter(self._path)


def latency_ms(*, hops: int, rows_per_second: int, seconds: int) -> tuple[float, float, int]:
    """Run a keyed count at a steady rate; give p50, p99 in ms, and the rows they are of."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "ages.npy")
        job = rs.Job(f"bench-latency-{hops}")
        rows = job.source(DueSource(rows_per_second, rows_per_second * seconds))
        counts = rows.key_by("key").aggregate(n=rs.count(), born=rs.max("born"))
        sink = counts.sink(AgeSink(path))
        if hops:
            sink.disable_chaining()
        job.run()
        ages = np.load(path) / 1e6
    warm = ages[int(len(ages) * _WARM_SHARE) :]
    return float(np.percentile(warm, 50)), float(np.percentile(warm, 99)), len(warm)
