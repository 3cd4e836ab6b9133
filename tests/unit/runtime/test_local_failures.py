"""What breaks in a job ends it with one clear error, and nothing stays open."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plans import KeepingSink, NumberReader, NumberSource, two_chains

from raystream.clock import ManualClock
from raystream.contracts.sink import Sink, Writer
from raystream.errors import JobFailed, JobTimeout
from raystream.flow.exchange import Rebalance
from raystream.runtime import local


class Transactional(Sink):
    """Writes into ``pending``; ``commit`` makes it visible."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.fail_after, self.visible, self.pending, self.open_writers = fail_after, [], [], 0

    def open(self, ctx: Any) -> Writer:
        self.open_writers += 1
        return TransactionalWriter(self)

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        for rows in committables:
            self.pending.remove(rows)
            self.visible += rows

    def abort(self, committables: Any) -> None:
        for rows in committables:
            self.pending.remove(rows)


class TransactionalWriter(Writer):
    def __init__(self, sink: Transactional) -> None:
        self.sink, self.rows = sink, []

    def write(self, batch: Any) -> None:
        self.rows += batch.to_pylist()
        if self.sink.fail_after is not None and len(self.rows) > self.sink.fail_after:
            raise OSError("disk full")

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        self.sink.pending.append(self.rows)
        return [self.rows]

    def close(self) -> None:
        self.sink.open_writers -= 1


def test_a_bounded_job_commits_once_at_its_end():
    sink = Transactional()
    local.run(two_chains(Rebalance(), sink, up=2, down=2))
    assert len(sink.visible) == 1200
    assert (sink.pending, sink.open_writers) == ([], 0)


def test_a_sink_that_fails_is_named_and_nothing_becomes_visible():
    sink = Transactional(fail_after=100)
    with pytest.raises(JobFailed, match='sink "w" .Transactional. failed: OSError: disk full'):
        local.run(two_chains(Rebalance(), sink, up=2, down=2))
    assert (sink.visible, sink.open_writers) == ([], 0)


class FailingReader(NumberReader):
    closed = 0

    def poll(self, max_rows: int) -> Any:
        if self._next >= 100:
            raise ConnectionError("gone")
        return super().poll(max_rows)

    def close(self) -> None:
        FailingReader.closed += 1


class FailingSource(NumberSource):
    def open(self, split: Any, position: Any) -> FailingReader:
        return FailingReader(split.payload, self._rows, self._batch)


def test_a_source_that_fails_is_named_and_its_readers_are_closed():
    FailingReader.closed = 0
    sink = Transactional()
    source = FailingSource(3, 300, 50)
    with pytest.raises(
        JobFailed, match='source "read" .FailingSource, split s.. failed: Conn'
    ) as e:
        local.run(two_chains(Rebalance(), sink, source=source))
    assert isinstance(e.value.__cause__.__cause__, ConnectionError)
    assert (sink.visible, sink.pending, sink.open_writers) == ([], [], 0)
    assert FailingReader.closed >= 1


class Endless(NumberSource):
    bounded = False

    def open(self, split: Any, position: Any) -> NumberReader:
        return Silent(0, 0, 0)


class Silent(NumberReader):
    def poll(self, max_rows: int) -> None:
        return None


def test_a_job_that_takes_too_long_is_canceled():
    clock = ManualClock()
    sink = Transactional()

    def sleep(seconds: float) -> None:
        clock.advance(max(1, int(seconds * 1e6)))

    plan = two_chains(Rebalance(), sink, source=Endless(1, 1, 1))
    with pytest.raises(JobTimeout, match="took longer than 60"):
        local.run(plan, timeout_s=60, clock=clock, sleep=sleep)
    assert sink.open_writers == 0


def test_a_silent_source_is_asked_less_and_less_often():
    clock = ManualClock()
    asked: list[int] = []

    class Counting(Silent):
        def poll(self, max_rows: int) -> None:
            asked.append(clock.monotonic_us())

    class Source(Endless):
        def open(self, split: Any, position: Any) -> NumberReader:
            return Counting(0, 0, 0)

    def sleep(seconds: float) -> None:
        clock.advance(max(1, int(seconds * 1e6)))

    plan = two_chains(Rebalance(), KeepingSink(), source=Source(1, 1, 1))
    with pytest.raises(JobTimeout):
        local.run(plan, timeout_s=2, clock=clock, sleep=sleep)
    assert 100 <= len(asked) <= 2 * 2_000_000 // plan.limits.poll_idle_us_max + 40


def test_a_sink_that_cannot_be_opened_ends_the_job_before_it_starts():
    class Closed(Transactional):
        def open(self, ctx: Any) -> Writer:
            raise PermissionError("no")

    plan = two_chains(Rebalance(), Closed())
    with pytest.raises(JobFailed, match="PermissionError: no"):
        local.run(dataclasses.replace(plan))


class Unabortable(Transactional):
    def commit(self, checkpoint_id: int, committables: Any) -> None:
        raise OSError("no commit")

    def abort(self, committables: Any) -> None:
        raise OSError("no abort")


def test_a_sink_that_cannot_throw_away_does_not_hide_why_the_job_failed():
    with pytest.raises(JobFailed, match="no commit"):
        local.run(two_chains(Rebalance(), Unabortable()))


class Interrupted(Transactional):
    def commit(self, checkpoint_id: int, committables: Any) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_throws_away_what_was_prepared():
    sink = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        local.run(two_chains(Rebalance(), sink))
    assert (sink.visible, sink.pending, sink.open_writers) == ([], [], 0)
