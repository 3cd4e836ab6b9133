"""A subtask actor without a subtask, warm: when one dies, its place is taken in milliseconds.

A new worker process needs a second or two to start and to load the job's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from raystream.runtime.ray.subtask_actor import SubtaskActor


class Spare:
    """The spare of one job; only one that goes on after a failure keeps it."""

    def __init__(self, plan: bytes, *, kept: bool) -> None:
        self.plan = plan  # packed: what a spare is warmed with
        self._kept = kept
        self._actor: Any = None

    def prepare(self) -> None:
        """Start one, if there is none; it asks for no share of a CPU until it has work."""
        if self._kept and self._actor is None:
            self._actor = SubtaskActor.options(num_cpus=0).remote()
            self._actor.warm.options(num_returns=0).remote(self.plan)

    def take(self, options: Mapping[str, Any]) -> Any:
        """Give an actor with Ray's options for it: the spare, where they ask for CPUs alone."""
        if self._actor is None or set(options) != {"num_cpus"}:
            return SubtaskActor.options(**options).remote()
        actor, self._actor = self._actor, None
        return actor

    def close(self) -> None:
        """Let go of it."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None
