"""A subtask's machine: what it does when rows, credit, time or the end come, in any order."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from plans import KeepingSink, NumberSource, Passing, two_chains
from subtasks import END, SMALL, WIRE, Driven, SilentSource, one_chain, rows

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.aggregate import Bound
from raystream.contracts.functions import Function
from raystream.contracts.sink import Sink, Writer
from raystream.contracts.source import Split
from raystream.contracts.watermark import WatermarkStrategy
from raystream.contracts.window import Tumbling
from raystream.errors import SubtaskLost, UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, wire_schema
from raystream.flow.element import Barrier, EndOfInput, Status, Watermark
from raystream.flow.exchange import Broadcast, Custom, Hash, Rebalance, ToOne
from raystream.flow.ids import ChannelId
from raystream.flow.messages import (
    Cancel,
    Closed,
    Commit,
    Committed,
    Ended,
    Finish,
    Settled,
    SplitsFound,
    Start,
)
from raystream.graph.physical import ChainNode
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.row_functions import FlatMapSpec, MapSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.runtime import local
from raystream.subtask.events import AskProgress, CreditCame, Polled, ProgressAsked, Tell
from raystream.subtask.states import State

OUT, OUT_B = ChannelId(1, 0, 0), ChannelId(1, 0, 1)
SECOND = 1_000_000


def node(spec, children=(), outputs=(1,), schema=WIRE, name="it"):
    return ChainNode(name, name, spec, schema, "", tuple(children), tuple(outputs))


def passing(exchange=None, *, by_row=False, down=1, up=1, limits=SMALL, start=None, clock=None):
    plan = one_chain(
        (node(Passing(by_row)),), WIRE, [exchange or ToOne()], down=down, up=up, limits=limits
    )
    return Driven(plan, clock, start)


def reading(*names, watermark=None, more=False, bounded=True, limits=SMALL):
    source = SilentSource(names, pa.schema(list(WIRE)[:-1]))
    source.bounded = bounded
    spec = SourceSpec(source, WIRE, watermark or WatermarkStrategy("n"), "it", "", timed=True)
    plan = one_chain((node(spec),), None, [ToOne()], up=0, limits=limits)
    return Driven(plan, start=Start(tuple(Split(name) for name in names), more))


def polled(start, count, width=4):
    return rows(start, count, width).visible


# Credit and rest ---------------------------------------------------------------------------------


def test_rows_leave_as_soon_as_there_is_nothing_else_to_do():
    it = passing()
    it.receive(rows(0, 3))
    assert it.sent() == []
    it.settle()
    assert it.sent() == [0, 1, 2]


def test_rows_of_several_frames_leave_together():
    it = passing()
    it.receive(rows(0, 3))
    it.receive(rows(3, 3))
    it.settle()
    assert len(it.frames[OUT]) == 1


def test_a_partial_envelope_waits_for_four_times_the_cost_of_the_last():
    it = passing()
    it.receive(rows(0, 1))
    it.settle()
    it.machine.sending_cost(1_000)
    it.receive(rows(1, 1))
    it.settle()
    assert it.sent() == [0]
    assert it.machine.wake_us == 4_000
    it.clock.advance(3_999)
    assert not it.machine.runnable
    it.clock.advance(1)
    it.settle()
    assert it.sent() == [0, 1]


def test_a_subtask_that_never_rests_does_not_keep_what_it_has_made():
    # A function as slow as this one would fill an envelope in an hour.
    clock = ManualClock()

    def slow(row):
        clock.advance(100_000)
        return row

    spec = MapSpec(Function(slow), WIRE, "it", "")
    it = Driven(one_chain((node(spec),), WIRE, [ToOne()]), clock)
    for number in range(10):
        it.receive(rows(number, 1))
    for number in range(9):
        for _ in range(2):  # a slice ends when its time is over, the next ends the frame
            it._take(it.machine.work())
        assert it.sent() == list(range(number + 1))


def test_without_credit_the_machine_stops_and_the_input_waits():
    it = passing()
    for start in range(0, 2_000, 100):
        it.receive(rows(start, 100))
    it.settle()
    assert it.machine.blocked
    assert not it.machine.runnable
    assert it.in_flight(OUT) <= SMALL.channel_bytes_min + 200
    assert it.machine.figures().queued_bytes > 10_000
    while it.machine.blocked:
        it.give_credit(OUT)
        it.settle()
    it.give_credit(OUT)
    it.settle()
    assert it.sent() == list(range(2_000))


def test_credit_that_was_given_before_wakes_nobody_twice():
    it = passing()
    for start in range(0, 2_000, 100):
        it.receive(rows(start, 100))
    it.settle()
    it.give_credit(OUT)
    it.settle()
    sent = len(it.frames[OUT])
    it.step(CreditCame(OUT, 1, 10**9))
    it.settle()
    assert len(it.frames[OUT]) == sent


def test_while_one_output_is_full_the_others_partial_envelopes_leave():
    # Rows for B must not wait for A's consumer; and the machine must not wake for them in vain.
    it = passing(Custom(lambda row: int(row["n"] == 5), "by", ""), down=2)
    it.receive(rows(0, 1_000))
    it.receive(rows(1_000, 10))
    it.settle()
    assert it.machine.blocked
    assert it.sent(OUT_B) == [5]
    # There is nothing to do but to ask, in a while, whether the consumer is still there.
    assert it.machine.wake_us == SMALL.stalled_credit_us


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_machine_that_is_held_up_sleeps_though_it_owes_credit(count):
    it = passing()
    for start in range(0, 100 * count, count):
        it.receive(rows(start, count))
    it.settle()
    assert it.machine.blocked
    it.clock.advance(SMALL.stalled_credit_us - 1)
    assert not it.machine.runnable
    assert it.machine.wake_us == SMALL.stalled_credit_us


def test_credit_is_granted_late_rather_than_never():
    it = passing(limits=Limits())
    size = it.receive(rows(0, 1))
    it.settle()
    assert it.grants == []
    due_us = it.machine.wake_us
    assert due_us is not None
    it.clock.advance(due_us - it.clock.monotonic_us())
    it.settle()
    assert [grant.consumed_bytes for grant in it.grants] == [size]
    assert it.machine.wake_us is None


def test_one_row_wider_than_the_whole_window_passes():
    it = passing()
    it.receive(rows(0, 1, width=100_000))
    it.settle()
    assert it.sent() == [0]


@dataclass(frozen=True)
class Counted:
    """A function that makes many rows of one, and counts how many it was asked for."""

    count: int
    made: list[int] = field(default_factory=lambda: [0])

    def __call__(self, row: Any) -> Any:
        for n in range(self.count):
            self.made[0] += 1
            yield {"n": n, "text": "x"}


def test_a_flat_map_of_100_000_rows_with_a_starved_consumer_keeps_little_in_memory():
    function, total = Counted(100_000), 0
    spec = FlatMapSpec(Function(function), WIRE, "it", "")
    it = Driven(one_chain((node(spec),), WIRE, [ToOne()]))
    it.receive(rows(7, 1))
    rounds = 0
    while total < 100_000 and rounds < 2_000:
        it.settle()
        sent = sum(batch.num_rows for batch in it.batches(OUT))
        waiting = function.made[0] - total - sent
        assert waiting <= 2 * SMALL.row_batch_rows_max + SMALL.envelope_bytes_inline // 20
        assert it.in_flight(OUT) <= SMALL.channel_bytes_min + 200
        total += sent
        it.forget(OUT)
        rounds += 1
    assert total == function.made[0] == 100_000
    assert rounds > 300


COUNTS = wire_schema(
    pa.schema(
        [
            ("n", pa.int64()),
            ("window_start", pa.timestamp("us", "UTC")),
            ("window_end", pa.timestamp("us", "UTC")),
            ("rows", pa.int64()),
        ]
    ),
    timed=True,
)
KEYED = pa.schema([pa.field("n", pa.int64()), EVENT_TIME_FIELD])


def keys(start, count):
    times = pa.array(np.zeros(count, np.int64))
    numbers = pa.array(np.arange(start, start + count))
    return Columns(pa.RecordBatch.from_arrays([numbers, times], schema=KEYED))


@pytest.mark.slow
def test_a_window_of_a_million_groups_fires_within_the_bounds_of_the_output():
    groups, limits = 1_000_000, Limits()
    spec = WindowAggregateSpec(
        ("n",), Tumbling("1s"), (Bound("rows", "count", pa.int64()),), COUNTS
    )
    it = Driven(
        one_chain((node(spec, schema=COUNTS),), KEYED, [ToOne()], schema_out=COUNTS, limits=limits)
    )
    for start in range(0, groups, 50_000):
        it.receive(keys(start, 50_000))
        it.settle()
    assert it.sent() == []
    it.receive(Watermark(SECOND))
    channel = it.machine._outputs._channels[OUT]
    seen, batch_bytes = np.zeros(groups, np.int64), limits.batch_rows_max * 41
    for _ in range(groups):
        it.settle()
        assert it.in_flight(OUT) <= limits.channel_bytes_min + 1_000
        assert channel.pending_bytes <= batch_bytes + limits.envelope_bytes_large
        batches = it.batches(OUT)
        for batch in batches:
            seen[batch.record.column("n").to_numpy()] += batch.record.column("rows").to_numpy()
        if it.sent(OUT)[-1:] == [f"W{SECOND}"]:
            break
        assert batches
        it.forget(OUT)
    assert (seen == 1).all()


# Time --------------------------------------------------------------------------------------------


def test_a_watermark_goes_behind_the_rows_that_came_before_it():
    it = passing(by_row=True)
    it.receive(rows(0, 30), Watermark(29), rows(30, 2), Watermark(31))
    it.settle()
    assert it.sent() == [*range(30), "W29", 30, 31, "W31"]


def test_the_watermark_of_several_inputs_is_the_least():
    it = passing(up=2)
    it.receive(Watermark(5), upstream=0)
    it.settle()
    assert it.frames == {}
    it.receive(Watermark(3), upstream=1)
    it.receive(Watermark(9), upstream=1)
    it.settle()
    assert it.sent() == ["W5"]


def test_an_input_that_is_idle_or_has_ended_holds_nothing_back():
    it = passing(up=3)
    it.receive(Watermark(5), upstream=0)
    it.receive(Status(idle=True), upstream=1)
    it.receive(EndOfInput(), upstream=2)
    it.settle()
    assert it.sent() == ["W5"]
    it.receive(Status(idle=True), upstream=0)
    it.settle()
    assert it.sent() == ["W5", "idle"]
    it.receive(rows(9, 1), upstream=1)
    it.settle()
    assert it.sent() == ["W5", "idle", "active", 9]


def test_a_status_leaves_behind_the_rows_before_it_though_there_is_no_credit():
    it = passing()
    it.receive(rows(0, 90))
    it.settle()
    it.receive(rows(90, 30))
    it.receive(Status(idle=True))
    it.settle()
    for _ in range(3):
        it.give_credit(OUT)
        it.settle()
    assert it.sent() == [*range(120), "idle"]


def test_c3_stacked_windows_fire_on_the_same_watermark():
    inner = wire_schema(pa.schema([*list(COUNTS)[:-1]]), timed=True)
    first = WindowAggregateSpec(("n",), Tumbling(5), (Bound("rows", "count", pa.int64()),), inner)
    all_rows = pa.schema(
        [COUNTS.field("window_start"), COUNTS.field("window_end"), ("total", pa.int64())]
    )
    second = WindowAggregateSpec(
        (),
        Tumbling(5),
        (Bound("total", "sum", pa.int64(), "rows", pa.int64()),),
        wire_schema(all_rows, timed=True),
    )
    nodes = (
        node(first, [1], (), inner),
        node(second, (), (1,), wire_schema(all_rows, timed=True), "second"),
    )
    it = Driven(one_chain(nodes, KEYED, [ToOne()], schema_out=wire_schema(all_rows, timed=True)))
    record = pa.RecordBatch.from_arrays([pa.array([1, 2]), pa.array([1, 4])], schema=KEYED)
    it.receive(Columns(record), Watermark(4))
    it.settle()
    (batch,) = it.batches(OUT)
    assert batch.record.column("total").to_pylist() == [2]
    assert batch.timestamps.tolist() == [4]


# Sources -----------------------------------------------------------------------------------------


def test_a_source_reads_on_while_there_is_credit_and_not_without():
    it = reading("a")
    count = 0
    while it.polls and count < 100:
        it.answer(polled(count * 50, 50))
        it.settle()
        count += 1
    assert it.machine.blocked
    assert 1 < count < 20
    it.give_credit(OUT)
    it.settle()
    assert it.polls


def test_a_source_sends_the_watermark_of_its_rows_behind_them():
    it = reading("a")
    it.answer(polled(0, 3))
    it.answer(END)
    it.settle()
    assert it.sent() == [0, 1, 2, "W1", "end"]


def test_a_source_without_splits_ends_at_once():
    it = reading()
    it.settle()
    assert it.sent() == ["end"]
    assert it.effects == [Tell(Ended())]


def test_a_source_without_splits_that_may_get_some_says_that_it_is_idle():
    # Else its silence would hold back the windows of everybody behind it, for ever.
    it = reading(more=True)
    it.settle()
    assert it.sent() == ["idle"]
    it.step(SplitsFound((Split("a"),)))
    it.answer(polled(0, 2))
    it.settle()
    assert it.sent() == ["idle", "active", 0, 1, "W0"]


def test_a_source_whose_splits_have_ended_is_idle_until_it_gets_more():
    it = reading("a", more=True)
    it.answer(polled(0, 2))
    it.answer(END)
    it.settle()
    assert it.sent() == [0, 1, "W0", "idle"]
    assert it.machine.state is State.RUNNING


def test_a_source_that_has_nothing_sleeps_until_it_asks_again():
    it = reading("a")
    while it.polls:
        it.answer(None)
    it.settle()
    assert it.polls == []
    assert it.machine.wake_us is not None
    it.clock.advance(it.machine.wake_us - it.clock.monotonic_us())
    it.settle()
    assert it.polls


def quiet(it, us):
    """Let time pass in which the source has nothing."""
    for _ in range(us // 50_000):
        while it.polls:
            it.answer(None)
            it.settle()
        it.clock.advance(50_000)
        it.settle()


def test_c8_idleness_does_not_count_while_the_output_is_full():
    it = reading("a", "b", watermark=WatermarkStrategy("n", idleness="1s"))
    quiet(it, 500_000)
    number = 0
    while not it.machine.blocked:
        split = it.polls[0].split.id
        it.answer(polled(number, 50) if split == "a" else None)
        number += 50 * (split == "a")
        it.settle()
        if not it.polls:
            it.clock.advance(50_000)
            it.settle()
        assert it.clock.monotonic_us() < SECOND
    it.clock.advance(10 * SECOND)
    while it.machine.blocked:
        it.give_credit(OUT)
        it.settle()
    it.clock.advance(50_000)
    quiet(it, 300_000)
    assert "idle" not in it.sent()


def test_a_silent_source_becomes_idle_and_wakes_up():
    it = reading("a", watermark=WatermarkStrategy("n", idleness="1s"), bounded=False)
    it.answer(polled(0, 1))
    it.settle()
    quiet(it, 3 * SECOND)
    assert it.sent() == [0, "W-1", "idle"]
    it.clock.advance(SECOND)
    it.settle()
    it.answer(polled(5, 1))
    it.settle()
    assert it.sent() == [0, "W-1", "idle", "active", 5, "W4"]


def timed(idleness):
    spec = AssignTimestampsSpec(WatermarkStrategy("n", idleness=idleness), WIRE, "it", "")
    return Driven(one_chain((node(spec),), WIRE, [ToOne()]))


def test_a_stream_that_is_given_times_is_idle_after_a_silence_and_wakes_up():
    it = timed("1s")
    it.receive(rows(0, 1))
    it.settle()
    for _ in range(20):
        it.clock.advance(SECOND // 8)
        it.settle()
    assert it.sent() == [0, "W-1", "idle"]
    assert it.machine.wake_us is None
    it.receive(rows(5, 1))
    it.settle()
    assert it.sent() == [0, "W-1", "idle", "active", 5, "W4"]


def test_c8_rows_that_wait_for_a_full_output_are_no_silence():
    it = timed("1s")
    number = 0
    while not it.machine.blocked:
        it.receive(rows(number, 50))
        number += 50
        it.settle()
    it.receive(rows(number, 50))
    it.clock.advance(10 * SECOND)
    for _ in range(10):
        it.give_credit(OUT)
        it.settle()
    assert [one for one in it.sent() if isinstance(one, int)] == list(range(number + 50))
    assert "idle" not in it.sent()


# Life --------------------------------------------------------------------------------------------


class Preparing(Sink):
    """A sink whose commit can be seen."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def open(self, ctx):
        return _Prepared(self)

    def commit(self, checkpoint_id, committables):
        self.told.append((checkpoint_id, list(committables)))


