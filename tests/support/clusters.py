"""Clusters that a test changes: started by a script in a process of its own, seen from there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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


def our_processes() -> dict[int, str]:
    """Give the worker processes that hold an actor of ours, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                cluster = (entry / "environ").read_bytes()
            except (OSError, UnicodeDecodeError):
                continue
            mine = os.environ["RAY_TMPDIR"].encode() in cluster
            if mine and title.startswith(
                ("ray::SubtaskCalls", "ray::CoordinatorCalls", "ray::job:")
            ):
                found[int(entry.name)] = title
    return found


# In the scripts ----------------------------------------------------------------------------------


def until(holds: Callable[[], Any], soon_s: float = 120) -> None:
    """Wait for something, looking now and then."""
    give_up_s, looking = time.monotonic() + soon_s, threading.Event()
    while not holds():
        assert time.monotonic() < give_up_s, "it does not come to pass"
        looking.wait(0.05)


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


class Head:
    """A head started by Ray's own command; ``options`` are that command's, ``settings`` Ray's."""

    def __init__(self, options: Sequence[str], settings: Mapping[str, str]) -> None:
        self._port = _free_port()
        self._options, self._settings = options, settings
        self._head: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> str:
        folder = os.environ["RAY_TMPDIR"]
        start = ["ray", "start", "--head", "--block", f"--port={self._port}"]
        start += ["--object-store-memory=100000000", f"--ray-client-server-port={_free_port(9300)}"]
        log = Path(folder, "head.log").open("wb")
        self._head = subprocess.Popen(
            [*start, *self._options],
            env={**os.environ, **self._settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        address = f"{_address()}:{self._port}"
        until(lambda: _answers(address))
        return address

    def __exit__(self, *_: object) -> None:
        assert self._head is not None
        # Its nodes are its children's children, all of this session: nobody else's end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._head.pid, signal.SIGTERM)
        try:
            self._head.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._head.pid, signal.SIGKILL)
        for pid in _processes_of(os.environ["RAY_TMPDIR"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Sized(Head):
    """A cluster whose nodes come when they are asked for and go when they are idle."""

    def __init__(self, nodes_max: int = 5, cpus: int = 2) -> None:
        path = Path(os.environ["RAY_TMPDIR"], "sized.json")
        options = ["--num-cpus=0", "--include-dashboard=false", f"--autoscaling-config={path}"]
        settings = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _FAKE_HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _FAKE_HEAD,
        }
        super().__init__(options, settings)
        path.write_text(json.dumps(_sized(self._port, nodes_max, cpus)))


class WithJobs(Head):
    """A cluster of one node that takes jobs at ``url``, as ``ray job submit`` sends them."""

    def __init__(self, cpus: int = 4) -> None:
        port = _free_port(8300)
        self.url = f"http://127.0.0.1:{port}"
        options = [f"--num-cpus={cpus}", "--include-dashboard=true", f"--dashboard-port={port}"]
        options += [f"--dashboard-agent-listen-port={_free_port(9000)}"]
        super().__init__(options, {})

    def __enter__(self) -> str:
        address = super().__enter__()
        host, port = self.url.removeprefix("http://").split(":")
        until(lambda: _answers(f"{host}:{port}"))
        return address


_FAKE_HEAD = "f" * 51 + "00000"
"""The id that Ray's fake provider takes for that of the head."""


def _sized(port: int, nodes_max: int, cpus: int) -> dict[str, Any]:
    commands = (
        "initialization_commands setup_commands head_setup_commands worker_setup_commands "
        "head_start_ray_commands worker_start_ray_commands cluster_synced_files rsync_exclude "
        "rsync_filter"
    )
    return {
        "cluster_name": "sized",
        "max_workers": nodes_max,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": f"{_address()}:{port}",
            "head_node_id": _FAKE_HEAD,
            "launch_multiple": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": cpus, "object_store_memory": 10**8},
                "node_config": {},
                "min_workers": 0,
                "max_workers": nodes_max,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in commands.split()},
    }


def _address() -> str:
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _free_port(first: int = 6400) -> int:
    """Give a port below those that Ray's workers take."""
    for port in range(first, first + 300):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("", port))
            return port
    raise AssertionError("no port is free")


def _answers(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def _processes_of(folder: str) -> list[int]:
    """Give the processes that were started with this folder for Ray, but this one."""
    wanted, found = f"RAY_TMPDIR={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
