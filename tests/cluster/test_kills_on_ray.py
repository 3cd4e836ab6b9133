"""``kill -9`` of anything, at random moments under load: the rows are those of an undisturbed run.

``KILLS=20`` kills more often than the four times that tell the kinds of processes apart.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

KILLS = int(os.environ.get("KILLS", "4"))
KEYS, RATE = 100, 20_000
ROWS = RATE * (6 + 2 * KILLS)
COUNTED = pa.schema({"k": pa.int64(), "n": pa.int64()})
KINDS = ("source", "map_with_state", "sink", "coordinator")


def numbered(state, row):
    seen = (state or 0) + 1
    return seen, {"k": row["k"], "n": seen}


def counting(folder: Path, name: str, rows: int = ROWS, **settings) -> rs.Job:
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


def process_of(handle, kind: str) -> int | None:
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


def kill(handle, kind: str) -> bool:
    pid = process_of(handle, kind)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


@pytest.mark.timeout(120 + 20 * KILLS)
def test_rows_are_those_of_an_undisturbed_run_whoever_is_killed(tmp_path):
    handle = counting(tmp_path, "kills").submit()
    rng = random.Random(KILLS)
    killed: Counter[str] = Counter()
    try:
        while killed.total() < KILLS and handle.status() not in ("finished", "failed"):
            # Random moments: in the middle of a checkpoint, of a commit, of a recovery.
            time.sleep(rng.uniform(0.5, 2.5))
            kind = KINDS[killed.total() % len(KINDS)]
            killed[kind] += kill(handle, kind)
        result = handle.wait(timeout="300s")
    finally:
        handle.end()
    assert (result.status, killed.total()) == ("finished", KILLS)
    assert written(tmp_path) == wanted(ROWS)


def test_a_job_goes_on_from_its_savepoint_at_another_parallelism(tmp_path):
    rows = RATE * 4
    handle = counting(tmp_path, "moved", rows).submit()
    try:
        while not handle.checkpoints():
            time.sleep(0.05)
        place = handle.stop()
    finally:
        handle.end()
    before = written(tmp_path)
    assert 0 < before.total() < rows
    counting(tmp_path, "moved", rows, parallelism=2).run(from_snapshot=place, timeout="120s")
    assert written(tmp_path) == wanted(rows)


def test_a_job_that_is_drained_has_written_all_that_it_had_read(tmp_path):
    handle = counting(tmp_path, "drained", RATE * 100).submit()
    try:
        while not handle.checkpoints():
            time.sleep(0.05)
        assert handle.stop(savepoint=False, drain=True) is None
        assert handle.status() == "stopped"
    finally:
        handle.end()
    counts = written(tmp_path)
    assert set(counts.values()) == {1}
    most = {k: max(n for key, n in counts if key == k) for k in range(KEYS)}
    assert sum(most.values()) == counts.total()
