"""A job that counts many keys while it changes its size, and what must be in its files then.

Its rows end when somebody drains it: they are numbered, split by split, so that one that is lost
or comes twice is known by its number, and a count that is wrong by its key.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

import raystream as rs

SPLITS = 4
ROWS = pa.schema([("k", pa.int64()), ("s", pa.int64()), ("i", pa.int64())])
COUNTED = pa.schema([*ROWS, pa.field("n", pa.int64())])
_STRIDE = 7919


class Paced(rs.Source):
    """So many rows a second over so many keys, for as long as anybody reads."""

    schema = ROWS
    bounded = False

    def __init__(self, keys: int, rate: int, notes: Path | None = None) -> None:
        self._keys, self._rate, self._notes = keys, rate, notes

    def splits(self) -> list[rs.Split]:
        return [rs.Split(str(number)) for number in range(SPLITS)]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        if self._notes is not None:
            with self._notes.open("a") as file:
                file.write(f"{split.id} at {position or 0}\n")
        return _PacedReader(self._keys, self._rate / SPLITS, int(split.id), position or 0)


class _PacedReader(rs.Reader):
    def __init__(self, keys: int, rate: float, split: int, position: int) -> None:
        self._keys, self._rate, self._split = keys, rate, split
        self._next = self._first = position
        self._began_s = time.monotonic()

    def poll(self, max_rows: int) -> Any:
        due = self._first + int((time.monotonic() - self._began_s) * self._rate)
        if due <= self._next:
            return None
        numbers = np.arange(self._next, min(due, self._next + max_rows))
        self._next = int(numbers[-1]) + 1
        keys = (numbers * SPLITS + self._split) * _STRIDE % self._keys
        splits = np.full(len(numbers), self._split)
        return pa.RecordBatch.from_arrays([keys, splits, numbers], schema=ROWS)

    def position(self) -> int:
        return self._next


def numbered(state: Any, row: Any) -> tuple[int, dict[str, Any]]:
    seen = (state or 0) + 1
    return seen, {**row, "n": seen}


def growing(
    folder: Path, name: str, *, keys: int, rate: int, cpus: float | None = None, **settings: Any
) -> rs.Job:
    """Two chains: a source, and a count by key with a file sink that is exactly once."""
    checkpoint = rs.Checkpointing(folder / "checkpoints", every="500ms")
    job = rs.Job(name, checkpoint=checkpoint, **settings)
    read = job.source(Paced(keys, rate), name="read")
    counted = read.key_by("k").map_with_state(numbered, schema=COUNTED).named("count").uid("by-key")
    if cpus is not None:
        counted.with_resources(num_cpus=cpus)
    counted.sink(rs.FileSink(folder / "out", "parquet"))
    return job


def wrongs(folder: Path) -> list[str]:
    """Tell what is wrong with the rows that are visible, whatever their number."""
    table = ds.dataset(folder / "out", format="parquet").to_table()
    found = []
    for split in range(SPLITS):
        numbers = np.sort(table.filter(pc.field("s") == split)["i"].to_numpy())
        if not np.array_equal(numbers, np.arange(len(numbers))):
            twice = [i for i, n in Counter(numbers.tolist()).items() if n > 1]
            found.append(f"split {split}: {len(numbers)} rows, twice {twice[:5]}")
    order = np.lexsort((table["n"].to_numpy(), table["k"].to_numpy()))
    keys, counts = table["k"].to_numpy()[order], table["n"].to_numpy()[order]
    firsts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    wanted = np.arange(len(keys)) - np.repeat(firsts, np.diff(np.r_[firsts, len(keys)])) + 1
    if not np.array_equal(counts, wanted):
        place = int(np.flatnonzero(counts != wanted)[0])
        found.append(f"key {keys[place]}: {counts[place]} where {wanted[place]} is due")
    return found


def visible(folder: Path) -> tuple[int, int]:
    """Give how many rows are visible, and of how many keys."""
    table = ds.dataset(folder / "out", format="parquet").to_table(columns=["k"])
    return len(table), len(table["k"].unique())


class Noting(rs.KeyedProcessFunction):
    """Numbers the rows of each key, and notes in a file whenever it is opened and closed."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def _note(self, what: str) -> None:
        with self._notes.open("a") as file:
            file.write(f"{what} {self._index} {threading.get_ident()}\n")

    def open(self, ctx: Any) -> None:
        self._index = ctx.subtask_index
        self._seen = ctx.state(rs.ValueState("seen", type=pa.int64()))
        self._connection = sqlite3.connect(":memory:")  # of use in its own thread alone
        self._note("open")

    def process(self, row: Any, ctx: Any) -> Any:
        self._connection.execute("select 1")
        seen = (self._seen.value() or 0) + 1
        self._seen.update(seen)
        yield {**row, "n": seen}

    def close(self) -> None:
        self._connection.close()
        self._note("close")


def noting(folder: Path, name: str, *, keys: int, rate: int, **settings: Any) -> rs.Job:
    """As ``growing``, by a function that notes its life in ``folder / "notes"``.

    Its source notes in ``folder / "opened"`` which splits it opens.
    """
    checkpoint = rs.Checkpointing(folder / "checkpoints", every="500ms")
    job = rs.Job(name, checkpoint=checkpoint, **settings)
    read = job.source(Paced(keys, rate, folder / "opened"), name="read")
    counted = read.key_by("k").process(Noting(folder / "notes"), schema=COUNTED)
    counted.named("count").uid("by-key").sink(rs.FileSink(folder / "out", "parquet"))
    return job


def opened(folder: Path) -> list[str]:
    """Give the splits that readers were opened for, in order of their names."""
    return sorted(line.split()[0] for line in (folder / "opened").read_text().splitlines())


def notes(folder: Path) -> list[str]:
    """Give what ``Noting`` has noted, without the threads, in order of the subtasks."""
    lines = (folder / "notes").read_text().splitlines()
    return sorted((line.rsplit(" ", 1)[0] for line in lines), key=lambda one: one[-1])
