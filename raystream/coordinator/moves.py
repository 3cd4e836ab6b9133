"""A running job's change of size: what was asked for, and how far it has come.

New subtasks' processes come first; then the sources stop at a barrier; once its checkpoint is in
the log and committed, the next attempt begins from it, at the new size. Whatever fails before that
leaves the job at its old size: any attempt can begin from any checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from raystream.coordinator.course import Course
from raystream.coordinator.events import Answer, Effect, Grow, Grown, RescaleAsked, SavepointAsked
from raystream.errors import PlanError
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan, Scale

STOP = SavepointAsked("", "", stop=True)
"""The barrier behind which sources read no more; nobody waits for its answer."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of size."""

    request: str
    scale: Scale
    plan: PhysicalPlan


class Moves:
    """The changes of size of one job, one at a time."""

    def __init__(self, replan: Replan | None) -> None:
        self._replan = replan
        self.scale: Scale = {}
        self._asked: Move | None = None
        self._taken: Move | None = None

    @property
    def under_way(self) -> bool:
        """Whether a change of size was asked for, and the job does not run at it yet."""
        return self._asked is not None or self._taken is not None

    def ask(
        self, asked: RescaleAsked, plan: PhysicalPlan, state: str, course: Course
    ) -> list[Effect]:
        """Work out what is asked for; the processes that it needs more of are to be started."""
        if state != "running" or (course.stopping and not self.under_way):
            return [Answer(asked.request, None, f"the job is {state}: ask when it runs")]
        if self._replan is None or plan.checkpoint is None:
            why = "the job has no checkpoints, so that nothing would be left of its state"
            return [Answer(asked.request, None, f"{why}: give it checkpoint=")]
        if self.under_way:
            return [Answer(asked.request, None, "another change of size is under way")]
        try:
            scale = self._replan.scale(self.scale, asked.scale)
            wanted = self._replan.plan(scale)
        except PlanError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return [Answer(asked.request, None, f"{error.message}{hint}")]
        if _sizes(wanted) == _sizes(plan):
            return [Answer(asked.request, "")]
        self._asked = Move(asked.request, scale, wanted)
        return [Grow(asked.request, wanted)]

    def grown(self, event: Grown, state: str, course: Course) -> list[Effect]:
        """Take that the processes are there: now the sources are to stop."""
        if self._asked is None or event.request != self._asked.request:
            return []
        if event.error or state != "running" or course.stopping:
            return self.give_up(event.error or f"the job is {state} by now")
        course.asked.insert(0, STOP)
        return []

    def take(self) -> bool:
        """Take that the checkpoint is durable and committed: the next attempt has the new size."""
        self._taken, self._asked = self._taken or self._asked, None
        return self._taken is not None

    def next_plan(self, plan: PhysicalPlan) -> PhysicalPlan:
        """Give the plan of the attempt that is about to begin."""
        if self._taken is None:
            return plan
        self.scale = self._taken.scale
        return self._taken.plan

    def recover(self, plan: PhysicalPlan, scale: Scale) -> PhysicalPlan:
        """Give the plan that the log speaks of, to a coordinator that has come back."""
        if self._replan is None or scale == self.scale:
            return plan
        self.scale = scale
        return self._replan.plan(scale)

    def running(self) -> list[Effect]:
        """Note that an attempt runs, at whatever size."""
        taken, self._taken = self._taken, None
        return [] if taken is None else [Answer(taken.request, "")]

    def give_up(self, why: str) -> list[Effect]:
        """Leave the job at its size, if the change has not gone too far."""
        asked, self._asked = self._asked, None
        return [] if asked is None else [Answer(asked.request, None, why)]

    def over(self) -> list[Effect]:
        """Tell whoever waits that there will be no change."""
        self._asked, self._taken = self._asked or self._taken, None
        return self.give_up("the job is over")


def _sizes(plan: PhysicalPlan) -> dict[str, int]:
    return {chain.name: chain.parallelism for chain in plan.chains}
