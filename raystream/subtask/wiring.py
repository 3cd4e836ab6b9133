"""Which channels an edge has, and which of them belong to one subtask."""

from __future__ import annotations

from collections.abc import Iterator
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


def channels(edge: Edge, parallelism_up: int, parallelism_down: int) -> Iterator[ChannelId]:
    """List the channels of an edge."""
    for upstream in range(parallelism_up):
        if isinstance(edge.exchange, Forward):
            assert parallelism_up == parallelism_down, "forward joins equals"
            group = range(upstream, upstream + 1)
        elif isinstance(edge.exchange, Rebalance) and edge.exchange.local:
            group = local_group(upstream, parallelism_up, parallelism_down)
        else:
            group = range(parallelism_down)
        for downstream in group:
            yield ChannelId(edge.id, upstream, downstream)


def inputs_of(plan: PhysicalPlan, subtask: SubtaskId) -> list[Link]:
    """List the channels on which a subtask receives."""
    links = []
    for edge in plan.inputs(subtask.chain):
        up, down = plan.chain(edge.upstream), plan.chain(edge.downstream)
        links += [
            Link(channel, edge.port, up.subtasks[channel.upstream], edge.schema)
            for channel in channels(edge, up.parallelism, down.parallelism)
            if channel.downstream == subtask.index
        ]
    return links


def outputs_of(plan: PhysicalPlan, subtask: SubtaskId, edge: Edge) -> list[Link]:
    """List the channels of one edge on which a subtask sends."""
    up, down = plan.chain(edge.upstream), plan.chain(edge.downstream)
    return [
        Link(channel, edge.port, down.subtasks[channel.downstream], edge.schema)
        for channel in channels(edge, up.parallelism, down.parallelism)
        if channel.upstream == subtask.index
    ]
