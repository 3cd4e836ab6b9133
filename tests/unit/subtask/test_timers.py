"""When a machine lets timers of processing time fire: when due, and in turn with input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from subtasks import WIRE, Driven, one_chain, rows

from raystream.clock import ManualClock
from raystream.flow.element import EndOfInput
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId
from raystream.flow.messages import Ended
from raystream.graph.physical import ChainNode
from raystream.operators.operator import Operator
from raystream.subtask.events import Tell


@dataclass(frozen=True)
class Ringing:
    """A timer that is set ``every_us`` after it has fired; 0: at once."""

    every_us: int
    verb: str = "ring"

    def describe(self) -> str:
        return ""

    def build(self) -> _Ringing:
        return _Ringing(self.every_us)


class _Ringing(Operator):
    def __init__(self, every_us: int) -> None:
        self._every_us = every_us
        self._due_us: int | None = None

    def open(self, ctx: Any) -> None:
        self._due_us = ctx.clock.now_us() + self._every_us

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        yield batch

    def timer_due_us(self) -> int | None:
        return self._due_us

    def on_timer(self, now_us: int) -> Iterator[Any]:
        assert self._due_us is not None
        self._due_us += self._every_us
        yield rows(1_000 + self._due_us % 1_000, 1)


def ringing(every_us: int) -> Driven:
    nodes = (ChainNode("it", "it", Ringing(every_us), WIRE, "", (), (1,)),)
    return Driven(one_chain(nodes, WIRE, [ToOne()]), ManualClock(0))


def test_the_machine_sleeps_until_its_timer_and_fires_it_then():
    it = ringing(500)
    it.settle()
    assert it.sent() == []
    assert it.machine.wake_us == 500
    it.clock.advance(499)
    assert not it.machine.runnable
    it.clock.advance(1)
    it.settle()
    assert it.sent() == [1_000]
    assert it.machine.wake_us == 1_000


def test_a_timer_that_is_always_due_keeps_neither_input_nor_its_end_out():
    it = ringing(0)
    it.receive(rows(1, 2), EndOfInput())
    for _ in range(50):
        if any(effect == Tell(Ended()) for effect in it.effects):
            break
        it._take(it.machine.work())
        it.give_credit(ChannelId(1, 0, 0))
    assert any(effect == Tell(Ended()) for effect in it.effects)
    assert [n for n in it.sent() if n in (1, 2)] == [1, 2]
