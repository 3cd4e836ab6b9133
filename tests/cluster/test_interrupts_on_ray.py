"""Ctrl-C while a job runs on Ray: it ends, says so, and no process of it is left."""

from __future__ import annotations

import tempfile
import threading
import time

import pytest
from interrupted import alive, interrupt

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OUTER_S = 200


@pytest.mark.timeout(400)
def test_a_run_that_is_interrupted_leaves_no_actor_behind(ray_cluster, tmp_path):
    before = ("-m", "raystream.ops.cli", "run", "--quiet")
    environment = {"RAY_ADDRESS": ray_cluster}
    ended = interrupt(tmp_path, *before, environment=environment, timeout_s=OUTER_S)
    assert ended.code == 130, ended.errors
    assert ended.errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in ended.errors
    assert ended.visible == []
    assert len(ended.pids) == 2  # both subtasks had given rows
    assert "interrupted" not in {job.name for job in rs.list_jobs()}
    give_up_s, looking = time.monotonic() + OUTER_S, threading.Event()
    while left := {pid for pid in ended.pids if alive(pid)}:
        assert time.monotonic() < give_up_s, f"still there: {left}"
        looking.wait(0.1)
    again = rs.Job("interrupted")
    again.from_items([1]).sink(rs.MemorySink())
    assert again.run().status == "finished"  # its name is free


@pytest.mark.timeout(400)
def test_a_script_that_starts_ray_itself_takes_it_along(tmp_path):
    with tempfile.TemporaryDirectory(
        prefix="ri-", dir="/tmp", ignore_cleanup_errors=True
    ) as short_path:
        environment = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": short_path}
        ended = interrupt(tmp_path, environment=environment, timeout_s=OUTER_S)
    assert ended.code != 0, ended.errors  # 1: Python forgets the signal once Ray is imported
    assert ended.errors.rstrip().endswith("KeyboardInterrupt")
    assert ended.visible == []
    give_up_s, looking = time.monotonic() + OUTER_S, threading.Event()
    while left := {pid for pid in ended.pids if alive(pid)}:
        assert time.monotonic() < give_up_s, f"still there: {left}"
        looking.wait(0.1)
