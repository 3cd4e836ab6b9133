"""What ``/metrics`` gives is what Prometheus reads, and every name is in the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from watched import Endless, Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.metric_names import METRICS
from raystream.coordinator.metrics import by_operator, samples
from raystream.coordinator.report import JobReport
from raystream.flow.control import JobStatus
from raystream.ops.prometheus import prometheus_text


class Measured(rs.KeyedProcessFunction):
    def open(self, ctx: rs.OpenContext) -> None:
        self.metrics = ctx.metrics

    def process(self, row: int, ctx: object) -> Iterator[int]:
        self.metrics.counter("odd").inc(row % 2)
        self.metrics.gauge("last").set(row)
        self.metrics.histogram("size").observe(float(row % 10))
        yield row


@pytest.fixture(scope="module")
def report() -> JobReport:
    clock = ManualClock()
    job = rs.Job('two "words"', parallelism=2)

    def rows() -> Iterator[list[int]]:
        for start in range(0, 10**6, 10):
            clock.advance(50_000)
            yield list(range(start, start + 10))

    read = job.source(Endless({"a": rows}), name="read")
    read.key_by(lambda row: row % 5).process(Measured()).named("count").sink(
        rs.CallbackSink(lambda row: None)
    )
    watched = Watched(job, clock)
    found = watched.run(5)
    watched.close()
    return found


def test_the_text_is_parsed_by_prometheus_itself(report):
    families = {one.name: one for one in text_string_to_metric_families(prometheus_text([report]))}
    rows = families["raystream_num_records_in"]
    assert rows.type == "counter"
    by_operators: dict[str, float] = {}
    for sample in rows.samples:
        assert sample.name == "raystream_num_records_in_total"
        assert sample.labels["job"] == 'two "words"'
        by_operators[sample.labels["operator"]] = (
            by_operators.get(sample.labels["operator"], 0) + sample.value
        )
    assert by_operators["read"] == by_operators["key_by#1"] > 500
    assert by_operators["count"] == by_operators["sink#1"]
    (state,) = families["raystream_job_state"].samples
    assert (state.labels["state"], state.value) == ("running", 1)
    counted = families["raystream_user_counter"].samples
    assert {one.labels["name"] for one in counted} == {"odd"}
    assert sum(one.value for one in counted) == by_operators["count"] / 2


def test_a_histogram_is_cumulative_and_ends_with_all(report):
    text = prometheus_text([report])
    family = next(
        one
        for one in text_string_to_metric_families(text)
        if one.name == "raystream_user_histogram"
    )
    assert family.type == "histogram"
    buckets = [
        s for s in family.samples if s.name.endswith("_bucket") and s.labels["subtask"] == "0"
    ]
    counts = [one.value for one in buckets]
    assert counts == sorted(counts)
    assert buckets[-1].labels["le"] == "+Inf"
    (count,) = [
        s.value for s in family.samples if s.name.endswith("_count") and s.labels["subtask"] == "0"
    ]
    assert counts[-1] == count > 100


def test_every_sample_is_of_the_table_with_its_labels(report):
    for sample in samples(report):
        extra = {"state"} if sample.metric.name == "job_state" else set()
        assert set(sample.labels) == set(sample.metric.labels) | extra
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {one.metric.name for one in samples(report)} <= set(names)


def test_two_jobs_share_one_family():
    reports = [JobReport(name, 0, JobStatus(name, "running", 1.0)) for name in ("a", "b")]
    text = prometheus_text(reports)
    assert text.count("# TYPE raystream_uptime_ms gauge") == 1
    assert 'raystream_uptime_ms{job="a"} 1000\nraystream_uptime_ms{job="b"} 1000\n' in text


def test_plain_values_by_operator_keep_their_old_names(report):
    values = by_operator(report)
    count = values["count"]
    assert count["rows_in"] == count["num_records_in"] > 500
    assert (count["late_rows"], count["failed_rows"], count["parallelism"]) == (0, 0, 2)
    assert count["counters"]["odd"] == count["rows_in"] / 2
    assert count["histograms"]["size"]["count"] == count["rows_in"]
    shares = ("busy", "idle", "back_pressured")
    read = values["read"]
    whole = [one.busy + one.idle + one.backpressured for one in report.subtasks]
    assert whole == pytest.approx([1.0] * 4, abs=0.05)
    assert all(0 <= read[f"{share}_time_ms_per_second"] <= 1_000 for share in shares)
