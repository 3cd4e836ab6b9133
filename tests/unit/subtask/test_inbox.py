"""The receiving side of channels: order, attempts, and the credit that is given for more."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from subtasks import SMALL, link

from raystream.errors import ProtocolError
from raystream.flow.codec import Header, encode
from raystream.flow.element import Watermark
from raystream.flow.ids import ChannelId
from raystream.subtask.inbox import Inbox

A, B = ChannelId(0, 0, 0), ChannelId(0, 1, 0)
MS = 1_000


def frame(number: int, channel: ChannelId = A, attempt: int = 1, size: int = 200) -> bytes:
    made = encode(Header(attempt, channel, number, 1), [Watermark(number)])
    return made + bytes(size - len(made))


def inbox(*channels: ChannelId, limits=SMALL, attempt: int = 1) -> Inbox:
    return Inbox([link(channel) for channel in channels or (A,)], attempt, limits)


def consume(box: Inbox, now_us: int = 0) -> None:
    channel, taken = box.next()
    box.consumed(channel, len(taken), now_us)


def granted(box: Inbox, now_us: int = 0) -> list[tuple[ChannelId, int]]:
    return [(g.credit.channel, g.credit.consumed_bytes) for g in box.grants(now_us)]


def test_frames_come_out_in_the_order_in_which_they_came():
    box = inbox(A, B)
    box.receive(frame(0, A))
    box.receive(frame(0, B))
    box.receive(frame(1, A))
    assert [box.next()[0].link.channel for _ in range(3)] == [A, B, A]
    assert len(box) == 0


@pytest.mark.parametrize("numbers", [[1], [0, 0], [0, 2]])
def test_a_frame_that_is_lost_doubled_or_overtaken_is_refused(numbers):
    box = inbox()
    for number in numbers[:-1]:
        box.receive(frame(number))
    with pytest.raises(ProtocolError, match=f"brought frame {numbers[-1]}, expected"):
        box.receive(frame(numbers[-1]))


def test_a_frame_of_an_older_attempt_is_dropped():
    box = inbox(attempt=3)
    box.receive(frame(0, attempt=2))
    assert len(box) == 0
    box.receive(frame(0, attempt=3))
    assert len(box) == 1


def test_a_frame_of_a_later_attempt_is_refused():
    with pytest.raises(ProtocolError, match="attempt 4 in 3"):
        inbox(attempt=3).receive(frame(0, attempt=4))


def test_a_frame_for_somebody_else_is_refused():
    with pytest.raises(ProtocolError, match="does not end here"):
        inbox(A).receive(frame(0, B))


def test_bytes_that_are_no_frame_are_refused():
    with pytest.raises(ProtocolError, match="no envelope"):
        inbox().receive(b"hello")


def test_credit_comes_when_a_quarter_of_the_window_is_consumed():
    box = inbox()  # a window of 4,000 bytes
    for number in range(10):
        box.receive(frame(number, size=300))
    for _ in range(3):
        consume(box)
        assert granted(box) == []
    consume(box)
    assert granted(box) == [(A, 1_200)]
    assert granted(box) == []


def test_credit_comes_early_when_nothing_is_left_to_do():
    box = inbox()
    box.receive(frame(0, size=300))
    consume(box)
    assert granted(box) == [(A, 300)]


def test_a_little_credit_waits_for_more_but_not_for_ever():
    box = inbox(limits=replace(SMALL, channel_bytes_min=16_000))
    for number in range(2):
        box.receive(frame(number, size=200))
        consume(box, now_us=number)
        assert granted(box, now_us=number) == []
    due_us = box.next_grant_us()
    assert due_us is not None
    assert due_us > 1
    assert granted(box, now_us=due_us - 1) == []
    assert granted(box, now_us=due_us) == [(A, 400)]
    assert box.next_grant_us() is None


def test_a_channel_that_has_nothing_left_gets_its_credit_while_another_never_pauses():
    # B's sender may be stuck behind what is owed to it; A must not keep B's credit for ever.
    box = inbox(A, B)
    box.receive(frame(0, B, size=200))
    consume(box)
    got = []
    for number in range(40):
        box.receive(frame(number, A, size=900))
        if number:
            consume(box, number * MS)
        got += granted(box, number * MS)
    assert (B, 200) in got


def test_what_waits_here_owes_no_late_credit():
    # Else a subtask that is held up would wake again and again for credit that is not due.
    box = inbox()
    for number in range(3):
        box.receive(frame(number, size=200))
    consume(box)
    assert box.next_grant_us() is None
    assert granted(box, now_us=10**9) == []


def test_credit_is_cumulative():
    box = inbox()
    consumed = []
    for number in range(20):
        box.receive(frame(number, size=500))
        consume(box)
        consumed += [size for _, size in granted(box)]
    assert consumed == sorted(set(consumed))
    assert consumed[-1] == 20 * 500


def test_nothing_is_granted_on_a_channel_that_has_ended():
    box = inbox()
    box.receive(frame(0, size=900))
    box.finish(A)
    consume(box)
    assert granted(box) == []
    assert box.next_grant_us() is None


def drive(box: Inbox, bytes_a_ms: int, ms: int, start_ms: int = 1) -> int:
    """Consume at a rate; give the last window that was granted."""
    windows = [0]
    for at in range(start_ms, start_ms + ms):
        box.receive(frame(box.channels[A].sequence, size=bytes_a_ms))
        consume(box, at * MS)
        windows += [g.credit.window_bytes for g in box.grants(at * MS)]
    return windows[-1]


def test_the_window_is_what_is_consumed_in_a_quarter_of_a_second():
    limits = replace(SMALL, input_bytes_max=10_000_000)
    window_bytes = drive(inbox(limits=limits), bytes_a_ms=300, ms=100)
    assert window_bytes == pytest.approx(250 * 300, rel=0.06)


def test_the_window_stays_within_the_channels_share_of_the_budget():
    box = inbox(A, B, limits=replace(SMALL, input_bytes_max=20_000))
    assert drive(box, bytes_a_ms=5_000, ms=100) == 10_000


def test_the_window_shrinks_slowly_to_its_least_after_the_flow_has_slowed_down():
    limits = replace(SMALL, input_bytes_max=10_000_000)
    box = inbox(limits=limits)
    high = drive(box, bytes_a_ms=2_000, ms=100)
    soon = drive(box, bytes_a_ms=250, ms=40, start_ms=200)
    assert high * 3 // 5 < soon < high
    assert drive(box, bytes_a_ms=250, ms=1_000, start_ms=300) < high // 5


def test_a_budget_too_small_for_the_least_window_is_kept_all_the_same():
    box = inbox(A, B, limits=replace(SMALL, input_bytes_max=3_000))
    assert drive(box, bytes_a_ms=700, ms=100) == 1_500


@pytest.mark.parametrize("seed", range(20))
def test_what_was_consumed_is_granted_in_the_end_and_never_more(seed):
    rng = random.Random(seed)
    box = inbox(A, B)
    sent = dict.fromkeys((A, B), 0)
    done = dict.fromkeys((A, B), 0)
    last = dict.fromkeys((A, B), 0)
    now_us = 0
    for _ in range(400):
        now_us += rng.randint(0, 3 * MS)
        if rng.random() < 0.5 and len(box) < 20:
            channel = rng.choice((A, B))
            box.receive(frame(sent[channel], channel, size=rng.randint(192, 2_000)))
            sent[channel] += 1
        elif len(box):
            incoming, taken = box.next()
            done[incoming.link.channel] += len(taken)
            box.consumed(incoming, len(taken), now_us)
        for channel, consumed_bytes in granted(box, now_us):
            assert last[channel] < consumed_bytes == done[channel]
            last[channel] = consumed_bytes
    while len(box):
        incoming, taken = box.next()
        done[incoming.link.channel] += len(taken)
        box.consumed(incoming, len(taken), now_us)
    while (due_us := box.next_grant_us()) is not None:
        last.update(granted(box, max(now_us, due_us)))
    assert last == done
    assert all(channel.queued_bytes == 0 for channel in box.channels.values())
