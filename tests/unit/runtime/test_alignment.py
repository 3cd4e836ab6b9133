"""Sources of one alignment group advance together: nobody far ahead, nobody stuck."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.flow.control import JobResult
from raystream.flow.element import MIN_TIME
from raystream.graph.planner import physical_plan
from raystream.runtime import local

SCHEMA = pa.schema({"split": pa.string(), "t": pa.int64()})
SECOND = 1_000_000


@dataclass
class Log:
    """What the readers have given, in the order of the polls."""

    drift_us: int
    given: dict[str, list[int]] = field(default_factory=dict)  # the last time of each batch
    ended: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)  # splits that nobody waits for
    excess_us: int = 0
    polls: int = 0

    def polled(self, split: str) -> None:
        """Note how much further ahead a split is than it may be when it is asked for more."""
        self.polls += 1
        mine = self.given[split]
        others = [
            batches[-1] if batches else MIN_TIME
            for name, batches in self.given.items()
            if name != split and name not in self.ended | self.silent
        ]
        # What came with the last poll before this one may not have been worked off yet.
        if len(mine) > 1 and others:
            self.excess_us = max(self.excess_us, mine[-2] - min(others) - self.drift_us)


class Drifting(rs.Source):
    """Splits whose times go up by their own step a row, a few rows a poll."""

    schema = SCHEMA

    def __init__(self, log: Log, steps: dict[str, int], *, until: int, seed: int) -> None:
        self._log, self._steps, self._until, self._seed = log, steps, until, seed
        log.given |= {name: [] for name in steps}

    def splits(self) -> list[rs.Split]:
        return [rs.Split(name) for name in self._steps]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        rng = random.Random(f"{self._seed} {split.id}")
        return DriftingReader(self._log, split.id, self._steps[split.id], self._until, rng)


class DriftingReader(rs.Reader):
    def __init__(self, log: Log, split: str, step: int, until: int, rng: random.Random) -> None:
        self._log, self._split, self._step, self._until, self._rng = log, split, step, until, rng
        self._next = 0

    def poll(self, max_rows: int) -> Any:
        self._log.polled(self._split)
        if self._next > self._until:
            self._log.ended.add(self._split)
            return rs.END
        if self._rng.random() < 0.1:
            return None
        times = [self._next + self._step * i for i in range(self._rng.randint(1, 5))]
        self._next = times[-1] + self._step
        self._log.given[self._split].append(times[-1])
        return [{"split": self._split, "t": time} for time in times]

    def position(self) -> int:
        return self._next


def run(job: rs.Job, rng: random.Random | None = None) -> JobResult:
    """Run a job on a clock of the test; what has to wait for time gets it."""
    clock = ManualClock()

    def sleep(seconds: float) -> None:
        clock.advance(max(1, int(seconds * 1e6)))

    plan = physical_plan(job._draft.plan())
    return local.run(plan, timeout_s=600, clock=clock, sleep=sleep, rng=rng)


def drifting_job(
    seed: int, *, aligned: bool = True, marked: bool = False
) -> tuple[rs.Job, Log, list[dict[str, int]], rs.MemorySink]:
    """Two sources at some parallelism, whose splits would drift apart."""
    rng = random.Random(seed)
    log = Log(rng.choice([0, 30, 400]))
    alignment = rs.Alignment("both", log.drift_us) if aligned else None
    strategy: Any = rs.WatermarkStrategy("t", alignment=alignment)
    if marked:
        strategy = rs.Punctuated("t", lambda row: row["t"], alignment=alignment)
    job = rs.Job("drifting", parallelism=rng.randint(1, 3))
    shapes = []
    streams = []
    for source in range(2):
        names = [f"{source}-{i}" for i in range(rng.randint(1, 3))]
        shapes.append({name: rng.choice([1, 10, 60]) for name in names})
        drifting = Drifting(log, shapes[-1], until=rng.choice([60, 300]), seed=seed)
        streams.append(job.source(drifting, watermark=strategy, name=f"source{source}"))
    sink = rs.MemorySink()
    streams[0].union(streams[1]).sink(sink)
    return job, log, shapes, sink


def times_of(rows: list[dict[str, Any]], split: str) -> list[int]:
    return [row["t"] for row in rows if row["split"] == split]


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_no_split_runs_ahead_and_every_row_comes(seed, marked):
    job, log, shapes, sink = drifting_job(seed, marked=marked)
    run(job, random.Random(seed))
    assert log.excess_us <= 0
    assert log.ended == set(log.given)
    for shape in shapes:
        for split, step in shape.items():
            times = times_of(sink.rows, split)
            assert times == list(range(0, times[-1] + 1, step))
            assert times[-1] == log.given[split][-1]


@pytest.mark.parametrize("seed", range(12))
def test_without_chance_too(seed):
    job, log, _, _ = drifting_job(seed)
    run(job)
    assert log.excess_us <= 0
    assert log.ended == set(log.given)


def test_without_alignment_they_would():
    excesses = []
    for seed in range(12):
        job, log, _, _ = drifting_job(seed, aligned=False)
        run(job, random.Random(seed))
        excesses.append(log.excess_us)
    assert sum(excess > 100 for excess in excesses) >= 6


class SilentReader(DriftingReader):
    """Gives one row, then nothing for a number of polls, then the rest."""

    def poll(self, max_rows: int) -> Any:
        if self._next and self._silence:
            self._silence -= 1
            self._log.silent.add(self._split)
            return None
        self._log.silent.discard(self._split)
        return super().poll(max_rows)

    _silence = 400


class Hesitating(Drifting):
    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        rng = random.Random(f"{self._seed} {split.id}")
        return SilentReader(self._log, split.id, self._steps[split.id], self._until, rng)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("idleness", [None, "1s"])
def test_a_silent_split_is_waited_for_until_it_is_idle(idleness, parallelism):
    log = Log(10)
    alignment = rs.Alignment("both", 10)
    strategy = rs.WatermarkStrategy("t", alignment=alignment, idleness=idleness)
    job = rs.Job("silent", parallelism=parallelism)
    slow = Hesitating(log, {"slow": 10}, until=300, seed=1)
    fast = Drifting(log, {"fast": 10}, until=300, seed=1)
    one = job.source(slow, watermark=strategy, name="slow")
    other = job.source(fast, watermark=strategy, name="fast")
    sink = rs.MemorySink()
    one.union(other).sink(sink)
    run(job, random.Random(1))
    order = [row["split"] for row in sink.rows]
    assert len(order) == len(times_of(sink.rows, "slow")) + len(times_of(sink.rows, "fast"))
    first, rest = order.index("slow"), order.index("slow", 5 + order.index("slow"))
    between = order[first:rest].count("fast")
    # Idle, it holds nobody; until then it does.
    assert (between > 25) == (idleness is not None)


def test_sources_of_other_groups_and_of_none_are_not_held():
    log = Log(0)
    job = rs.Job("groups")
    steps = {"a": 1, "b": 20, "c": 20}
    alignments = {"a": rs.Alignment("x", 0), "b": rs.Alignment("y", 0), "c": None}
    streams = [
        job.source(
            Drifting(log, {name: steps[name]}, until=500, seed=1),
            watermark=rs.WatermarkStrategy("t", alignment=alignments[name]),
            name=name,
        )
        for name in steps
    ]
    sink = rs.MemorySink()
    streams[0].union(*streams[1:]).sink(sink)
    run(job)
    assert log.excess_us > 100
    assert log.ended == set(steps)


def test_an_alignment_is_for_sources():
    job = rs.Job("t")
    table = pa.table({"t": [1]})
    for strategy, told in (
        (rs.WatermarkStrategy("t", alignment=rs.Alignment("g", "1s")), "alignment= is for sources"),
        (rs.Punctuated("t", int, alignment=rs.Alignment("g", "1s")), "alignment= is for sources"),
    ):
        with pytest.raises(rs.PlanError, match=told) as error:
            job.from_items(table).assign_timestamps(strategy)
        assert "test_alignment.py" in str(error.value.where)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: rs.Alignment("", "1s"), "is a name"),
        (lambda: rs.Alignment(3, "1s"), "is a name"),
        (lambda: rs.Alignment("g", "-1s"), "max_drift is negative"),
        (lambda: rs.Alignment("g", "soon"), "not a duration"),
        (lambda: rs.WatermarkStrategy("t", alignment="g"), "alignment is a rs.Alignment"),
        (lambda: rs.Punctuated("t", int, alignment="g"), "alignment is a rs.Alignment"),
        (lambda: rs.Punctuated("t", "column"), "is a function of the row"),
        (lambda: rs.Punctuated("t", int, unit="h"), "unit must be one of"),
        (lambda: rs.Punctuated("t", int, idleness=0), "longer than nothing"),
    ],
)
def test_strategies_refuse_what_they_cannot_mean(make, told):
    with pytest.raises(rs.ConfigError, match=told):
        make()
