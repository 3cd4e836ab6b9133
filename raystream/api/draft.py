"""The job while it is being written: what ``Job`` and its streams share."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from raystream.api import overrides
from raystream.api.setting_table import read_bounds
from raystream.config import Limits
from raystream.contracts.autoscale import Autoscale
from raystream.contracts.checkpointing import Checkpointing, Never, Restart, RestartStrategy
from raystream.errors import PlanError
from raystream.flow.exchange import Broadcast, Exchange
from raystream.graph.logical import (
    Input,
    LogicalGraph,
    LogicalNode,
    LogicalPlan,
    Prepared,
    StreamType,
    ancestors,
    check_dead_letters,
    label,
)
from raystream.operators.operator import Spec


@dataclass(frozen=True, slots=True, eq=False)
class Tip:
    """Where a stream has come to: the operator that made it, and how its rows are to travel on."""

    draft: Draft
    node: LogicalNode
    exchange: Exchange | None = None

    @property
    def input(self) -> Input:
        return Input(self.node, self.exchange)

    def then(
        self,
        verb: str,
        spec: Spec,
        type: StreamType,
        where: str,
        *,
        prepared: Prepared | None = None,
        stateful: bool = False,
        single: bool = False,
        sides: Mapping[str, StreamType] | None = MappingProxyType({}),
        changes: bool = False,
    ) -> Tip:
        """Write the next operator down."""
        inputs = [Input(self.node, self.exchange, prepared)]
        node = self.draft.add(
            verb,
            spec,
            type,
            inputs,
            where,
            stateful=stateful,
            single=single,
            sides=sides,
            changes=changes,
        )
        return Tip(self.draft, node)


@dataclass(slots=True, eq=False)
class Draft:
    """A job's name and settings, and its operators so far."""

    name: str
    parallelism: int
    max_parallelism: int
    limits: Limits
    runtime: str
    runtime_env: dict[str, Any] | None = None
    checkpoint: Checkpointing | None = None
    restart: RestartStrategy | None = None
    autoscale: Autoscale | None = None
    graph: LogicalGraph = field(default_factory=LogicalGraph)

    def add(
        self,
        verb: str,
        spec: Spec | None,
        type: StreamType,
        inputs: Collection[Input],
        where: str,
        **fields: Any,
    ) -> LogicalNode:
        """Write one more operator down; ``changes``: it takes changelogs.

        Raises: PlanError where a changelog would come to an operator that does not.
        """
        name = fields.pop("name", None) or ""
        takes_changes = fields.pop("changes", False)
        for place, one in enumerate(inputs):
            if verb != "process" or place != 1:
                _check_told_once(verb, one, where)
            if one.node.type.changelog is not None and not takes_changes:
                raise PlanError(
                    f'{verb}() cannot take "{label(one.node)}", a changelog: its rows replace and '
                    "take back earlier ones",
                    where=where,
                    hint='to_rows(op="op") makes each change a plain row with its kind in a column'
                    "; sinks that upsert take changes as they are",
                )
        return self.graph.add(
            LogicalNode(verb, spec, type, tuple(inputs), where, name=name, **fields)
        )

    def plan(self, targets: Iterable[LogicalNode] | None = None) -> LogicalPlan:
        """Read the operators that the targets need; all of them without targets.

        Raises: PlanError if the parallelism that flags or environment ask for is too high.
        """
        nodes = self.graph.nodes
        if targets is not None:
            wanted = list(targets)
            needed = ancestors(wanted)
            new = [node for node in wanted if node not in nodes]
            nodes = [node for node in [*nodes, *new] if node in needed]
        check_dead_letters(nodes)
        said = overrides.current()
        parallelism = said.parallelism or self.parallelism
        if parallelism > self.max_parallelism:
            raise PlanError(
                f'job "{self.name}" cannot run at parallelism {parallelism}: its max_parallelism '
                f"is {self.max_parallelism}",
                hint="give the job a larger max_parallelism=; it is the number of key groups",
            )
        autoscale, bounds = self.autoscale, said.autoscale
        if bounds is not None:
            autoscale = (autoscale or Autoscale()).between(*read_bounds(bounds))
        if autoscale is not None:
            check_bounds(autoscale, self.max_parallelism)
            parallelism = autoscale.within(parallelism)
        checkpoint = _checkpointing(self.checkpoint, said)
        restart = self.restart
        if restart is None:
            # What is kept safe goes on after a failure; what is not would begin anew.
            restart = Never() if checkpoint is None else Restart.exponential()
        return LogicalPlan(
            self.name,
            tuple(nodes),
            parallelism,
            self.max_parallelism,
            dataclasses.replace(self.limits, **said.limits),
            checkpoint,
            restart,
            autoscale=autoscale,
        )


def check_bounds(autoscale: Autoscale, max_parallelism: int, where: str | None = None) -> None:
    """Refuse bounds that a job cannot have.

    Raises: PlanError.
    """
    wanted = autoscale.max_parallelism or autoscale.min_parallelism
    if wanted > max_parallelism:
        raise PlanError(
            f"autoscale= asks for up to {wanted} subtasks an operator: the job's max_parallelism "
            f"is {max_parallelism}",
            where=where,
            hint="give the job a larger max_parallelism=; it is the number of key groups",
        )


def _checkpointing(own: Checkpointing | None, said: overrides.Overrides) -> Checkpointing | None:
    """Give how a job is kept safe; what is said of that alone, without a place, asks for nothing.

    Raises: PlanError where what is said does not go together.
    """
    checkpoint = own
    if said.checkpoint is not None:
        checkpoint = Checkpointing(said.checkpoint) if own is None else own.at(said.checkpoint)
    return checkpoint.but(said.checkpointing) if checkpoint is not None else None


def _check_told_once(verb: str, one: Input, where: str) -> None:
    changes = one.node.type.changelog is not None
    if changes and isinstance(one.exchange, Broadcast):
        raise PlanError(
            f'"{label(one.node)}" is a changelog, and {verb}() behind broadcast() would take each '
            "change several times",
            where=where,
            hint="leave broadcast() out; connect(changes.broadcast()) tells every subtask",
        )


def check_not_broadcast(tip: Tip, verb: str, where: str) -> None:
    """Refuse to send rows to one subtask of which each should have them all.

    Raises: PlanError.
    """
    if isinstance(tip.exchange, Broadcast):
        raise PlanError(
            f'"{label(tip.node)}" is broadcast, and {verb}() behind it would send each row to one '
            "subtask alone",
            where=where,
            hint=f"leave broadcast() out, or {verb}() the stream that it is connected to",
        )
