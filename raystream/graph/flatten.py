"""The operators of a plan with nothing implicit left: no unions, every edge with its exchange.

The rules of the physical plan rewrite this graph in place; users never see it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pyarrow as pa

from raystream.contracts.rejects import FAIL
from raystream.errors import PlanError
from raystream.flow.exchange import Custom, Exchange, Forward, Hash, Rebalance, ToOne
from raystream.graph.logical import Input, LogicalNode, LogicalPlan, Prepared, origins
from raystream.graph.physical import Resources
from raystream.operators.columns import ColumnsSpec
from raystream.operators.operator import Spec
from raystream.operators.row_functions import FilterFunctionSpec, MapSpec
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.operators.to_rows import ToRowsSpec

_AS_THEY_COME = (ColumnsSpec, FilterFunctionSpec, MapSpec, SinkSpec, ToRowsSpec)
"""Operators that take the changes of a table wherever they are: no key matters to them."""


@dataclass(eq=False, slots=True)
class FlatNode:
    """One operator as it will run.

    ``attached`` operators were put in by the plan and always run where their input is made;
    ``schema`` is that of the wire. Of a changelog ``changelog`` names the key of its table, and
    ``retracting`` tells whether each row that leaves it is announced.
    """

    name: str
    uid: str
    spec: Spec
    schema: pa.Schema | None
    where: str
    parallelism: int
    resources: Resources
    chaining: bool
    attached: bool = False
    on_error: str = FAIL
    changelog: tuple[str, ...] | None = None
    retracting: bool | None = None


@dataclass(eq=False, slots=True)
class FlatEdge:
    """Rows from one operator to a port of another; ``merged``: with others', by a union."""

    upstream: FlatNode
    downstream: FlatNode
    port: int
    exchange: Exchange
    merged: bool = False


@dataclass(slots=True)
class FlatGraph:
    """Operators, each behind those whose output it takes, and the edges between them."""

    nodes: list[FlatNode] = field(default_factory=list)
    edges: list[FlatEdge] = field(default_factory=list)

    def inputs(self, node: FlatNode) -> list[FlatEdge]:
        return [edge for edge in self.edges if edge.downstream is node]

    def outputs(self, node: FlatNode) -> list[FlatEdge]:
        return [edge for edge in self.edges if edge.upstream is node]

    def insert(self, edge: FlatEdge, name: str, spec: Spec, schema: pa.Schema | None) -> FlatNode:
        """Put an operator on an edge, at its upstream end; it runs where its input is made."""
        before = edge.upstream
        node = dataclasses.replace(
            before,
            name=name,
            uid=name,
            spec=spec,
            schema=schema,
            attached=True,
            on_error=FAIL,
        )
        node.where = edge.downstream.where
        self.nodes.insert(self.nodes.index(before) + 1, node)
        self.edges.append(FlatEdge(before, node, 0, Forward()))
        edge.upstream = node
        return node

    def remove(self, node: FlatNode) -> None:
        """Take out an operator that has one input: its input's rows go where its own went."""
        (entry,) = self.inputs(node)
        for edge in self.outputs(node):
            edge.upstream = entry.upstream
        self.edges.remove(entry)
        self.nodes.remove(node)


def flatten(plan: LogicalPlan) -> FlatGraph:
    """Dissolve unions and say how rows travel on every edge.

    Raises: PlanError where ``forward()`` joins operators of different parallelism, a parallelism
    is above the job's maximum, or a uid is taken.
    """
    graph = FlatGraph()
    made: dict[LogicalNode, FlatNode] = {}
    for node in plan.nodes:
        if node.spec is None:
            continue
        made[node] = flat = _flat(node, plan)
        if isinstance(node.spec, SideOutputSpec):
            _attach(flat, made[node.inputs[0].node])
        upstream: list[tuple[FlatNode, int, Input, Prepared | None]] = [
            (made[origin.node], port, origin, one.prepared)
            for port, one in enumerate(node.inputs)
            for origin in origins(one)
        ]
        graph.nodes.append(flat)
        for number, (before, port, origin, prepared) in enumerate(upstream):
            merged = node.inputs[port].node.spec is None
            exchange = _exchange(origin.exchange, before, flat)
            edge = FlatEdge(before, flat, port, exchange, merged)
            graph.edges.append(edge)
            if prepared is not None:
                name = f"{flat.name}.columns{number + 1 if len(upstream) > 1 else ''}"
                graph.insert(edge, name, prepared.spec, prepared.type.wire)
    _check_uids(graph)
    return graph


def _flat(node: LogicalNode, plan: LogicalPlan) -> FlatNode:
    parallelism = plan.subtasks(node)
    if parallelism > plan.max_parallelism:
        raise PlanError(
            f'"{node.name}" has parallelism {parallelism}, above the job\'s max_parallelism '
            f"{plan.max_parallelism}",
            where=node.where,
            hint="give the job a larger max_parallelism=; it is the number of key groups",
        )
    spec = node.named_spec
    if isinstance(spec, SourceSpec) and node.on_error != FAIL:
        spec = dataclasses.replace(spec, source=spec.source.tolerating())
    return FlatNode(
        name=node.name,
        uid=node.uid or node.name,
        spec=spec,
        schema=node.type.wire,
        where=node.where,
        parallelism=parallelism,
        resources=node.resources or Resources(),
        chaining=node.chaining,
        on_error=node.on_error,
        changelog=node.type.changelog,
    )


def _attach(flat: FlatNode, before: FlatNode) -> None:
    """Let an operator run where its input is made, whatever the job says."""
    flat.parallelism, flat.resources, flat.attached = before.parallelism, before.resources, True


def _exchange(said: Exchange | None, before: FlatNode, after: FlatNode) -> Exchange:
    equal = before.parallelism == after.parallelism
    if before.changelog is not None:
        if isinstance(said, Hash) and isinstance(after.spec, _AS_THEY_COME):
            said = None  # by another key the changes of one row would lose their order
        if said is None and not equal:
            return _by_key(before)
    if said is None:
        return Forward() if equal else Rebalance()
    if isinstance(said, Forward) and not equal:
        raise PlanError(
            f'forward() from "{before.name}" (parallelism {before.parallelism}) to "{after.name}" '
            f"(parallelism {after.parallelism}): both must have the same",
            where=after.where,
            hint="use rebalance(), or give both the same parallelism",
        )
    if isinstance(said, Custom):
        return dataclasses.replace(said, operator=f"partition_by before {after.name}")
    return said


def _by_key(node: FlatNode) -> Exchange:
    """Send the changes of one row of a table to one subtask."""
    assert node.schema is not None, "a changelog has columns"
    # Equal rows have equal parts: where all columns are the key, those that can be one will do.
    named = [n for n in node.changelog or () if not pa.types.is_nested(node.schema.field(n).type)]
    return Hash(tuple(named)) if named else ToOne()


def _check_uids(graph: FlatGraph) -> None:
    seen: dict[str, FlatNode] = {}
    for node in graph.nodes:
        other = seen.setdefault(node.uid, node)
        if other is not node:
            raise PlanError(
                f'"{node.name}" and "{other.name}" have the same uid "{node.uid}"',
                where=node.where,
                hint="a uid that is not given is the operator's name",
            )
