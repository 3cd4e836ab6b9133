"""What a job tells whoever looks: every subtask, what failed and where, and when it changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from watched import Endless, Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.flow.ids import SubtaskId


class Counting(rs.KeyedProcessFunction):
    def open(self, ctx: rs.OpenContext) -> None:
        self.seen = ctx.metrics.counter("seen")
        self.size = ctx.metrics.gauge("size")
        self.width = ctx.metrics.histogram("width")

    def process(self, row: int, ctx: object) -> Iterator[int]:
        self.seen.inc()
        self.size.set(row)
        self.width.observe(float(row))
        yield row


def numbers(clock: ManualClock, cost_us: int = 0):
    def rows() -> Iterator[list[int]]:
        for start in range(0, 10**9, 10):
            clock.advance(cost_us)
            yield list(range(start, start + 10))

    return rows


def test_every_subtask_is_told_with_its_rows_bytes_inputs_and_users_metrics():
    clock = ManualClock()
    job = rs.Job("told", parallelism=2)
    source = Endless({"a": numbers(clock, 20_000), "b": numbers(clock, 20_000)})
    rows = job.source(source, name="read").key_by(lambda row: row % 7)
    rows.process(Counting()).named("count").sink(rs.CallbackSink(lambda row: None))
    watched = Watched(job, clock)
    report = watched.run(3)
    watched.close()
    assert report.job == "told"
    reads = [one.figures for one in report.subtasks_of("read")]
    assert [one.subtask.index for one in reads] == [0, 1]
    assert [[i.name for i in one.inputs] for one in reads] == [["a"], ["b"]]
    assert all(one.inputs[0].status == "active" for one in reads)
    assert all(one.rows_out > 300 and one.bytes_out > 1_000 for one in reads)
    assert {one.outputs[0].to for one in reads} == {"count→sink#1"}
    counts = [one.figures for one in report.subtasks_of("count")]
    assert {i.name for i in counts[0].inputs} == {str(one.subtask) for one in reads}
    assert counts[0].inputs_active == 2
    assert 0 < sum(c.bytes_in for c in counts) <= sum(r.bytes_out for r in reads)
    assert counts[0].queue_bytes_max >= 2 * 192 * 1024
    told = next(o for o in report.status.operators if o.name == "count")
    assert told.counters["seen"] == told.rows_in == sum(c.rows_in for c in counts) > 600
    assert told.histograms["width"].count == told.rows_in
    assert told.gauges["size"] > 0
    assert (told.kind, told.inputs) == ("operator", ("key_by#1",))
    assert told.bytes_in == sum(c.bytes_in for c in counts)


def test_rates_and_shares_are_of_the_last_ten_seconds():
    clock = ManualClock()
    job = rs.Job("rates")
    job.source(Endless({"a": numbers(clock)}), name="read").map(
        lambda row: clock.advance(10_000) or row
    ).named("slow").sink(rs.CallbackSink(lambda row: None))
    watched = Watched(job, clock)
    report = watched.run(25)
    watched.close()
    (only,) = report.subtasks
    assert 9_000_000 <= only.span_us <= 10_500_000
    assert only.rows_in_per_s == pytest.approx(100, rel=0.05)
    assert only.busy == pytest.approx(1.0, abs=0.05)
    assert only.busy + only.idle + only.backpressured == pytest.approx(1.0, abs=0.001)
    spread = report.status.operators[0].busy_spread
    assert spread.least == spread.mean == spread.most


def test_shares_sum_to_one_in_every_subtask_also_where_outputs_are_full():
    clock = ManualClock()
    job = rs.Job("held", parallelism=2)
    texts = Endless({"a": lambda: iter([[f"{i:05}" * 2_000 for i in range(100)]] * 100_000)})
    slow = job.source(texts, name="read").rebalance().map(lambda row: clock.advance(20_000) or row)
    slow.named("slow").sink(rs.CallbackSink(lambda row: None))
    watched = Watched(job, clock)
    report = watched.run(10)
    watched.close()
    for one in report.subtasks:
        assert one.busy + one.idle + one.backpressured == pytest.approx(1.0, abs=0.05)
    read = next(one for one in report.subtasks_of("read") if one.figures.rows_out)
    assert read.backpressured > 0.8
    output = read.figures.outputs[0]
    assert output.held_us >= 0.8 * read.figures.backpressured_us
    assert output.slowest in (0, 1)


WHOLE = "read→sink#1[0/1]"


class Breaks(Exception):
    pass


def test_what_failed_is_told_with_the_users_line_and_states_with_their_times(caplog):
    clock = ManualClock()
    job = rs.Job("breaks", restart=rs.Restart.fixed(2, "1s"))

    def fail(row: int) -> int:
        if row >= 30:
            raise Breaks("too large")
        return row

    job.source(Endless({"a": numbers(clock, 1_000)}), name="read").map(fail).sink(
        rs.CallbackSink(lambda row: None)
    )
    watched = Watched(job, clock)
    with caplog.at_level(logging.DEBUG, logger="raystream"):
        report = watched.run(10)
    watched.close()
    assert [one.attempt for one in report.failures] == [1, 2, 3]
    failure = report.failures[0]
    assert (failure.kind, failure.operator, failure.subtask) == ("Breaks", "map#1", WHOLE)
    assert "too large" in failure.message
    assert "test_observing.py:" in failure.where
    after = [change.after for change in report.changes]
    assert after[:4] == ["opening", "starting", "running", "closing"]
    assert after[-1] == "failed"
    times = [change.at_us for change in report.changes]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 2_000_000
    lines = [record for record in caplog.records if record.name == "raystream"]
    states = [(record.attempt, record.state) for record in lines]
    assert (1, "running") in states
    assert (2, "running") in states
    assert states.count((1, "running")) == 1
    ready = next(record for record in lines if record.state == "ready")
    assert (ready.job, ready.operator, ready.subtask) == ("breaks", "read→sink#1", WHOLE)


@pytest.mark.slow  # storage is loaded with the first job that keeps anything
def test_checkpoints_say_where_the_time_of_each_subtask_went(caplog):
    checkpoint = rs.Checkpointing("memory://told", every="1s")
    job = rs.Job("kept", runtime="local", parallelism=2, checkpoint=checkpoint)
    rows = job.source(rs.DataGenSource(lambda i: i, rows=50), name="read").key_by(lambda i: i % 7)
    rows.process(Counting()).named("count").sink(rs.MemorySink())
    with caplog.at_level(logging.INFO, logger="raystream"):
        result = job.run(timeout="60s")
    newest = result.checkpoints[-1]
    assert newest.status == "completed"
    names = {
        str(SubtaskId(chain, i, 2)) for chain in ("read→key_by#1", "count→sink#1") for i in range(2)
    }
    assert set(newest.parts) == names
    part = newest.parts["count→sink#1[0/2]"]
    assert part.checkpoint_id == newest.checkpoint_id
    assert 0 <= part.alignment_us <= part.acked_us <= newest.duration_us
    assert part.sync_us + part.upload_us <= part.acked_us
    told = [r for r in caplog.records if getattr(r, "checkpoint", 0) == newest.checkpoint_id]
    assert [(r.job, r.state) for r in told] == [("kept", "completed")]
