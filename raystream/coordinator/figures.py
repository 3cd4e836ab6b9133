"""Put the figures of all subtasks together into the status of a job."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping

from raystream.coordinator.report import OperatorRates, SubtaskReport
from raystream.coordinator.topology import OperatorPlace, places
from raystream.flow.control import (
    JobResult,
    JobStatus,
    OperatorFigures,
    OperatorStatus,
    Spread,
    SubtaskFigures,
)
from raystream.flow.figures import HistogramFigures, InputFigures
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Chain, PhysicalPlan

_SHARE_SPAN_US = 500_000
"""Shares are of at least this long: two reports at once say nothing of a subtask."""

_SPAN_US_MAX = 10_000_000
"""What is said of a subtask's last while reaches back this far."""

_KEPT_MAX = 12


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    figures: SubtaskFigures
    at_us: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Passed:
    """What happened in a subtask between two of its figures; None: since it began."""

    old: SubtaskFigures | None
    new: SubtaskFigures
    span_us: int

    def share(self, name: str) -> float:
        return self._count(name) / max(1, self.span_us)

    def per_s(self, name: str) -> float:
        return self._count(name) * 1e6 / max(1, self.span_us)

    def _count(self, name: str) -> int:
        count: int = getattr(self.new, name) - (0 if self.old is None else getattr(self.old, name))
        return count

    def operators(self) -> tuple[OperatorRates, ...]:
        now = self.new.operators
        before = [OperatorFigures(one.name, 0, 0) for one in now]
        per_us = 1 / max(1, self.span_us)
        return tuple(
            OperatorRates(
                b.name,
                (b.busy_us - a.busy_us) * per_us,
                (b.rows_in - a.rows_in) * per_us * 1e6,
                (b.rows_out - a.rows_out) * per_us * 1e6,
            )
            for a, b in zip(before if self.old is None else self.old.operators, now, strict=True)
        )

    def held(self) -> tuple[float, ...]:
        before = {} if self.old is None else {one.edge: one.held_us for one in self.old.outputs}
        return tuple(
            (one.held_us - before.get(one.edge, 0)) / max(1, self.span_us)
            for one in self.new.outputs
        )


