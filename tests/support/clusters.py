"""Clusters that a test changes: started by a script in a process of its own, seen from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment(folder: str) -> dict[str, str]:
    """Give what a script is to find, with a folder for Ray whose path is short."""
    ours = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    path = [str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    left = {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAYSTREAM_TEST_NO_RAY")
    }
    joined = {"PYTHONPATH": os.pathsep.join(path), "PATH": os.pathsep.join(programs)}
    return {**left, **ours, **joined}


def run_script(script: str, folder: Path, timeout_s: int = 380) -> str:
    """Run a script, and give what it has printed.

    Raises: AssertionError where it has failed, with what it said.
    """
    filled = script.format(here=str(HERE), folder=str(folder))
    with tempfile.TemporaryDirectory(
        prefix="rn-", dir="/tmp", ignore_cleanup_errors=True
    ) as short_path:
        done = subprocess.run(
            [sys.executable, "-c", filled],
            env=environment(short_path),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return done.stdout


def mounts_of_its_own() -> bool:
    """Tell whether a process may see other disks than the rest of the machine."""
    try:
        return subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
    except OSError:
        return False


# In the scripts ----------------------------------------------------------------------------------


def until(holds: Callable[[], Any], soon_s: float = 120) -> None:
    """Wait for something, looking now and then."""
    give_up_s = time.monotonic() + soon_s
    while not holds():
        assert time.monotonic() < give_up_s, "it does not come to pass"
        time.sleep(0.05)


def places(handle: Any) -> set[str]:
    """Give the nodes on which the subtasks of a job are; none where some are about to change."""
    import ray

    where = lambda self: ray.get_runtime_context().get_node_id()
    try:
        asked = [actor.__ray_call__.remote(where) for actor in handle.subtasks().values()]
        return set(ray.get(asked, timeout=10))
    except ray.exceptions.RayError:
        return set()


def alive(node_id: str) -> bool:
    """Tell whether a node is still part of the cluster."""
    import ray

    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def drain(node_id: str, seconds: float) -> None:
    """Tell a node that it will be gone in so many seconds, as a cloud or Kubernetes does."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    end_ms = int((time.time() + seconds) * 1000)
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, why = client.drain_node(node_id, reason, "a test", end_ms)
    assert accepted, why
