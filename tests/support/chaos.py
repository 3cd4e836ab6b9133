"""Kill what keeps stores in step, and the servers themselves, at random moments under load.

``RAYSTREAM_CHAOS_S=300`` does so for five minutes, ``RAYSTREAM_CHAOS_SEED`` chooses the moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from goldens import ROOT, load
from synced import Load, Stores, differences

SYNC = load("jobs/sync_stores.py")
CHAOS_S = float(os.environ.get("RAYSTREAM_CHAOS_S", "20"))
SEED = int(os.environ.get("RAYSTREAM_CHAOS_SEED", "1"))
SETTLED_S = 120.0
PAUSE = threading.Event()
"""Never set: waiting for it is waiting."""


class Running(Protocol):
    """The job as it runs: ``parts`` can be killed."""

    parts: tuple[str, ...]

    def kill(self, part: str) -> bool:
        """Kill a part that comes back; False where there was none at the moment."""

    def check(self) -> None:
        """Raise where the job will not come back."""


def started(script: str, *words: str, env: dict[str, str], log: Path) -> subprocess.Popen:
    """Start a job of this project in a process of its own, without Ray."""
    command = [sys.executable, "-m", "raystream.ops.cli", "run", ROOT / script]
    with log.open("ab") as said:
        return subprocess.Popen(
            [*map(str, command), "--runtime", "local", "--", *words],
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
        )


def ended(process: subprocess.Popen, seconds: float) -> int:
    """Wait for a process; one that does not end is ended."""
    try:
        return process.wait(seconds)
    finally:
        process.kill()


class Process:
    """The job in one process: who kills it kills all subtasks and the coordinator."""

    parts = ("job",)

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self.start()

    def start(self) -> None:
        words = ("--all", "--checkpoint", str(self._folder / "kept"))
        self._process = started(
            "jobs/sync_stores.py", *words, env=self._environment, log=self._folder / "log"
        )

    def kill(self, part: str) -> bool:
        self._process.kill()
        self._process.wait(10)
        self.start()
        return True

    def check(self) -> None:
        assert self._process.poll() is None, self.log()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def log(self) -> str:
        return (self._folder / "log").read_text()[-3_000:]


def settle(stores: Stores, job: Running) -> dict[str, Any]:
    """Wait until all stores equal the source; give how they differ when that takes too long."""
    until = time.monotonic() + SETTLED_S
    left: dict[str, Any] = {"nothing": "was looked at"}
    while left and time.monotonic() < until:
        job.check()
        PAUSE.wait(1)
        try:
            left = differences(stores.source(), stores.all())
        except OSError as error:  # an index that no document has made yet
            left = {"error": str(error)}
    return left


def break_server(name: str, running: dict[str, Any]) -> None:
    """Let a server die while it is spoken to, and come back."""
    server = running[name]
    if name == "postgres":
        server.kill()
        server.control("start")
    elif name == "redis":
        server.restart()
    else:
        # The double keeps what it has acknowledged when it is told to end, and only then.
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        server.start()


def chaos(environment: dict[str, str], running: dict[str, Any], job: Running) -> None:
    """Kill parts of the job and servers at random under load; in the end nothing differs."""
    rng = random.Random(SEED)
    stores, load = Stores(environment), Load(SYNC, environment["PG_DSN"])
    killed: Counter[str] = Counter()
    load.start()
    try:
        begun = time.monotonic()
        while time.monotonic() < begun + CHAOS_S:
            PAUSE.wait(rng.uniform(1, 6))
            victim = rng.choice([*job.parts, *running])
            if victim in running:
                break_server(victim, running)
                killed[victim] += 1
            else:
                killed[victim] += job.kill(victim)
        load.stop()
        left = settle(stores, job)
        orders = len(stores.source())
        print(f"{load.written} changes, {orders} orders, killed: {dict(killed)}, differ: {left}")
        assert left == {}
        assert orders > 50
        assert killed.total() > CHAOS_S / 10
    finally:
        load.stop()
