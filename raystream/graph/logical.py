"""The job as its author wrote it: operators, what flows between them, and the lines they stand on.

Nodes change in place (``named``, ``with_parallelism``), which is why a plan is read only when the
job runs or is explained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa

from raystream.config import Limits
from raystream.contracts.autoscale import Autoscale
from raystream.contracts.checkpointing import Checkpointing, Never, RestartStrategy
from raystream.contracts.rejects import DEAD_LETTER, DEAD_LETTERS, FAIL
from raystream.errors import PlanError
from raystream.flow.batch import wire_schema
from raystream.flow.exchange import Exchange
from raystream.graph.physical import Resources
from raystream.operators.operator import Spec
from raystream.operators.side_output import SideOutputSpec


@dataclass(frozen=True, slots=True)
class StreamType:
    """What flows: columns, or objects (``schema`` None); with event time or without.

    ``changelog`` names the key columns of the table whose changes flow; None: rows are rows.
    """

    schema: pa.Schema | None
    timed: bool = False
    changelog: tuple[str, ...] | None = None

    @property
    def wire(self) -> pa.Schema | None:
        """The schema of the batches themselves: the columns, and the hidden event time."""
        if self.schema is None:
            return None
        return wire_schema(self.schema, timed=self.timed, changes=self.changelog is not None)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Columns that a consumer needs and its users never see, made before rows are exchanged."""

    spec: Spec
    type: StreamType


@dataclass(frozen=True, slots=True)
class Input:
    """Where an operator's rows come from; ``exchange`` None: nothing was said."""

    node: LogicalNode
    exchange: Exchange | None = None
    prepared: Prepared | None = None


@dataclass(eq=False, slots=True)
class LogicalNode:
    """One operator. ``spec`` None is a union, which the physical plan dissolves.

    ``inputs`` are its ports in order, or the streams of a union. ``single`` operators run as one
    subtask whatever the job says. ``sides`` tells what flows under each tag of its side outputs,
    None where a user's function chooses the tags as it runs. ``on_error`` says what becomes of rows
    that fail.
    """

    verb: str
    spec: Spec | None
    type: StreamType
    inputs: tuple[Input, ...]
    where: str
    name: str
    uid: str | None = None
    parallelism: int | None = None
    bounds: tuple[int, int] | None = None
    resources: Resources | None = None
    chaining: bool = True
    stateful: bool = False
    single: bool = False
    bounded: bool = True
    sides: Mapping[str, StreamType] | None = field(default_factory=dict)
    on_error: str = FAIL

    @property
    def named_spec(self) -> Spec:
        """The spec, told the name that the operator has by now."""
        assert self.spec is not None, "a union is no operator"
        return with_name(self.spec, self.name)

    def subtasks(self, default: int) -> int:
        """How many subtasks run this operator in a job of that parallelism."""
        if self.single:
            return 1
        if self.parallelism is not None:
            return self.parallelism
        if self.bounds is not None:
            return min(max(default, self.bounds[0]), self.bounds[1])
        return default


def with_name(spec: Spec, name: str) -> Spec:
    """Give the same spec for an operator of another name."""
    fields = getattr(spec, "__dataclass_fields__", {})
    for holder in ("operator", "name"):
        if holder in fields:
            value: Any = spec
            return cast("Spec", dataclasses.replace(value, **{holder: name}))  # a Spec like it
    return spec


