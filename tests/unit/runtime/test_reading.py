"""The thread of a source's readers: one, attempt after attempt, with nothing under way between."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

import raystream as rs
from raystream.operators.source import SourceSpec
from raystream.runtime.reading import ReadingThread
from raystream.runtime.shell import Readers
from raystream.subtask.events import Acknowledge, Poll, Polled

SOON_S = 20


class Held(rs.Source):
    """Gives one row after the other; each poll waits until the test lets it go on."""

    bounded = False

    def __init__(self) -> None:
        self.threads: dict[str, list[int]] = {"open": [], "poll": [], "close": []}
        self.heard: list[Any] = []
        self.polled, self.go_on = threading.Event(), threading.Event()
        self.closed = threading.Event()
        self.breaks: BaseException | None = None

    def splits(self) -> list[rs.Split]:
        return [rs.Split("s")]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        self.note("open")
        return _HeldReader(self, position or 0)

    def note(self, what: str) -> None:
        self.threads[what].append(threading.get_ident())


class _HeldReader(rs.Reader):
    def __init__(self, source: Held, position: int) -> None:
        self._source, self._next = source, position

    def poll(self, max_rows: int) -> Any:
        self._source.note("poll")
        self._source.polled.set()
        assert self._source.go_on.wait(SOON_S)
        if self._source.breaks is not None:
            raise self._source.breaks
        self._next += 1
        return [self._next]

    def position(self) -> int:
        return self._next

    def checkpointed(self, position: Any) -> None:
        self._source.heard.append(position)

    def close(self) -> None:
        self._source.note("close")
        self._source.closed.set()


class It:
    def __init__(self) -> None:
        self.source = Held()
        spec = SourceSpec(self.source, None, None, "read", "", timed=False)
        self.thread = ReadingThread(Readers(spec))
        self.answers: queue.SimpleQueue[Polled] = queue.SimpleQueue()
        self.failures: list[BaseException] = []
        self.thread.serve(self.answers.put, self.failures.append)

    def ask(self) -> None:
        self.thread.ask(Poll(rs.Split("s"), 10))

    def answered(self) -> list[Any]:
        found = []
        while not self.answers.empty():
            found.append(self.answers.get())
        return [(one.rows, one.position) for one in found]


@pytest.fixture
def it():
    one = It()
    yield one
    one.source.go_on.set()
    one.thread.close(SOON_S)
    assert one.source.closed.wait(SOON_S)
    assert len(one.source.threads["close"]) == len(one.source.threads["open"]) == 1


def test_it_rests_when_all_is_answered_and_told(it):
    it.source.go_on.set()
    it.ask()
    it.thread.ask(Acknowledge("s", 1))
    it.ask()
    assert it.thread.rest(SOON_S)
    assert it.answered() == [([1], 1), ([2], 2)]
    assert it.source.heard == [1]


def test_it_answers_to_another_in_the_same_thread_by_the_same_readers(it):
    it.source.go_on.set()
    it.ask()
    assert it.thread.rest(SOON_S)
    others: list[Polled] = []
    it.thread.serve(others.append, it.failures.append)
    it.ask()
    assert it.thread.rest(SOON_S)
    assert [one.position for one in others] == [2]
    it.thread.close(SOON_S)
    threads = it.source.threads
    assert len(threads["open"]) == len(threads["close"]) == 1
    assert len({*threads["open"], *threads["poll"], *threads["close"]}) == 1


def test_a_poll_that_does_not_come_back_is_not_waited_for_twice(it):
    it.ask()
    assert it.source.polled.wait(SOON_S)
    assert not it.thread.rest(0.01)
    it.thread.close(3_600)  # at once, that is
    assert it.source.threads["close"] == []


def test_readers_that_have_failed_do_not_rest(it):
    it.source.breaks = SystemExit("a user's reader")
    it.source.go_on.set()
    it.ask()
    assert not it.thread.rest(SOON_S)
    assert [type(one) for one in it.failures] == [SystemExit]
    assert not it.thread.rest(3_600)  # nor do they later
