"""Operators that stay open for the next attempt: only as a checkpoint has found them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from subtasks import WIRE, Driven, SilentSource, one_chain, rows

import raystream as rs
from raystream.clock import ManualClock
from raystream.contracts.checkpointing import Checkpointing
from raystream.contracts.source import END, Split
from raystream.errors import ProtocolError
from raystream.flow.element import Barrier, EndOfInput, Marker, Status, Watermark
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.flow.messages import Cancel, Closed, Completed, Finish, Start, Trigger
from raystream.graph.physical import ChainNode
from raystream.keyed.snapshot import Section, Share, Snapshot
from raystream.operators.operator import Operator
from raystream.operators.source import SourceSpec
from raystream.runtime.left_open import with_readers
from raystream.subtask.events import Acknowledge, Keep, Polled, Tell
from raystream.subtask.handing_over import Resting
from raystream.subtask.kept_splits import kept_splits

OUT = ChannelId(1, 0, 0)
NO_ATTEMPT_WAITS = Checkpointing("memory://staying")


@dataclass(frozen=True)
class Noting:
    """Keeps the numbers of its rows, gives what is new as changes, and notes its life."""

    life: list[str] = field(default_factory=list)
    verb: str = "note"

    def describe(self) -> str:
        return ""

    def build(self) -> _Note:
        return _Note(self.life)


class _Note(Operator):
    def __init__(self, life: list[str]) -> None:
        self._life = life
        self._seen: list[int] = []
        self._told = 0
        self.due_us: int | None = None

    def open(self, ctx: Any) -> None:
        self._life.append("open")
        self._ctx = ctx

    def on_end(self) -> Iterator[Any]:
        self._life.append("end")
        return iter(())

    def close(self) -> None:
        self._life.append("close")

    def restore(self, snapshot: Snapshot) -> None:
        self._life.append("restore")

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        self._seen += batch.record.column("n").to_pylist()
        self._ctx.metrics.counter("seen").inc(batch.num_rows)
        self._ctx.deliver(batch)
        yield batch

    def timer_due_us(self) -> int | None:
        return self.due_us

    def on_timer(self, now_us: int) -> Iterator[Any]:
        self.due_us = None
        return iter(())

    def snapshot(self) -> Snapshot:
        return (self._section(self._seen),)

    def changes(self) -> Snapshot:
        told, self._told = self._told, len(self._seen)
        return (replace(self._section(self._seen[told:]), delta=told > 0),)

    def _section(self, numbers: list[int]) -> Section:
        return Section("seen", pa.table({"n": pa.array(numbers, pa.int64())}), Share.UNION)


def noting(
    spec: Noting | None = None, *, restored: Resting | None = None, clock: ManualClock | None = None
) -> Driven:
    node = ChainNode("it", "it", spec or Noting(), WIRE, "", (), (1,))
    plan = replace(one_chain((node,), WIRE, [ToOne()]), checkpoint=NO_ATTEMPT_WAITS)
    return Driven(plan, clock, restored=restored)


def at_rest() -> tuple[Driven, Noting]:
    """Give a subtask that has just taken its snapshot of checkpoint 7."""
    spec = Noting()
    it = noting(spec)
    it.receive(rows(1, 2), Watermark(5), Barrier(7))
    it.settle()
    return it, spec


def closed(it: Driven) -> list[Closed]:
    return [e.report for e in it.effects if isinstance(e, Tell) and isinstance(e.report, Closed)]


def test_operators_rest_where_the_snapshot_was_the_last_thing_that_happened():
    it, spec = at_rest()
    it.step(Finish(7))
    assert closed(it) == [Closed(rests=True)]
    assert it.machine.resting.checkpoint_id == 7
    assert spec.life == ["open"]
    it.step(Cancel())  # it has let go: what it has left open is not its own
    assert spec.life == ["open"]


def timer(it: Driven) -> None:
    it.machine.chain.operators[0].due_us = it.clock.now_us()
    it.settle()


HAPPENINGS = {
    "a row": lambda it: it.receive(rows(9, 1)),
    "a watermark": lambda it: it.receive(Watermark(6)),
    "idleness": lambda it: it.receive(Status(idle=True)),
    "a timer": timer,
    "another checkpoint": lambda it: it.receive(Barrier(8)),
    "the end of input": lambda it: it.receive(EndOfInput()),
}


@pytest.mark.parametrize("happens", HAPPENINGS.values(), ids=HAPPENINGS)
def test_nothing_stays_open_once_anything_has_happened_since(happens):
    it, spec = at_rest()
    happens(it)
    it.settle()
    it.step(Finish(7))
    assert (closed(it), it.machine.resting, spec.life[-1]) == ([Closed()], None, "close")


@pytest.mark.parametrize("order", [Finish(), Finish(6), Finish(8), Cancel()], ids=repr)
def test_nothing_stays_open_for_another_checkpoint_or_where_nobody_asks_for_it(order):
    it, spec = at_rest()
    it.step(order)
    assert (closed(it), it.machine.resting, spec.life) == ([Closed()], None, ["open", "close"])


def test_what_was_only_restored_is_not_what_a_subtask_has_kept():
    it, spec = at_rest()
    it.step(Finish(7))
    again = noting(spec, restored=it.machine.resting)
    again.step(Finish(7))
    assert (closed(again), spec.life) == ([Closed()], ["open", "close"])


def test_a_marker_and_rows_that_still_wait_touch_nothing():
    it, _ = at_rest()
    it.receive(Marker("read", 1))
    it.settle()
    it.receive(rows(9, 1))
    it.step(Finish(7))
    assert closed(it) == [Closed(rests=True)]


def test_who_takes_them_up_opens_and_restores_nothing_and_tells_the_time_again():
    it, spec = at_rest()
    it.step(Finish(7))
    again = noting(spec, restored=it.machine.resting, clock=it.clock)
    again.settle()
    assert (again.sent(OUT), spec.life) == (["W5"], ["open"])
    again.receive(Watermark(4), rows(3, 1), Watermark(8), Barrier(8))
    again.settle()
    assert again.sent(OUT) == ["W5", 3, "W8", "|8"]
    again.step(Finish())
    assert spec.life == ["open", "close"]


def test_idleness_is_told_again_and_the_input_is_active_until_it_says_otherwise():
    spec = Noting()
    it = noting(spec)
    it.receive(rows(1, 1), Watermark(5), Status(idle=True), Barrier(7))
    it.settle()
    it.step(Finish(7))
    again = noting(spec, restored=it.machine.resting, clock=it.clock)
    again.settle()
    assert again.sent(OUT) == ["active", "W5"]


def kept(it: Driven) -> list[tuple[list[int], bool]]:
    sections = [keep.operators["it"][0] for keep in it.effects if isinstance(keep, Keep)]
    return [(one.table.column("n").to_pylist(), one.delta) for one in sections]


def test_the_first_snapshot_of_an_attempt_is_whole_and_changes_stand_behind_it():
    it, spec = at_rest()
    assert kept(it) == [([1, 2], False)]
    it.step(Finish(7))
    again = noting(spec, restored=it.machine.resting, clock=it.clock)
    for number in (8, 9):
        again.receive(rows(number, 1), Barrier(number))
        again.settle()
    assert kept(again) == [([1, 2, 8], False), ([9], True)]


def test_counters_are_those_of_an_attempt():
    it, spec = at_rest()
    assert it.machine.figures().operators[0].rows_in == 2
    it.step(Finish(7))
    again = noting(spec, restored=it.machine.resting, clock=it.clock)
    again.receive(rows(3, 1))
    again.settle()
    (figures,) = again.machine.figures().operators
    assert (figures.rows_in, figures.rows_out, figures.counters) == (1, 1, {"seen": 1})


def test_operators_of_another_subtask_are_refused_and_closed_once():
    it, spec = at_rest()
    it.step(Finish(7))
    resting = replace(it.machine.resting, subtask=SubtaskId("it", 1, 2))
    with pytest.raises(ProtocolError, match="cannot go on"):
        noting(spec, restored=resting)
    resting.close()
    assert spec.life == ["open", "close"]


TIMES = rs.WatermarkStrategy("n")
READ = pa.schema([WIRE.field("n"), WIRE.field("text")])


def reading(
    restored: Resting | None = None,
    clock: ManualClock | None = None,
    *,
    splits: str = "s",
    start: Start | None = None,
    behind: Noting | None = None,
) -> Driven:
    spec = SourceSpec(SilentSource(splits, READ), WIRE, TIMES, "it", "", timed=True)
    nodes = (ChainNode("it", "it", spec, WIRE, "", (), (1,)),)
    if behind is not None:
        nodes = (replace(nodes[0], children=(1,), outputs=()), replace(nodes[0], spec=behind))
    plan = replace(one_chain(nodes, None, [ToOne()], up=0), checkpoint=NO_ATTEMPT_WAITS)
    if start is None:
        start = Start() if restored is not None else Start(tuple(map(Split, splits)))
    return Driven(plan, clock, start, restored=restored)


def numbered(start: int, count: int) -> pa.RecordBatch:
    return rows(start, count).record.select(READ.names)


class Readers:
    """What a shell reads with, to a machine."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def answer(it: Driven, first: int, count: int) -> None:
    """Answer the oldest poll by rows from a number on, which are their positions, too."""
    poll = it.polls.pop(0)
    it.step(Polled(poll.split.id, numbered(first, count), first + count, 100 - first))


