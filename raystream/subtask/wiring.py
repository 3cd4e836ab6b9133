"""Which channels an edge has, and which of them belong to one subtask."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raystream.flow.exchange import Forward, Rebalance
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.graph.physical import Edge, PhysicalPlan
from raystream.subtask.partition import local_group


@dataclass(frozen=True, slots=True)
class Link:
    """A channel as one end of it knows it: its id, the subtask at the other end, its schema."""

    channel: ChannelId
    port: int
    peer: SubtaskId
    schema: pa.Schema | None


def receivers(edge: Edge, upstream: int, parallelism_up: int, parallelism_down: int) -> range:
    """Give the subtasks that one of those upstream sends to on an edge."""
    if isinstance(edge.exchange, Forward):
        assert parallelism_up == parallelism_down, "forward joins equals"
        return range(upstream, upstream + 1)
    if isinstance(edge.exchange, Rebalance) and edge.exchange.local:
        return local_group(upstream, parallelism_up, parallelism_down)
    return range(parallelism_down)


def inputs_of(plan: PhysicalPlan, subtask: SubtaskId) -> list[Link]:
    """List the channels on which a subtask receives."""
    links = []
    for edge in plan.inputs(subtask.chain):
        peers, parallelism = plan.chain(edge.upstream).subtasks, subtask.parallelism
        links += [
            Link(ChannelId(edge.id, peer.index, subtask.index), edge.port, peer, edge.schema)
            for peer in peers
            if subtask.index in receivers(edge, peer.index, len(peers), parallelism)
        ]
    return links


def outputs_of(plan: PhysicalPlan, subtask: SubtaskId, edge: Edge) -> list[Link]:
    """List the channels of one edge on which a subtask sends."""
    peers = plan.chain(edge.downstream).subtasks
    return [
        Link(ChannelId(edge.id, subtask.index, index), edge.port, peers[index], edge.schema)
        for index in receivers(edge, subtask.index, subtask.parallelism, len(peers))
    ]
