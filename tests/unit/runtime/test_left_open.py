"""A job changes the size of one operator: functions and readers of others are not opened again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from by_hand import ByHand

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator import events as job
from raystream.flow.ids import SubtaskId
from raystream.runtime.left_open import LeftOpen

ROWS = pa.schema([("k", pa.int64())])


class Told(rs.Source):
    """Gives a row for each number up to what the test has allowed, of split after split."""

    schema = ROWS
    bounded = False

    def __init__(self) -> None:
        self.allowed = 0
        self.opened: list[tuple[str, Any]] = []
        self.closed: list[str] = []
        self.kept: dict[str, int] = {}

    def splits(self) -> list[rs.Split]:
        return [rs.Split("a"), rs.Split("b")]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        self.opened.append((split.id, position))
        return _ToldReader(self, split.id, position or 0)


class _ToldReader(rs.Reader):
    def __init__(self, source: Told, split: str, position: int) -> None:
        self._source, self._split, self._next = source, split, position

    def poll(self, max_rows: int) -> Any:
        if self._next >= self._source.allowed:
            return None
        self._next += 1
        return pa.RecordBatch.from_pylist([{"k": self._next % 3}], schema=ROWS)

    def position(self) -> int:
        return self._next

    def checkpointed(self, position: int) -> None:
        self._source.kept[self._split] = position

    def close(self) -> None:
        self._source.closed.append(self._split)


class Counting(rs.KeyedProcessFunction):
    def __init__(self, life: list[str]) -> None:
        self.life = life

    def open(self, ctx: Any) -> None:
        self._index = ctx.subtask_index
        self.life.append(f"open {self._index}")
        self._seen = ctx.state(rs.ValueState("seen", type=pa.int64()))

    def process(self, row: Any, ctx: Any) -> Any:
        seen = (self._seen.value() or 0) + 1
        self._seen.update(seen)
        yield (row["k"], seen)

    def close(self) -> None:
        self.life.append(f"close {self._index}")


class Hand:
    """A job whose rows come as the test allows."""

    END_US = 120_000_000

    def __init__(self, folder: Any) -> None:
        self.source, self.life, self.sink = Told(), [], rs.MemorySink()
        made = rs.Job(
            "stays",
            parallelism=2,
            checkpoint=rs.Checkpointing(str(folder), every="1s"),
            restart=rs.Restart.fixed(3, "1s"),
        )
        read = made.source(self.source, name="read")
        read.key_by("k").process(Counting(self.life)).uid("count").sink(self.sink)
        self.clock = ManualClock()
        self.job = ByHand(made, folder / "stays", self.clock, self._pace)
        self.local, self.until, self.rescale = self.job.local, self.job.until, self.job.rescale

    def _pace(self, _: bool) -> bool:
        self.clock.advance(5_000)
        return self.clock.monotonic_us() < self.END_US

    def give(self, count: int) -> None:
        """Let so many rows come, in all, and see that each key is counted on."""
        self.source.allowed = count // 2
        self.until(lambda: len(self.sink.rows) >= count)
        keys = [k for k, _ in self.sink.rows]
        wanted = [(k, n + 1) for k in range(3) for n in range(keys.count(k))]
        assert sorted(self.sink.rows) == wanted

    def between(self, scale: dict[str, int]) -> None:
        """Let the job change its size, and come no further than between two attempts."""
        self._perform, self.job.vault.perform = self.job.vault.perform, self._broken
        self.local.ask(job.RescaleAsked("between", scale))
        self.until(lambda: self.local.state == "opening")

    def mend(self) -> None:
        """Let the disk work again."""
        self.job.vault.perform = self._perform

    def _broken(self, errand: Any) -> Any:
        if isinstance(errand, job.ReadLog):
            raise rs.StorageError("no disk")
        return self._perform(errand)


@pytest.fixture
def it(tmp_path):
    hand = Hand(tmp_path)
    yield hand
    hand.local.close()


def test_a_function_is_not_opened_again_where_another_operator_changes_its_size(it):
    it.give(20)
    assert sorted(it.life) == ["open 0", "open 1"]
    del it.life[:]
    it.rescale({"read": 3}, "grows")
    it.give(40)
    it.rescale({"read": 1}, "shrinks")
    it.give(60)
    assert it.life == []
    it.local.close()
    assert sorted(it.life) == ["close 0", "close 1"]


def test_where_it_changes_itself_its_state_is_that_of_who_stayed_open(it):
    it.give(20)
    it.rescale({"read": 1}, "one")
    it.give(40)
    it.rescale({"count": 3}, "two")
    it.give(60)
    assert sorted(it.life) == sorted(
        [f"{what} {i}" for what in ("open", "close") for i in (0, 1)]
        + [f"open {i}" for i in range(3)]
    )


def test_readers_are_not_opened_again_where_another_operator_changes_its_size(it):
    it.give(20)
    it.rescale({"count": 3}, "grows")
    assert it.source.kept == {"a": 10, "b": 10}  # they have heard of its checkpoint
    it.give(40)
    it.rescale({"count": 1}, "shrinks")
    it.give(60)
    assert (it.source.opened, it.source.closed) == ([("a", None), ("b", None)], [])
    it.rescale({"read": 1}, "moves")  # there may be some ahead: it is read again
    it.give(80)
    assert it.source.closed == ["a", "b"]
    assert it.source.opened[2:] == [("a", 30), ("b", 30)]
    it.local.close()
    assert sorted(it.source.closed) == ["a", "a", "b", "b"]


def test_rows_that_were_read_behind_the_barrier_come_once(it):
    it.source.allowed = 1_000
    it.until(lambda: len(it.sink.rows) >= 20)
    for number in range(6):
        it.rescale({"count": 3 - number % 3}, f"{number}")
        seen = len(it.sink.rows)
        it.until(lambda seen=seen: len(it.sink.rows) >= seen + 20)
    it.give(2_000)
    assert len(it.source.opened) == 2


def test_readers_that_were_left_open_are_closed_where_another_process_dies_meanwhile(it):
    it.give(20)
    it.between({"count": 3})
    assert sorted(one.chain for one in it.local.alive) == ["read", "read"]
    it.local.crash(it.local.alive[0])  # with what it had left open, which nobody can close
    it.mend()
    it.until(lambda: it.local.state == "running")
    assert it.source.closed == ["b"]
    it.give(40)
    assert sorted(it.source.opened[2:]) == [("a", 10), ("b", 10)]


def test_behind_a_failure_everything_is_opened_again(it):
    it.give(20)
    it.rescale({"read": 1}, "one")
    it.give(40)
    it.until(lambda: it.local.state == "running")
    del it.life[:]
    it.local.crash(next(one for one in it.local.alive if one.chain == "read"))
    it.until(lambda: it.local.state != "running")
    it.until(lambda: it.local.state == "running")
    assert sorted(it.life) == ["close 0", "close 1", "open 0", "open 1"]


def test_what_was_left_open_is_closed_where_the_job_is_stopped_in_between(it):
    it.give(20)
    it.between({"read": 3})
    assert [subtask.chain.startswith("process") for subtask in it.local.alive] == [True, True]
    assert [line for line in it.life if line.startswith("close")] == []
    assert sorted(it.source.closed) == ["a", "b"]  # its own size changes
    it.local.close()
    assert sorted(it.life) == ["close 0", "close 1", "open 0", "open 1"]
    assert it.local.over


class _Chain:
    def __init__(self, *, breaks: bool = False) -> None:
        self.closed, self._breaks = 0, breaks

    def close(self) -> None:
        self.closed += 1
        if self._breaks:
            raise ValueError("it will not close")


class _Rest:
    def __init__(self, subtask: SubtaskId, *, breaks: bool = False) -> None:
        self.subtask, self.chain = subtask, _Chain(breaks=breaks)

    def close(self) -> None:
        self.chain.close()


class _Plan:
    def chain(self, name: str) -> Any:
        subtasks = tuple(SubtaskId(name, index, 2) for index in range(2))
        return type("Chain", (), {"subtasks": subtasks})


def resting(left: LeftOpen, *places: tuple[str, int]) -> dict[tuple[str, int], _Rest]:
    made = {place: _Rest(SubtaskId(*place, 2), breaks=place == ("b", 0)) for place in places}
    for one in made.values():
        left.put(one)
    return made


def test_a_chain_goes_on_as_a_whole_and_what_does_not_is_closed_whatever_breaks():
    left = LeftOpen()
    made = resting(left, ("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1))
    left.keep(_Plan(), {"a", "b"})
    assert {place: one.chain.closed for place, one in made.items()} == {
        ("a", 0): 0,
        ("a", 1): 0,
        ("b", 0): 1,
        ("c", 0): 1,
        ("c", 1): 1,
    }
    assert left.take(SubtaskId("a", 1, 2)) is made["a", 1]
    assert left.take(SubtaskId("a", 1, 2)) is None
    left.close()
    assert (made["a", 0].chain.closed, made["a", 1].chain.closed) == (1, 0)


def test_what_a_process_held_that_is_no_more_is_nobodys_to_close():
    left = LeftOpen()
    made = resting(left, ("a", 0), ("a", 1))
    left.lose(SubtaskId("a", 0, 2))
    left.keep(_Plan(), {"a"})
    assert (made["a", 0].chain.closed, made["a", 1].chain.closed) == (0, 1)
