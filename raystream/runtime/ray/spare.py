"""A subtask actor without a subtask, warm: when one dies, its place is taken in milliseconds.

A new worker process needs a second or two to start and to load the job's code. It is on a node that
the job is on anyway: an actor, however idle, keeps its node from being taken away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import ray

from raystream.runtime.ray.nodes import NODE_ID
from raystream.runtime.ray.placement import Place
from raystream.runtime.ray.subtask_actor import SubtaskActor


class Spare:
    """The spare of one job; only one that goes on after a failure keeps it."""

    def __init__(self, plan: bytes, place: Place, *, kept: bool) -> None:
        self.plan = plan  # packed: what a spare is warmed with
        self._place = place
        self._kept = kept
        self._actor: Any = None
        self._node = ""

    def prepare(self, node: str) -> None:
        """Start one on a node, if there is none; without work it asks for no share of a CPU."""
        if self._kept and self._actor is None:
            options = self._place.at({"num_cpus": 0})
            if self._place.group is None:
                options["label_selector"] = {NODE_ID: node}  # there, or nowhere
            self._actor, self._node = SubtaskActor.options(**options).remote(), node
            self._actor.warm.remote(self.plan)  # nobody waits for it

    def keep_near(self, nodes: Collection[str]) -> None:
        """Let go of it where it is on none of these nodes."""
        if self._node not in nodes:
            self.close()

    def take(self, options: Mapping[str, Any]) -> Any:
        """Give an actor with Ray's options for it: the spare, where they ask for CPUs alone."""
        if self._actor is None or set(options) != {"num_cpus"}:
            return SubtaskActor.options(**self._place.at(options)).remote()
        actor, self._actor = self._actor, None
        return actor

    def close(self) -> None:
        """Let go of it."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None
