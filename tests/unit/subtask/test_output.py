"""The sending side of channels: nothing beyond the window, nothing out of order, nothing lost."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from plans import Passing
from subtasks import SMALL, WIRE, link, one_chain, rows, spell

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.flow.batch import Columns, Objects
from raystream.flow.codec import decode, read_header
from raystream.flow.element import EndOfInput, Status, Watermark
from raystream.flow.exchange import Broadcast, Rebalance
from raystream.flow.ids import ChannelId
from raystream.graph.physical import ChainNode
from raystream.subtask.events import CreditCame
from raystream.subtask.output import Outgoing, OutputEdge
from raystream.subtask.outputs import Outputs
from raystream.subtask.partition import partitioner

CHANNEL = ChannelId(3, 0, 1)
SLACK_BYTES = 200
"""What a frame may weigh beyond the estimate of its rows: its header, padding of its parts."""


def outgoing(limits: Limits = SMALL, schema: pa.Schema | None = WIRE) -> Outgoing:
    return Outgoing(link(CHANNEL, schema), 1, limits)


def said(sends, schema=WIRE):
    return spell(e for send in sends for e in decode(send.frame, schema))


def sizes(sends):
    return [len(send.frame) for send in sends]


def wide(count: int, width: int, start: int = 0) -> Columns:
    return rows(start, count, width)


def test_a_full_envelope_goes_at_once_and_a_partial_one_waits_for_the_flush():
    channel = outgoing()
    channel.put(rows(0, 3))
    assert list(channel.sends(flush=False)) == []
    channel.put(rows(3, 100))
    sent = list(channel.sends(flush=False))
    assert sent
    assert sum(sizes(sent)) == channel.sent_bytes
    sent += channel.sends(flush=True)
    assert said(sent) == list(range(103))
    assert channel.pending_bytes == 0


def test_rows_that_wait_leave_as_one_batch():
    channel = outgoing()
    for start in range(5):
        channel.put(rows(start, 1))
    (send,) = channel.sends(flush=True)
    assert read_header(send.frame).elements == 1


def test_frames_are_numbered_and_named():
    channel = outgoing()
    channel.put(rows(0, 300))
    headers = [read_header(send.frame) for send in channel.sends(flush=True)]
    assert [header.sequence for header in headers] == list(range(len(headers)))
    assert {(header.channel, header.attempt) for header in headers} == {(CHANNEL, 1)}


def test_without_credit_nothing_goes_and_the_channel_becomes_full():
    channel = outgoing()
    channel.put(rows(0, 1000))
    sent = list(channel.sends(flush=True))
    assert channel.in_flight_bytes <= channel.window_bytes + SLACK_BYTES
    assert channel.full
    assert not channel.sendable
    assert list(channel.sends(flush=True)) == []
    channel.credit(channel.sent_bytes, 4_000)
    assert channel.sendable
    sent += channel.sends(flush=True)
    assert said(sent) == list(range(len(said(sent))))


def test_a_row_wider_than_any_window_passes_when_nothing_is_under_way():
    channel = outgoing()
    channel.put(wide(1, 50_000))
    (send,) = channel.sends(flush=False)
    assert len(send.frame) > 50_000


def test_a_row_wider_than_the_credit_waits_until_nothing_is_under_way():
    channel = outgoing()
    channel.put(rows(0, 2))
    (first,) = channel.sends(flush=True)
    channel.put(wide(1, 50_000))
    assert list(channel.sends(flush=True)) == []
    assert not channel.sendable
    channel.credit(len(first.frame), 4_000)
    assert channel.sendable
    assert len(list(channel.sends(flush=False))) == 1


def test_a_wide_row_behind_small_ones_is_not_taken_with_them():
    channel = outgoing()
    channel.put(rows(0, 30))
    channel.put(wide(1, 50_000))
    first = next(channel.sends(flush=True))
    assert len(first.frame) <= SMALL.envelope_bytes_inline + SLACK_BYTES


def test_wide_rows_of_an_uneven_batch_do_not_leave_together():
    texts = ["x" * 10_000] * 20 + ["y"] * 2_000
    n = pa.array(np.arange(len(texts)))
    channel = outgoing()
    channel.put(Columns(pa.RecordBatch.from_arrays([n, pa.array(texts), n], schema=WIRE)))
    first = next(channel.sends(flush=True))
    assert len(first.frame) <= 11_000


def test_a_late_grant_changes_nothing():
    channel = outgoing()
    for _ in range(3):
        channel.put(rows(0, 20))
        list(channel.sends(flush=True))
    channel.credit(channel.sent_bytes, 5_000)
    before = (channel.consumed_bytes, channel.window_bytes)
    channel.credit(10, 80_000)
    assert (channel.consumed_bytes, channel.window_bytes) == before


def test_the_same_grant_twice_counts_once():
    channel = outgoing()
    channel.put(rows(0, 40))
    list(channel.sends(flush=True))
    for _ in range(2):
        channel.credit(500, 4_000)
    assert channel.in_flight_bytes == channel.sent_bytes - 500


def test_credit_for_what_was_never_sent_is_a_bug_of_ours():
    with pytest.raises(AssertionError, match="before it is sent"):
        outgoing().credit(1, 4_000)


def test_what_is_sent_while_the_answer_is_under_way_is_not_missed():
    # A receiver that takes seconds over a frame gives its grant and its answer one after the other,
    # again and again; the sender sends between the two.
    channel = outgoing()
    for turn in range(5):
        channel.put(rows(0, 1_000))
        list(channel.sends(flush=True))
        assert list(channel.asks(2 * turn * SMALL.stalled_credit_us)) == []
        assert list(channel.asks((2 * turn + 1) * SMALL.stalled_credit_us))
        arrived_bytes = channel.sent_bytes
        channel.credit(arrived_bytes, 4_000)
        assert list(channel.sends(flush=True))
        channel.arrived(arrived_bytes)
        channel.credit(channel.sent_bytes, 100_000)
        list(channel.sends(flush=True))
        channel.credit(channel.sent_bytes, 4_000)
        assert list(channel.asks((2 * turn + 1) * SMALL.stalled_credit_us)) == []


def test_of_watermarks_with_no_rows_between_the_last_stays():
    channel = outgoing()
    channel.put(rows(0, 1))
    for time_us in (1, 2, 3):
        channel.watermark(time_us)
    channel.put(rows(1, 1))
    channel.watermark(4)
    assert said(channel.sends(flush=True)) == [0, "W3", 1, "W4"]


def test_a_watermark_alone_goes_with_the_flush():
    channel = outgoing()
    channel.watermark(9)
    assert channel.sendable
    assert list(channel.sends(flush=False)) == []
    assert said(channel.sends(flush=True)) == ["W9"]


def test_a_watermark_never_falls():
    channel = outgoing()
    channel.watermark(5)
    with pytest.raises(AssertionError, match="rises"):
        channel.watermark(5)


def test_watermarks_between_rows_count_into_the_envelope():
    channel = outgoing()
    sent = []
    for number in range(400):
        channel.put(rows(number, 1))
        channel.watermark(number)
        sent += channel.sends(flush=False)
        channel.credit(channel.sent_bytes, 4_000)
    assert max(sizes(sent)) <= SMALL.envelope_bytes_inline + SLACK_BYTES


@pytest.mark.parametrize("element", [Status(idle=True), EndOfInput()])
def test_a_control_element_takes_all_that_waits_with_it_over_the_window(element):
    channel = outgoing()
    channel.put(rows(0, 1000))
    sent = list(channel.sends(flush=True))
    assert channel.pending_bytes
    urgent = list(channel.urgent(element))
    assert channel.in_flight_bytes > channel.window_bytes
    assert max(sizes(urgent)) <= SMALL.envelope_bytes_max + SLACK_BYTES
    assert said(sent + urgent) == [*range(1000), *spell([element])]
    assert not channel.sendable


def test_no_rows_follow_the_end():
    channel = outgoing()
    list(channel.urgent(EndOfInput()))
    with pytest.raises(AssertionError, match="after the end"):
        channel.put(rows(0, 1))


def test_rows_of_another_schema_are_refused():
    with pytest.raises(AssertionError, match="carries"):
        outgoing().put(Columns(pa.record_batch({"n": [1]})))
    with pytest.raises(AssertionError, match="objects on"):
        outgoing().put(Objects([1]))


def test_no_envelope_is_larger_than_inline_and_smaller_than_large():
    # Between the two a call through shared memory costs more than it carries.
    sent = []
    channel = outgoing()
    for window_bytes in (4_000, 9_000, 12_000, 20_000, 40_000):
        channel.put(rows(0, 3_000, width=20))
        for _ in range(40):
            sent += channel.sends(flush=True)
            channel.credit(channel.sent_bytes - channel.sent_bytes // 7, window_bytes)
        channel.credit(channel.sent_bytes, window_bytes)
        sent += channel.sends(flush=True)
    inside = [
        size
        for size in sizes(sent)
        if SMALL.envelope_bytes_inline + SLACK_BYTES < size < SMALL.envelope_bytes_large - 200
    ]
    assert not inside
    assert max(sizes(sent)) > SMALL.envelope_bytes_large


def test_large_objects_are_known_to_be_large_before_the_first_is_sent():
    channel = outgoing(schema=None)
    channel.put(Objects([f"{i:01000}" for i in range(60)]))
    sent = list(channel.sends(flush=True))
    assert max(sizes(sent)) <= SMALL.envelope_bytes_inline + SLACK_BYTES
    assert channel.full
    assert channel.pending_bytes > 50_000


def test_objects_that_come_one_by_one_fill_the_channel():
    channel = outgoing(schema=None)
    list(channel.urgent(Status(idle=True)))  # so that something is under way
    count = 0
    while not channel.full:
        channel.put(Objects([f"{count:01000}"]))
        count += 1
        assert count < 20
    assert count >= 2


def test_objects_that_change_their_size_leave_no_wrong_account():
    channel = outgoing(schema=None)
    rng = random.Random(4)
    sent, put = [], []
    for _ in range(300):
        width = rng.choice([1, 10, 3_000])
        values = [f"{i:0{width}}" for i in range(rng.randint(1, 40))]
        put += values
        channel.put(Objects(values))
        sent += channel.sends(flush=rng.random() < 0.2)
        assert channel.pending_bytes >= 0
        channel.credit(channel.sent_bytes, 4_000)
    sent += channel.urgent(EndOfInput())
    assert channel.pending_bytes == 0
    assert said(sent, None) == [*put, "end"]


def test_objects_keep_their_times_and_keys_through_cuts():
    channel = outgoing(schema=None)
    count = 500
    channel.put(Objects(list(range(count)), np.arange(count), [f"k{i}" for i in range(count)]))
    got = [e for send in channel.urgent(EndOfInput()) for e in decode(send.frame, None)][:-1]
    assert [v for e in got for v in e.values] == list(range(count))
    assert [t for e in got for t in e.timestamps.tolist()] == list(range(count))
    assert [k for e in got for k in e.keys] == [f"k{i}" for i in range(count)]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("columnar", [True, False])
def test_whatever_happens_nothing_is_lost_and_the_window_holds(seed, columnar):
    rng = random.Random(seed)
    channel = outgoing(schema=WIRE if columnar else None)
    sent, put, number, time_us, under_way = [], [], 0, 0, []
    for _ in range(150):
        before, window_bytes = channel.in_flight_bytes, channel.window_bytes
        what = rng.choice(["put"] * 4 + ["watermark", "flush", "credit", "credit", "urgent"])
        new = []
        if what == "put" and not channel.full:
            count, width = rng.choice([(1, 5), (3, 300), (70, 8), (400, 30), (1, 9_000)])
            batch = rows(number, count, width)
            values = batch.record.column("n").to_pylist()
            put += values
            channel.put(batch if columnar else Objects(values))
            number += count
            new = list(channel.sends(flush=False))
        elif what == "watermark":
            time_us += rng.randint(1, 5)
            channel.watermark(time_us)
            if put and isinstance(put[-1], str) and put[-1].startswith("W"):
                put.pop()
            put.append(f"W{time_us}")
            new = list(channel.sends(flush=False))
        elif what == "flush":
            new = list(channel.sends(flush=True))
        elif what == "credit" and under_way:
            for _ in range(rng.randint(1, len(under_way))):
                under_way.pop(0)
            consumed_bytes = channel.sent_bytes - sum(under_way)
            channel.credit(consumed_bytes, rng.choice([3_000, 4_000, 9_000, 40_000]))
            before, window_bytes = channel.in_flight_bytes, channel.window_bytes
            new = list(channel.sends(flush=False))
        elif what == "urgent" and rng.random() < 0.3:
            sent += (urgent := list(channel.urgent(Status(idle=True))))
            under_way += sizes(urgent)
            put.append("idle")
        for send in new:
            before += len(send.frame)
            alone = before == len(send.frame)
            # A row that is wider than the rest of its batch may be one row too much.
            assert alone or before <= window_bytes + SLACK_BYTES + 9_000 * (not columnar)
        sent += new
        under_way += sizes(new)
        assert channel.in_flight_bytes == sum(under_way)
        assert not (channel.full and channel.sendable), "what is full and may go has gone"
    sent += channel.urgent(EndOfInput())
    assert _squeezed(said(sent, WIRE if columnar else None)) == _squeezed([*put, "end"])


def _squeezed(words):
    """Drop watermarks that are followed by another: the model does not know what had left."""
    return [
        word
        for word, following in zip(words, [*words[1:], ""], strict=True)
        if not (str(word).startswith("W") and str(following).startswith("W"))
    ]


def edge(exchange, down):
    channels = [Outgoing(link(ChannelId(0, 0, at)), 1, SMALL) for at in range(down)]
    divide = partitioner(
        exchange, upstream=0, parallelism_up=1, parallelism_down=down, max_parallelism=128
    )
    return OutputEdge(0, divide, channels)


def test_outputs_are_full_while_one_of_their_channels_is():
    node = ChainNode("pass", "pass", Passing(), WIRE, "test", (), (1,))
    plan = one_chain((node,), WIRE, [Rebalance()], up=0, down=3, limits=SMALL)
    outputs = Outputs(plan, plan.chain("it").subtasks[0], 1, ManualClock())
    assert not list(outputs.put((1,), rows(0, 9)))
    assert not outputs.full
    sent = []
    while not outputs.full:
        sent += outputs.put((1,), rows(0, 500))
    assert sent
    for down in range(3):
        channel = ChannelId(1, 0, down)
        total = sum(len(one.frame) for one in sent if read_header(one.frame).channel == channel)
        sent += outputs.credit(CreditCame(channel, total, 1 << 24))
    assert not outputs.full


def test_a_watermark_goes_to_every_channel_of_an_edge():
    output = edge(Rebalance(), 3)
    output.put(rows(0, 2))
    output.put(Watermark(1))
    told = [said(channel.sends(flush=True)) for channel in output.channels]
    assert told == [[0, "W1"], [1, "W1"], ["W1"]]


def test_broadcast_puts_each_row_on_every_channel():
    output = edge(Broadcast(), 2)
    output.put(rows(0, 4))
    assert [said(c.sends(flush=True)) for c in output.channels] == [[0, 1, 2, 3]] * 2


def test_a_larger_window_makes_larger_envelopes():
    small, large = outgoing(), outgoing(replace(SMALL, channel_bytes_min=60_000))
    for channel in (small, large):
        channel.put(rows(0, 2_000, width=20))
    assert max(sizes(large.sends(flush=False))) > 4 * max(sizes(small.sends(flush=False)))