@dataclass(slots=True)
class LogicalGraph:
    """All operators of a job, in the order in which they were written."""

    nodes: list[LogicalNode] = field(default_factory=list)

    def add(self, node: LogicalNode) -> LogicalNode:
        """Take an operator in; without a name of its own it gets ``verb#n``."""
        if node.name:
            self._check_free(node.name, node)
        else:
            node.name = self.free_name(node.verb)
        self.nodes.append(node)
        return node

    def free_name(self, verb: str) -> str:
        """Give the default name of the next operator of a verb: it counts, named ones included."""
        taken = {node.name for node in self.nodes}
        number = 1 + sum(node.verb == verb for node in self.nodes)
        while f"{verb}#{number}" in taken:
            number += 1
        return f"{verb}#{number}"

    def rename(self, node: LogicalNode, name: str, where: str) -> None:
        """Name an operator.

        Raises: PlanError if the name is taken, or is none.
        """
        if not _is_text(name):
            raise PlanError(f"a name is a text that is not empty, got {name!r}", where=where)
        self._check_free(name, node, where)
        node.name = name

    def give_uid(self, node: LogicalNode, uid: str, where: str) -> None:
        """Fix the name under which an operator's state is kept.

        Raises: PlanError if another operator has it.
        """
        if not _is_text(uid):
            raise PlanError(f"a uid is a text that is not empty, got {uid!r}", where=where)
        for other in self.nodes:
            if other is not node and other.uid == uid:
                raise PlanError(
                    f'the uid "{uid}" is taken by "{other.name}" at {other.where}', where=where
                )
        node.uid = uid

    def _check_free(self, name: str, node: LogicalNode, where: str | None = None) -> None:
        for other in self.nodes:
            if other is not node and other.name == name:
                raise PlanError(
                    f'the name "{name}" is taken by the {other.verb} at {other.where}',
                    where=where or node.where,
                    hint="operators have names of their own",
                )


@dataclass(frozen=True, slots=True)
class LogicalPlan:
    """Operators that are to run, each behind those whose output it takes.

    ``scale`` is what a running job was asked for: how many subtasks run an operator, by its uid or
    name, and, under an empty one, all that nobody has spoken of.
    """

    job: str
    nodes: tuple[LogicalNode, ...]
    parallelism: int = 1
    max_parallelism: int = 128
    limits: Limits = field(default_factory=Limits)
    checkpoint: Checkpointing | None = None
    restart: RestartStrategy = field(default_factory=Never)
    scale: Mapping[str, int] = field(default_factory=dict)
    autoscale: Autoscale | None = None

    def prune(self, targets: Iterable[LogicalNode]) -> LogicalPlan:
        """Keep only what the targets need."""
        kept = ancestors(targets)
        return dataclasses.replace(self, nodes=tuple(node for node in self.nodes if node in kept))

    @property
    def sinks(self) -> tuple[LogicalNode, ...]:
        """The operators whose output nobody can take."""
        return tuple(node for node in self.nodes if node.verb in SINK_VERBS)

    def subtasks(self, node: LogicalNode) -> int:
        """How many subtasks run an operator."""
        asked = self.scale.get(node.uid or node.name)
        if asked is not None and not node.single:
            return asked
        return node.subtasks(self.scale.get(EVERY, self.parallelism))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


EVERY = ""
"""In a scale, whatever nobody has spoken of."""

SINK_VERBS = frozenset({"sink", "print", "collect"})


def ancestors(targets: Iterable[LogicalNode]) -> set[LogicalNode]:
    """Give the targets and everything that they need."""
    found: set[LogicalNode] = set()
    waiting = list(targets)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(one.node for one in node.inputs)
    return found


def check_dead_letters(nodes: Iterable[LogicalNode]) -> None:
    """Refuse to read dead letters where an operator keeps none.

    Asked when the plan is read, because ``on_error`` may stand behind ``dead_letters``.
    Raises: PlanError.
    """
    for node in nodes:
        spec: Any = node.spec
        if isinstance(spec, SideOutputSpec) and spec.tag == DEAD_LETTERS:
            sender = node.inputs[0].node
            if sender.on_error != DEAD_LETTER:
                raise PlanError(
                    f'"{sender.name}" has no dead letters: its on_error is "{sender.on_error}"',
                    where=node.where,
                    hint='call on_error("dead_letter") on the stream whose dead_letters are read',
                )


def is_bounded(node: LogicalNode) -> bool:
    """Tell whether a stream ends: all of its sources do."""
    return all(one.bounded for one in ancestors([node]))


def origins(one: Input, exchange: Exchange | None = None) -> Iterator[Input]:
    """Give what an input means once unions are dissolved.

    An exchange behind a union is that of each of its streams, in place of any they had.
    """
    said = exchange if exchange is not None else one.exchange
    if one.node.spec is None:
        for inner in one.node.inputs:
            yield from origins(inner, said)
    else:
        yield Input(one.node, said)


def label(node: LogicalNode) -> str:
    """Say which stream an operator makes: its source, and the operator if that is another.

    It goes between quotes in a message: ``bids`` or ``bids" after "select#2``.
    """
    first = node
    while first.inputs:
        first = first.inputs[0].node
    return node.name if first is node else f'{first.name}" after "{node.name}'
