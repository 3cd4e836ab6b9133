"""The names of all metrics, in one table: what is exported, what ``metrics()`` gives, the docs.

They are Flink's names in snake case, with their unit where they have one. A metric of an operator
is told by subtask with the labels ``job``, ``operator`` and ``subtask``; one of a subtask has
``chain`` in place of ``operator``: all operators of a chain share it. One of a chain has no
``subtask``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raystream.flow.figures import LATENCY

PREFIX = "raystream_"
"""Before every name where metrics of several systems stand side by side."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``over`` says how the subtasks of an operator make one value."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    of: Literal["job", "chain", "operator", "subtask"]
    over: Literal["sum", "mean", "max", "min"]
    flink: str
    meaning: str

    @property
    def exported(self) -> str:
        """The name under which Prometheus finds it: a counter's ends in ``_total``."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that every value has."""
        if self.of == "job":
            return ("job",)
        if self.of == "chain":
            return ("job", "chain")
        named = ("name",) if self.name.startswith("user_") else ()
        if self.name == LATENCY:
            named = ("source",)
        return ("job", "operator" if self.of == "operator" else "chain", "subtask", *named)


METRICS = (
    # Of a job.
    Metric("uptime_ms", "gauge", "job", "max", "uptime", "since the job was submitted"),
    Metric(
        "num_restarts",
        "counter",
        "job",
        "max",
        "numRestarts",
        "failures that another attempt followed, a coordinator's death too",
    ),
    Metric(
        "job_state",
        "gauge",
        "job",
        "max",
        "(job status)",
        "1 for the state that the job is in, named by the label `state`",
    ),
    Metric(
        "number_of_completed_checkpoints",
        "counter",
        "job",
        "max",
        "numberOfCompletedCheckpoints",
        "checkpoints and savepoints that are complete",
    ),
    Metric(
        "number_of_failed_checkpoints",
        "counter",
        "job",
        "max",
        "numberOfFailedCheckpoints",
        "checkpoints and savepoints that were given up",
    ),
    Metric(
        "last_completed_checkpoint_id",
        "gauge",
        "job",
        "max",
        "lastCompletedCheckpointId",
        "the number of the newest complete checkpoint",
    ),
    Metric(
        "last_checkpoint_duration_ms",
        "gauge",
        "job",
        "max",
        "lastCheckpointDuration",
        "how long the newest complete checkpoint took",
    ),
    Metric(
        "last_checkpoint_size_bytes",
        "gauge",
        "job",
        "max",
        "lastCheckpointSize",
        "what was stored for it",
    ),
    Metric(
        "last_checkpoint_full_size_bytes",
        "gauge",
        "job",
        "max",
        "lastCheckpointFullSize",
        "all that it names, older parts included",
    ),
    Metric(
        "autoscaler_scalings",
        "counter",
        "job",
        "max",
        "AutoScaler.scalings",
        "sizes that the job asked for by itself",
    ),
    Metric(
        "autoscaler_errors",
        "counter",
        "job",
        "max",
        "AutoScaler.errors",
        "those of them that it could not have",
    ),
    # Of a chain; but for the first only where the job chooses its own size.
    Metric("parallelism", "gauge", "chain", "max", "PARALLELISM", "subtasks that it has"),
    Metric(
        "recommended_parallelism",
        "gauge",
        "chain",
        "max",
        "RECOMMENDED_PARALLELISM",
        "subtasks that the autoscaler wants it to have",
    ),
    Metric(
        "target_data_rate",
        "gauge",
        "chain",
        "max",
        "TARGET_DATA_RATE",
        "rows a second that it is to be sized for",
    ),
    Metric(
        "true_processing_rate",
        "gauge",
        "chain",
        "max",
        "TRUE_PROCESSING_RATE",
        "rows that one subtask does in a second of work, once it was seen to be full",
    ),
    # Of an operator.
    Metric("num_records_in", "counter", "operator", "sum", "numRecordsIn", "rows that came"),
    Metric("num_records_out", "counter", "operator", "sum", "numRecordsOut", "rows it gave"),
    Metric(
        "num_records_in_per_second",
        "gauge",
        "operator",
        "sum",
        "numRecordsInPerSecond",
        "rows that came, over the last ten seconds",
    ),
    Metric(
        "num_records_out_per_second",
        "gauge",
        "operator",
        "sum",
        "numRecordsOutPerSecond",
        "rows it gave, over the last ten seconds",
    ),
    Metric(
        "num_late_records_dropped",
        "counter",
        "operator",
        "sum",
        "numLateRecordsDropped",
        "rows too late for their window",
    ),
    Metric(
        "num_records_in_errors",
        "counter",
        "operator",
        "sum",
        "numRecordsInErrors",
        "rows left out because they failed (`on_error`)",
    ),
    Metric(
        "operator_busy_time_ms_per_second",
        "gauge",
        "operator",
        "mean",
        "(none)",
        "what the operator itself takes of its subtask's time",
    ),
    Metric(
        "latency_ms",
        "histogram",
        "operator",
        "sum",
        "latency",
        "how old markers are when they reach this sink, by `source`",
    ),
    Metric("user_counter", "counter", "operator", "sum", "(by name)", "`ctx.metrics.counter`"),
    Metric("user_gauge", "gauge", "operator", "sum", "(by name)", "`ctx.metrics.gauge`"),
    Metric(
        "user_histogram", "histogram", "operator", "sum", "(by name)", "`ctx.metrics.histogram`"
    ),
    # Of a subtask.
    Metric(
        "num_bytes_in", "counter", "subtask", "sum", "numBytesIn", "bytes that came on channels"
    ),
    Metric("num_bytes_out", "counter", "subtask", "sum", "numBytesOut", "bytes sent on channels"),
    Metric(
        "busy_time_ms_per_second",
        "gauge",
        "subtask",
        "max",
        "busyTimeMsPerSecond",
        "how long it works, of each second",
    ),
    Metric(
        "idle_time_ms_per_second",
        "gauge",
        "subtask",
        "min",
        "idleTimeMsPerSecond",
        "how long it has nothing to do, of each second",
    ),
    Metric(
        "back_pressured_time_ms_per_second",
        "gauge",
        "subtask",
        "max",
        "backPressuredTimeMsPerSecond",
        "how long it waits for those behind it, of each second",
    ),
    Metric(
        "current_input_watermark_ms",
        "gauge",
        "subtask",
        "min",
        "currentInputWatermark",
        "the watermark of its inputs together, since the epoch",
    ),
    Metric(
        "watermark_lag_ms",
        "gauge",
        "subtask",
        "max",
        "watermarkLag",
        "how far that is behind the time of day",
    ),
    Metric(
        "input_queue_bytes",
        "gauge",
        "subtask",
        "sum",
        "inputQueueLength",
        "bytes that wait in its inputs",
    ),
    Metric(
        "in_pool_usage",
        "gauge",
        "subtask",
        "max",
        "inPoolUsage",
        "that, as a share of what its senders may have under way",
    ),
    Metric(
        "out_of_credit_time_ms",
        "counter",
        "subtask",
        "sum",
        "(outPoolUsage)",
        "for how long full outputs kept it from working",
    ),
    Metric("inputs_active", "gauge", "subtask", "sum", "(none)", "inputs that time waits for"),
    Metric("inputs_idle", "gauge", "subtask", "sum", "(none)", "inputs that count as idle"),
    Metric(
        "checkpoint_alignment_time_ms",
        "gauge",
        "subtask",
        "max",
        "checkpointAlignmentTime",
        "from the first barrier of the newest checkpoint to the last",
    ),
    Metric(
        "checkpoint_sync_time_ms",
        "gauge",
        "subtask",
        "max",
        "(sync duration)",
        "how long rows waited for its snapshot",
    ),
    Metric("process_rss_bytes", "gauge", "subtask", "max", "Memory.Rss", "memory of its process"),
    Metric(
        "figures_age_ms",
        "gauge",
        "subtask",
        "max",
        "(heartbeat)",
        "how long ago it told of itself: more than a few seconds is amiss",
    ),
)
"""Every metric there is; ``docs/metrics.md`` shows this table, and a test compares them."""

BY_NAME = {metric.name: metric for metric in METRICS}