def stopped_ahead(splits: str = "s") -> Driven:
    """Give a source that has read to 3, and is asked for more, when the reading stops."""
    it = reading(splits=splits)
    answer(it, 0, 3)
    it.settle()
    answer(it, 3, 2)
    it.step(Trigger(7, stop=True))
    it.settle()
    assert it.sent(OUT) == [0, 1, 2, "W1", "|7"]
    it.step(Finish(7))
    return it


def test_a_source_reads_on_where_its_splits_stood():
    it = reading()
    it.step(Polled(it.polls.pop(0).split.id, None, position=4))
    it.settle()
    it.step(Trigger(7, stop=True))
    it.settle()
    it.step(Finish(7))
    assert closed(it) == [Closed(rests=True)]
    again = reading(it.machine.resting, it.clock)
    assert again.machine.splits == ("s",)
    again.settle()
    assert [(poll.split.id, poll.position) for poll in again.polls[:1]] == [("s", 4)]


def positions(it: Driven) -> list[tuple[str, Any]]:
    return [(poll.split.id, poll.position) for poll in it.polls]


def test_readers_that_stay_open_hand_over_what_they_gave_behind_the_barrier():
    it = stopped_ahead()
    assert (it.machine.resting.awaited, len(it.polls)) == (1, 1)
    answer(it, 5, 1)  # the poll that was under way
    resting = it.machine.resting.reading(Readers())
    again = reading(resting, it.clock)
    assert again.polls == []  # both that may be under way are answered
    again.settle()
    assert again.sent(OUT) == ["W1", 3, 4, "W3", 5, "W4"]
    assert positions(again)[-1] == ("s", 6)
    assert again.machine.figures().backlog_rows == 95
    again.step(Trigger(8))
    again.settle()
    (kept,) = [e.operators["it"][-1] for e in again.effects if isinstance(e, Keep)]
    assert [(one.position, one.watermark_us) for one in kept_splits((kept,))] == [(6, 4)]


