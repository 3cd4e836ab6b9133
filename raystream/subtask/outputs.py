"""All that leaves a subtask: where it goes, what waits for credit, when partial envelopes go."""

from __future__ import annotations

from collections.abc import Iterator

from raystream.clock import Clock
from raystream.flow.batch import Batch
from raystream.flow.element import Barrier, EndOfInput, Marker, Status, Watermark
from raystream.flow.figures import OutputFigures
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.subtask.events import AskProgress, CreditCame, Send
from raystream.subtask.output import Outgoing, OutputEdge, output_edges

_BUSY_FLUSH_US = 50_000
"""A subtask that never rests lets partial envelopes go all the same: rows of a slow function must
not wait for an envelope's worth of them."""


class Outputs:
    """The sending side of every channel that leaves one subtask."""

    def __init__(self, plan: PhysicalPlan, subtask: SubtaskId, attempt: int, clock: Clock) -> None:
        self._limits = plan.limits
        self._clock = clock
        self._edges = output_edges(plan, subtask, attempt)
        self._channels: dict[ChannelId, Outgoing] = {
            c.link.channel: c for edge in self._edges.values() for c in edge.channels
        }
        self._flushed_us = clock.monotonic_us()
        self._flush_cost_us = 0

    @property
    def full(self) -> bool:
        """Whether an output is full: nothing is pulled until credit comes."""
        return any(edge.full for edge in self._edges.values())

    def held(self, us: int) -> None:
        """Note for how long the subtask could not work: it was for the channels that are full."""
        for channel in self._channels.values():
            if channel.full:
                channel.held_us += us

    def figures(self) -> tuple[OutputFigures, ...]:
        """Tell of each edge what was sent, and how long it was out of credit."""
        return tuple(_edge_figures(edge) for edge in self._edges.values())

    def put(
        self, edges: tuple[int, ...], element: Batch | Watermark | Status | Marker
    ) -> Iterator[Send]:
        """Let an element leave on some edges; full envelopes go at once."""
        for edge in edges:
            yield from self._edges[edge].put(element)
        yield from self._sends(flush=False)

    def urgent(self, element: Barrier | EndOfInput) -> Iterator[Send]:
        """Let a control element leave on every channel at once, with all that waits before it."""
        for channel in self._channels.values():
            yield from channel.urgent(element)

    def credit(self, event: CreditCame) -> Iterator[Send | AskProgress]:
        """Take credit; give what may leave now.

        Raises: SubtaskLost if something that was sent has not arrived at two answers.
        """
        channel = self._channels[event.channel]
        channel.credit(event.consumed_bytes, event.window_bytes)
        if event.received_bytes is not None:
            channel.arrived(event.received_bytes)
        yield from self.asks(self._clock.monotonic_us())
        yield from self._sends(flush=False)

    def asks(self, now_us: int) -> Iterator[AskProgress]:
        """Ask receivers that have been silent for long."""
        for channel in self._channels.values():
            yield from channel.asks(now_us)

    def flush(self, now_us: int, *, resting: bool) -> list[Send]:
        """Let partial envelopes go, if it is time: at rest, or after a while of never resting."""
        due_us = self._flush_due_us if resting else self._flushed_us + _BUSY_FLUSH_US
        if now_us < due_us or now_us < self._flush_due_us:
            return []
        sends = list(self._sends(flush=True))
        if sends:
            self._flushed_us = now_us
        return sends

    def cost(self, cost_us: int) -> None:
        """Learn what it cost to send what was flushed last."""
        self._flush_cost_us = cost_us

    def dues(self, *, resting: bool) -> Iterator[int]:
        """Tell when there will be something to do, if nothing comes before."""
        if resting and any(c.sendable for c in self._channels.values()):
            yield self._flush_due_us
        for channel in self._channels.values():
            if channel.stalled_us is not None:
                yield channel.stalled_us + self._limits.stalled_credit_us

    @property
    def _flush_due_us(self) -> int:
        return self._flushed_us + self._limits.flush_cost_share * self._flush_cost_us

    def _sends(self, *, flush: bool) -> Iterator[Send]:
        for channel in self._channels.values():
            yield from channel.sends(flush=flush)


def _edge_figures(edge: OutputEdge) -> OutputFigures:
    slowest = max(edge.channels, key=lambda channel: channel.held_us)
    return OutputFigures(
        edge.edge,
        slowest.link.peer.chain,
        sum(channel.sent_bytes for channel in edge.channels),
        slowest.held_us,
        slowest.link.peer.index if slowest.held_us else None,
    )
