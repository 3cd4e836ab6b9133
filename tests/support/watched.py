"""A job in this thread on a clock that a test drives, and what an operator would see of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.report import JobReport
from raystream.graph.planner import physical_plan
from raystream.runtime.local_job import LocalJob

SECOND_US = 1_000_000
_PAUSE_US_MAX = 50_000


class Watched:
    """Runs a job; nothing takes time but what the job's own functions let pass.

    The job is looked at about once a second, as its subtasks would tell of themselves.
    """

    def __init__(self, job: rs.Job, clock: ManualClock) -> None:
        self.clock = clock
        self.local = LocalJob(physical_plan(job._draft.plan()), clock, None)
        self._looked_us = clock.monotonic_us()

    def run(self, seconds: float) -> JobReport:
        """Let so much time pass, or the job end; give what is known of it then."""
        until_us = self.clock.monotonic_us() + int(seconds * SECOND_US)
        if self.local.state == "created":
            self.local.begin()
        while not self.local.over and self.clock.monotonic_us() < until_us:
            if not self.local.advance():
                wake_us = self.local.wake_us
                left_us = _PAUSE_US_MAX if wake_us is None else wake_us - self._now_us
                self.clock.advance(max(1, min(left_us, _PAUSE_US_MAX)))
            if self._now_us - self._looked_us >= SECOND_US:
                self._looked_us = self._now_us
                self.local.report()
        return self.local.report()

    @property
    def _now_us(self) -> int:
        return self.clock.monotonic_us()

    def close(self) -> None:
        """Let go of the job."""
        self.local.close()


class Endless(rs.Source):
    """Splits by name, each a generator of lists of rows: None where there is nothing now.

    A split of a timed stream gives rows with a ``ts`` column in microseconds.
    """

    bounded = False

    def __init__(self, splits: dict[str, Any], schema: Any = None) -> None:
        self._splits, self.schema = splits, schema

    def splits(self) -> list[rs.Split]:
        return [rs.Split(name) for name in self._splits]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return _Reader(self._splits[split.id]())


class _Reader(rs.Reader):
    def __init__(self, given: Iterator[list[Any] | None]) -> None:
        self._given = given

    def poll(self, max_rows: int) -> Any:
        return next(self._given, rs.END)

    def position(self) -> None:
        return None
