"""Which operators share a subtask, and the physical plan that follows from it."""

from __future__ import annotations

from raystream.flow.exchange import Forward
from raystream.graph.flatten import FlatEdge, FlatGraph, FlatNode
from raystream.graph.logical import LogicalPlan
from raystream.graph.physical import Chain, ChainNode, Edge, PhysicalPlan
from raystream.operators.side_output import SideOutputSpec


def chains(graph: FlatGraph, edge: FlatEdge) -> bool:
    """Tell whether rows of an edge can stay in their subtask.

    The consumer has this one input, nobody objects, and there is nothing to exchange: subtask i
    goes to subtask i, or there is one subtask on either side.
    """
    before, after = edge.upstream, edge.downstream
    if len(graph.inputs(after)) != 1:
        return False
    if after.attached:
        return True
    return (
        before.chaining
        and after.chaining
        and before.resources == after.resources
        and before.parallelism == after.parallelism
        and (isinstance(edge.exchange, Forward) or after.parallelism == 1)
    )


def assemble(graph: FlatGraph, plan: LogicalPlan, *, chaining: bool = True) -> PhysicalPlan:
    """Group operators into chains and number the edges between these."""
    inside = {
        edge
        for edge in graph.edges
        if (chaining or isinstance(edge.downstream.spec, SideOutputSpec)) and chains(graph, edge)
    }
    groups = _groups(graph, inside)
    names = _names(groups)
    chain_of = {node: names[head] for head, nodes in groups.items() for node in nodes}
    edges: list[Edge] = []
    leaving: dict[FlatNode, list[int]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        if edge in inside:
            continue
        number = len(edges)
        leaving[edge.upstream].append(number)
        up, down = chain_of[edge.upstream], chain_of[edge.downstream]
        edges.append(Edge(number, up, down, edge.port, edge.exchange, edge.upstream.schema))
    return PhysicalPlan(
        job=plan.job,
        chains=tuple(
            Chain(
                name=names[head],
                nodes=tuple(_node(node, nodes, inside, leaving) for node in nodes),
                parallelism=head.parallelism,
                resources=head.resources,
            )
            for head, nodes in groups.items()
        ),
        edges=tuple(edges),
        max_parallelism=plan.max_parallelism,
        checkpoint=plan.checkpoint,
        restart=plan.restart,
        limits=plan.limits,
    )


def _groups(graph: FlatGraph, inside: set[FlatEdge]) -> dict[FlatNode, list[FlatNode]]:
    head_of: dict[FlatNode, FlatNode] = {}
    groups: dict[FlatNode, list[FlatNode]] = {}
    entry = {edge.downstream: edge.upstream for edge in graph.edges if edge in inside}
    for node in graph.nodes:  # each stands behind its inputs, so its producer's head is known
        head = head_of[entry[node]] if node in entry else node
        head_of[node] = head
        groups.setdefault(head, []).append(node)
    return groups


def _node(
    node: FlatNode,
    chain: list[FlatNode],
    inside: set[FlatEdge],
    leaving: dict[FlatNode, list[int]],
) -> ChainNode:
    children = [edge.downstream for edge in inside if edge.upstream is node]
    return ChainNode(
        name=node.name,
        uid=node.uid,
        spec=node.spec,
        schema=node.schema,
        where=node.where,
        children=tuple(sorted(chain.index(child) for child in children)),
        outputs=tuple(leaving[node]),
        on_error=node.on_error,
        retracting=node.retracting,
    )


def _names(groups: dict[FlatNode, list[FlatNode]]) -> dict[FlatNode, str]:
    """Name each chain by its first operator and its last: the first is in no other chain."""
    names: dict[FlatNode, str] = {}
    for head, nodes in groups.items():
        shown = [node.name for node in nodes if not node.attached] or [head.name]
        name = shown[0] if len(shown) == 1 else f"{shown[0]}→{shown[-1]}"
        while name in names.values():
            name += "'"
        names[head] = name
    return names
