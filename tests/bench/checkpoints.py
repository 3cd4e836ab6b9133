"""What checkpoints cost: throughput with one every second against none, and what is uploaded.

A million keys, of which about a hundredth change between two checkpoints; all in one run, with and
without in turn.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import raystream as rs

SCHEMA = pa.schema({"k": pa.int64(), "v": pa.int64()})


WARM_S = 5.0
"""What is not counted: the first snapshot, and the start of the spare worker."""


class Skewed(rs.Source):
    """Every key once, then, for so many seconds, rows of a part of the keys that moves slowly.

    What it gave a second, once warm, it writes into the file ``report``.
    """

    schema = SCHEMA

    def __init__(self, keys: int, seconds: float, share: float, report: str) -> None:
        self.keys, self.seconds, self.share, self.report = keys, seconds, share, report

    def splits(self) -> list[rs.Split]:
        return [rs.Split("all")]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return _SkewedReader(self)


class _SkewedReader(rs.Reader):
    def __init__(self, source: Skewed) -> None:
        self.source, self.given, self.began_s, self.warm = source, 0, 0.0, 0
        self.rng = np.random.default_rng(7)

    def poll(self, max_rows: int) -> Any:
        keys, count = self.source.keys, max_rows
        if self.given < keys:
            k = np.arange(self.given, min(self.given + count, keys))
        else:
            self.began_s = self.began_s or time.monotonic()
            passed_s = time.monotonic() - self.began_s
            if passed_s < WARM_S:
                self.warm = self.given
            if passed_s > WARM_S + self.source.seconds:
                rate = (self.given - self.warm) / self.source.seconds
                Path(self.source.report).write_text(str(rate))
                return rs.END
            hot = max(1, int(keys * self.source.share))
            k = (int(passed_s) * hot + self.rng.integers(0, hot, count)) % keys
        self.given += len(k)
        return pa.RecordBatch.from_arrays([pa.array(k), pa.array(k)], schema=SCHEMA)

    def position(self) -> int:
        return self.given


def measure(keys: int, seconds: float, folder: str | None) -> tuple[float, list[Any]]:
    """Run the job; give its rows a second behind the warm-up, and its checkpoints."""
    checkpoint = None if folder is None else rs.Checkpointing(folder, every="1s")
    job = rs.Job("cost", checkpoint=checkpoint)
    with tempfile.NamedTemporaryFile() as report:
        rows = job.source(Skewed(keys, seconds, 0.01, report.name))
        rows.key_by("k").aggregate(n=rs.count(), s=rs.sum("v")).filter(rs.col("n") < 0).print()
        result = job.run()
        return float(Path(report.name).read_text()), list(result.checkpoints)


class Slow(rs.Sink):
    """Takes 400,000 rows a second: about a tenth of what the source gives."""

    def open(self, ctx: Any) -> rs.Writer:
        return _SlowWriter()


class _SlowWriter(rs.Writer):
    def write(self, batch: Any) -> None:
        count = len(batch.rows) if isinstance(batch.rows, list) else batch.rows.num_rows
        until_s = time.monotonic() + count * 2.5e-6
        while time.monotonic() < until_s:
            pass


def under_backpressure() -> list[Any]:
    """Give the checkpoints of a job whose sink is a tenth as fast as its source."""
    with tempfile.TemporaryDirectory() as folder:
        job = rs.Job("held", checkpoint=rs.Checkpointing(folder, every="1s"))
        bids = job.source(rs.NexmarkSource(events=4_000_000, kind="bid"))
        counts = bids.key_by("auction").aggregate(n=rs.count()).disable_chaining()
        counts.sink(Slow()).disable_chaining()
        return list(job.run().checkpoints)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--rounds", type=int, default=2)
    given = options.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    for turn in range(given.rounds):
        # Whatever the machine does to the first of two, it does to each of them in turn.
        plain = measure(given.keys, given.seconds, None)[0] if turn % 2 else 0.0
        with tempfile.TemporaryDirectory() as folder:
            safe, checkpoints = measure(given.keys, given.seconds, folder)
        plain = plain or measure(given.keys, given.seconds, None)[0]
        sizes = [one.new_bytes for one in checkpoints]
        print(
            f"{given.keys:,} keys: {plain / 1e6:.2f} M rows/s without, {safe / 1e6:.2f} M with "
            f"({safe / plain - 1:+.1%}); {len(checkpoints)} checkpoints, new bytes each: "
            f"{[f'{size / 1e6:.1f} MB' for size in sizes]}, "
            f"took {[f'{one.duration_us / 1e3:.0f} ms' for one in checkpoints]}",
            flush=True,
        )
    took = [one.duration_us / 1e6 for one in under_backpressure()]
    print(
        f"checkpoints with a sink at a tenth of the source's speed: {len(took)} took "
        f"{min(took):.2f} to {max(took):.2f} s"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
