"""Several jobs on one cluster: what befalls one of them is none of the others' business."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from clusters import our_processes, until
from resized import growing, visible, wrongs
from survivors import process_of

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def endless(folder: Path, name: str) -> rs.JobHandle:
    """Start a job that runs until somebody ends it, and wait for its first checkpoint."""
    handle = growing(folder / name, name, keys=1_000, rate=2_000).submit()
    until(handle.checkpoints)
    return handle


@pytest.fixture(autouse=True)
def nothing_left():
    before = our_processes()
    yield
    until(lambda: our_processes().keys() <= before.keys())


def kill(handle: rs.JobHandle, kind: str) -> None:
    until(lambda: process_of(handle, kind))
    os.kill(process_of(handle, kind), signal.SIGKILL)


def goes_on(handle: rs.JobHandle) -> None:
    """Wait for another checkpoint."""
    seen = handle.checkpoints()[-1].checkpoint_id
    until(lambda: handle.checkpoints()[-1].checkpoint_id > seen)


def drained(handle: rs.JobHandle, folder: Path) -> None:
    """End a job's input, and look whether its rows are right."""
    handle.stop(savepoint=False, drain=True)
    assert wrongs(folder / handle.name) == []
    assert visible(folder / handle.name)[0] > 0


@pytest.mark.timeout(400)
def test_a_job_whose_processes_die_leaves_its_neighbour_alone(tmp_path):
    handles = [endless(tmp_path, name) for name in ("quiet", "hit")]
    quiet, hit = handles
    try:
        deployed = quiet.deployed()
        for attempt, kind in ((2, "read"), (3, "coordinator")):
            kill(hit, kind)
            until(lambda least=attempt: hit.deployed()[0] >= least)
            until(lambda: hit.status() == "running")
        goes_on(quiet)
        assert quiet.deployed() == deployed  # the first attempt, and the same actors
        assert deployed[0] == 1
        drained(hit, tmp_path)
        assert quiet.status() == "running"
        drained(quiet, tmp_path)
        assert quiet.wait().restarts == 0
    finally:
        for one in handles:
            one.end()


def broken(row: dict[str, int]) -> dict[str, int]:
    raise ArithmeticError("this job is beyond help")


@pytest.mark.timeout(400)
def test_jobs_that_fail_and_are_canceled_leave_their_neighbour_alone(tmp_path):
    handles = [endless(tmp_path, name) for name in ("quiet", "canceled")]
    quiet, canceled = handles
    try:
        deployed = quiet.deployed()
        failing = rs.Job("failing")
        failing.from_items([{"k": 1}]).map(broken).sink(rs.MemorySink())
        with pytest.raises(rs.JobFailed, match="beyond help"):
            failing.run()
        canceled.cancel()
        assert canceled.wait(timeout="60s").status == "canceled"
        goes_on(quiet)
        assert quiet.deployed() == deployed
        drained(quiet, tmp_path)
        assert quiet.wait().restarts == 0
    finally:
        for one in handles:
            one.end()
