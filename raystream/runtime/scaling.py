"""A job's own wishes for another size, and the log of them: the same in every shell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from raystream.clock import Clock
from raystream.coordinator.autoscaler import Autoscaler
from raystream.coordinator.chronicle import Chronicle
from raystream.coordinator.events import Answer, RescaleAsked
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.report import Sizing
from raystream.flow.control import SubtaskFigures
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan
from raystream.runtime.local_process import Process

_LOG = logging.getLogger("raystream")


class Scaling:
    """Asks for one job; nothing happens for one that was not told to scale itself."""

    def __init__(self, job: str, replan: Replan | None, clock: Clock, chronicle: Chronicle) -> None:
        self._job = job
        self._autoscaler = Autoscaler(replan, clock, chronicle)
        self.take: Callable[[SubtaskFigures], None] = self._autoscaler.take

    @property
    def said(self) -> str:
        """Why the job has the size that it has, in a sentence."""
        return self._autoscaler.said

    @property
    def sizing(self) -> Sizing | None:
        """What it has decided so far, as figures; None of a job that keeps its size."""
        return self._autoscaler.sizing

    def look(self, machine: CoordinatorMachine, plan: PhysicalPlan) -> list[RescaleAsked]:
        """Give what the job wishes, if anything."""
        asked = self._autoscaler.look(machine, plan)
        if asked is None:
            return []
        # A warning, so that it is seen where nobody has set up a log: rows will pause for a moment.
        self._warn(f"job {self._job} rescales itself: {asked.reason}", "rescaling", machine.attempt)
        return [asked]

    def among(
        self, machine: CoordinatorMachine, plan: PhysicalPlan, processes: Iterable[Process]
    ) -> list[RescaleAsked]:
        """Look at processes that are in this one, when it is time to."""
        if not self._autoscaler.due:
            return []
        for process in processes:
            self.take(process.machine.figures())
        return self.look(machine, plan)

    def heard(self, answer: Answer) -> bool:
        """Take an answer; tell whether it is one to a wish of the job itself."""
        own = self._autoscaler.heard(answer)
        if own and answer.error:
            self._warn(f"job {self._job}: {self.said}", "running", 0)
        return own

    def _warn(self, text: str, state: str, attempt: int) -> None:
        _LOG.warning("%s", text, extra={"job": self._job, "state": state, "attempt": attempt})
