"""Put the figures of all subtasks together into the status of a job."""

from __future__ import annotations

from raystream.flow.control import (
    JobResult,
    JobStatus,
    OperatorStatus,
    SubtaskFigures,
)
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Chain, PhysicalPlan
from raystream.operators.sink import SinkSpec

_SHARE_SPAN_US = 500_000
"""Shares are of at least this long: two reports at once say nothing of a subtask."""


def _lived_us(figures: SubtaskFigures) -> int:
    return figures.busy_us + figures.idle_us + figures.backpressured_us


class JobFigures:
    """The newest figures of each subtask, and the ones before for what changed between."""

    def __init__(self, plan: PhysicalPlan, started_us: int) -> None:
        self._plan = plan
        self._started_us = started_us
        self._running_us: int | None = None
        self._newest: dict[SubtaskId, SubtaskFigures] = {}
        self._before: dict[SubtaskId, SubtaskFigures] = {}

    def follow(self, plan: PhysicalPlan) -> None:
        """Count on with the subtasks of another plan of the same job."""
        self._plan = plan
        self._newest.clear()
        self._before.clear()

    def take(self, figures: SubtaskFigures) -> None:
        """Take newer figures of a subtask."""
        newest = self._newest.get(figures.subtask)
        before = self._before.get(figures.subtask)
        if newest is not None and (
            before is None or _lived_us(newest) - _lived_us(before) >= _SHARE_SPAN_US
        ):
            self._before[figures.subtask] = newest
        self._newest[figures.subtask] = figures

    def running(self, now_us: int) -> None:
        """Note that all subtasks run."""
        self._running_us = now_us

    def status(self, state: str, now_us: int, scaling: str = "") -> JobStatus:
        """Give the job as it stands; times are monotonic."""
        operators = [operator for chain in self._plan.chains for operator in self._operators(chain)]
        uptime_s = (now_us - self._started_us) / 1e6
        return JobStatus(self._plan.job, state, uptime_s, tuple(operators), scaling)

    def result(self, state: str, now_us: int) -> JobResult:
        """Give the job's end: rows its sources gave, rows its sinks took, figures by operator."""
        status = self.status(state, now_us)
        heads = {c.nodes[0].name for c in self._plan.chains if not self._plan.inputs(c.name)}
        sinks = {
            node.name
            for chain in self._plan.chains
            for node in chain.nodes
            if isinstance(node.spec, SinkSpec)
        }
        return JobResult(
            state,
            status.uptime_s,
            sum(o.rows_out for o in status.operators if o.name in heads),
            sum(o.rows_in for o in status.operators if o.name in sinks),
            {
                o.name: {
                    "rows_in": o.rows_in,
                    "rows_out": o.rows_out,
                    "late_rows": o.late_rows,
                    "failed_rows": o.failed_rows,
                }
                for o in status.operators
            },
            running_s=0.0 if self._running_us is None else (now_us - self._running_us) / 1e6,
        )

    def _operators(self, chain: Chain) -> list[OperatorStatus]:
        figures = [self._newest[s] for s in chain.subtasks if s in self._newest]
        times = [f.watermark_us for f in figures]
        known = [time_us for time_us in times if time_us is not None]
        shares = max((self._shares(f) for f in figures), default=(0.0, 0.0, 0.0))
        statuses = []
        for index, node in enumerate(chain.nodes):
            parts = [f.operators[index] for f in figures]
            statuses.append(
                OperatorStatus(
                    node.name,
                    chain.parallelism,
                    sum(part.rows_in for part in parts),
                    sum(part.rows_out for part in parts),
                    min(known) if known and len(known) == len(times) else None,
                    *shares,
                    sum(part.late_rows for part in parts),
                    sum(part.failed_rows for part in parts),
                )
            )
        return statuses

    def _shares(self, newest: SubtaskFigures) -> tuple[float, float, float]:
        before = self._before.get(newest.subtask)
        busy, idle, held = newest.busy_us, newest.idle_us, newest.backpressured_us
        if before is not None:
            busy -= before.busy_us
            idle -= before.idle_us
            held -= before.backpressured_us
        whole = max(1, busy + idle + held)
        return busy / whole, idle / whole, held / whole
