"""The plan of a running job at other parallelisms: what may be asked for, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from raystream.errors import PlanError
from raystream.graph.logical import EVERY, LogicalNode, LogicalPlan
from raystream.graph.physical import PhysicalPlan
from raystream.graph.planner import physical_plan

Scale: TypeAlias = Mapping[str, int]
"""Numbers of subtasks by the uid of an operator, or its name; ``""`` is the job's parallelism."""


@dataclass(frozen=True, slots=True)
class Replan:
    """Makes the plan of one job at the parallelism that somebody asks for."""

    logical: LogicalPlan

    def scale(self, current: Scale, asked: Scale, *, exact: bool = False) -> dict[str, int]:
        """Join what is asked for to what was, by uid; a chain moves as one, unless ``exact``.

        Raises: PlanError for an operator that there is not, or a number that it cannot have.
        """
        scale = dict(current)
        for name, count in asked.items():
            if type(count) is not int or count < 1:
                raise PlanError(f"a parallelism is an int of at least 1, got {count!r:.40}")
            if count > self.logical.max_parallelism:
                raise PlanError(
                    f'job "{self.logical.job}" cannot run at parallelism {count}: its '
                    f"max_parallelism is {self.logical.max_parallelism}",
                    hint="a job is started with a larger one: it is the number of key groups",
                )
            if name == EVERY:
                scale[EVERY] = count
                continue
            named = self._named(name)
            for node in [named] if exact else self._beside(named, current):
                self._check(node, count)
                scale[node.uid or node.name] = count
        return scale

    def plan(self, scale: Scale) -> PhysicalPlan:
        """Give the plan at a scale.

        Raises: PlanError where operators cannot be joined as they are.
        """
        return physical_plan(dataclasses.replace(self.logical, scale=scale))

    @property
    def operators(self) -> dict[str, LogicalNode]:
        """The operators that run, by uid."""
        return {one.uid or one.name: one for one in self.logical.nodes if one.spec is not None}

    def _named(self, name: str) -> LogicalNode:
        nodes = [node for node in self.logical.nodes if node.spec is not None]
        for node in nodes:
            if name in (node.uid, node.name):
                return node
        names = [node.uid or node.name for node in nodes]
        close = get_close_matches(name, names, 1)
        raise PlanError(
            f'job "{self.logical.job}" has no operator "{name}"',
            hint=f'did you mean "{close[0]}"?' if close else f"it has {', '.join(names)}",
        )

    def _beside(self, node: LogicalNode, current: Scale) -> list[LogicalNode]:
        """Give the operators that run in the same subtasks."""
        known = self.operators
        mine = node.uid or node.name
        for chain in self.plan(current).chains:
            uids = [uid for one in chain.nodes for uid in parts(one.uid, known)]
            if mine in uids:
                return [known[uid] for uid in uids]
        return [node]

    def _check(self, node: LogicalNode, count: int) -> None:
        if node.single and count > 1:
            raise PlanError(
                f'"{node.name}" sees all rows in one subtask: it cannot have {count}',
                where=node.where,
                hint="a key would let its rows be shared out",
            )
        if node.bounds is not None and not node.bounds[0] <= count <= node.bounds[1]:
            least, most = node.bounds
            raise PlanError(
                f'"{node.name}" runs with {least} to {most} subtasks, got {count}',
                where=node.where,
                hint="with_parallelism((least, most)) says so in the job",
            )


def parts(uid: str, known: Mapping[str, LogicalNode]) -> list[str]:
    """Take apart the uid of operators that the plan has made one; what it put in has none."""
    if uid in known:
        return [uid]
    return [part for part in uid.split("+") if part in known]
