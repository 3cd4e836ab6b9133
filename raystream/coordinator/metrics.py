"""Make metrics of what is known of a job: one value by name and labels; figures in, samples out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_never

from raystream.coordinator.metric_names import BY_NAME, METRICS, Metric
from raystream.coordinator.report import JobReport, SubtaskReport
from raystream.flow.control import OperatorFigures, OperatorStatus
from raystream.flow.element import MAX_TIME
from raystream.flow.figures import LATENCY, HistogramFigures


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric now; ``labels`` beside those of the table are the metric's own."""

    metric: Metric
    labels: Mapping[str, str]
    value: float | HistogramFigures


def samples(report: JobReport) -> Iterator[Sample]:
    """Give every value that is known of a job."""
    for metric, labels, value in _all(report):
        yield Sample(BY_NAME[metric], {"job": report.job, **labels}, value)


_Value = tuple[str, dict[str, str], "float | HistogramFigures"]


def _all(report: JobReport) -> Iterator[_Value]:
    yield from _of_job(report)
    for chain, count in {one.chain: one.parallelism for one in report.status.operators}.items():
        yield "parallelism", {"chain": chain}, count
        for name, value in _of_sizing(report, chain):
            yield name, {"chain": chain}, value
    for one in report.subtasks:
        index = str(one.figures.subtask.index)
        for name, value in _of_subtask(report, one):
            yield name, {"chain": one.figures.subtask.chain, "subtask": index}, value
        for position, operator in enumerate(one.figures.operators):
            labels = {"operator": operator.name, "subtask": index}
            for name, value in _of_operator(one, position):
                yield name, labels, value
            yield from _users(operator, labels)


def _of_job(report: JobReport) -> Iterator[_Value]:
    yield "uptime_ms", {}, report.status.uptime_s * 1_000
    yield "num_restarts", {}, report.restarts
    yield "job_state", {"state": report.status.state}, 1
    yield "number_of_completed_checkpoints", {}, report.checkpoints_completed
    yield "number_of_failed_checkpoints", {}, report.checkpoints_failed
    newest = next((c for c in reversed(report.checkpoints) if c.status == "completed"), None)
    if newest is not None:
        yield "last_completed_checkpoint_id", {}, newest.checkpoint_id
        yield "last_checkpoint_duration_ms", {}, newest.duration_us / 1_000
        yield "last_checkpoint_size_bytes", {}, newest.new_bytes
        yield "last_checkpoint_full_size_bytes", {}, newest.bytes
    if report.sizing is not None:
        yield "autoscaler_scalings", {}, report.sizing.decided
        yield "autoscaler_errors", {}, report.sizing.refused


def _of_sizing(report: JobReport, chain: str) -> Iterator[tuple[str, float]]:
    found = None if report.sizing is None else report.sizing.chains.get(chain)
    if found is not None:
        yield "recommended_parallelism", found.wanted
        yield "target_data_rate", found.due_per_s
        if found.rate_per_s is not None:
            yield "true_processing_rate", found.rate_per_s


def _of_subtask(report: JobReport, one: SubtaskReport) -> Iterator[tuple[str, float]]:
    figures = one.figures
    yield "num_bytes_in", figures.bytes_in
    yield "num_bytes_out", figures.bytes_out
    yield "busy_time_ms_per_second", one.busy * 1_000
    yield "idle_time_ms_per_second", one.idle * 1_000
    yield "back_pressured_time_ms_per_second", one.backpressured * 1_000
    if figures.watermark_us is not None and figures.watermark_us != MAX_TIME:
        yield "current_input_watermark_ms", figures.watermark_us / 1_000
        yield "watermark_lag_ms", (report.at_us - figures.watermark_us) / 1_000
    yield "input_queue_bytes", figures.queued_bytes
    if figures.queue_bytes_max:
        yield "in_pool_usage", figures.queued_bytes / figures.queue_bytes_max
    yield "out_of_credit_time_ms", sum(output.held_us for output in figures.outputs) / 1_000
    yield "inputs_active", figures.inputs_active
    yield "inputs_idle", figures.inputs_idle
    if figures.snapshot is not None:
        yield "checkpoint_alignment_time_ms", figures.snapshot.alignment_us / 1_000
        yield "checkpoint_sync_time_ms", figures.snapshot.sync_us / 1_000
    if figures.process is not None:
        yield "process_rss_bytes", figures.process.rss_bytes
    yield "figures_age_ms", one.age_us / 1_000


def _of_operator(one: SubtaskReport, position: int) -> Iterator[tuple[str, Any]]:
    operator = one.figures.operators[position]
    yield "num_records_in", operator.rows_in
    yield "num_records_out", operator.rows_out
    if one.operators:
        rates = one.operators[position]
        yield "num_records_in_per_second", rates.rows_in_per_s
        yield "num_records_out_per_second", rates.rows_out_per_s
        yield "operator_busy_time_ms_per_second", rates.busy * 1_000
    yield "num_late_records_dropped", operator.late_rows
    yield "num_records_in_errors", operator.failed_rows


def _users(operator: OperatorFigures, labels: dict[str, str]) -> Iterator[_Value]:
    for name, count in operator.counters.items():
        yield "user_counter", {**labels, "name": name}, count
    for name, value in operator.gauges.items():
        yield "user_gauge", {**labels, "name": name}, value
    for name, histogram in operator.histograms.items():
        kind, _, source = name.partition(":")
        if kind == LATENCY:
            yield LATENCY, {**labels, "source": source}, histogram
        else:
            yield "user_histogram", {**labels, "name": name}, histogram


# By operator, for whoever wants plain values -----------------------------------------------------


def by_operator(report: JobReport) -> dict[str, dict[str, Any]]:
    """Give plain values by operator, its subtasks together as the table says.

    ``rows_in``, ``rows_out``, ``late_rows`` and ``failed_rows`` are there under these names, too. A
    metric of a subtask is that of all operators which share it.
    """
    return {one.name: _operator(report, one) for one in report.status.operators}


def _operator(report: JobReport, status: OperatorStatus) -> dict[str, Any]:
    values = {name: [value] for name, value in _of_sizing(report, status.chain)}
    for one in report.subtasks_of(status.name):
        names = [operator.name for operator in one.figures.operators]
        found = [*_of_operator(one, names.index(status.name)), *_of_subtask(report, one)]
        for name, value in found:
            if not isinstance(value, HistogramFigures):
                values.setdefault(name, []).append(value)
    told: dict[str, Any] = {
        "rows_in": status.rows_in,
        "rows_out": status.rows_out,
        "late_rows": status.late_rows,
        "failed_rows": status.failed_rows,
        "parallelism": status.parallelism,
    }
    for metric in METRICS:
        if metric.name in values:
            told[metric.name] = _over(metric, values[metric.name])
    return {**told, **_plain_users(status)}


def _over(metric: Metric, values: list[float]) -> float:
    match metric.over:
        case "sum":
            return sum(values)
        case "mean":
            return sum(values) / len(values)
        case "max":
            return max(values)
        case "min":
            return min(values)
        case _:
            assert_never(metric.over)


def _plain_users(status: OperatorStatus) -> dict[str, Any]:
    users = {
        "counters": dict(status.counters),
        "gauges": dict(status.gauges),
        "histograms": {
            name: {"count": one.count, "sum": one.total, "p50": one.quantile(0.5)}
            | {"p99": one.quantile(0.99)}
            for name, one in status.histograms.items()
        },
    }
    return {name: values for name, values in users.items() if values}
