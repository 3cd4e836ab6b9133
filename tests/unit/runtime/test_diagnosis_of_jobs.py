"""What holds a real job up is named within ten seconds of figures, each cause by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from watched import SECOND_US, Endless, Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.diagnosis import Cause, Diagnosis, diagnose

COST_US = 10_000

SELDOM = {"poll_idle_us_min": 200_000, "poll_idle_us_max": 200_000}
"""A source that had nothing is asked again so late: a test's ten seconds pass in few steps."""


def after(job: rs.Job, clock: ManualClock, seconds: float = 10) -> Diagnosis:
    watched = Watched(job, clock)
    try:
        return diagnose(watched.run(seconds))
    finally:
        watched.close()


def wide(start: int = 0, count: int = 40) -> Iterator[list[str]]:
    """Rows of 10 KB, endlessly: few of them fill a channel."""
    while True:
        yield [f"{i:05}" * 2_000 for i in range(start, start + count)]


def slowly(clock: ManualClock, cost_us: int = COST_US):
    def work(row: Any) -> Any:
        clock.advance(cost_us)
        return row

    return work


class Slow(rs.KeyedProcessFunction):
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def process(self, row: str, ctx: object) -> Iterator[str]:
        self.clock.advance(COST_US)
        yield row


def nowhere(row: Any) -> None:
    pass


def test_skew_is_named_with_the_subtask_and_its_share_of_the_rows():
    clock = ManualClock()
    job = rs.Job("skewed", parallelism=4)
    rows = job.source(Endless({"a": wide}), name="read").with_parallelism(1)
    # Two of three rows have one key.
    keyed = rows.key_by(lambda row: max(0, int(row[:5]) - 26))
    keyed.process(Slow(clock)).named("window").sink(rs.CallbackSink(nowhere))
    found = after(job, clock).bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.SKEW, "window")
    assert f'"window" is the bottleneck: subtask {found.subtask} takes ' in found.sentence
    share = int(found.sentence.split("takes ")[1].split(" %")[0])
    assert 60 <= share <= 95
    assert found.sentence.endswith("of the rows (skew); rescaling will not help, salt the key")


def test_rows_that_are_divided_evenly_are_no_skew_but_a_slow_function():
    clock = ManualClock()
    job = rs.Job("even", parallelism=4)
    rows = job.source(Endless({"a": wide}), name="read").with_parallelism(1)
    slow = rows.rebalance().map(slowly(clock)).named("enrich")
    slow.map(len).named("measure").sink(rs.CallbackSink(nowhere))
    found = after(job, clock).bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.SLOW_FUNCTION, "enrich")
    assert "it takes 10.0 ms a row" in found.sentence
    assert 'rescale({"enrich": 8})' in found.sentence


def test_nobody_is_told_to_take_more_subtasks_than_there_may_be():
    clock = ManualClock()
    job = rs.Job("full", parallelism=4, max_parallelism=4)
    rows = job.source(Endless({"a": wide}), name="read").with_parallelism(1)
    rows.rebalance().map(slowly(clock)).named("enrich").sink(rs.CallbackSink(nowhere))
    found = after(job, clock).bottleneck
    assert found is not None
    assert found.cause is Cause.SLOW_FUNCTION
    assert found.sentence.endswith("; make it cheaper")


class SlowSink(rs.Sink):
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def open(self, ctx: object) -> rs.Writer:
        return SlowWriter(self.clock)


class SlowWriter(rs.Writer):
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def write(self, batch: Any) -> None:
        self.clock.advance(COST_US * len(batch))


def test_a_slow_sink_is_named_though_other_operators_share_its_subtasks():
    clock = ManualClock()
    job = rs.Job("sink", parallelism=2)
    rows = job.source(Endless({"a": wide}), name="read").rebalance()
    rows.map(slowly(clock, 100)).named("parse").sink(SlowSink(clock)).named("store")
    found = after(job, clock).bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.SLOW_SINK, "store")
    assert found.sentence.startswith('"store" is the bottleneck: the sink takes 10.0 ms a row')


def test_a_job_in_one_chain_is_as_slow_as_its_heaviest_operator():
    clock = ManualClock()
    job = rs.Job("one")
    rows = job.source(Endless({"a": lambda: iter([[1, 2, 3]] * 10_000)}), name="read")
    rows.map(slowly(clock, 1_000)).named("light").map(slowly(clock)).named("heavy").sink(
        rs.CallbackSink(nowhere)
    )
    found = after(job, clock).bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.SLOW_FUNCTION, "heavy")