class _Prepared(Writer):
    def __init__(self, sink):
        self._sink, self._rows = sink, 0

    def write(self, batch):
        self._rows += batch.num_rows

    def prepare_commit(self, checkpoint_id):
        return [self._rows]

    def close(self):
        self._sink.told.append("closed")


def test_a_sink_prepares_at_the_end_commits_when_told_and_closes_at_last():
    sink = Preparing()
    it = Driven(one_chain((node(SinkSpec(sink, "it", ""), outputs=()),), WIRE))
    it.receive(rows(0, 5))
    it.receive(EndOfInput())
    it.settle()
    assert it.effects == [Tell(Ended())]
    assert sink.told == []
    it.effects.clear()
    it.receive(Barrier(7))
    it.settle()
    (kept,) = it.effects
    assert [(n, pickle.loads(some["it"])) for n, some in kept.prepared] == [(7, [5])]
    assert sink.told == []
    it.step(Commit(7, kept.prepared))
    assert sink.told == [(7, [5])]
    it.step(Settled(7))
    it.step(Finish())
    assert sink.told == [(7, [5]), "closed"]
    assert it.effects[1:] == [Tell(Committed(7)), Tell(Closed())]


def test_the_end_is_the_last_that_leaves_and_takes_the_rest_with_it():
    it = passing(Broadcast(), down=2)
    it.receive(rows(0, 500))
    it.receive(EndOfInput())
    it.settle()
    while it.machine.blocked:
        for channel in (OUT, OUT_B):
            it.give_credit(channel)
        it.settle()
    for channel in (OUT, OUT_B):
        assert it.sent(channel) == [*range(500), "end"]
    assert it.effects == [Tell(Ended())]
    assert not it.machine.runnable