def test_readers_that_are_opened_anew_read_again_what_was_given_behind_the_barrier():
    it = stopped_ahead()
    answer(it, 5, 1)
    again = reading(it.machine.resting, it.clock)
    again.settle()
    assert (again.sent(OUT), positions(again)) == (["W1"], [("s", 3), ("s", 3)])


def test_readers_stay_open_only_where_every_poll_is_answered():
    it, readers = stopped_ahead(), Readers()
    resting = with_readers(it.machine.resting, readers)
    assert (resting, readers.closed) == (it.machine.resting, 1)
    answer(it, 5, 1)
    assert with_readers(it.machine.resting, readers, still=False) == it.machine.resting
    assert readers.closed == 2
    resting = with_readers(it.machine.resting, readers)
    assert (resting.readers, readers.closed) == (readers, 2)
    resting.close()
    assert readers.closed == 3
    assert with_readers(None, readers) is None
    assert readers.closed == 4


def test_what_was_given_ahead_may_wait_for_yet_another_attempt():
    it = stopped_ahead()
    answer(it, 5, 1)
    resting = it.machine.resting.reading(Readers())
    again = reading(resting, it.clock)
    again.machine.step(Trigger(8, stop=True))
    again.settle()  # its task, to tell the time again, comes first
    again.step(Finish(8))
    rests = again.machine.resting
    assert [one.position for one in rests.ahead] in ([5, 6], [6])
    third = reading(rests.reading(Readers()), it.clock)
    third.settle()
    assert (again.sent(OUT) + third.sent(OUT)).count(5) == 1
    assert positions(third)[-1] == ("s", 6)


