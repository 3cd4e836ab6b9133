"""What befalls a job in a test: checkpoints and crashes, where a source says so or by chance."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, field

from raystream.coordinator import events as job
from raystream.runtime.local_job import LocalJob

_CHECKPOINTS_EACH = 2
"""So many checkpoints for each crash, so that there is something to go on from."""


@dataclass(eq=False)
class Fate:
    """One run's; a source's reader asks, the simulation does it between two steps.

    ``crashes`` happen at steps below ``steps``, which a run without them has taken.
    """

    seed: int = 0
    crashes: int = 0
    steps: int = 0
    crashed: int = 0
    needed: bool = False
    """Whether a source says what befalls the job."""
    _over: set[Hashable] = field(default_factory=set)
    _asked: dict[str, Hashable] = field(default_factory=dict)
    _new: list[str] = field(default_factory=list)  # not yet asked for
    _crash_due: bool = False
    _numbers: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed} fate")  # noqa: S311  no secret hangs on it
        span = max(1, self.steps)
        self._crashes = sorted(self._rng.randrange(span) for _ in range(self.crashes))
        count = self.crashes * _CHECKPOINTS_EACH
        self._checkpoints = sorted(self._rng.randrange(span) for _ in range(count))

    def crash(self, where: Hashable) -> bool:
        """Let the job crash at a place; True if that is behind it."""
        if where in self._over:
            return True
        self._over.add(where)
        self._crash_due = True
        return False

    def ask(self, where: Hashable) -> str:
        """Ask for a checkpoint at a place; empty where there has been one."""
        return "" if where in self._over else self._request(where)

    def is_over(self, where: Hashable) -> bool:
        """Tell whether what was asked for at a place is done."""
        return where in self._over

    def is_asked(self, request: str) -> bool:
        """Tell whether a request is still to be answered."""
        return request in self._asked

    def befall(self, local: LocalJob, step: int) -> None:
        """Do what is due now."""
        self._hear(local)
        if local.state != "running":
            return
        while self._checkpoints and self._checkpoints[0] <= step:
            self._request(f"by chance, {self._checkpoints.pop(0)}")
        while self._new:
            local.ask(job.SavepointAsked(self._new.pop(0), ""))
        if self._crash_due:
            self._crash_due = False
            local.crash(*local.alive)
            self._asked.clear()
        elif self._crashes and self._crashes[0] <= step and local.alive:
            self._crashes.pop(0)
            self.crashed += 1
            local.crash(self._rng.choice(local.alive))

    def _request(self, where: Hashable) -> str:
        self._numbers += 1
        request = f"checkpoint {self._numbers}"
        self._asked[request] = where
        self._new.append(request)
        return request

    def _hear(self, local: LocalJob) -> None:
        for request in list(self._asked):
            answer = local.answers.get(request)
            if answer is not None:
                where = self._asked.pop(request)
                if not answer.error:
                    self._over.add(where)
