"""Lets a job ask for its own size: figures in, the wish for another size out, as if somebody had.

A shell hands over what subtasks report, asks now and then, and tells what became of a wish.
"""

from __future__ import annotations

from raystream.clock import Clock
from raystream.coordinator.assignment import source_chains
from raystream.coordinator.autoscale import Decision, Policy
from raystream.coordinator.chronicle import Chronicle
from raystream.coordinator.events import Answer, RescaleAsked
from raystream.coordinator.loads import Load, Meter
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.report import ChainSizing, Sizing
from raystream.flow.control import SubtaskFigures
from raystream.graph.freedom import Freedom, freedoms
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan

_OWN = "autoscale "
"""How the requests of a job itself begin."""


class Autoscaler:
    """The wishes of one job; one that was not told to scale itself has none."""

    def __init__(
        self, replan: Replan | None, clock: Clock, chronicle: Chronicle | None = None
    ) -> None:
        self._replan = replan
        self._clock = clock
        settings = None if replan is None else replan.logical.autoscale
        self._policy = None if settings is None else Policy(settings)
        look_us = 0 if self._policy is None else self._policy.spans.look_us
        self._meter = Meter(look_us)
        self._every_us = max(1, look_us // 2)
        self._look_us = 0
        self._attempt = 0
        self._asked: tuple[str, Decision, dict[str, int]] | None = None
        self._chronicle = chronicle or Chronicle()
        self._found: dict[str, ChainSizing] = {}
        self._plan: PhysicalPlan | None = None
        self._free: dict[str, Freedom] = {}  # in that plan
        self.said = "" if settings is None else "it has just begun to look"

    @property
    def due(self) -> bool:
        """Whether it is time to look, for a job that ever does."""
        return self._policy is not None and self._clock.monotonic_us() >= self._look_us

    @property
    def sizing(self) -> Sizing | None:
        """What was decided so far, and what is wanted; None of a job that keeps its size."""
        if self._policy is None:
            return None
        return Sizing(self._chronicle.decided, self._chronicle.refused, self._found)

    def take(self, figures: SubtaskFigures) -> None:
        """Take newer figures of a subtask."""
        if self._policy is not None:
            self._meter.take(figures)

    def look(self, machine: CoordinatorMachine, plan: PhysicalPlan) -> RescaleAsked | None:
        """Give what the job wishes, if it runs at ``plan`` and it is time to look."""
        if self._policy is None or not self.due:
            return None
        policy, now_us = self._policy, self._clock.monotonic_us()
        self._look_us = now_us + self._every_us
        if machine.state != "running" or machine.moves.under_way or self._asked is not None:
            return None
        if machine.attempt != self._attempt:
            self._attempt = machine.attempt
            self._meter.clear()
            policy.began(now_us)
            return None
        loads = self._meter.loads(plan, self._clock.now_us())
        if loads is None:
            return None
        if _ended(plan, loads):
            self.said = "its input has ended: it keeps its size to the end"
            return None
        decision = self._decide(policy, plan, loads, now_us)
        return self._wish(decision, plan, loads) if decision else None

    def heard(self, answer: Answer) -> bool:
        """Take an answer; tell whether it is one to a wish of the job itself."""
        if self._policy is None or self._asked is None or self._asked[0] != answer.request:
            return False
        (_, decision, sizes), self._asked = self._asked, None
        now_us = self._clock.monotonic_us()
        if answer.error:
            self._chronicle.refused_size()
            self._policy.refused(decision.targets, sizes, now_us, answer.error)
            wait_s = (self._policy.quiet_until_us - now_us) / 1e6
            self.said = f"it stays as it is, {answer.error}; no other try for {wait_s:,.0f} s"
        else:
            self._policy.done(now_us)
        return True

    def _decide(
        self, policy: Policy, plan: PhysicalPlan, loads: dict[str, Load], now_us: int
    ) -> Decision:
        decision = policy.look(plan, self._freedoms(plan), loads, now_us)
        # What went wrong last is of more interest than that it is to be waited for.
        if now_us >= policy.quiet_until_us or not policy.refusals:
            self.said = decision.reason
        self._found = {
            name: ChainSizing(decision.targets.get(name, want.target), want.due, want.rate)
            for name, want in policy.wants.items()
        }
        return decision

    def _freedoms(self, plan: PhysicalPlan) -> dict[str, Freedom]:
        if plan is not self._plan:
            assert self._replan is not None, "what scales itself has a plan to do so"
            assert self._policy is not None, "it scales itself"
            self._plan, self._free = plan, freedoms(self._replan, plan, self._policy.settings)
        return self._free

    def _wish(self, decision: Decision, plan: PhysicalPlan, loads: dict[str, Load]) -> RescaleAsked:
        free = self._freedoms(plan)
        sizes = {chain.name: chain.parallelism for chain in plan.chains}
        request = f"{_OWN}{self._attempt}-{self._chronicle.decided_size()}"
        self._asked = (request, decision, sizes)
        scale: dict[str, int] = {}
        for name, count in decision.targets.items():
            scale |= free[name].scale(count, loads[name].splits)
        return RescaleAsked(request, scale, decision.reason)


def _ended(plan: PhysicalPlan, loads: dict[str, Load]) -> bool:
    """Tell whether nothing more will be read: the job is about to end by itself."""
    sources = source_chains(plan)
    return bool(sources) and all(
        spec.source.bounded and loads[name].splits == 0 for name, spec in sources.items()
    )
