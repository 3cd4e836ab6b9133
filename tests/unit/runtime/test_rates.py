"""What a job tells of its rates and of its time, held against rows that the test counts itself.

A clock that the test drives: rows come at a steady rate, and take as long as a function says.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from watched import SECOND_US, Endless, Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.metrics import by_operator, samples
from raystream.coordinator.report import JobReport
from raystream.ops.http import reading

pytestmark = pytest.mark.slow

PER_S = 200
SPLITS = ("a", "b")


@dataclass
class Counted:
    """When each row passed a place."""

    clock: ManualClock
    at_us: dict[str, list[int]] = field(default_factory=dict)

    def pass_by(self, place: str, count: int = 1) -> None:
        self.at_us.setdefault(place, []).extend([self.clock.monotonic_us()] * count)

    def per_s(self, place: str, span_us: int) -> float:
        since_us = self.clock.monotonic_us() - span_us
        return sum(at > since_us for at in self.at_us[place]) * 1e6 / span_us


@dataclass(frozen=True)
class Ran:
    report: JobReport
    counted: Counted

    def told(self, operator: str, way: str) -> dict[str, float]:
        """Rows a second in and out, as they are told by one of the ways out."""
        names = {"in": "num_records_in_per_second", "out": "num_records_out_per_second"}
        if way == "handle.metrics()":
            values = by_operator(self.report)[operator]
            return {key: values[name] for key, name in names.items()}
        if way == "Prometheus":
            found = [s for s in samples(self.report) if s.labels.get("operator") == operator]
            return {
                key: sum(s.value for s in found if s.metric.name == name)
                for key, name in names.items()
            }
        job: Any = SimpleNamespace(report=lambda: self.report)
        (page,) = [o for o in reading.operators(job, {})["operators"] if o["name"] == operator]
        return {key: page[f"rows_{key}_per_s"] for key in names}


@functools.cache
def run(cost_us: int) -> Ran:
    """Read, work for a while on each row, drop every other one, count by key, and let go."""
    clock = ManualClock()
    counted = Counted(clock)
    # Time passes in steps of a batch; few of a second, so that both ends of a span are sharp.
    at_once = 20 if cost_us < 5_000 else 5

    def steady() -> Iterator[list[int] | None]:
        begun_us, given = clock.monotonic_us(), 0
        while True:
            due = (clock.monotonic_us() - begun_us) * PER_S // len(SPLITS) // SECOND_US
            new = at_once if due - given >= at_once else 0
            counted.pass_by("read", new)
            yield list(range(given, given + new)) or None
            given += new

    def work(row: int) -> int:
        clock.advance(cost_us)
        counted.pass_by("work")
        return row

    job = rs.Job("steady", parallelism=2, config={"poll_idle_us_min": 20_000})
    rows = job.source(Endless(dict.fromkeys(SPLITS, steady)), name="read").rebalance()
    kept = rows.map(work).named("work").filter(lambda row: row % 2 == 0).named("half")
    kept.key_by(lambda row: row % 7).reduce(lambda a, b: a + b).named("add").sink(
        rs.CallbackSink(lambda row: counted.pass_by("sink"))
    )
    watched = Watched(job, clock)
    report = watched.run(13)
    watched.close()
    return Ran(report, counted)


COSTS_US = {"nothing to do": 0, "half busy": 2_500, "more than can be done": 20_000}


@pytest.fixture(scope="module", params=COSTS_US.values(), ids=COSTS_US)
def ran(request) -> Ran:
    return run(request.param)


@pytest.mark.parametrize("way", ["handle.metrics()", "Prometheus", "HTTP"])
def test_rates_are_those_of_the_rows_that_were_counted(ran, way):
    span_us = ran.report.subtasks[0].span_us
    assert 5 * SECOND_US <= span_us <= 10.5 * SECOND_US
    read, worked, sunk = (ran.counted.per_s(one, span_us) for one in ("read", "work", "sink"))
    assert sunk > 10
    assert ran.told("read", way)["out"] == pytest.approx(read, rel=0.05)
    assert ran.told("work", way)["in"] == pytest.approx(worked, rel=0.05)
    assert ran.told("half", way)["in"] == pytest.approx(worked, rel=0.05)
    assert ran.told("half", way)["out"] == pytest.approx(worked / 2, rel=0.05)
    assert ran.told("add", way)["in"] == pytest.approx(sunk, rel=0.05)
    assert ran.told("sink#1", way)["in"] == pytest.approx(sunk, rel=0.05)


def test_a_steady_rate_is_told_as_it_is():
    ran = run(0)
    assert ran.told("read", "HTTP")["out"] == pytest.approx(PER_S, rel=0.05)
    assert ran.told("sink#1", "HTTP")["in"] == pytest.approx(PER_S / 2, rel=0.05)


def test_the_time_of_each_subtask_is_whole(ran):
    for one in ran.report.subtasks:
        assert one.busy + one.idle + one.backpressured == pytest.approx(1.0, abs=0.05)
        assert min(one.busy, one.idle, one.backpressured) >= 0
    for name in ("read", "work", "add"):
        page: Any = reading.subtasks(SimpleNamespace(report=lambda: ran.report), {"operator": name})
        for one in page["subtasks"]:
            whole = one["busy"] + one["idle"] + one["backpressured"]
            assert whole == pytest.approx(1.0, abs=0.05)


def test_busy_is_the_time_that_the_function_took():
    ran = run(COSTS_US["half busy"])
    span_s = ran.report.subtasks[0].span_us / 1e6
    spent = ran.counted.per_s("work", int(span_s * 1e6)) * COSTS_US["half busy"] / 1e6
    told = sum(one.busy for one in ran.report.subtasks_of("work"))
    assert told == pytest.approx(spent, rel=0.05)
    assert 0.4 < told < 0.6
