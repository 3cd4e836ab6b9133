"""Start actors for a job that moves while it runs: all that are needed in time, or none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from raystream.coordinator import events as job
from raystream.graph.physical import Chain, PhysicalPlan, Resources
from raystream.runtime.ray.packing import pack_plan
from raystream.runtime.ray.placement import Place, actor_options, shortage
from raystream.runtime.ray.subtask_actor import SubtaskActor
from raystream.runtime.vault import Home

_LOOK_S = 0.5
_FREED_S = 5.0
_START_S = 120.0
"""A worker process needs a second or two; on a machine that has no time for it, much more."""


@dataclass(frozen=True, slots=True)
class Hired:
    """An actor, and what it was given of the cluster; ``node`` is empty until it is known."""

    actor: Any
    resources: Resources
    node: str = ""


@dataclass(frozen=True, slots=True)
class Recruits:
    """Actors that are warm, and the plan they were hired for; with an error there are none."""

    request: str
    plan: PhysicalPlan
    packed: bytes = b""
    hired: tuple[Hired, ...] = ()
    error: str = ""

    def dismiss(self) -> None:
        """Let them go."""
        for one in self.hired:
            ray.kill(one.actor)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is offered: for as long as there may be no room, and for as long as all may take.

    ``home`` must be seen from where they are, with ``attempt`` in its log.
    """

    place: Place
    home: Home | None
    attempt: int
    patience_s: float
    start_s: float = _START_S


class Hiring:
    """Hires for one job; ``tell`` hears of the ``Recruits``."""

    def __init__(self, tell: Callable[[Recruits], None]) -> None:
        self._tell = tell
        self._off = threading.Event()  # of the newest; set once nobody waits for it

    def begin(self, grow: job.Grow, missing: Sequence[Chain], terms: Terms) -> None:
        """Begin to start an actor for each of ``missing``."""
        self.call_off()
        self._off = threading.Event()
        arguments = (grow, missing, terms, self._off)
        threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def call_off(self) -> None:
        """Hire no more; who comes is let go."""
        self._off.set()

    def _run(
        self, grow: job.Grow, missing: Sequence[Chain], terms: Terms, off: threading.Event
    ) -> None:
        hired: list[Hired] = []
        packed = b""
        try:
            packed = pack_plan(grow.plan)
            options = actor_options(grow.plan, terms.place.has(), beside=True)
            lacking = _lacking([options[chain.name] for chain in missing], terms.place, off)
            for chain in missing:
                actor = SubtaskActor.options(**terms.place.at(options[chain.name])).remote()
                hired.append(Hired(actor, chain.resources))
            waiting = [one.actor.warm.remote(packed, terms.home, terms.attempt) for one in hired]
            error = _wait(waiting, lacking, terms, off)
            if not error and not off.is_set():
                nodes = ray.get(waiting)
                hired = [replace(one, node=node) for one, node in zip(hired, nodes, strict=True)]
        except Exception as failure:  # noqa: BLE001  the edge of the shell: an error is an event
            cause = failure.cause if isinstance(failure, ray.exceptions.RayTaskError) else failure
            error = f"new subtasks cannot be made: {type(cause).__name__}: {cause}"
        recruits = Recruits(grow.request, grow.plan, packed, tuple(hired), error)
        if error or off.is_set():
            recruits.dismiss()
            recruits = Recruits(grow.request, grow.plan, error=error or "it was called off")
        self._tell(recruits)


def _lacking(asked: Sequence[Mapping[str, Any]], place: Place, off: threading.Event) -> str | None:
    """Say what there is too little of; whoever has just gone may hold some for a moment."""
    give_up_s = time.monotonic() + _FREED_S
    while (lacking := shortage(asked, place.free())) is not None:
        if off.is_set() or time.monotonic() > give_up_s:
            break
        off.wait(_LOOK_S)
    return lacking


def _wait(waiting: list[Any], lacking: str | None, terms: Terms, off: threading.Event) -> str:
    """Wait until all are warm; say why not, if they will not be."""
    count, began_s = len(waiting), time.monotonic()
    while waiting and not off.is_set():
        done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK_S)
        ray.get(done)
        waited_s = time.monotonic() - began_s
        if waiting and lacking is not None and waited_s >= terms.patience_s:
            return f"the cluster has no room for {count} more subtasks: {lacking}"
        if waiting and waited_s >= terms.patience_s + terms.start_s:
            return f"{len(waiting)} of {count} new subtasks do not start"
    return ""
