"""What this process and all that came of it use: CPU seconds, and the most memory at one time."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_S = 0.1


def tree() -> dict[int, tuple[float, int]]:
    """Give CPU seconds and resident bytes of every process below this one, itself included.

    Resident bytes count shared memory once a process, so that their sum is an upper bound.
    """
    parents: dict[int, int] = {}
    used: dict[int, tuple[float, int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            pages, shared = map(int, (entry / "statm").read_text().split()[1:3])
        except (OSError, ValueError):
            continue  # it ended meanwhile
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        used[pid] = ((int(fields[11]) + int(fields[12])) / _TICK, (pages - shared) * _PAGE)
    mine = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= grown
    return {pid: used[pid] for pid in mine if pid in used}


class Watch:
    """Watches the tree while its block runs."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.peak_bytes = 0
        self._last: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = {pid: cpu_s for pid, (cpu_s, _) in tree().items()}
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self.cpu_s = sum(cpu_s - self._before.get(pid, 0.0) for pid, cpu_s in self._last.items())

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._look()

    def _look(self) -> None:
        now = tree()
        self._last |= {pid: cpu_s for pid, (cpu_s, _) in now.items()}
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in now.values()))