class JobFigures:
    """The newest figures of each subtask, and some before, for what changed between."""

    def __init__(self, plan: PhysicalPlan, started_us: int) -> None:
        self._plan = plan
        self._places = places(plan)
        self._started_us = started_us
        self._running_us: int | None = None
        self._newest: dict[SubtaskId, _Taken] = {}
        self._before: dict[SubtaskId, SubtaskFigures] = {}
        self._older: dict[SubtaskId, deque[_Taken]] = {}
        self._moved: dict[SubtaskId, dict[str, tuple[InputFigures, int]]] = {}

    def follow(self, plan: PhysicalPlan) -> None:
        """Count on with the subtasks of another plan of the same job."""
        self._plan = plan
        self._places = places(plan)
        for kept in (self._newest, self._before, self._older, self._moved):
            kept.clear()

    def take(self, figures: SubtaskFigures, now_us: int) -> None:
        """Take newer figures of a subtask."""
        subtask = figures.subtask
        newest = self._newest.get(subtask)
        before = self._before.get(subtask)
        if newest is not None and (
            before is None or _lived_us(newest.figures) - _lived_us(before) >= _SHARE_SPAN_US
        ):
            self._before[subtask] = newest.figures
        figures = dataclasses.replace(figures, inputs=self._stood(figures, now_us))
        self._newest[subtask] = _Taken(figures, now_us)
        self._remember(subtask, self._newest[subtask])

    def running(self, now_us: int) -> None:
        """Note that all subtasks run."""
        self._running_us = now_us

    def status(self, state: str, now_us: int) -> JobStatus:
        """Give the job as it stands; times are monotonic."""
        operators = [operator for chain in self._plan.chains for operator in self._operators(chain)]
        uptime_s = (now_us - self._started_us) / 1e6
        return JobStatus(self._plan.job, state, uptime_s, tuple(operators))

    def subtasks(self, now_us: int) -> tuple[SubtaskReport, ...]:
        """Give every subtask that has said anything, in the order of the plan."""
        known = (subtask for subtask in self._plan.subtasks if subtask in self._newest)
        return tuple(self._subtask(subtask, now_us) for subtask in known)

    def result(self, state: str, now_us: int) -> JobResult:
        """Give the job's end: rows its sources gave, rows its sinks took."""
        status = self.status(state, now_us)
        heads = {c.nodes[0].name for c in self._plan.chains if not self._plan.inputs(c.name)}
        return JobResult(
            state,
            status.uptime_s,
            sum(o.rows_out for o in status.operators if o.name in heads),
            sum(o.rows_in for o in status.operators if o.kind == "sink"),
            running_s=0.0 if self._running_us is None else (now_us - self._running_us) / 1e6,
        )

    # What has been before --------------------------------------------------------------------

    def _remember(self, subtask: SubtaskId, taken: _Taken) -> None:
        older = self._older.setdefault(subtask, deque(maxlen=_KEPT_MAX))
        if older and _lived_us(older[-1].figures) > _lived_us(taken.figures):
            older.clear()  # another attempt counts anew
        # One a second: reports may come more often.
        if not older or taken.at_us - older[-1].at_us >= _SPAN_US_MAX // (_KEPT_MAX - 2):
            older.append(taken)

    def _stood(self, figures: SubtaskFigures, now_us: int) -> tuple[InputFigures, ...]:
        """Say how long each input's watermark has not moved."""
        before = self._moved.get(figures.subtask, {})
        after: dict[str, tuple[InputFigures, int]] = {}
        inputs = []
        for one in figures.inputs:
            told, since_us = before.get(one.name, (one, now_us))
            if (told.watermark_us, told.status) != (one.watermark_us, one.status):
                since_us = now_us
            after[one.name] = (one, since_us)
            inputs.append(dataclasses.replace(one, still_us=now_us - since_us))
        self._moved[figures.subtask] = after
        return tuple(inputs)

    def _subtask(self, subtask: SubtaskId, now_us: int) -> SubtaskReport:
        newest = self._newest[subtask]
        new = newest.figures
        within = [t for t in self._older[subtask] if newest.at_us - t.at_us <= _SPAN_US_MAX]
        old = within[0].figures if within else None
        span_us = _lived_us(new) - (0 if old is None else _lived_us(old))
        if span_us < _SHARE_SPAN_US:  # too short: since it began
            old, span_us = None, _lived_us(new)
        passed = _Passed(old, new, span_us)
        return SubtaskReport(
            new,
            now_us - newest.at_us,
            span_us,
            passed.share("busy_us"),
            passed.share("idle_us"),
            passed.share("backpressured_us"),
            passed.per_s("rows_in"),
            passed.per_s("rows_out"),
            passed.per_s("bytes_in"),
            passed.per_s("bytes_out"),
            passed.operators(),
            passed.held(),
        )

    # By operator -----------------------------------------------------------------------------

    def _operators(self, chain: Chain) -> list[OperatorStatus]:
        figures = [self._newest[s].figures for s in chain.subtasks if s in self._newest]
        shares = [self._shares(f) for f in figures]
        return [self._operator(chain, index, figures, shares) for index in range(len(chain.nodes))]

    def _operator(
        self,
        chain: Chain,
        index: int,
        figures: list[SubtaskFigures],
        shares: list[tuple[float, float, float]],
    ) -> OperatorStatus:
        node = chain.nodes[index]
        place: OperatorPlace = self._places[node.name]
        parts = [f.operators[index] for f in figures]
        known = [f.watermark_us for f in figures if f.watermark_us is not None]
        busy, idle, held = max(shares, default=(0.0, 0.0, 0.0))
        return OperatorStatus(
            node.name,
            chain.parallelism,
            sum(part.rows_in for part in parts),
            sum(part.rows_out for part in parts),
            min(known) if known and len(known) == len(figures) else None,
            busy,
            idle,
            held,
            sum(part.late_rows for part in parts),
            sum(part.failed_rows for part in parts),
            uid=node.uid,
            kind=place.kind,
            chain=chain.name,
            inputs=place.inputs,
            exchange=place.exchange,
            bytes_in=0 if index else sum(f.bytes_in for f in figures),
            bytes_out=sum(o.bytes for f in figures for o in f.outputs if o.edge in node.outputs),
            queued_bytes=0 if index else sum(f.queued_bytes for f in figures),
            busy_spread=_spread([share[0] for share in shares]),
            idle_spread=_spread([share[1] for share in shares]),
            backpressured_spread=_spread([share[2] for share in shares]),
            own_busy=_spread([self._own(f, index) for f in figures]),
            counters=_summed([part.counters for part in parts]),
            gauges=_summed([part.gauges for part in parts]),
            histograms=_joined(parts),
        )

    def _own(self, newest: SubtaskFigures, index: int) -> float:
        before = self._before.get(newest.subtask)
        spent_us, span_us = newest.operators[index].busy_us, _lived_us(newest)
        if before is not None and _lived_us(before) <= span_us:
            spent_us -= before.operators[index].busy_us
            span_us -= _lived_us(before)
        return spent_us / max(1, span_us)

    def _shares(self, newest: SubtaskFigures) -> tuple[float, float, float]:
        before = self._before.get(newest.subtask)
        busy, idle, held = newest.busy_us, newest.idle_us, newest.backpressured_us
        if before is not None and _lived_us(before) <= _lived_us(newest):
            busy -= before.busy_us
            idle -= before.idle_us
            held -= before.backpressured_us
        whole = max(1, busy + idle + held)
        return busy / whole, idle / whole, held / whole


def _lived_us(figures: SubtaskFigures) -> int:
    return figures.busy_us + figures.idle_us + figures.backpressured_us


def _spread(shares: list[float]) -> Spread:
    if not shares:
        return Spread()
    return Spread(min(shares), sum(shares) / len(shares), max(shares))


def _summed(parts: list[Mapping[str, int]] | list[Mapping[str, float]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0) + value  # type: ignore[assignment]  # floats stay so
    return found


def _joined(parts: list[OperatorFigures]) -> dict[str, HistogramFigures]:
    found: dict[str, HistogramFigures] = {}
    for part in parts:
        for name, one in part.histograms.items():
            before = found.get(name)
            counts = one.counts
            if before is not None:
                counts = tuple(a + b for a, b in zip(before.counts, counts, strict=True))
            found[name] = HistogramFigures(counts, one.total + (before.total if before else 0.0))
    return found
