"""A job that counts by key into files, exactly once, and what must be in them whatever died."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

import raystream as rs

KEYS, RATE = 100, 20_000
COUNTED = pa.schema({"k": pa.int64(), "n": pa.int64()})


def numbered(state: Any, row: Any) -> tuple[int, dict[str, Any]]:
    seen = (state or 0) + 1
    return seen, {"k": row["k"], "n": seen}


def counting(folder: Path, name: str, rows: int, **settings: Any) -> rs.Job:
    """Three chains: a source, a count by key, and a file sink that is exactly once."""
    checkpoint = rs.Checkpointing(folder / "checkpoints", every="300ms")
    job = rs.Job(name, checkpoint=checkpoint, **settings)
    read = job.source(rs.DataGenSource(lambda i: {"k": i % KEYS}, rows=rows, rows_per_second=RATE))
    counts = read.key_by(lambda row: row["k"]).map_with_state(numbered, schema=COUNTED)
    counts.disable_chaining().sink(rs.FileSink(folder / "out", "parquet")).disable_chaining()
    return job


def written(folder: Path) -> Counter[tuple[int, int]]:
    """Give what is visible, as a multiset."""
    table = ds.dataset(folder / "out", format="parquet").to_table()
    return Counter(zip(table.column("k").to_pylist(), table.column("n").to_pylist(), strict=True))


def wanted(rows: int) -> Counter[tuple[int, int]]:
    return Counter((k, n + 1) for k in range(KEYS) for n in range(rows // KEYS))


def process_of(handle: Any, kind: str) -> int | None:
    """Give the process of a subtask, or of the coordinator; None while there is none."""
    import ray

    from raystream.runtime.ray.driver import NAMESPACE

    with contextlib.suppress(ray.exceptions.RayError, ValueError, rs.RaystreamError):
        if kind == "coordinator":
            actor = ray.get_actor(f"job:{handle.name}", NAMESPACE)
        else:
            actors = handle.subtasks()
            actor = next(actor for subtask, actor in actors.items() if kind in subtask.chain)
        asked = actor.__ray_call__.remote(lambda self: os.getpid())
        return ray.get(asked, timeout=5)
    return None