def test_the_input_ends_when_every_channel_has_ended():
    it = passing(up=2)
    it.receive(EndOfInput(), upstream=0)
    it.settle()
    assert it.frames == {}
    it.receive(rows(1, 1), EndOfInput(), upstream=1)
    it.settle()
    assert it.sent() == [1, "end"]


def test_frames_that_come_before_the_start_are_kept():
    it = Driven(one_chain((node(Passing()),), WIRE, [ToOne()]), started=False)
    it.receive(rows(0, 2))
    assert not it.machine.runnable
    assert it.machine.wake_us is None
    it.step(Start())
    it.settle()
    assert it.sent() == [0, 1]


def test_a_start_that_is_said_twice_starts_once():
    it = passing()
    it.receive(rows(0, 1))
    it.step(Start())
    it.settle()
    assert it.sent() == [0]


def test_cancel_closes_what_is_under_way_and_later_events_change_nothing():
    closed = []

    def endless(row):
        try:
            while True:
                yield {"n": 1, "text": "x"}
        finally:
            closed.append(row["n"])

    spec = FlatMapSpec(Function(endless), WIRE, "it", "")
    it = Driven(one_chain((node(spec),), WIRE, [ToOne()]))
    it.receive(rows(3, 1))
    it.settle()
    assert it.machine.blocked
    it.step(Cancel())
    assert closed == [3]
    assert it.effects == [Tell(Closed())]
    sent = it.sent_bytes(OUT)
    it.give_credit(OUT)
    it.step(Cancel())
    assert not it.machine.runnable
    assert it.sent_bytes(OUT) == sent


