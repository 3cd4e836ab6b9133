"""A node is lost, or a driver: a job with checkpoints goes on elsewhere, or where it is told to.

These tests start clusters of their own, in processes of their own: the one of the session stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from survivors import RATE, wanted, written

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

HERE = Path(__file__).parents[1] / "support"

NODE = """
import sys, time
sys.path.insert(0, {here!r})
import ray
from ray.cluster_utils import Cluster
health = {{
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}}
head = {{"num_cpus": 1, "include_dashboard": False, "_system_config": health}}
cluster = Cluster(initialize_head=True, head_node_args=head)
node = cluster.add_node(num_cpus=4, resources={{"away": 4}})
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
from pathlib import Path
from survivors import counting
job = counting(Path({folder!r}), "nodes", {rows})
handle = job.submit()
while len(handle.checkpoints()) < 3:
    time.sleep(0.05)
places = {{ray.get(actor.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()))
           for actor in handle.subtasks().values()}}
print("ran on", len(places), "nodes", flush=True)
other = cluster.add_node(num_cpus=4)
cluster.remove_node(node, allow_graceful=False)
result = handle.wait(timeout="200s")
print(result.status, result.restarts, flush=True)
ray.shutdown()
cluster.shutdown()
"""

DRIVER = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from survivors import counting
counting(Path({folder!r}), "driver", {rows}).run(from_snapshot={start!r})
print("done", flush=True)
"""


def environment(folder: str) -> dict[str, str]:
    away = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    left = {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAYSTREAM_TEST_NO_RAY")
    }
    return {**left, **away, "PYTHONPATH": os.pathsep.join(path)}


@pytest.fixture
def short_folder(tmp_path_factory):
    """Give a folder whose path is short enough for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rn-", dir="/tmp", ignore_cleanup_errors=True) as it:
        yield it


def test_a_job_goes_on_when_a_node_is_lost(tmp_path, short_folder):
    rows = RATE * 12
    script = NODE.format(here=str(HERE), folder=str(tmp_path), rows=rows)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(short_folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "finished" in done.stdout, done.stdout + done.stderr[-3000:]
    assert written(tmp_path) == wanted(rows)


def test_a_job_whose_driver_is_killed_is_resumed_where_it_was(tmp_path, short_folder):
    rows = RATE * 8
    script = DRIVER.format(here=str(HERE), folder=str(tmp_path), rows=rows, start=None)
    first = subprocess.Popen([sys.executable, "-c", script], env=environment(short_folder))
    try:
        while not list(tmp_path.glob("checkpoints/driver/*/manifest-*.json")):
            assert first.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    resumed = DRIVER.format(here=str(HERE), folder=str(tmp_path), rows=rows, start="latest")
    done = subprocess.run(
        [sys.executable, "-c", resumed],
        env=environment(short_folder),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "done" in done.stdout, done.stderr[-3000:]
    assert written(tmp_path) == wanted(rows)
