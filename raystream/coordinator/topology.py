"""Where each operator stands in a job: what it reads from, and whether rows begin or end there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.operators.sink import SinkSpec


@dataclass(frozen=True, slots=True)
class OperatorPlace:
    """One operator of a plan: the operators before it, by name, and how their rows come."""

    kind: Literal["source", "operator", "sink"]
    inputs: tuple[str, ...]
    exchange: str


def places(plan: PhysicalPlan) -> dict[str, OperatorPlace]:
    """Give the place of every operator, by its name."""
    inputs: dict[str, list[str]] = {node.name: [] for c in plan.chains for node in c.nodes}
    heads = {edge.id: plan.chain(edge.downstream).nodes[0].name for edge in plan.edges}
    for chain in plan.chains:
        for node in chain.nodes:
            taken_by = [chain.nodes[child].name for child in node.children]
            for name in [*taken_by, *(heads[edge] for edge in node.outputs)]:
                inputs[name].append(node.name)
    exchanges = {
        chain.nodes[0].name: ", ".join(str(edge.exchange) for edge in plan.inputs(chain.name))
        for chain in plan.chains
    }
    return {
        node.name: OperatorPlace(
            _kind(node, inputs[node.name]),
            tuple(inputs[node.name]),
            exchanges.get(node.name, ""),
        )
        for chain in plan.chains
        for node in chain.nodes
    }


def _kind(node: ChainNode, inputs: list[str]) -> Literal["source", "operator", "sink"]:
    spec: Any = node.spec
    if isinstance(spec, SinkSpec):
        return "sink"
    return "operator" if inputs else "source"
