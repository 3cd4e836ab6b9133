"""Channels lose nothing, double nothing, keep order and stay within their bounds."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from plans import KeepingSink, NumberSource, two_chains

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.flow.exchange import (
    Broadcast,
    Custom,
    Forward,
    Hash,
    Rebalance,
    Shuffle,
    ToOne,
)
from raystream.runtime import local
from raystream.subtask.inbox import Inbox

SMALL = Limits(
    batch_rows_max=64,
    envelope_bytes_inline=2_000,
    envelope_bytes_large=8_000,
    envelope_bytes_max=16_000,
    input_bytes_max=40_000,
    channel_bytes_min=4_000,
)
EXCHANGES = [
    Hash(("n",)),
    Rebalance(),
    Rebalance(local=True),
    Shuffle(),
    ToOne(),
    Custom(lambda row: row["n"] - 7, "by", "test"),
]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=str)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (1, 3), (3, 2), (2, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_arrives_once_and_in_order_of_its_channel(exchange, up, down, seed):
    sink = KeepingSink()
    plan = two_chains(exchange, sink, up=up, down=down, limits=SMALL, by_row=seed % 2 == 1)
    result = local.run(plan, rng=random.Random(seed))
    assert sorted((split, n) for _, split, n in sink.rows) == [
        (split, n) for split in range(2 * up) for n in range(300)
    ]
    assert result.records_out == 600 * up
    last = defaultdict(lambda: -1)
    for index, split, n in sink.rows:
        assert n > last[index, split]
        last[index, split] = n


@pytest.mark.parametrize("seed", range(4))
def test_hash_sends_a_key_to_one_subtask_only(seed):
    sink = KeepingSink()
    local.run(two_chains(Hash(("n",)), sink, up=2, down=3, limits=SMALL), rng=random.Random(seed))
    owners = defaultdict(set)
    for index, _, n in sink.rows:
        owners[n].add(index)
    assert {len(indices) for indices in owners.values()} == {1}
    assert {index for indices in owners.values() for index in indices} == {0, 1, 2}


def test_broadcast_brings_every_row_to_every_subtask():
    sink = KeepingSink()
    local.run(two_chains(Broadcast(), sink, up=2, down=3, limits=SMALL), rng=random.Random(1))
    for wanted in range(3):
        rows = sorted((split, n) for index, split, n in sink.rows if index == wanted)
        assert rows == [(split, n) for split in range(4) for n in range(300)]


def test_forward_keeps_each_subtask_to_its_own():
    sink = KeepingSink()
    local.run(two_chains(Forward(), sink, up=3, down=3, limits=SMALL))
    assert {(index, split % 3) for index, split, _ in sink.rows} == {(0, 0), (1, 1), (2, 2)}


def test_local_rebalance_reaches_every_subtask_and_only_the_own_group():
    sink = KeepingSink()
    local.run(two_chains(Rebalance(local=True), sink, up=2, down=4, limits=SMALL))
    reached = {(index, split % 2) for index, split, _ in sink.rows}
    assert reached == {(0, 0), (1, 0), (2, 1), (3, 1)}


@pytest.mark.parametrize("seed", range(6))
def test_an_inbox_never_holds_more_than_it_granted(seed, monkeypatch):
    held = []
    receive = Inbox.receive

    def watched(self, frame):
        receive(self, frame)
        held.append(sum(c.queued_bytes for c in self.channels.values()))

    monkeypatch.setattr(Inbox, "receive", watched)
    sink = KeepingSink()
    plan = two_chains(
        Rebalance(), sink, up=3, down=1, limits=SMALL, source=NumberSource(6, 900, 64)
    )
    local.run(plan, rng=random.Random(seed))
    assert len(sink.rows) == 5400
    # One envelope may pass over the window where nothing is under way, and the end of input does.
    assert max(held) <= SMALL.input_bytes_max + 3 * SMALL.envelope_bytes_max


def test_the_same_seed_gives_the_same_run():
    runs = []
    for _ in range(2):
        # The machines look at the clock, too: a run repeats where time does.
        sink, clock = KeepingSink(), ManualClock()
        local.run(
            two_chains(Shuffle(), sink, up=2, down=2, limits=SMALL),
            clock=clock,
            sleep=lambda seconds, clock=clock: clock.advance(int(seconds * 1e6)),
            rng=random.Random(5),
        )
        runs.append(sink.rows)
    assert runs[0] == runs[1]
