"""One subtask's machine in the hands of a test: what it sends is kept, credit comes when told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.source import END, Reader, Source, Split
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, Objects
from raystream.flow.codec import Header, decode, encode, read_header
from raystream.flow.element import Barrier, Element, EndOfInput, Status, Watermark
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.flow.messages import Start
from raystream.graph.physical import Chain, ChainNode, Edge, PhysicalPlan
from raystream.subtask.events import CreditCame, GrantCredit, Poll, Polled, Received, Send
from raystream.subtask.handing_over import Restored
from raystream.subtask.machine import SubtaskMachine
from raystream.subtask.wiring import Link

SMALL = Limits(
    batch_rows_max=64,
    row_batch_rows_max=64,
    envelope_bytes_inline=2_000,
    envelope_bytes_large=8_000,
    envelope_bytes_max=16_000,
    input_bytes_max=40_000,
    channel_bytes_min=4_000,
)
"""Limits so tight that every bound is met by a few hundred rows."""

WIRE = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string()), EVENT_TIME_FIELD])


def rows(start: int, count: int, width: int = 4) -> Columns:
    """Give numbered rows with texts of a width; the event time is the number."""
    n = np.arange(start, start + count)
    columns = [pa.array(n), pa.array([f"{i % 10}" * width for i in n], pa.string()), pa.array(n)]
    return Columns(pa.RecordBatch.from_arrays(columns, schema=WIRE))


def link(channel: ChannelId, schema: pa.Schema | None = WIRE) -> Link:
    """Give one end of a channel."""
    return Link(channel, 0, SubtaskId("peer", channel.downstream, channel.downstream + 1), schema)


def spell(elements: Iterable[Element]) -> list[object]:
    """Give elements as plain values: numbers of rows, ``W7``, ``idle``, ``active``, ``end``."""
    said: list[object] = []
    for element in elements:
        match element:
            case Columns(record):
                said += record.column("n").to_pylist()
            case Objects(values):
                said += values
            case Watermark(time_us):
                said.append(f"W{time_us}")
            case Status(idle):
                said.append("idle" if idle else "active")
            case Barrier(checkpoint_id):
                said.append(f"|{checkpoint_id}")
            case EndOfInput():
                said.append("end")
    return said


class SilentSource(Source):
    """A source whose splits are given and whose rows the test brings itself."""

    def __init__(self, names: Iterable[str] = (), schema: pa.Schema | None = None) -> None:
        self._names = tuple(names)
        self.schema = schema

    def splits(self) -> list[Split]:
        return [Split(name) for name in self._names]

    def open(self, split: Split, position: Any) -> Reader:
        raise AssertionError("the test answers the polls")


def one_chain(
    nodes: tuple[ChainNode, ...],
    schema_in: pa.Schema | None,
    exchanges: Iterable[Any] = (),
    *,
    schema_out: pa.Schema | None = WIRE,
    up: int = 1,
    down: int = 1,
    limits: Limits = SMALL,
) -> PhysicalPlan:
    """A chain ``it`` fed by ``up`` subtasks over edge 0, and one edge a given exchange behind."""
    nothing = ChainNode("far", "far", nodes[0].spec, None)
    exchanges = tuple(exchanges)
    edges = tuple(
        Edge(1 + at, "it", f"to{at}", 0, exchange, schema_out)
        for at, exchange in enumerate(exchanges)
    )
    feeding = () if up == 0 else (Chain("from", (nothing,), up),)
    first = () if up == 0 else (Edge(0, "from", "it", 0, ToOne(), schema_in),)
    behind = tuple(Chain(f"to{at}", (nothing,), down) for at in range(len(exchanges)))
    return PhysicalPlan(
        "test", (*feeding, Chain("it", nodes, 1), *behind), (*first, *edges), limits=limits
    )


class Driven:
    """A started machine, the frames it has sent by channel, the credit it has granted."""

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: ManualClock | None = None,
        start: Start | None = None,
        *,
        started: bool = True,
        restored: Restored | None = None,
    ) -> None:
        self.plan = plan
        self.clock = clock or ManualClock()
        self.delivered: list[Batch] = []
        self.effects: list[Any] = []
        self.frames: dict[ChannelId, list[bytes]] = {}
        self.consumed: dict[ChannelId, int] = {}
        self.grants: list[CreditCame] = []
        self.polls: list[Poll] = []
        self._sequence: dict[ChannelId, int] = {}
        self.machine = SubtaskMachine(
            plan, plan.chain("it").subtasks[0], 1, self.clock, self._context, restored=restored
        )
        if started:
            self.step(start or Start())

    def _context(self, node: ChainNode) -> OpenContext:
        return OpenContext(
            node.name, clock=self.clock, limits=self.plan.limits, deliver=self.delivered.append
        )

    def step(self, event: Any) -> None:
        self._take(self.machine.step(event))

    def receive(self, *elements: Element, upstream: int = 0) -> int:
        """Bring one frame on edge 0; give its size."""
        channel = ChannelId(0, upstream, 0)
        number = self._sequence.get(channel, 0)
        self._sequence[channel] = number + 1
        last = elements[-1]
        barrier = last.checkpoint_id if isinstance(last, Barrier) else 0
        frame = encode(Header(1, channel, number, len(elements), barrier), elements)
        self.step(Received(frame))
        return len(frame)

    def answer(self, polled: Any) -> Poll:
        """Answer the oldest poll."""
        poll = self.polls.pop(0)
        self.step(Polled(poll.split.id, polled))
        return poll

    def settle(self, slices_max: int = 100_000) -> int:
        """Work until there is nothing to do now; what is runnable must get somewhere."""
        for count in range(slices_max):
            if not self.machine.runnable:
                wake_us = self.machine.wake_us
                assert wake_us is None or wake_us > self.clock.monotonic_us(), "a busy loop"
                return count
            self._take(self.machine.work())
        raise AssertionError("the machine is busy for ever")

    def sent(self, channel: ChannelId | None = None) -> list[object]:
        """Say what has been sent, on one channel or on the only one."""
        frames = self.frames.get(channel, []) if channel else next(iter(self.frames.values()), [])
        return spell(e for frame in frames for e in self._elements(frame))

    def batches(self, channel: ChannelId) -> list[Any]:
        """Give the batches that have been sent on a channel."""
        found = [e for frame in self.frames.get(channel, []) for e in self._elements(frame)]
        return [e for e in found if isinstance(e, Columns | Objects)]

    def sent_bytes(self, channel: ChannelId) -> int:
        return sum(map(len, self.frames.get(channel, [])))

    def in_flight(self, channel: ChannelId) -> int:
        return self.sent_bytes(channel) - self.consumed.get(channel, 0)

    def give_credit(self, channel: ChannelId, window_bytes: int | None = None) -> None:
        """Say that all that was sent on a channel is consumed."""
        self.consumed[channel] = self.sent_bytes(channel)
        window_bytes = window_bytes or self.plan.limits.channel_bytes_min
        self.step(CreditCame(channel, self.consumed[channel], window_bytes))

    def forget(self, channel: ChannelId) -> int:
        """Drop what a channel has carried, so that a test of millions of rows stays small."""
        frames = self.frames.pop(channel, [])
        size = sum(map(len, frames))
        self.consumed[channel] = self.consumed.get(channel, 0) + size
        self.step(CreditCame(channel, self.consumed[channel], self.plan.limits.channel_bytes_min))
        return size

    def _elements(self, frame: bytes) -> list[Element]:
        edge = read_header(frame).channel.edge
        return list(decode(frame, next(e.schema for e in self.plan.edges if e.id == edge)))

    def _take(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Send(_, frame):
                    self.frames.setdefault(read_header(frame).channel, []).append(frame)
                case GrantCredit(_, credit):
                    self.grants.append(credit)
                case Poll():
                    self.polls.append(effect)
                case _:
                    self.effects.append(effect)


__all__ = ["END", "SMALL", "WIRE", "Driven", "SilentSource", "link", "one_chain", "rows", "spell"]
