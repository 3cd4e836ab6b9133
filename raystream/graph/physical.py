"""The physical plan: chains of operators, each run by parallel subtasks, and the edges between."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from raystream.config import Limits
from raystream.contracts.checkpointing import Checkpointing, Never, RestartStrategy
from raystream.contracts.rejects import FAIL
from raystream.flow.exchange import Exchange
from raystream.flow.ids import SubtaskId
from raystream.operators.operator import Spec


@dataclass(frozen=True, slots=True)
class Resources:
    """What each subtask of a chain asks of the cluster; ``num_cpus`` None: a share of one CPU.

    ``labels`` are those that its node must have, in Ray's words.
    """

    num_cpus: float | None = None
    num_gpus: float = 0
    custom: tuple[tuple[str, float], ...] = ()
    accelerator_type: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChainNode:
    """One operator of a chain.

    ``children`` are the indices in the chain of the operators that take its output in the same
    subtask; ``outputs`` the ids of the edges on which it leaves. ``schema`` is what a batch of its
    output looks like on the wire, event time included; None on an object stream. ``on_error`` says
    what becomes of rows that fail. ``retracting`` tells of a changelog whether each row that leaves
    its table is announced.
    """

    name: str
    uid: str
    spec: Spec
    schema: pa.Schema | None
    where: str = ""
    children: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    on_error: str = FAIL
    retracting: bool | None = None


@dataclass(frozen=True)
class Chain:
    """Operators that run in one subtask; ``nodes[0]`` is the head, where input comes in."""

    name: str
    nodes: tuple[ChainNode, ...]
    parallelism: int
    resources: Resources = field(default_factory=Resources)

    @cached_property
    def subtasks(self) -> tuple[SubtaskId, ...]:
        return tuple(SubtaskId(self.name, i, self.parallelism) for i in range(self.parallelism))


@dataclass(frozen=True, slots=True)
class Edge:
    """All channels from one chain to another: from an operator's output to an input port."""

    id: int
    upstream: str
    downstream: str
    port: int
    exchange: Exchange
    schema: pa.Schema | None


@dataclass(frozen=True)
class PhysicalPlan:
    """What a runtime deploys."""

    job: str
    chains: tuple[Chain, ...]
    edges: tuple[Edge, ...]
    max_parallelism: int = 128
    limits: Limits = field(default_factory=Limits)
    checkpoint: Checkpointing | None = None
    restart: RestartStrategy = field(default_factory=Never)

    def chain(self, name: str) -> Chain:
        return self._named[name]

    def inputs(self, chain: str) -> tuple[Edge, ...]:
        return tuple(edge for edge in self.edges if edge.downstream == chain)

    def outputs(self, chain: str) -> tuple[Edge, ...]:
        return tuple(edge for edge in self.edges if edge.upstream == chain)

    # Asked for with every message of every subtask: made once.

    @cached_property
    def _named(self) -> dict[str, Chain]:
        return {chain.name: chain for chain in self.chains}

    @cached_property
    def subtasks(self) -> tuple[SubtaskId, ...]:
        return tuple(subtask for chain in self.chains for subtask in chain.subtasks)
