"""A running job's change of size: what was asked for, and how far it has come.

New subtasks' processes come first; then the sources stop at a barrier; once its checkpoint is in
the log and committed, the next attempt begins from it, at the new size. Whatever fails before that
leaves the job at its old size: any attempt can begin from any checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raystream.clock import Clock
from raystream.coordinator.course import Course
from raystream.coordinator.events import Answer, Effect, Grow, Grown, RescaleAsked, SavepointAsked
from raystream.errors import PlanError
from raystream.flow.control import Rescaling
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan, Scale

STOP = SavepointAsked("", "", stop=True)
"""The barrier behind which sources read no more; nobody waits for its answer."""

_ANOTHER = "another change of size is under way"


def stops(course: Course) -> bool:
    """Tell whether an attempt stops for a change of size, and for nothing else."""
    return course.stopped_by is STOP


def ends(course: Course) -> bool:
    """Tell whether somebody has stopped the job for good."""
    return course.stopping and not stops(course)


_SHOWN_MAX = 20
"""So many of the newest changes are shown."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of size; ``told`` is what is shown of it, ``stopped_us`` when sources stopped."""

    request: str
    scale: Scale
    plan: PhysicalPlan
    told: Rescaling
    stopped_us: int | None = None


class Moves:
    """The changes of size of one job, one at a time."""

    def __init__(self, replan: Replan | None, clock: Clock) -> None:
        self._replan = replan
        self._clock = clock
        self._over: tuple[Rescaling, ...] = ()  # the newest; bounded by _SHOWN_MAX
        self.scale: Scale = {}
        self._early: RescaleAsked | None = None  # before the job ran
        self._asked: Move | None = None
        self._taken: Move | None = None

    @property
    def under_way(self) -> bool:
        """Whether a change of size was asked for, and the job does not run at it yet."""
        return self._asked is not None or self._taken is not None

    @property
    def shown(self) -> tuple[Rescaling, ...]:
        """The newest changes, and the one under way."""
        going = [one.told for one in (self._taken, self._asked) if one is not None]
        return (*self._over, *going)

    def wants(self, request: str) -> bool:
        """Tell whether a change goes on, so that the processes it has asked for are of use."""
        return any(one is not None and one.request == request for one in (self._asked, self._taken))

    def ask(
        self, asked: RescaleAsked, plan: PhysicalPlan, state: str, course: Course
    ) -> list[Effect]:
        """Work out what is asked for; the processes that it needs more of are to be started."""
        if self._replan is None or plan.checkpoint is None:
            why = "it has no checkpoints, so that nothing would be left of its state"
            return [Answer(asked.request, None, f"{why}: give it checkpoint=", "plan")]
        if state in ("finishing", "ending") or ends(course):
            return [Answer(asked.request, None, "the job is about to end")]
        if self.under_way or self._early is not None:
            return [Answer(asked.request, None, _ANOTHER)]
        if state != "running":
            self._early = asked
            return []
        try:
            own = bool(asked.reason)  # the job itself knows what can move alone
            scale = self._replan.scale(self.scale, asked.scale, exact=own)
            wanted = self._replan.plan(scale)
        except PlanError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return [Answer(asked.request, None, f"{error.message}{hint}", "plan")]
        if _sizes(wanted) == _sizes(plan):
            return [Answer(asked.request, "")]
        told = Rescaling(self._clock.now_us(), asked.reason, _sizes(plan), _sizes(wanted))
        self._asked = Move(asked.request, scale, wanted, told)
        return [Grow(asked.request, wanted)]

    def grown(self, event: Grown, state: str, course: Course) -> list[Effect]:
        """Take that the processes are there: now the sources are to stop."""
        if self._asked is None or event.request != self._asked.request or STOP in course.asked:
            return []
        if event.error:
            return self.give_up(event.error, "cluster")
        if state != "running" or course.stopping:
            return [] if stops(course) else self.give_up("the job is about to end")
        course.asked.insert(0, STOP)
        return []

    def take(self, stopped_us: int | None) -> bool:
        """Take that the checkpoint is durable and committed: the next attempt has the new size."""
        if self._asked is not None and self._taken is None:
            self._taken = replace(self._asked, stopped_us=stopped_us)
        self._asked = None
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

    def running(self, plan: PhysicalPlan, course: Course) -> list[Effect]:
        """Note that an attempt runs, at whatever size; what was asked for early has its turn."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self._show(taken, "done")
        early, self._early = self._early, None
        told: list[Effect] = [] if taken is None else [Answer(taken.request, "")]
        return told if early is None else [*told, *self.ask(early, plan, "running", course)]

    def give_up(self, why: str, blame: str = "") -> list[Effect]:
        """Leave the job at its size, if the change has not gone too far."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._show(asked, why)
        return [] if asked is None else [Answer(asked.request, None, why, blame)]

    def over(self) -> list[Effect]:
        """Tell whoever waits that there will be no change."""
        for move in (self._taken, self._asked):
            if move is not None:
                self._show(move, "the job is over")
        waiting = [
            one.request for one in (self._asked, self._taken, self._early) if one is not None
        ]
        self._asked = self._taken = self._early = None
        return [Answer(request, None, "the job is over") for request in waiting]

    def _show(self, move: Move, outcome: str) -> None:
        stopped_us, done = move.stopped_us, outcome == "done"
        pause_us = None if stopped_us is None else max(0, self._clock.now_us() - stopped_us)
        told = replace(move.told, outcome=outcome, pause_us=pause_us if done else None)
        self._over = (*self._over, told)[-_SHOWN_MAX:]


def _sizes(plan: PhysicalPlan) -> dict[str, int]:
    return {chain.name: chain.parallelism for chain in plan.chains}
