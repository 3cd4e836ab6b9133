"""The plan of a running job at other parallelisms: what may be asked for, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from raystream.errors import PlanError
from raystream.flow.exchange import Forward
from raystream.graph.logical import EVERY, LogicalNode, LogicalPlan, origins
from raystream.graph.physical import PhysicalPlan
from raystream.graph.planner import physical_plan

Scale: TypeAlias = Mapping[str, int]
"""Numbers of subtasks by the uid of an operator, or its name; ``""`` is the job's parallelism."""


@dataclass(frozen=True, slots=True)
class Freedom:
    """How many subtasks a chain may have when the job chooses, and ``why`` not more.

    ``uid`` names one of its operators; ``fixed``: somebody has chosen. ``together`` are the chains
    that have as many because ``forward()`` joins them.
    """

    uid: str
    least: int
    most: int
    why: str
    fixed: bool = False
    together: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Replan:
    """Makes the plan of one job at the parallelism that somebody asks for."""

    logical: LogicalPlan

    def scale(self, current: Scale, asked: Scale) -> dict[str, int]:
        """Join what is asked for to what was, by uid; a chain moves as one.

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
            for node in self._beside(self._named(name), current):
                self._check(node, count)
                scale[node.uid or node.name] = count
        return scale

    def plan(self, scale: Scale) -> PhysicalPlan:
        """Give the plan at a scale.

        Raises: PlanError where operators cannot be joined as they are.
        """
        return physical_plan(dataclasses.replace(self.logical, scale=scale))

    def freedoms(self, plan: PhysicalPlan, least: int, most: int | None) -> dict[str, Freedom]:
        """Tell what each chain of a plan may have, between bounds for operators without any."""
        known = {one.uid or one.name: one for one in self.logical.nodes if one.spec is not None}
        members: dict[str, list[LogicalNode]] = {
            chain.name: [known[uid] for one in chain.nodes for uid in _parts(one.uid, known)]
            for chain in plan.chains
        }
        home = {node: chain for chain, nodes in members.items() for node in nodes}
        joined = _joined(home)
        whole = min(most or self.logical.max_parallelism, self.logical.max_parallelism)
        return {
            chain: dataclasses.replace(
                _freedom(nodes, min(least, whole), whole), together=joined[chain]
            )
            for chain, nodes in members.items()
        }

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
        known = {one.uid or one.name: one for one in self.logical.nodes if one.spec is not None}
        mine = node.uid or node.name
        for chain in self.plan(current).chains:
            uids = [uid for one in chain.nodes for uid in _parts(one.uid, known)]
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


def _parts(uid: str, known: Mapping[str, LogicalNode]) -> list[str]:
    """Take apart the uid of operators that the plan has made one; what it put in has none."""
    if uid in known:
        return [uid]
    return [part for part in uid.split("+") if part in known]


def _freedom(nodes: list[LogicalNode], least: int, most: int) -> Freedom:
    """Tell what the operators of one chain may have: what all of them may."""
    uid = nodes[0].uid or nodes[0].name
    for node in nodes:
        if node.single:
            return Freedom(uid, 1, 1, f'"{node.name}" sees all rows in one subtask', fixed=True)
        if node.parallelism is not None:
            why = f'"{node.name}" is pinned to {node.parallelism} by with_parallelism()'
            return Freedom(uid, node.parallelism, node.parallelism, why, fixed=True)
    bounded = [node for node in nodes if node.bounds is not None]
    why = f"max_parallelism is {most}"
    if bounded:
        bounds = [node.bounds for node in bounded if node.bounds is not None]
        least, most = max(one[0] for one in bounds), min(one[1] for one in bounds)
        why = f'"{bounded[0].name}" has at most {most} by with_parallelism()'
    return Freedom(uid, min(least, most), most, why)


def _joined(home: Mapping[LogicalNode, str]) -> dict[str, frozenset[str]]:
    """Give the chains that ``forward()`` joins to each chain, itself included."""
    groups = {chain: {chain} for chain in home.values()}
    for node in home:
        for one in node.inputs:
            for origin in origins(one):
                if isinstance(origin.exchange, Forward) and origin.node in home:
                    group = groups[home[node]] | groups[home[origin.node]]
                    groups.update(dict.fromkeys(group, group))
    return {chain: frozenset(group) for chain, group in groups.items()}