def test_a_function_that_does_not_return_is_named_with_its_line():
    clock = ManualClock()
    job = rs.Job("stuck", parallelism=2)
    watched: list[Watched] = []
    seen: list[Diagnosis] = []

    def hangs(row: int) -> int:
        if row == 7 and clock.monotonic_us() > 3 * SECOND_US:
            clock.advance(7 * SECOND_US)
            seen.append(diagnose(watched[0].local.report()))
        return row

    ticks = Endless({"a": lambda: ([i] for i in range(1_000))})
    rows = job.source(ticks, name="read").map(slowly(clock, 100_000)).map(lambda i: i % 10)
    rows.rebalance().map(hangs).named("call").sink(rs.CallbackSink(nowhere))
    watched.append(Watched(job, clock))
    watched[0].run(9)
    watched[0].close()
    found = seen[0].bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.STUCK, "call")
    assert f"in subtask {found.subtask} of 2 it has been at one batch for 7 s" in found.sentence
    assert "test_diagnosis_of_jobs.py:" in found.sentence
    assert "in hangs" in found.sentence


def test_a_source_that_has_nothing_to_read_is_named():
    clock = ManualClock()
    job = rs.Job("starved", config=SELDOM)

    def dries_up() -> Iterator[list[int] | None]:
        yield [1, 2, 3]
        while True:
            yield None

    job.source(Endless({"a": dries_up}), name="clicks").map(lambda i: i).sink(
        rs.CallbackSink(nowhere)
    )
    said = after(job, clock)
    assert said.bottleneck is not None
    assert (said.bottleneck.cause, said.bottleneck.operator) == (Cause.STARVED, "clicks")
    assert 'source "clicks" is the bottleneck: it has had nothing to read for 10 s' in str(said)
    assert said.watermark == ()


def test_a_job_that_keeps_up_has_no_bottleneck():
    clock = ManualClock()
    job = rs.Job("fine")

    def now_and_then() -> Iterator[list[int] | None]:
        while True:
            yield [1, 2, 3]
            clock.advance(100_000)

    job.source(Endless({"a": now_and_then}), name="read").map(slowly(clock, 1_000)).sink(
        rs.CallbackSink(nowhere)
    )
    assert str(after(job, clock)) == "nothing holds this job up"


TIMED = pa.schema({"ts": pa.timestamp("us", "UTC"), "k": pa.int64()})
START_US = 1_700_000_000 * SECOND_US


def ticking(clock: ManualClock, *, until_s: float = 1e9, frozen: bool = False):
    """A row every 500 ms of the job's time, each 500 ms of event time further."""

    def rows() -> Iterator[pa.RecordBatch | None]:
        given = 0
        while True:
            due_us = given * 500_000
            if due_us <= clock.monotonic_us() and due_us < until_s * SECOND_US:
                ts = START_US + (0 if frozen else due_us)
                given += 1
                yield pa.RecordBatch.from_pydict({"ts": [ts], "k": [given]}, schema=TIMED)
            else:
                yield None

    return rows


def timed(clock: ManualClock, splits: dict[str, Any], **watermark: Any) -> Diagnosis:
    job = rs.Job("timed", parallelism=2, config=SELDOM)
    strategy = rs.WatermarkStrategy("ts", **watermark)
    rows = job.source(Endless(splits, TIMED), name="clicks", watermark=strategy)
    rows.filter(rs.col("k") > 0).rebalance().sink(rs.CallbackSink(nowhere))
    return after(job, clock)


def test_the_split_that_holds_the_watermark_is_named_and_since_when_and_what_to_do():
    clock = ManualClock()
    splits = {"a": ticking(clock), "b": ticking(clock, until_s=2), "c": ticking(clock)}
    (said,) = timed(clock, splits).watermark
    assert said.startswith("the watermark stands still at 2023-11-14 22:13:21 for ")
    assert 'split "b" of source "clicks" (subtask ' in said
    assert "has had nothing to read for 8 s and holds back 2 others" in said
    assert "give the source idleness= so that it does not" in said


def test_a_split_that_counts_as_idle_holds_nothing():
    clock = ManualClock()
    splits = {"a": ticking(clock), "b": ticking(clock, until_s=2), "c": ticking(clock)}
    assert timed(clock, splits, idleness="2s").watermark == ()


def test_where_every_split_is_idle_the_watermark_waits_for_rows():
    clock = ManualClock()
    splits = {name: ticking(clock, until_s=2) for name in "ab"}
    (said,) = timed(clock, splits, idleness="1s").watermark
    assert 'every split of source "clicks" has been idle for ' in said


def test_times_that_do_not_go_on_are_told_apart_from_silence():
    clock = ManualClock()
    splits = {"a": ticking(clock), "b": ticking(clock, frozen=True)}
    (said,) = timed(clock, splits).watermark
    assert 'split "b" of source "clicks"' in said
    assert "gives rows whose event time does not go on" in said


@pytest.mark.parametrize("state", ["starting", "finished"])
def test_a_job_that_does_not_run_has_no_bottleneck(state):
    from raystream.coordinator.report import JobReport
    from raystream.flow.control import JobStatus

    assert diagnose(JobReport("j", 0, JobStatus("j", state, 1.0))) == Diagnosis()
