"""Look whether this machine, and the cluster that it points at, can run jobs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from raystream.api import overrides
from raystream.ops.options import address_option
from raystream.ops.printing import json_option

PACKAGES = ("raystream", "ray", "pyarrow", "numpy", "narwhals")
SHM = "/dev/shm"  # noqa: S108  where Ray keeps its objects on Linux
SHM_BYTES_MIN = 1 << 30
CONNECT_TIMEOUT_S = 3.0
PROBE = "raystream.runtime.ray.probe"

EXIT_UNREACHABLE = 3

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what to do about it."""

    name: str
    state: State
    found: str
    hint: str | None = None


@click.command()
@address_option
@json_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds that the cluster may take to start an actor.",
)
@click.option("--no-ray", is_flag=True, help="Look at this machine only; start nothing.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, timeout: float, no_ray: bool) -> None:
    """Look whether jobs can run here: versions, memory, and whether Ray starts an actor.

    Exits with 3 where the cluster cannot be reached.
    """
    checks: list[Check] = []
    for check in _machine() if no_ray else [*_machine(), *_cluster(timeout)]:
        checks.append(check)
        if not as_json:
            click.echo(_line(check))
    if as_json:
        ok = all(check.state != "fail" for check in checks)
        click.echo(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2))
    if any(check.state == "fail" for check in checks):
        ctx.exit(EXIT_UNREACHABLE)


def _line(check: Check) -> str:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.state]
    line = f"{click.style(f'{check.state:<4}', fg=colour)}  {check.name:<13} {check.found}"
    return f"{line}\n{'':21}{check.hint}" if check.hint else line


def _machine() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()}")
    for package in PACKAGES:
        yield _package(package)
    yield Check("cpus", "ok", f"{_cpus():g}")
    memory_bytes = _memory_bytes()
    yield Check("memory", "ok", _gib(memory_bytes))
    yield from _shared_memory()


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "fail", "not installed", "pip install raystream")


def _cpus() -> float:
    """CPUs that this process may use: a container's quota counts."""
    if hasattr(os, "sched_getaffinity"):
        count = float(len(os.sched_getaffinity(0)))
    else:
        count = float(os.cpu_count() or 1)
    words = _first_line("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return min(count, float(words[0]) / float(words[1]))
    return count


def _memory_bytes() -> int:
    """Memory that this process may use: a container's limit counts."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:  # no Linux, or no container
        return ""


def _shared_memory() -> Iterator[Check]:
    if not Path(SHM).is_dir():
        return
    size = shutil.disk_usage(SHM).total
    if size >= SHM_BYTES_MIN:
        yield Check(SHM, "ok", _gib(size))
    else:
        hint = "Ray puts objects on disk: docker run --shm-size=2g, or mount memory there"
        yield Check(SHM, "warn", _gib(size), hint)


def _gib(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def _cluster(timeout_s: float) -> Iterator[Check]:
    address = overrides.current().address
    if address:
        problem = unreachable(address)
        if problem:
            hint = "start the cluster, correct RAY_ADDRESS, or unset it to start Ray locally"
            yield Check("RAY_ADDRESS", "fail", f"{address}: {problem}", hint)
            return
        yield Check("RAY_ADDRESS", "ok", address)
    else:
        yield Check("RAY_ADDRESS", "ok", "not set: run() starts Ray on this machine")
    found = _probe(address, timeout_s)
    if isinstance(found, str):
        yield Check("ray actor", "fail", found, "the newest logs: /tmp/ray/session_latest/logs")
        return
    connected = "connected to" if address else "started"
    nodes = f"{found['nodes']} node" + ("s" if found["nodes"] != 1 else "")
    what = f"{connected} {nodes}, {found['cpus']:g} CPUs, in {found['connect_s']:.1f} s"
    yield Check("ray cluster", "ok", what)
    yield Check("ray actor", "ok", f"started in {found['actor_start_s']:.2f} s")
    store = f"{_gib(found['object_store_bytes'])}, 1 MiB through it in"
    yield Check("object store", "ok", f"{store} {found['object_s'] * 1000:.1f} ms")


def unreachable(address: str) -> str | None:
    """Say why nothing can be reached at an address, None if something listens there.

    ``auto`` and ``local`` name no host: Ray itself must find out.
    """
    if address in {"auto", "local"}:
        return None
    parts = urlsplit(address if "://" in address else f"ray-gcs://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return str(error)
    if not host or not port:
        return "not host:port, ray://host:port or auto"
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _probe(address: str | None, timeout_s: float) -> dict[str, Any] | str:
    """Run the probe in a process of its own; what it found, or one line on why it failed."""
    environment = {"RAY_AUTH_MODE": "disabled", **os.environ}
    process = subprocess.Popen(  # noqa: S603  our own module
        [sys.executable, "-m", PROBE, *([address] if address else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    finally:
        _end(process)
    lines = out.splitlines()
    if process.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    reasons = [line for line in err.splitlines() if line.strip()]
    return reasons[-1].strip() if reasons else f"exit code {process.returncode}"


def _end(process: subprocess.Popen[str]) -> None:
    """End the probe if it still runs, and with it the Ray that it started.

    Kindly first, so that Ray cleans up. Ctrl-C does not reach it: it has a session of its own.
    """
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
