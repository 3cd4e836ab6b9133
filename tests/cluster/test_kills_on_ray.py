"""``kill -9`` of anything, at random moments under load: the rows are those of an undisturbed run.

``KILLS=20`` kills more often than the four times that tell the kinds of processes apart.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest
from survivors import KEYS, RATE, counting, process_of, wanted, written

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

KILLS = int(os.environ.get("KILLS", "4"))
ROWS = RATE * (6 + 2 * KILLS)
SOON_S = 90
KINDS = ("source", "map_with_state", "sink", "coordinator")


def kill(handle, kind: str) -> bool:
    pid = process_of(handle, kind)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


@pytest.mark.timeout(120 + 20 * KILLS)
def test_rows_are_those_of_an_undisturbed_run_whoever_is_killed(tmp_path):
    handle = counting(tmp_path, "kills", ROWS).submit()
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


def until(holds, what: str) -> None:
    """Wait for something, looking now and then."""
    give_up_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_coordinator_that_takes_over_tells_what_was_before_it(tmp_path):
    handle = counting(tmp_path, "past", RATE * 1_000, parallelism=2).submit()

    def runs(attempt: int) -> bool:
        return handle.status() == "running" and handle.deployed()[0] == attempt

    try:
        until(handle.checkpoints, "a first checkpoint")
        handle.rescale({"map_with_state#1": 1})
        attempt = handle.deployed()[0]
        assert kill(handle, "map_with_state")
        until(lambda: runs(attempt + 1), "the attempt behind a failure")
        before, sizes = handle.report(), handle.rescalings()
        assert (before.restarts, [one.kind for one in before.failures]) == (1, ["SubtaskLost"])
        assert [one.outcome for one in sizes] == ["done"]
        done = before.checkpoints_completed
        until(lambda: handle.report().checkpoints_completed > done, "a checkpoint behind it")
        assert kill(handle, "coordinator")
        until(lambda: runs(attempt + 2), "a coordinator that comes back")
        after = handle.report()
        assert (after.restarts, after.failures[:-1]) == (2, before.failures)
        assert after.failures[-1].kind == "CoordinatorLost"
        assert after.checkpoints_completed >= done
        assert handle.rescalings() == sizes
        assert after.changes[: len(before.changes)] == before.changes
    finally:
        handle.cancel()
        handle.end()


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
