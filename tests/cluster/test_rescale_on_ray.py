"""A job changes its size while it runs: each row comes once, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time

import pytest
from resized import SPLITS, growing, notes, noting, opened, visible, wrongs

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

KEYS, RATE = 110_000, 30_000
SOON_S = 120


def until(holds, what: str) -> None:
    """Wait for something, looking now and then."""
    give_up_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.02)


def sizes(handle) -> dict[str, int]:
    """Give how many subtasks run each chain, by its first operator."""
    return {subtask.chain.split("→")[0]: subtask.parallelism for subtask in handle.subtasks()}


def process_of(actor) -> int:
    import ray

    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=30)


def objects() -> int:
    """Give how many objects are in Ray's object store."""
    from ray._private.internal_api import memory_summary

    found = re.search(r"(\d+) objects", memory_summary(stats_only=True))
    assert found is not None
    return int(found[1])


def read_from(handle) -> list[set[str]]:
    """Give for each subtask of this attempt that has restored something from where it was read."""
    attempt = handle.deployed()[0]
    told = [one.text for one in handle.lines().lines if one.attempt == attempt]
    return [set(re.findall(r"bytes from ([a-z ]+)", text)) for text in told if " is read: " in text]


def drained(handle, folder) -> tuple[int, int]:
    """End a job's input, and give its rows and keys once they are found to be right."""
    handle.stop(savepoint=False, drain=True)
    assert wrongs(folder) == []
    return visible(folder)


@pytest.mark.timeout(400)
def test_a_job_of_many_keys_grows_and_shrinks_under_load(tmp_path):
    before_objects = objects()
    handle = growing(tmp_path, "grows", keys=KEYS, rate=RATE, parallelism=2).submit()
    try:
        until(handle.checkpoints, "a first checkpoint")
        before = {s.index: process_of(a) for s, a in handle.subtasks().items() if s.chain == "read"}
        handle.rescale(4)
        assert (sizes(handle), handle.status()) == ({"read": 4, "count": 4}, "running")
        after = {s.index: process_of(a) for s, a in handle.subtasks().items() if s.chain == "read"}
        assert before.items() <= after.items()  # whoever was there has stayed
        until(lambda: len(read_from(handle)) == 8, "what all have read")
        assert read_from(handle) == [{"the object store"}] * 8
        until(lambda: objects() <= before_objects, "an object store in which nothing has stayed")
        until(lambda: handle.metrics()["count"]["rows_in"] > KEYS, "many keys")
        handle.rescale({"by-key": 3})
        assert sizes(handle) == {"read": 4, "count": 3}
        handle.rescale({"read": 2, "count": 3})
        assert sizes(handle) == {"read": 2, "count": 3}
        with pytest.raises(rs.PlanError, match="max_parallelism is 128"):
            handle.rescale(129)
        with pytest.raises(rs.PlanError, match='did you mean "by-key"'):
            handle.rescale({"by-kex": 3})
        rows, keys = drained(handle, tmp_path)
        assert keys == KEYS < rows
        assert handle.wait().restarts == 0
    finally:
        handle.end()


@pytest.mark.timeout(200)
def test_functions_and_readers_stay_open_where_another_operator_changes_its_size(tmp_path):
    handle = noting(tmp_path, "stays", keys=1_000, rate=5_000, parallelism=2).submit()
    try:
        until(handle.checkpoints, "a first checkpoint")
        for size in (3, 1):
            handle.rescale({"read": size})
            due = len(handle.checkpoints()) + 2
            until(lambda due=due: len(handle.checkpoints()) >= due, "checkpoints at the new size")
        assert sizes(handle) == {"read": 1, "count": 2}
        assert notes(tmp_path) == ["open 0", "open 1"]
        until(lambda: len(opened(tmp_path)) == 3 * SPLITS, "readers at each size")
        readers = opened(tmp_path)
        handle.rescale({"by-key": 3})
        wanted = [f"{what} {index}" for index in (0, 1) for what in ("open", "close", "open")]
        assert notes(tmp_path) == [*wanted, "open 2"]
        due = len(handle.checkpoints()) + 1
        until(lambda: len(handle.checkpoints()) >= due, "rows of readers that stayed open")
        assert opened(tmp_path) == readers
        handle.rescale({"read": 2})  # behind what was restored, and is handed over
        rows, keys = drained(handle, tmp_path)
        assert keys == 1_000 < rows
        assert handle.wait().restarts == 0
        lives = {0: 2, 1: 2, 2: 1}
        ended = [f"{what} {i}" for i, n in lives.items() for what in ("open", "close") * n]
        assert notes(tmp_path) == ended
    finally:
        handle.end()


@pytest.mark.timeout(400)
def test_whoever_is_killed_while_a_job_changes_its_size_or_after(tmp_path):
    import ray

    from raystream.runtime.ray.driver import NAMESPACE

    handle = growing(tmp_path, "hurt", keys=1_000, rate=RATE, parallelism=2).submit()

    def rescale() -> None:
        with contextlib.suppress(rs.JobFailed):  # it has failed meanwhile: asked again below
            handle.rescale(4)

    try:
        until(handle.checkpoints, "a first checkpoint")
        victim = process_of(next(a for s, a in handle.subtasks().items() if s.chain != "read"))
        asking = threading.Thread(target=rescale)
        asking.start()
        until(lambda: handle.status() != "running", "the change of size")
        os.kill(victim, signal.SIGKILL)
        asking.join(SOON_S)
        until(lambda: handle.status() == "running", "rows that flow again")
        handle.rescale(4)
        attempt = handle.deployed()[0]
        os.kill(process_of(ray.get_actor("job:hurt", NAMESPACE)), signal.SIGKILL)
        until(lambda: handle.deployed()[0] > attempt, "another attempt")
        until(lambda: handle.status() == "running", "a coordinator that comes back")
        assert sizes(handle) == {"read": 4, "count": 4}
        done = len(handle.checkpoints())
        until(lambda: len(handle.checkpoints()) > done, "checkpoints at the new size")
        drained(handle, tmp_path)
    finally:
        handle.end()


@pytest.mark.timeout(200)
def test_a_cluster_without_room_leaves_a_job_at_its_size(tmp_path):
    job = growing(tmp_path, "cramped", keys=100, rate=5_000, parallelism=2, cpus=1)
    handle = job.submit()
    try:
        until(handle.checkpoints, "a first checkpoint")
        before = sizes(handle)
        with pytest.raises(rs.RaystreamError, match="no room for 3 more subtasks: CPU: 3 asked"):
            handle.rescale({"by-key": 5})
        assert (sizes(handle), handle.status()) == (before, "running")
        handle.rescale({"read": 1})
        assert sizes(handle) == before | {"read": 1}
        drained(handle, tmp_path)
    finally:
        handle.end()