def test_a_split_that_ended_behind_the_barrier_ends_in_the_attempt_that_follows():
    it = stopped_ahead()
    it.step(Polled(it.polls.pop(0).split.id, END, 5))
    again = reading(it.machine.resting.reading(Readers()), it.clock)
    again.settle()
    assert again.sent(OUT) == ["W1", 3, 4, "W3", "end"]


def test_splits_that_are_found_meanwhile_are_read_beside_those_that_readers_are_open_for():
    it = stopped_ahead()
    answer(it, 5, 1)
    resting = it.machine.resting.reading(Readers())
    again = reading(resting, it.clock, start=Start((Split("t"),), more_splits=True))
    again.settle()
    assert again.sent(OUT) == ["W1", 3, 4, 5]  # the new one holds the time
    assert positions(again) == [("t", None), ("t", None)]


def read_on(it: Driven, **given: Any) -> None:
    """Answer each split with what is given first, and with nothing from then on."""
    it.settle()
    while it.polls:
        split = it.polls.pop(0).split.id
        it.step(Polled(split, given.pop(split, None), 3))
        it.settle()


@pytest.mark.parametrize("left_open", [True, False])
def test_a_split_whose_reader_has_said_that_it_is_idle_stays_idle_as_long_as_it_is_open(left_open):
    it = reading(splits="st")
    read_on(it, s=Status(idle=True), t=numbered(0, 3))
    it.step(Trigger(7, stop=True))
    it.settle()
    assert it.sent(OUT) == [0, 1, 2, "W1", "|7"]
    it.step(Finish(7))
    assert it.machine.resting.awaited == 0
    resting = it.machine.resting.reading(Readers()) if left_open else it.machine.resting
    again = reading(resting, it.clock)
    read_on(again, t=numbered(3, 3))  # only one that is opened anew would say it again
    assert again.sent(OUT) == ["W1", 3, 4, 5, *(["W4"] if left_open else [])]


def test_a_source_subtask_that_has_ended_rests_and_ends_once():
    life: list[str] = []
    it = reading(splits="", behind=Noting(life))
    it.settle()
    assert (it.sent(OUT), life) == (["end"], ["open", "end"])
    it.step(Trigger(7, stop=True))
    it.settle()
    it.step(Finish(7))
    assert closed(it) == [Closed(rests=True)]
    again = reading(it.machine.resting, it.clock, behind=Noting(life))
    again.settle()
    assert (again.sent(OUT), life) == (["end"], ["open", "end"])


def test_readers_hear_of_the_checkpoint_of_the_move():
    it = reading()
    answer(it, 0, 3)
    it.settle()
    it.step(Trigger(7, stop=True))
    it.settle()
    it.step(Completed(7))
    assert [e for e in it.effects if isinstance(e, Acknowledge)] == [Acknowledge("s", 3)]


def test_what_lets_rows_out_to_a_driver_goes_to_the_one_of_the_attempt():
    from raystream.contracts.context import OpenContext
    from raystream.subtask.handing_over import Way, take_up

    it, _ = at_rest()
    there: list[Any] = []
    chain = it.machine.chain
    chain.contexts = [OpenContext(deliver=Way(lambda batch: pytest.fail("the attempt is over")))]
    it.step(Finish(7))
    context = lambda node: OpenContext(deliver=there.append)
    take_up(it.machine.resting, it.machine.subtask, it.plan.chain("it"), context)
    chain.contexts[0].deliver("rows")
    assert there == ["rows"]
