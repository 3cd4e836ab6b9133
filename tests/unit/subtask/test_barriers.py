"""Barriers in one subtask: what is in a snapshot, and what goes on behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from subtasks import END, WIRE, Driven, SilentSource, one_chain, rows

from raystream.clock import ManualClock
from raystream.contracts.checkpointing import Checkpointing
from raystream.contracts.source import Split
from raystream.contracts.watermark import WatermarkStrategy
from raystream.flow.element import MAX_TIME, Barrier, EndOfInput, Watermark
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId
from raystream.flow.messages import Completed, GiveUp, Start, Trigger
from raystream.graph.physical import ChainNode
from raystream.keyed.snapshot import Section, Share, Snapshot, section
from raystream.operators.operator import Operator
from raystream.operators.source import SourceSpec
from raystream.subtask.events import Acknowledge, Keep, Polled
from raystream.subtask.handing_over import Restored
from raystream.subtask.kept_splits import kept_splits

OUT = ChannelId(1, 0, 0)
A, B = 0, 1
SETTINGS = Checkpointing("memory://barriers")
WAITING = Checkpointing("memory://barriers", unaligned_after="10ms")


@dataclass(frozen=True)
class Gathering:
    """Keeps the numbers of all rows that it has passed on."""

    verb: str = "gather"

    def describe(self) -> str:
        return ""

    def build(self) -> _Gather:
        return _Gather()


class _Gather(Operator):
    def __init__(self) -> None:
        self._seen: list[int] = []

    def restore(self, snapshot: Snapshot) -> None:
        table = section(snapshot, "seen")
        assert table is not None
        self._seen = table.column("n").to_pylist()

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        self._seen += batch.record.column("n").to_pylist()
        yield batch

    def snapshot(self) -> Snapshot:
        return (Section("seen", pa.table({"n": pa.array(self._seen, pa.int64())}), Share.UNION),)


def gathering(
    *, up: int = 2, settings: Checkpointing = SETTINGS, restored: Restored | None = None
) -> Driven:
    node = ChainNode("it", "it", Gathering(), WIRE, "", (), (1,))
    plan = replace(one_chain((node,), WIRE, [ToOne()], up=up), checkpoint=settings)
    return Driven(plan, ManualClock(), restored=restored)


def kept(it: Driven) -> list[tuple[int, list[int]]]:
    """Give the snapshots that were taken: which checkpoint, and what was in it."""
    found = []
    for keep in it.effects:
        if isinstance(keep, Keep):
            table = section(keep.operators["it"], "seen")
            assert table is not None
            found.append((keep.checkpoint_id, table.column("n").to_pylist()))
    return found


def row(number: int) -> Any:
    return rows(number, 1)


def test_c25_a_channel_is_held_until_its_barrier_is_on_all():
    it = gathering()
    it.receive(row(1), Barrier(1), upstream=A)
    it.receive(row(2), upstream=A)
    it.receive(row(11), upstream=B)
    it.receive(row(12), Barrier(1), upstream=B)
    it.receive(row(13), upstream=B)
    it.settle()
    assert kept(it) == [(1, [1, 11, 12])]
    assert it.sent(OUT)[:4] == [1, 11, 12, "|1"]
    assert sorted(it.sent(OUT)[4:]) == [2, 13]


def test_what_is_kept_at_a_barrier_behind_which_sources_stop_says_so():
    it = gathering()
    for barrier in (Barrier(1), Barrier(2, stops=True)):
        it.receive(row(1), barrier, upstream=A)
        it.receive(row(11), barrier, upstream=B)
    it.settle()
    assert [one.stops for one in it.effects if isinstance(one, Keep)] == [False, True]


def test_c25_what_comes_on_a_held_channel_waits():
    it = gathering()
    it.receive(row(1), Barrier(1), upstream=A)
    it.settle()
    it.receive(row(2), upstream=A)
    it.settle()
    assert it.sent(OUT) == [1]
    assert kept(it) == []


def test_at_least_once_holds_nothing():
    it = gathering(settings=Checkpointing("memory://barriers", mode="at_least_once"))
    it.receive(row(1), Barrier(1), upstream=A)
    it.receive(row(2), upstream=A)
    it.receive(row(11), Barrier(1), upstream=B)
    it.settle()
    assert kept(it) == [(1, [1, 2, 11])]


def test_c26_a_channel_that_has_ended_counts_as_having_the_barrier():
    it = gathering()
    it.receive(row(11), EndOfInput(), upstream=B)
    it.receive(row(1), Barrier(1), upstream=A)
    it.settle()
    assert kept(it) == [(1, [11, 1])]


def test_c26_a_channel_that_ends_while_another_waits_completes_the_barrier():
    it = gathering()
    it.receive(row(1), Barrier(1), upstream=A)
    it.receive(row(2), upstream=A)
    it.receive(row(11), EndOfInput(), upstream=B)
    it.settle()
    assert kept(it) == [(1, [1, 11])]
    assert it.sent(OUT) == [1, 11, "|1", 2]


def test_a_barrier_of_a_newer_checkpoint_gives_the_older_one_up():
    it = gathering()
    it.receive(row(1), Barrier(1), upstream=A)
    it.receive(row(2), Barrier(2), upstream=A)
    it.receive(row(11), Barrier(2), upstream=B)
    it.settle()
    assert kept(it) == [(2, [1, 11, 2])]
    assert it.sent(OUT) == [1, 11, 2, "|2"]


def test_a_checkpoint_that_was_given_up_holds_nothing_and_its_barrier_is_ignored():
    it = gathering()
    it.receive(row(1), Barrier(1), upstream=A)
    it.settle()
    it.step(GiveUp(1))
    it.receive(row(2), upstream=A)
    it.settle()
    assert it.sent(OUT) == [1, 2]
    it.receive(row(11), Barrier(1), upstream=B)
    it.settle()
    assert kept(it) == []
    it.receive(Barrier(2), upstream=A)
    it.receive(Barrier(2), upstream=B)
    it.settle()
    assert kept(it) == [(2, [1, 2, 11])]


def test_rows_that_wait_before_a_barrier_for_too_long_are_kept_and_taken_up_again():
    it = gathering(settings=WAITING)
    it.receive(row(0), Barrier(1), upstream=A)
    it.settle()
    it.receive(rows(1, 60, width=200), upstream=B)
    it.settle()
    assert it.machine.blocked
    it.receive(row(61), upstream=B)
    it.clock.advance(10_000)
    assert kept(it) == []  # a barrier that has not come is overtaken by nothing
    it.receive(row(62), Barrier(1), upstream=B)
    while it.machine.blocked:
        it.give_credit(OUT)
        it.settle()
    assert kept(it) == [(1, list(range(61)))]
    it.give_credit(OUT)
    it.settle()
    assert it.sent(OUT) == [*range(61), "|1", 61, 62]
    (keep,) = (one for one in it.effects if isinstance(one, Keep))
    again = gathering(settings=WAITING, restored=Restored(1, keep.operators))
    again.receive(row(63), upstream=B)
    again.settle()
    assert again.sent(OUT) == [61, 62, 63]


@pytest.mark.slow
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_c27_state_is_that_of_a_run_row_by_row_wherever_the_barrier_stands(sizes):
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    total = sum(sizes)
    by_row = gathering(up=1)
    for number in range(total):
        by_row.receive(row(number))
    by_row.receive(Barrier(1))
    by_row.settle()
    wanted = kept(by_row)[0][1]
    for start, size in zip(starts, sizes, strict=True):
        for position in range(size + 1):
            at = start + position
            before = gathering(up=1)
            batches = [(s, n) for s, n in zip(starts, sizes, strict=True) if s < start]
            batches += [(start, position)] if position else []
            for first, count in batches:
                before.receive(rows(first, count))
            before.receive(Barrier(1))
            before.settle()
            assert kept(before) == [(1, list(range(at)))]
            (keep,) = (one for one in before.effects if isinstance(one, Keep))
            after = gathering(up=1, restored=Restored(1, keep.operators))
            if position < size:
                after.receive(rows(at, size - position))
            for first, count in zip(starts, sizes, strict=True):
                if first > start:
                    after.receive(rows(first, count))
            after.receive(Barrier(2))
            after.settle()
            assert kept(after) == [(2, wanted)]
            assert before.sent(OUT)[:-1] + after.sent(OUT)[:-1] == wanted


def reading(restored: Restored | None = None, start: Start | None = None) -> Driven:
    source = SilentSource(["s"], pa.schema(list(WIRE)[:-1]))
    spec = SourceSpec(source, WIRE, WatermarkStrategy("n"), "it", "", timed=True)
    node = ChainNode("it", "it", spec, WIRE, "", (), (1,))
    plan = replace(one_chain((node,), None, [ToOne()], up=0), checkpoint=SETTINGS)
    return Driven(plan, start=start or Start((Split("s"),)), restored=restored)


def polled(it: Driven, rows_: Any, position: Any) -> None:
    it.settle()
    split = it.polls.pop(0).split.id
    it.step(Polled(split, rows_, position))


def source_rows(first: int, count: int) -> pa.RecordBatch:
    record = rows(first, count).record
    return record.select(["n", "text"])


def test_c41_the_position_in_a_snapshot_is_that_of_the_next_row():
    it = reading()
    polled(it, source_rows(0, 4), 4)
    it.settle()
    it.step(Polled("s", source_rows(4, 2), 6))  # read, and not yet taken
    it.step(Trigger(1))
    it.settle()
    (keep,) = (one for one in it.effects if isinstance(one, Keep))
    assert [one.position for one in kept_splits(keep.operators["it"])] == [4]
    assert it.sent(OUT) == [0, 1, 2, 3, "W2", "|1", 4, 5, "W4"]
    it.step(Completed(1))
    assert [one for one in it.effects if isinstance(one, Acknowledge)] == [Acknowledge("s", 4)]


def test_c43_a_source_that_had_finished_gives_nothing_again_and_max_comes_all_the_same():
    it = reading()
    polled(it, source_rows(0, 2), 2)
    polled(it, END, 2)
    it.settle()
    assert it.sent(OUT)[-1] == "end"
    it.step(Trigger(1))
    it.settle()
    (keep,) = (one for one in it.effects if isinstance(one, Keep))
    again = reading(Restored(1, keep.operators), Start())
    again.settle()
    assert again.polls == []
    assert again.sent(OUT) in (["end"], [f"W{MAX_TIME}", "end"])


def test_an_older_attempt_has_no_barrier_in_this_one():
    it = gathering(up=1, restored=Restored(3, {"it": _Gather().snapshot()}))
    it.receive(Barrier(3), Watermark(1))
    it.settle()
    assert kept(it) == []
    it.receive(Barrier(4))
    it.settle()
    assert kept(it) == [(4, [])]


@pytest.mark.parametrize("held", [True, False])
def test_a_savepoint_is_whole_and_says_where_it_goes(held):
    it = gathering(up=2 if held else 1)
    it.receive(row(1), Barrier(1, "memory://there"), upstream=A)
    if held:
        it.receive(Barrier(1, "memory://there"), upstream=B)
    it.settle()
    (keep,) = (one for one in it.effects if isinstance(one, Keep))
    assert (keep.target, kept(it)) == ("memory://there", [(1, [1])])
