"""Aligned splits: who is asked, who waits, what is told of time, and that waiting is no silence."""

from __future__ import annotations

from typing import Any

from subtasks import WIRE, Driven, SilentSource, one_chain, rows

from raystream.contracts.source import Split
from raystream.contracts.watermark import Alignment, WatermarkStrategy
from raystream.flow.element import MIN_TIME
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId
from raystream.flow.messages import AlignTo, SourceTime, Start
from raystream.graph.physical import ChainNode
from raystream.operators.source import SourceSpec
from raystream.subtask.events import Tell

OUT = ChannelId(1, 0, 0)
SECOND = 1_000_000


class Aligned(Driven):
    """A source subtask whose splits may be 10 us apart; event time is the number of the row."""

    def __init__(self, *names: str, others_us: int | None = None, **more: Any) -> None:
        source = SilentSource(names, WIRE.remove(2))
        strategy = WatermarkStrategy("n", alignment=Alignment("g", 10), **more)
        spec = SourceSpec(source, WIRE, strategy, "it", "", timed=True)
        nodes = (ChainNode("it", "it", spec, WIRE, "", (), (1,)),)
        plan = one_chain(nodes, None, [ToOne()], up=0)
        super().__init__(plan, start=Start(tuple(map(Split, names)), others_us=others_us))

    def row(self, number: int) -> str:
        """Answer the oldest poll by one row; give its split."""
        split = self.answer(rows(number, 1).visible).split.id
        self.settle()
        return split

    def told(self) -> list[int | None]:
        told = [
            effect.report.least_us
            for effect in self.effects
            if isinstance(effect, Tell) and isinstance(effect.report, SourceTime)
        ]
        self.effects.clear()
        return told

    def wait(self, us: int) -> None:
        self.clock.advance(us)
        self.settle()

    @property
    def asked(self) -> list[str]:
        return [poll.split.id for poll in self.polls]


def test_a_split_that_is_ahead_of_the_others_of_its_subtask_is_not_asked():
    it = Aligned("a", "b")
    assert it.asked == ["a", "a"]
    it.row(100)
    assert it.asked == ["a", "b"]
    it.row(101)
    assert it.asked == ["b", "b"]
    it.row(50)
    it.row(88)
    assert it.asked == ["b", "b"]
    it.row(91)  # 101 - 1 is no more than ten ahead of it
    it.row(92)
    assert set(it.asked) == {"b"}
    it.row(120)
    it.row(121)
    assert set(it.asked) == {"a"}


def test_all_splits_wait_for_another_subtask_and_the_machine_sleeps():
    it = Aligned("a", others_us=MIN_TIME)
    it.row(7)
    it.row(8)
    assert it.asked == []
    assert it.machine.wake_us is None
    it.step(AlignTo(-4))
    it.settle()
    assert it.asked == []
    it.step(AlignTo(-3))
    it.settle()
    assert it.asked == ["a", "a"]


def test_nobody_is_waited_for_where_the_others_have_no_active_split():
    it = Aligned("a", others_us=MIN_TIME)
    it.row(7)
    it.row(1_000)
    assert it.asked == []
    it.step(AlignTo(None))
    it.settle()
    assert it.asked == ["a", "a"]


def test_a_subtask_tells_its_time_at_first_then_seldom():
    it = Aligned("a")
    assert it.told() == [MIN_TIME]
    it.row(5)
    it.row(6)
    assert it.told() == []
    it.wait(100_000)
    assert it.told() == [5]
    it.wait(SECOND)
    assert it.told() == []
    it.row(9)
    assert it.told() == [8]


def test_a_subtask_that_has_to_wait_tells_so_at_once():
    it = Aligned("a", others_us=0)
    it.told()
    it.row(5)
    assert it.told() == []
    it.row(50)
    assert it.asked == ["a"]  # it was asked for before
    assert it.told() == [49]
    it.row(60)
    assert (it.asked, it.told()) == ([], [59])


def test_the_time_is_told_while_the_output_is_full_too():
    # Whoever waits for this subtask's time must not have to wait for whoever it sends to.
    it = Aligned("a")
    it.told()
    number = 0
    while not it.machine.blocked:
        it.answer(rows(number, 50).visible)
        it.settle()
        number += 50
    it.wait(100_000)
    assert it.machine.blocked
    assert it.told() == [number - 52]  # the last fifty are still in hand
    assert it.asked == ["a"]  # from before


def test_a_subtask_without_active_splits_says_that_nobody_need_wait_for_it():
    it = Aligned("a", idleness="1s")
    it.row(5)
    for _ in range(60):
        while it.polls:
            it.answer(None)
            it.settle()
        it.wait(20_000)
    assert it.sent()[-1] == "idle"
    assert it.told()[-1] is None


def test_c8_waiting_for_the_others_of_a_group_is_no_idleness():
    it = Aligned("a", others_us=0, idleness="1s")
    it.answer(rows(5, 1).visible)
    it.answer(None)
    it.settle()
    while it.asked:
        it.row(500)
    for _ in range(20):
        it.wait(500_000)
    assert "idle" not in it.sent()
    it.step(AlignTo(500))
    for _ in range(45):  # asked again, it is silent, but not for a second yet
        it.settle()
        while it.polls:
            it.answer(None)
            it.settle()
        it.clock.advance(20_000)
    assert "idle" not in it.sent()
    for _ in range(15):
        it.settle()
        while it.polls:
            it.answer(None)
            it.settle()
        it.clock.advance(20_000)
    assert it.sent()[-1] == "idle"


def test_c8_an_answer_that_comes_while_a_split_waits_begins_no_silence():
    it = Aligned("a", others_us=0, idleness="1s")
    it.row(500)
    assert it.asked == ["a"]
    it.answer(None)
    it.wait(10 * SECOND)
    it.step(AlignTo(500))
    it.settle()
    while it.polls:
        it.answer(None)
        it.settle()
    assert "idle" not in it.sent()


def test_without_alignment_nothing_is_told():
    source = SilentSource(["a"], WIRE.remove(2))
    spec = SourceSpec(source, WIRE, WatermarkStrategy("n"), "it", "", timed=True)
    nodes = (ChainNode("it", "it", spec, WIRE, "", (), (1,)),)
    it = Driven(one_chain(nodes, None, [ToOne()], up=0), start=Start((Split("a"),)))
    it.answer(rows(5, 1).visible)
    it.clock.advance(SECOND)
    it.settle()
    assert it.effects == []
