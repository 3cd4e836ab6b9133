"""The splits of a source: whose turn it is, what time it is, when one is idle."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from subtasks import SilentSource

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.source import Later, Split
from raystream.contracts.watermark import WatermarkStrategy
from raystream.flow.element import Status, Watermark
from raystream.flow.messages import Start
from raystream.operators.source import SourceSpec
from raystream.subtask.events import Polled
from raystream.subtask.kept_splits import KeptSplit
from raystream.subtask.splits import Splits

LIMITS = Limits()
SECOND = 1_000_000


class Reading:
    """Splits, and what a test does with them; polls are answered in the order of the asking."""

    def __init__(
        self, *names: str, watermark=None, bounded=True, abreast=False, more=False, earliest=None
    ) -> None:
        source = SilentSource(names)
        source.bounded, source.abreast = bounded, abreast
        spec = SourceSpec(source, None, watermark, "it", "", watermark is not None)
        self.clock = ManualClock()
        self.splits = Splits(spec.build(), self.clock, LIMITS)
        self.splits.more_may_come = more
        self.asked: list[str] = []
        self.said: list[object] = []
        self._earliest = earliest or {}
        self.add(*names)

    def add(self, *names: str) -> None:
        self._note(self.splits.add(tuple(Split(n, None, self._of(n)) for n in names)))

    def _of(self, name: str) -> dict[str, int]:
        return {"t": self._earliest[name]} if name in self._earliest else {}

    def ask(self) -> list[str]:
        new = [poll.split.id for poll in self.splits.asks(polls=True)]
        self.asked += new
        return new

    def nothing(self, split: str | None = None) -> None:
        self._note(self.splits.nothing(self._answered(split)))

    def rows(self, watermark_us: int | None = None, split: str | None = None) -> str:
        split = self._answered(split)
        self._note(self.splits.came(split))
        self._note(self.splits.gave(split, watermark_us))
        return split

    def end(self, split: str | None = None) -> None:
        self._note(self.splits.ended(self._answered(split)))

    def heard(self) -> list[object]:
        said, self.said = self.said, []
        return said

    def due_us(self) -> int | None:
        return min(self.splits.dues(polls=True), default=None)

    def pass_us(self, us: int) -> None:
        self.clock.advance(us)

    def _answered(self, split: str | None) -> str:
        first = self.asked[0] if split is None else split
        self.asked.remove(first)
        return first

    def _note(self, changes) -> None:
        for change in changes:
            if isinstance(change, Watermark):
                self.said.append(change.time_us)
            else:
                assert isinstance(change, Status)
                self.said.append("idle" if change.idle else "active")


def by_time(**more) -> WatermarkStrategy:
    return WatermarkStrategy("t", **more)


def test_at_most_two_polls_are_under_way():
    reading = Reading("a", "b", "c")
    assert len(reading.ask()) == 2
    assert reading.ask() == []
    reading.rows()
    assert len(reading.ask()) == 1


def test_a_poll_asks_for_no_more_rows_than_a_batch_may_hold():
    reading = Reading("a")
    (first, _) = reading.splits.asks(polls=True)
    assert first.max_rows == LIMITS.batch_rows_max


def test_the_split_with_the_lowest_watermark_is_read_next():
    reading = Reading("a", "b", "c", watermark=by_time())
    times = {"a": 0, "b": 0, "c": 0}
    order = []
    for _ in range(60):
        marks = {name: reading.splits.gate.watermark_of(name) for name in times}
        for name in reading.ask():
            assert marks[name] == min(marks.values())
        split = reading.asked[0]
        times[split] += {"a": 10, "b": 3, "c": 5}[split]
        order.append(reading.rows(times[split]))
    counts = Counter(order)
    assert counts["b"] > counts["c"] > counts["a"] > 0


def test_a_known_lower_bound_decides_before_the_first_row():
    reading = Reading("late", "early", watermark=by_time(), earliest={"late": 500, "early": 20})
    assert reading.ask()[0] == "early"


def test_a_bounded_source_without_time_is_read_split_by_split():
    reading = Reading("a", "b")
    order = []
    for _ in range(6):
        reading.ask()
        order.append(reading.rows())
    assert set(order) == {"a"}


@pytest.mark.parametrize("kind", [{"bounded": False}, {"abreast": True}])
def test_splits_without_end_and_those_that_fetch_ahead_take_turns(kind):
    reading = Reading("a", "b", "c", **kind)
    order = []
    for _ in range(30):
        reading.ask()
        order.append(reading.rows())
    assert set(Counter(order).values()) == {10}


def test_a_split_that_comes_late_does_not_keep_the_others_waiting():
    reading = Reading("a", "b", bounded=False, more=True)
    for _ in range(100):
        reading.ask()
        reading.rows()
    reading.add("c")
    order = []
    for _ in range(30):
        reading.ask()
        order.append(reading.rows())
    assert min(Counter(order)[name] for name in "abc") >= 8


def test_the_watermark_is_the_least_of_all_splits():
    reading = Reading("a", "b", watermark=by_time())
    assert reading.ask() == ["a", "a"]
    reading.rows(10)
    assert reading.heard() == []
    assert reading.ask() == ["b"]
    reading.rows(12)
    assert reading.heard() == []
    reading.rows(4, split="b")
    assert reading.heard() == [4]


def test_a_split_that_has_ended_holds_nothing_back():
    reading = Reading("a", "b", watermark=by_time())
    reading.ask()
    reading.rows(10)
    assert reading.ask() == ["b"]
    reading.end("b")
    assert reading.heard() == [10]
    assert not reading.splits.finished


def test_a_split_that_had_nothing_is_asked_later_and_later():
    reading = Reading("a")
    waits = []
    for _ in range(8):
        reading.ask()
        while reading.asked:
            reading.nothing()
        due_us = reading.due_us()
        now_us = reading.clock.monotonic_us()
        assert due_us is not None
        assert due_us > now_us
        assert reading.ask() == []
        waits.append(due_us - now_us)
        reading.pass_us(due_us - now_us)
    assert waits[0] <= 4 * LIMITS.poll_idle_us_min
    assert waits == sorted(waits)
    assert waits[-1] == LIMITS.poll_idle_us_max


def test_a_split_that_has_rows_again_is_asked_at_once():
    reading = Reading("a")
    for _ in range(6):
        reading.ask()
        while reading.asked:
            reading.nothing()
        reading.pass_us(LIMITS.poll_idle_us_max)
    reading.ask()
    reading.rows()
    assert reading.due_us() == 0
    assert reading.ask() == ["a"]


def silent(reading: Reading, us: int, step_us: int = 20_000) -> None:
    """Let time pass in which every poll is answered at once by nothing."""
    for _ in range(us // step_us):
        reading.ask()
        while reading.asked:
            reading.nothing()
        reading.pass_us(step_us)


def test_a_silent_split_is_idle_only_where_the_strategy_says_so():
    reading = Reading("a", "b", watermark=by_time())
    silent(reading, 5 * SECOND)
    assert reading.heard() == []


def test_a_split_that_is_asked_and_silent_for_its_idleness_is_idle():
    reading = Reading("a", watermark=by_time(idleness="1s"))
    reading.ask()
    reading.rows(7)
    assert reading.heard() == [7]
    reading.nothing()
    silent(reading, SECOND - 100_000)
    assert reading.heard() == []
    silent(reading, 300_000)
    assert reading.heard() == ["idle"]
    reading.ask()
    reading.rows(9)
    assert reading.heard() == ["active", 9]


def test_an_idle_split_no_longer_holds_the_others():
    reading = Reading("a", "b", watermark=by_time(idleness="1s"))
    reading.ask()
    reading.rows(10, split="a")
    for _ in range(80):
        reading.ask()
        for name in list(reading.asked):
            if name == "a":
                reading.rows(10, split="a")
            else:
                reading.nothing(name)
        reading.pass_us(20_000)
    assert reading.heard() == [10]


def test_rows_in_between_begin_the_silence_anew():
    reading = Reading("a", watermark=by_time(idleness="1s"))
    for _ in range(5):
        silent(reading, 900_000)
        reading.ask()
        reading.rows()
        while reading.asked:
            reading.nothing()
    assert reading.heard() == []


def test_c8_time_in_which_nobody_asks_is_no_silence():
    # The output is full for ten seconds: the split is not asked, and not idle.
    reading = Reading("a", watermark=by_time(idleness="1s"))
    silent(reading, 500_000)
    for _ in range(20):
        reading.splits.held_up()
        reading.pass_us(500_000)
    silent(reading, 900_000)
    assert reading.heard() == []
    silent(reading, 300_000)
    assert reading.heard() == ["idle"]


def test_an_answer_that_had_to_wait_does_not_tell_of_the_time_it_waited():
    # A user's function worked for ten seconds on rows of another split. That "b" had nothing when
    # it was asked, before that, says nothing of what has come since.
    reading = Reading("a", "b", watermark=by_time(idleness="1s"), bounded=False)
    reading.ask()
    reading.nothing("b")
    reading.pass_us(LIMITS.poll_idle_us_max)
    while "b" not in reading.asked:
        reading.ask()
        if "b" not in reading.asked:
            reading.rows(1, split="a")
    reading.pass_us(10 * SECOND)
    reading.nothing("b")
    assert reading.heard() == []


def test_a_source_without_splits_has_finished():
    reading = Reading()
    assert reading.splits.finished
    assert reading.ask() == []
    assert reading.heard() == []


def test_a_source_without_splits_is_idle_where_more_may_come():
    # Else the other subtasks' watermark would wait for a subtask that has nothing to read.
    reading = Reading(more=True)
    assert not reading.splits.finished
    assert reading.heard() == ["idle"]
    reading.add("a")
    assert reading.heard() == ["active"]


def test_a_source_whose_splits_have_all_ended_is_idle_where_more_may_come():
    reading = Reading("a", watermark=by_time(), more=True)
    assert reading.heard() == []
    reading.ask()
    reading.rows(5)
    reading.end("a")
    assert reading.heard() == [5, "idle"]
    reading.add("a")
    assert reading.heard() == []
    reading.add("b")
    assert reading.heard() == ["active"]
    reading.ask()
    reading.rows(9, split="b")
    assert reading.heard() == [9]


def test_a_split_that_is_found_wakes_a_source_whose_others_are_silent():
    reading = Reading("a", watermark=by_time(idleness="1s"), more=True)
    silent(reading, 2 * SECOND)
    assert reading.heard() == ["idle"]
    reading.add("b")
    assert reading.heard() == ["active"]
    silent(reading, 2 * SECOND)
    assert reading.heard() == ["idle"]


def test_a_split_that_is_known_changes_nothing():
    reading = Reading("a", watermark=by_time())
    reading.ask()
    reading.rows(5)
    reading.add("a")
    assert reading.splits.gate.watermark_of("a") == 5


def test_after_its_end_a_split_is_not_asked_again():
    reading = Reading("a", "b")
    reading.ask()
    while reading.asked:
        reading.end()
    for _ in range(4):
        reading.ask()
        while "a" in reading.asked:
            reading.end("a")
        while "b" in reading.asked:
            reading.end("b")
    assert reading.splits.finished
    assert reading.ask() == []
    assert reading.due_us() is None


def given(reading: Reading, rows: list[int], backlog: int | None = None) -> None:
    split = reading.rows()
    reading.splits.answer(Polled(split, rows, 1, backlog))
    assert reading.splits.next_answer().position == 1


def test_a_split_that_gives_little_has_given_all_that_it_had():
    most = LIMITS.batch_rows_max
    reading = Reading("a", bounded=False)
    reading.ask()
    given(reading, [0] * most)
    assert reading.splits.dry_polls == 0
    given(reading, [0] * (most // 8 - 1))
    assert reading.splits.dry_polls == 1
    reading.ask()
    reading.nothing()
    assert reading.splits.dry_polls == 2


def test_a_bounded_split_says_only_with_nothing_that_it_is_dry():
    reading = Reading("a")
    reading.ask()
    given(reading, [0])
    assert reading.splits.dry_polls == 0


def test_the_backlog_is_that_of_all_splits_if_all_can_tell():
    reading = Reading("a", "b", bounded=False)
    reading.ask()
    given(reading, [0], 40)
    assert (reading.splits.unfinished, reading.splits.backlog_rows) == (2, None)
    given(reading, [0], 2)
    assert reading.splits.backlog_rows == 42
    reading.ask()
    reading.end()
    assert (reading.splits.unfinished, reading.splits.backlog_rows) in ((1, 2), (1, 40))


def test_an_answer_to_no_poll_is_a_bug_of_ours():
    with pytest.raises(AssertionError, match="no poll"):
        list(Reading("a").splits.nothing("a"))


def said_by(it: Reading, *words: object) -> list[object]:
    """Let the splits say things between rows; give what that means for all of them."""
    for word in words:
        split = it.ask()[0]
        it._note(it.splits.without_rows(split, word))
    return it.said


def test_a_split_may_say_its_watermark_and_its_status_between_rows():
    it = Reading("a")
    words = [Watermark(5), Watermark(3), Status(idle=True), Status(idle=False), Status(idle=True)]
    assert said_by(it, *words, Watermark(9)) == [
        5,
        "idle",
        "active",
        "idle",
        "active",
        9,
    ]


def test_a_split_that_says_when_is_not_asked_before_and_is_no_errand():
    it = Reading("a")
    first, second = it.ask() + it.ask()
    later = Later(it.clock.monotonic_us() + SECOND)
    for split in (first, second):
        it._note(it.splits.without_rows(split, later))
    assert it.ask() == []
    assert list(it.splits.dues(polls=True)) == []
    assert list(it.splits.moments(polls=True)) == [later.not_before_us]
    it.clock.advance(SECOND)
    assert it.ask() == ["a", "a"]
    it.rows()
    assert list(it.splits.moments(polls=True)) == []


def test_a_split_that_waits_for_long_is_asked_when_it_may_be_idle():
    it = Reading("a", watermark=WatermarkStrategy("t", idleness="1s"))
    later = Later(it.clock.monotonic_us() + 60 * SECOND)
    for split in it.ask() + it.ask():
        it._note(it.splits.without_rows(split, later))
    assert list(it.splits.moments(polls=True)) == [it.clock.monotonic_us() + SECOND]
    it.clock.advance(SECOND)
    it._note(it.splits.without_rows(it.ask()[0], later))
    assert it.said == ["idle"]
    assert list(it.splits.moments(polls=True)) == [later.not_before_us]


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["ahead", "ended", "behind"])), ids=str
)
@pytest.mark.parametrize("new", [(), (Split("new"),)], ids=["none new", "one new"])
def test_restored_time_waits_for_every_split_that_has_not_ended(order, new):
    """What one subtask reads now several may have read, each at a time of its own."""
    known = {
        "ahead": KeptSplit(Split("ahead"), 1, 90, finished=False),
        "ended": KeptSplit(Split("ended"), 1, 95, finished=True),
        "behind": KeptSplit(Split("behind"), 1, 50, finished=False),
    }
    reading = Reading(watermark=WatermarkStrategy("n"))
    reading.splits.restore(tuple(known[name] for name in order))
    reading._note(reading.splits.learn(Start(new)))
    assert reading.heard() == ([] if new else [50])
    assert reading.splits.unfinished == 2 + len(new)


def test_a_source_whose_restored_splits_have_all_ended_rests_while_others_may_come():
    reading = Reading(watermark=WatermarkStrategy("n"), bounded=False)
    reading.splits.restore((KeptSplit(Split("ended"), 1, 95, finished=True),))
    reading._note(reading.splits.learn(Start((), more_splits=True)))
    assert reading.heard() == ["idle"]
