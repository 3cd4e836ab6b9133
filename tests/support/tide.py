"""A job whose load a test turns up and down, and what must be in its files then."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

import raystream as rs

SPLITS, KEYS = 2, 100
ROWS = pa.schema([("k", pa.int64()), ("s", pa.int64()), ("i", pa.int64())])
COUNTED = pa.schema([*ROWS, pa.field("n", pa.int64())])
ROW_S = 0.002
"""What counting one row costs; a subtask does 500 rows/s."""


class Tap(rs.Source):
    """As many rows a second as a file says, whether anybody reads them or not: they wait."""

    schema = ROWS
    bounded = False

    def __init__(self, rate: Path) -> None:
        self._rate = str(rate)

    def splits(self) -> list[rs.Split]:
        return [rs.Split(str(number)) for number in range(SPLITS)]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return _TapReader(Path(self._rate), int(split.id), position or 0)


class _TapReader(rs.Reader):
    def __init__(self, rate: Path, split: int, position: int) -> None:
        self._rate, self._split, self._next = rate, split, position

    def _due(self) -> int:
        return int(_come(self._rate) / SPLITS)

    def poll(self, max_rows: int) -> Any:
        due = self._due()
        if due <= self._next:
            return None
        numbers = np.arange(self._next, min(due, self._next + min(max_rows, 500)))
        self._next = int(numbers[-1]) + 1
        keys = (numbers * SPLITS + self._split) % KEYS
        splits = np.full(len(numbers), self._split)
        return pa.RecordBatch.from_arrays([keys, splits, numbers], schema=ROWS)

    def position(self) -> int:
        return self._next

    def backlog(self) -> int:
        return max(0, self._due() - self._next)


def _come(tap: Path) -> float:
    """Give how many rows have come so far, of all that the tap was ever turned to."""
    turns = [tuple(map(float, line.split())) for line in tap.read_text().splitlines()]
    ends = [at_s for at_s, _ in turns[1:]] + [time.time()]
    return sum(rate * (end_s - at_s) for (at_s, rate), end_s in zip(turns, ends, strict=True))


def slowly(row_s: float) -> Any:
    """Count; a row waits for something outside, so that two subtasks do twice as much."""

    def counted(state: Any, row: Any) -> tuple[int, dict[str, Any]]:
        time.sleep(row_s)
        seen = (state or 0) + 1
        return seen, {**row, "n": seen}

    return counted


def turn(tap: Path, rate: float) -> None:
    """Say how many rows are to come from now on; readers see the old numbers or the new ones."""
    before = tap.read_text() if tap.exists() else ""
    beside = tap.with_suffix(".new")
    beside.write_text(f"{before}{time.time()} {rate}\n")
    beside.replace(tap)


def tide(
    folder: Path,
    tap: Path,
    *,
    most: int = 2,
    cooldown: str = "2s",
    cpus: float | None = None,
    row_s: float = ROW_S,
    **settings: Any,
) -> rs.Job:
    """Read what the tap gives, and count it slowly; nobody says how many subtasks that takes.

    ``cpus`` are those that each of them asks the cluster for, ``row_s`` is what a row costs.
    """
    job = rs.Job(
        "tide",
        checkpoint=rs.Checkpointing(folder / "kept", every="500ms"),
        autoscale=rs.Autoscale(max_parallelism=most, cooldown=cooldown),
        **settings,
    )
    rows = job.source(Tap(tap), name="read").key_by("k")
    counted = rows.map_with_state(slowly(row_s), schema=COUNTED).named("count")
    if cpus is not None:
        counted.with_resources(num_cpus=cpus)
    counted.sink(rs.FileSink(folder / "out", "parquet"))
    return job


def wrongs(folder: Path) -> list[str]:
    """Tell what is wrong with the rows that are visible, whatever their number."""
    rows = ds.dataset(folder / "out", format="parquet").to_table().to_pylist()
    found = []
    for name, number in (("s", "i"), ("k", "n")):
        first = 0 if number == "i" else 1
        for one, count in Counter(row[name] for row in rows).items():
            numbers = sorted(row[number] for row in rows if row[name] == one)
            if numbers != list(range(first, first + count)):
                found.append(f"{name} {one}: {count} rows, not one of each {number}")
    return found
