"""A running job's moves: to another size, or away from nodes that are about to go.

New subtasks' processes come first; then the sources stop at a barrier; once its checkpoint is in
the log and committed, the next attempt begins from it, at the new size and in the new places.
Whatever fails before that leaves the job as it was: any attempt can begin from any checkpoint.

Who is told that nodes go makes a checkpoint at once, for they may go sooner. Where there is no room
elsewhere in time, the job stops at its barrier all the same: the next attempt waits for room, and
no row is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raystream.clock import Clock
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.course import Course
from raystream.coordinator.events import (
    Answer,
    Effect,
    Grow,
    Grown,
    NodesLeaving,
    RescaleAsked,
    SavepointAsked,
)
from raystream.coordinator.staying import Staying
from raystream.errors import PlanError
from raystream.flow.control import UNDER_WAY, Rescaling
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan, Scale
from raystream.graph.sameness import unchanged

STOP = SavepointAsked("", "", stop=True)
"""The barrier behind which sources read no more; nobody waits for its answer."""

_ANOTHER = "another change of size is under way"
_DIED = "the coordinator has died meanwhile"
_NODES_GO = "nodes of the cluster are about to go, and the job moves away from them: ask again"


def stops(course: Course) -> bool:
    """Tell whether an attempt stops for a move, and for nothing else."""
    return course.stopped_by is STOP


def ends(course: Course) -> bool:
    """Tell whether somebody has stopped the job for good."""
    return course.stopping and not stops(course)


_SHOWN_MAX = 20
"""So many of the newest changes are shown."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of size, or, for the same plan, of places: nobody waits to be told of that.

    ``told`` is what is shown of a change of size, ``stopped_us`` when sources stopped for it.
    ``unchanged`` chains are those that are the same in its plan.
    """

    request: str
    scale: Scale
    plan: PhysicalPlan
    told: Rescaling | None = None
    stopped_us: int | None = None
    leaving: frozenset[SubtaskId] = frozenset()
    until_us: int | None = None
    unchanged: frozenset[str] = frozenset()


class Moves:
    """The moves of one job, one at a time."""

    def __init__(self, replan: Replan | None, clock: Clock) -> None:
        self._replan = replan
        self._clock = clock
        self._over: tuple[Rescaling, ...] = ()  # the newest; bounded by _SHOWN_MAX
        self.scale: Scale = {}
        self._early: RescaleAsked | None = None  # before the job ran
        self._asked: Move | None = None
        self._taken: Move | None = None
        self.staying = Staying()
        self._left = 0  # so many moves were away from nodes
        self._warned = frozenset[SubtaskId]()  # of this attempt, whose nodes are known to go

    @property
    def under_way(self) -> bool:
        """Whether a move was asked for, and the job does not run behind it yet."""
        return self._asked is not None or self._taken is not None

    @property
    def shown(self) -> tuple[Rescaling, ...]:
        """The newest changes, and the one under way."""
        going = [one.told for one in (self._taken, self._asked) if one is not None]
        return (*self._over, *(told for told in going if told is not None))

    @property
    def told(self) -> tuple[Rescaling, ...]:
        """What the log says of changes: one that another attempt begins with is done by that."""
        taken = [] if self._taken is None or self._taken.told is None else [self._taken.told]
        asked = [] if self._asked is None or self._asked.told is None else [self._asked.told]
        return (*self._over, *(replace(one, outcome="done") for one in taken), *asked)

    def inherit(self, told: tuple[Rescaling, ...]) -> None:
        """Go on behind what the log says of changes; nobody goes on with one under way."""
        self._over = tuple(
            replace(one, outcome=_DIED) if one.outcome == UNDER_WAY else one for one in told
        )

    @property
    def all_leave(self) -> bool:
        """Whether the next attempt is to be elsewhere as a whole, its coordinator too."""
        taken = self._taken
        return taken is not None and taken.leaving >= set(taken.plan.subtasks)

    @property
    def resizes(self) -> bool:
        """Whether a change of size is under way."""
        return any(one is not None and not one.leaving for one in (self._asked, self._taken))

    @property
    def leaving(self) -> frozenset[SubtaskId]:
        """Whose processes have no part in the attempt that is about to begin."""
        return frozenset() if self._taken is None else self._taken.leaving

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
            why = _ANOTHER if self.resizes or self._early is not None else _NODES_GO
            return [Answer(asked.request, None, why)]
        if state != "running":
            self._early = asked
            return []
        try:
            own = bool(asked.reason)  # the job itself knows what can move alone
            scale = self._replan.scale(self.scale, asked.scale, exact=own)
            wanted = self._replan.plan(scale)
            now = self._replan.plan(self.scale)
        except PlanError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return [Answer(asked.request, None, f"{error.message}{hint}", "plan")]
        if _sizes(wanted) == _sizes(plan):
            return [Answer(asked.request, "")]
        # It is made of the same things as the wanted one; is it the one that runs?
        alike = unchanged(now, wanted) if _sizes(now) == _sizes(plan) else frozenset[str]()
        told = Rescaling(self._clock.now_us(), asked.reason, _sizes(plan), _sizes(wanted))
        self._asked = Move(asked.request, scale, wanted, told, unchanged=alike)
        return [Grow(asked.request, wanted)]

    def heard(
        self, event: NodesLeaving | Grown, plan: PhysicalPlan, state: str, course: Course
    ) -> list[Effect]:
        """Take what the cluster says."""
        if isinstance(event, NodesLeaving):
            return self._leave(event, plan, state, course)
        return self._grown(event, state, course)

    def _leave(
        self, event: NodesLeaving, plan: PhysicalPlan, state: str, course: Course
    ) -> list[Effect]:
        """Begin to move away, unless that is under way: whoever sees nodes leave says so often."""
        ours = event.attempt in {0, course.checkpoints.attempt}
        if not ours or plan.checkpoint is None or state != "running" or course.stopping:
            return []
        known = frozenset[SubtaskId]() if self._asked is None else self._asked.leaving
        if STOP in course.asked or event.subtasks <= known:
            return []
        if not event.subtasks <= self._warned:
            self._warned = event.subtasks
            course.at_once()
        told = self.give_up(_NODES_GO, "cluster")
        self._left += 1
        request = f"away {self._left}"
        leaving, until_us = event.subtasks, event.until_us
        every = frozenset(chain.name for chain in plan.chains)
        self._asked = Move(request, self.scale, plan, None, None, leaving, until_us, every)
        return [*told, Grow(request, plan, event.subtasks, event.until_us)]

    def _grown(self, event: Grown, state: str, course: Course) -> list[Effect]:
        """Take that the processes are there: now the sources are to stop."""
        if self._asked is None or event.request != self._asked.request or STOP in course.asked:
            return []
        if event.error and self._asked.until_us is None:
            return self.give_up(event.error, "cluster")
        if state != "running" or course.stopping:
            return [] if stops(course) else self.give_up("the job is about to end")
        course.asked.insert(0, STOP)
        return []

    def take(self, stopped_us: int | None, shown: Sequence[CheckpointFigures]) -> bool:
        """Take that the checkpoint is durable and committed: the next attempt has the new size.

        It is the newest of those that are shown.
        """
        if self._asked is not None and self._taken is None:
            self._taken = taken = replace(self._asked, stopped_us=stopped_us)
            newest = shown[-1].checkpoint_id if shown else 0
            self.staying.offer(newest, taken.plan, taken.unchanged, taken.leaving)
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
        self._warned = frozenset()
        if taken is not None:
            self._show(taken, "done")
        early, self._early = self._early, None
        told: list[Effect] = []
        if taken is not None and not taken.leaving:
            told.append(Answer(taken.request, ""))
        return told if early is None else [*told, *self.ask(early, plan, "running", course)]

    def give_up(self, why: str, blame: str = "") -> list[Effect]:
        """Leave the job at its size, if the change has not gone too far."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._show(asked, why)
        if asked is None or asked.leaving:
            return []
        return [Answer(asked.request, None, why, blame)]

    def over(self) -> list[Effect]:
        """Tell whoever waits that there will be no change."""
        for move in (self._taken, self._asked):
            if move is not None:
                self._show(move, "the job is over")
        waiting = [
            one.request
            for one in (self._asked, self._taken, self._early)
            if one is not None and not (isinstance(one, Move) and one.leaving)
        ]
        self._asked = self._taken = self._early = None
        return [Answer(request, None, "the job is over") for request in waiting]

    def _show(self, move: Move, outcome: str) -> None:
        if move.told is None:
            return
        stopped_us, done = move.stopped_us, outcome == "done"
        pause_us = None if stopped_us is None else max(0, self._clock.now_us() - stopped_us)
        told = replace(move.told, outcome=outcome, pause_us=pause_us if done else None)
        self._over = (*self._over, told)[-_SHOWN_MAX:]


def _sizes(plan: PhysicalPlan) -> dict[str, int]:
    return {chain.name: chain.parallelism for chain in plan.chains}
