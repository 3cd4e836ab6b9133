"""The actors of one job: hired, given a subtask in attempt after attempt, watched, let go.

Whoever is alive stays from one attempt to the next, whatever its subtask is then. The calls here
are those of the coordinator's mailbox thread; what takes time is done in threads of its own, which
tell how it went.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import ray
from typing_extensions import assert_never

from raystream.coordinator import events as job
from raystream.errors import SubtaskLost
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Closed, Finish
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan
from raystream.runtime.ray.deployment import Deployment
from raystream.runtime.ray.handed import PATIENCE_S, HandedOver, InTransit
from raystream.runtime.ray.hiring import Hired, Hiring, Recruits, Terms
from raystream.runtime.ray.packing import pack_plan
from raystream.runtime.ray.placement import Place, Room, actor_options
from raystream.runtime.ray.spare import Spare
from raystream.runtime.seating import Present, seat
from raystream.runtime.vault import Home
from raystream.subtask import events as sub

_CLOSE_S = 10.0
_CLOSE_FAILED_S = 3.0
_RELEASE_S = 2.0


@dataclass(frozen=True, slots=True)
class Given:
    """What a coordinator is told of its job, each time that its process starts."""

    plan: PhysicalPlan
    packed: bytes
    replan: Replan | None
    job_id: str
    home: Home | None
    attached: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Settled:
    """An actor has its subtask, and says on which node it is."""

    subtask: SubtaskId
    attempt: int
    node: str


@dataclass(frozen=True, slots=True)
class Died:
    """An actor is no more."""

    subtask: SubtaskId
    attempt: int


class Crew:
    """The actors of one job; ``tell`` hears what becomes of them."""

    def __init__(self, given: Given, tell: Callable[[Any], None]) -> None:
        self._given = given
        self._tell_us = tell
        self.plan = given.plan
        self._packed = given.packed
        self._next: tuple[PhysicalPlan, bytes] | None = None
        self._hired: dict[SubtaskId, Hired] = {}
        self._idle: list[Hired] = []  # to be let go once an attempt runs without them
        self._leaving: list[Hired] = []  # so are these, or at ``_part_s``: their nodes are to go
        self._part_s = 0.0
        self._in_transit = InTransit()
        self._deadlines: dict[SubtaskId, float] = {}
        self._closed: set[SubtaskId] = set()  # of this attempt
        self._dead: set[SubtaskId] = set()  # whose actors are no more
        self._resting: set[SubtaskId] = set()  # whose actors may have left operators open
        self._runs = False
        self._avoided = frozenset[str]()
        self._spare = Spare(given.packed, given.place, kept=given.home is not None)
        self._hiring = Hiring(tell)
        self.room = Room(given.plan.job, given.place)
        self.deployed: tuple[int, dict[SubtaskId, Any]] = (0, {})

    # Attempts --------------------------------------------------------------------------------

    def deploy(self, deploy: job.Deploy, me: Any) -> None:
        """Give every subtask of an attempt to an actor; ``me`` hears how it goes."""
        self._hiring.call_off()  # else it is over by now, and its recruits are here
        self._follow(deploy.plan)
        stay = self._assign(deploy.leaving, deploy.kept)
        self._runs = False
        self._closed, self._dead, self._deadlines = set(), set(), {}
        actors = {subtask: one.actor for subtask, one in self._hired.items()}
        given, watched = self._given, dict[Any, SubtaskId]()
        needed = self._in_transit.needed
        for subtask, actor in actors.items():
            deployment = Deployment(
                self._packed,
                subtask,
                deploy.attempt,
                {peer: actors[peer] for peer in self._peers(subtask)},
                me,
                given.attached,
                given.home,
                deploy.manifest,
                deploy.path,
                stays=subtask in stay,
                handed={} if subtask in stay else needed(self.plan, deploy.manifest, subtask),
            )
            watched[actor.deploy.remote(deployment)] = subtask
        self.deployed = (deploy.attempt, actors)
        arguments = (deploy.attempt, actors, watched)
        threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def running(self) -> None:
        """Note that an attempt runs: whoever has no part in it may go."""
        self._in_transit.drop()
        self._part()
        for one in self._idle:
            ray.kill(one.actor)
        self._idle = []
        self._runs = True
        self._keep_spare()

    def hear(self, word: Settled | Died | HandedOver) -> None:
        """Note where an actor is, that it is no more, or what it hands over."""
        if word.attempt != self.deployed[0]:
            return
        match word:
            case Settled(subtask):
                self._hired[subtask] = replace(self._hired[subtask], node=word.node)
                self._keep_spare()
            case Died(subtask):
                self._dead.add(subtask)
            case HandedOver():
                self._in_transit.take(word.references)
            case _:
                assert_never(word)

    def avoid(self, nodes: Collection[str]) -> None:
        """Keep no spare on nodes that are about to go."""
        self._avoided = frozenset(nodes)
        self._keep_spare()

    def on(self, nodes: Collection[str]) -> frozenset[SubtaskId]:
        """Give the subtasks that are on any of some nodes."""
        return frozenset(s for s, one in self._hired.items() if one.node in nodes)

    def _keep_spare(self) -> None:
        nodes = Counter(one.node for one in self._hired.values())
        for node in self._avoided:
            del nodes[node]
        if "" in nodes and not self._avoided:
            return  # not all have said where they are
        self._spare.keep_near(nodes)
        if self._runs and nodes and "" not in nodes:
            self._spare.prepare(nodes.most_common(1)[0][0])

    def _follow(self, plan: PhysicalPlan) -> None:
        if plan is self.plan:
            return
        known = self._next
        self._packed = known[1] if known is not None and known[0] is plan else pack_plan(plan)
        self.plan, self._next, self._spare.plan = plan, None, self._packed

    def _assign(self, leaving: Collection[SubtaskId], kept: Collection[str]) -> set[SubtaskId]:
        """Keep actors where they are, then wherever they fit; what is missing is new.

        Gives the subtasks that go on with what they have left open: of ``kept`` chains, those whose
        actors all have their places still.
        """
        subtasks = {s: self.plan.chain(s.chain).resources for s in self.plan.subtasks}
        alive = [(s, one) for s, one in self._hired.items() if s not in self._dead]
        for subtask, one in alive:
            if subtask in leaving:
                self._leaving.append(one)
        self._part_s = time.monotonic() + (PATIENCE_S if self._in_transit else 0.0)
        staying: list[tuple[SubtaskId | None, Hired]] = [p for p in alive if p[0] not in leaving]
        staying += [(None, one) for one in self._idle]
        options = actor_options(self.plan, self._given.place.has(), beside=bool(staying))
        self.room.ask(options)
        seats = seat(subtasks, [Present(one.resources, one.node, was) for was, one in staying])
        # Whoever asks for the actors gets all of them or none.
        self._hired = {
            subtask: staying[seats[subtask]][1]
            if subtask in seats
            else Hired(self._spare.take(options[subtask.chain]), resources)
            for subtask, resources in subtasks.items()
        }
        taken = set(seats.values())
        idle = [(was, one) for index, (was, one) in enumerate(staying) if index not in taken]
        self._idle = [one for _, one in idle]
        # Whoever has another subtask now closes what it has left open before it begins.
        self._release([one for was, one in idle if was in self._resting])
        at_home = {s for s, index in seats.items() if staying[index][0] == s} & self._resting
        self._resting = set()
        chains = [self.plan.chain(name) for name in kept]
        return {s for c in chains if at_home.issuperset(c.subtasks) for s in c.subtasks}

    @staticmethod
    def _release(some: Collection[Hired]) -> None:
        """Let actors that are to go close what they have left open; it takes no time as a rule."""
        calls = [one.actor.release.options(concurrency_group="ctl").remote() for one in some]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=_RELEASE_S)

    def _peers(self, subtask: SubtaskId) -> list[SubtaskId]:
        edges = [*self.plan.inputs(subtask.chain), *self.plan.outputs(subtask.chain)]
        names = {edge.upstream for edge in edges} | {edge.downstream for edge in edges}
        return [s for s in self.plan.subtasks if s.chain in names and s != subtask]

    # Growth ----------------------------------------------------------------------------------

    def grow(self, grow: job.Grow) -> None:
        """Hire whom a plan needs beside those that there are; ``Recruits`` are told."""
        away = {*self._dead, *grow.leaving}
        alive = [one.resources for s, one in self._hired.items() if s not in away]
        missing = []
        for chain in grow.plan.chains:
            for _ in chain.subtasks:
                if chain.resources in alive:
                    alive.remove(chain.resources)
                else:
                    missing.append(chain)
        given, attempt = self._given, self.deployed[0]
        terms = Terms(given.place, given.home, attempt, self.room.patience_s)
        if grow.until_us is not None:
            left_s = max(0.0, grow.until_us / 1e6 - time.monotonic())
            terms = replace(terms, patience_s=left_s, start_s=0.0)
        self._hiring.begin(grow, missing, terms)

    def take(self, recruits: Recruits, *, wanted: bool) -> None:
        """Keep recruits for the attempt that they were hired for, or let them go."""
        if not wanted:
            recruits.dismiss()
            return
        self._idle += recruits.hired
        self._next = (recruits.plan, recruits.packed)

    # Watching --------------------------------------------------------------------------------

    def _watch(
        self, attempt: int, actors: dict[SubtaskId, Any], deployments: dict[Any, SubtaskId]
    ) -> None:
        exits = dict[Any, SubtaskId]()
        waiting = list(deployments)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=None)
            for ref in done:
                if ref in exits:
                    self._watched(attempt, exits[ref], ref, exited=True)
                    continue
                subtask = deployments[ref]
                self._watched(attempt, subtask, ref, exited=False)
                # Only now does it know of this attempt, whose end is waited for.
                wait_exit = actors[subtask].wait_exit.options(concurrency_group="exit")
                exit_ref = wait_exit.remote(attempt)
                exits[exit_ref] = subtask
                waiting.append(exit_ref)

    def _watched(self, attempt: int, subtask: SubtaskId, ref: Any, *, exited: bool) -> None:
        try:
            node = ray.get(ref)
            if not exited:
                self._tell_us(Settled(subtask, attempt, node))
        except ray.exceptions.RayActorError as error:
            lost = SubtaskLost(
                f"{subtask} died: its worker process is gone",
                hint=str(error).strip().splitlines()[-1] if str(error) else None,
            )
            self._tell_us(Died(subtask, attempt))
            if subtask not in self._closed:  # else it was killed because it did not let go
                self._tell_us(job.Failed(subtask, lost, attempt))
        except ray.exceptions.RayError as error:
            cannot = SubtaskLost(f"{subtask} cannot be made: {str(error).strip()}")
            self._tell_us(job.Failed(subtask, cannot, attempt))
        if exited:
            self._tell_us(job.Said(subtask, attempt, Closed()))

    # Orders ----------------------------------------------------------------------------------

    def tell(self, subtask: SubtaskId, event: sub.Event) -> None:
        """Give an order to a subtask of this attempt."""
        actor = self._hired[subtask].actor
        control = actor.control.options(concurrency_group="ctl", num_returns=0)
        control.remote(event, self.deployed[0])

    def close(self, close: job.CloseSubtask, *, failed: bool) -> None:
        """Let a subtask go; one that does not within its time is killed."""
        subtask = close.subtask
        if subtask not in self._hired or subtask in self._closed or subtask in self._dead:
            self._let_go(subtask)
            return
        allowed_s = _CLOSE_FAILED_S if failed else _CLOSE_S
        self._deadlines[subtask] = time.monotonic() + allowed_s
        self.tell(subtask, Finish(close.rests_at))
        if close.rests_at:
            self._resting.add(subtask)

    def closed(self, subtask: SubtaskId, attempt: int) -> None:
        """Note that a subtask has let go; of one whose attempt is over it may be told late."""
        if attempt != self.deployed[0]:
            return
        self._deadlines.pop(subtask, None)
        self._closed.add(subtask)

    def _part(self) -> None:
        for one in self._leaving:
            ray.kill(one.actor)  # a node that holds nobody may go
        self._leaving = []

    def enforce_deadlines(self) -> None:
        """Kill whoever has not let go in time, or is to leave and has handed over what it had."""
        if self._leaving and time.monotonic() >= self._part_s:
            self._part()
        for subtask, deadline in list(self._deadlines.items()):
            if time.monotonic() > deadline:
                del self._deadlines[subtask]
                self._dead.add(subtask)
                self._let_go(subtask)
                ray.kill(self._hired[subtask].actor)

    def _let_go(self, subtask: SubtaskId) -> None:
        self._closed.add(subtask)
        self._tell_us(job.Said(subtask, self.deployed[0], Closed()))

    def end(self) -> None:
        """Let everybody go at once."""
        self._hiring.call_off()
        self._spare.close()
        self._in_transit.drop()
        self._release([one for subtask, one in self._hired.items() if subtask in self._resting])
        for one in (*self._hired.values(), *self._idle, *self._leaving):
            ray.kill(one.actor)
