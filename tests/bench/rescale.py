"""How long a job is silent when its size changes under load: last row before, first row after.

``python tests/bench/rescale.py`` fills a running aggregate with many keys, changes its parallelism
2 → 4 → 3 as often as told, and prints each pause. A row counts once it is past all that came before
the change: rows of one subtask may come while another is silent, so the pause is the longest time
in which no row came between the asking and a while behind the answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import raystream as rs

_STEPS = (4, 3, 2)
_BEHIND_S = 1.0
SPLITS = 4
NUMBERS = pa.schema({"k": pa.int64(), "v": pa.int64()})


class Paced(rs.Source):
    """As fast as it goes until every key was there, then so many rows a second."""

    schema = NUMBERS
    bounded = False

    def __init__(self, keys: int, rate: int) -> None:
        self.keys, self.rate = keys, rate

    def splits(self) -> list[rs.Split]:
        return [rs.Split(str(number)) for number in range(SPLITS)]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return _PacedReader(self.keys, self.rate / SPLITS, int(split.id), position or 0)


class _PacedReader(rs.Reader):
    def __init__(self, keys: int, rate: float, split: int, position: int) -> None:
        self.keys, self.rate, self.split, self.next = keys, rate, split, position
        self.began_s, self.first = time.monotonic(), position

    def poll(self, max_rows: int) -> Any:
        every = self.keys // SPLITS
        due = self.first + int((time.monotonic() - self.began_s) * self.rate)
        if self.next < every:
            due, self.first, self.began_s = every, every, time.monotonic()
        if due <= self.next:
            return None
        numbers = np.arange(self.next, min(due, self.next + max_rows))
        self.next = int(numbers[-1]) + 1
        values = numbers * SPLITS + self.split
        return pa.RecordBatch.from_arrays([values * 7919 % self.keys, values], schema=NUMBERS)

    def position(self) -> int:
        return self.next


class Times(rs.Sink):
    """Notes when each batch came; at least once."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, ctx: Any) -> rs.Writer:
        return _TimesWriter(self.path)


class _TimesWriter(rs.Writer):
    def __init__(self, path: str) -> None:
        self.file = Path(path).open("a", buffering=1)  # noqa: SIM115  open as long as the writer

    def write(self, batch: Any) -> None:
        self.file.write(f"{time.time():.6f} {batch.rows.num_rows}\n")


def pause_s(log: Path, asked_s: float, answered_s: float) -> float:
    """Give the longest time without a row between two moments."""
    seen = sorted(float(line.split()[0]) for line in log.read_text().splitlines() if " " in line)
    times = [at for at in seen if asked_s - 0.2 <= at <= answered_s + _BEHIND_S]
    return float(np.diff(times).max()) if len(times) > 1 else float("inf")


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--rate", type=int, default=50_000)
    given = options.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "times"
        checkpoint = rs.Checkpointing(f"{folder}/ck", every="2s")
        job = rs.Job("rescale", parallelism=2, checkpoint=checkpoint)
        rows = job.source(Paced(given.keys, given.rate)).key_by("k")
        counted = rows.aggregate(n=rs.count(), v=rs.max("v")).named("count")
        counted.sink(Times(str(log)))
        handle = job.submit()
        while handle.metrics().get("count", {}).get("rows_in", 0) < given.keys:
            time.sleep(0.1)
        time.sleep(5)
        took = []
        for _ in range(given.rounds):
            for size in _STEPS:
                before, asked_s = handle.deployed()[0], time.time()
                handle.rescale(size)
                answered_s = time.time()
                assert handle.deployed()[0] == before + 1
                time.sleep(_BEHIND_S + 3)
                took.append(pause_s(log, asked_s, answered_s))
                whole = answered_s - asked_s
                print(f"→ {size}: silent {took[-1]:.2f} s, asked for {whole:.2f} s", flush=True)
        handle.cancel()
        print(
            f"rescale, {given.keys:,} keys, {given.rate:,} rows/s: median "
            f"{statistics.median(took):.2f} s, least {min(took):.2f}, most {max(took):.2f}"
        )
        ray.shutdown()


if __name__ == "__main__":
    main()
