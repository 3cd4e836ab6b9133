"""Servers as children of the tests: free ports, and waiting until somebody answers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_S = 30.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@dataclass
class Child:
    """A program that can be killed and started again; ``answers`` tells that it is up."""

    command: Sequence[str | Path]
    folder: Path
    answers: Callable[[], bool]
    process: subprocess.Popen | None = field(default=None)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            if self.answers():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        told = (self.folder / "log").read_text(errors="replace")[-500:]
        raise AssertionError(f"{self.command[0]} did not start: {told}")

    def kill(self) -> None:
        """Let it die without a word to anybody."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    @contextlib.contextmanager
    def stuck(self) -> Iterator[None]:
        """Let it stop in the middle of what it does: it takes connections, and answers nobody."""
        with stuck(self.process.pid):
            yield


@contextlib.contextmanager
def stuck(*processes: int) -> Iterator[None]:
    """Stop processes, but those that have ended meanwhile, and let them go on."""
    for process in processes:
        _signalled(process, signal.SIGSTOP)
    until, looking = time.monotonic() + START_S, threading.Event()
    while any(map(_runs, processes)):
        assert time.monotonic() < until, "it does not stop"
        looking.wait(0.001)
    try:
        yield
    finally:
        for process in processes:
            _signalled(process, signal.SIGCONT)


def _runs(process: int) -> bool:
    """Tell whether a thread of a process has not stopped: on a busy machine that takes a while."""
    try:
        stats = [one.read_text() for one in Path(f"/proc/{process}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended
    return any(stat.rpartition(")")[2].split()[0] not in "TtZX" for stat in stats)


def _signalled(process: int, how: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, how)