def test_a_function_that_fails_fails_the_work_and_the_machine_can_still_be_closed():
    spec = MapSpec(Function(lambda row: 1 // 0), None, "it", "job.py:1")
    it = Driven(one_chain((node(spec, schema=None),), WIRE, [ToOne()], schema_out=None))
    it.receive(rows(0, 1))
    with pytest.raises(UserFunctionError, match="ZeroDivisionError"):
        it.settle()
    it.step(Cancel())
    assert it.machine.state is State.CLOSED


class Ticking(ManualClock):
    """Time passes whenever somebody looks."""

    def monotonic_us(self) -> int:
        self.advance(300)
        return super().monotonic_us()


def test_work_is_cut_into_slices_so_that_control_messages_are_heard():
    it = passing(by_row=True, clock=Ticking(), limits=Limits())
    it.receive(rows(0, 1_000))
    slices = 0
    while it.machine.runnable:
        it._take(it.machine.work())
        slices += 1
        assert slices < 5_000
        if it.sent() == list(range(1_000)):
            break
    assert slices > 50


def test_figures_tell_rows_time_and_what_waits():
    it = passing()
    it.receive(rows(0, 10), Watermark(4))
    it.settle()
    it.clock.advance(7_000)
    figures = it.machine.figures()
    (operator,) = figures.operators
    assert (operator.rows_in, operator.rows_out) == (10, 10)
    assert figures.watermark_us == 4
    assert figures.idle_us == 7_000
    it.receive(rows(10, 2_000))
    it.receive(rows(2_010, 100))
    it.settle()
    it.clock.advance(9_000)
    assert it.machine.figures().backpressured_us == 9_000
    assert it.machine.figures().queued_bytes > 0


# Whole jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exchange", [Hash(("n",)), Rebalance(), Broadcast()], ids=str)
def test_a_job_never_spins_it_works_or_sleeps(seed, exchange):
    clock, sink = ManualClock(), KeepingSink()
    plan = two_chains(exchange, sink, up=2, down=3, limits=SMALL, by_row=bool(seed % 2))

    def sleep(seconds):
        assert seconds > 0, "nothing to do and no reason to wait: a busy loop"
        clock.advance(int(seconds * SECOND))

    local.run(plan, clock=clock, sleep=sleep, rng=random.Random(seed) if seed else None)
    copies = 3 if isinstance(exchange, Broadcast) else 1
    assert len(sink.rows) == 2 * 2 * 300 * copies


class Hesitating(NumberSource):
    """Has nothing three of four times it is asked."""

    bounded = False

    def open(self, split, position):
        reader = super().open(split, position)
        poll, turn = reader.poll, [0]

        def hesitating(max_rows):
            turn[0] += 1
            return None if turn[0] % 4 else poll(max_rows)

        reader.poll = hesitating
        return reader


@pytest.mark.parametrize("seed", range(4))
def test_a_source_that_hesitates_lets_the_job_sleep(seed):
    clock, sink, sleeps = ManualClock(), KeepingSink(), []
    plan = two_chains(Rebalance(), sink, up=1, down=2, limits=SMALL, source=Hesitating(2, 300, 30))

    def sleep(seconds):
        assert seconds > 0, "a busy loop"
        sleeps.append(seconds)
        clock.advance(int(seconds * SECOND))

    local.run(plan, clock=clock, sleep=sleep, rng=random.Random(seed))
    assert len(sink.rows) == 600
    assert len(sleeps) > 5


def test_polls_that_are_answered_late_do_not_pile_up():
    it = reading("a", "b", "c")
    assert len(it.polls) == 2
    it.settle()
    assert len(it.polls) == 2
    it.step(Polled(it.polls.pop(0).split.id, polled(0, 1)))
    it.settle()
    assert len(it.polls) == 2


def held_up():
    it = passing()
    it.receive(rows(0, 2_000))
    it.settle()
    assert it.machine.blocked
    return it


def answer(it, received_bytes):
    it.clock.advance(SMALL.stalled_credit_us)
    it.settle()
    asked = [effect for effect in it.effects if isinstance(effect, AskProgress)]
    it.effects.clear()
    assert [effect.channel for effect in asked] == [OUT]
    it.step(CreditCame(OUT, 0, SMALL.channel_bytes_min, received_bytes))


def test_a_sender_without_credit_asks_now_and_then_and_a_slow_receiver_is_not_dead():
    it = held_up()
    for _ in range(5):
        answer(it, it.sent_bytes(OUT))
    it.give_credit(OUT)
    it.settle()
    assert not [effect for effect in it.effects if isinstance(effect, AskProgress)]


def test_what_is_missing_at_two_answers_is_lost():
    it = held_up()
    answer(it, it.sent_bytes(OUT) - 1)
    answer(it, it.sent_bytes(OUT))  # it was on its way
    answer(it, it.sent_bytes(OUT) - 1)
    with pytest.raises(SubtaskLost, match="1 bytes sent on edge1:0->0"):
        answer(it, it.sent_bytes(OUT) - 1)


def test_a_receiver_says_what_has_arrived_and_renews_the_credit():
    it = passing()
    size = it.receive(rows(0, 3))
    it.step(ProgressAsked(ChannelId(0, 0, 0)))
    assert it.grants[-1].received_bytes == size
    assert it.grants[-1].consumed_bytes == 0
    it.settle()
    it.step(ProgressAsked(ChannelId(0, 0, 0)))
    assert (it.grants[-1].received_bytes, it.grants[-1].consumed_bytes) == (size, size)
