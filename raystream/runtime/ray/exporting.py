"""Give a job's metrics to Ray, which exports them beside its own: one place, once a heartbeat."""

from __future__ import annotations

import logging
from typing import Any

from ray.util import metrics as ray_metrics

from raystream.coordinator.metric_names import PREFIX, Metric
from raystream.coordinator.metrics import Sample, samples
from raystream.coordinator.report import JobReport
from raystream.flow.figures import BOUNDS, HistogramFigures

_OBSERVED_MAX = 1_000
"""Values of one histogram that are given at once: Ray takes them one by one."""

_LOG = logging.getLogger("raystream")

_Key = tuple[str, tuple[str, ...]]


class Export:
    """What Ray has been told of a job, so that counters are told what was added."""

    def __init__(self) -> None:
        self._refused = False
        self._made: dict[str, Any] = {}
        self._told: dict[_Key, float | HistogramFigures] = {}

    def give(self, report: JobReport) -> None:
        """Tell Ray of a job as it stands; a job goes on without, where Ray does not take it."""
        if self._refused:
            return
        try:
            self._give_all(report)
        except Exception:  # noqa: BLE001  what Ray raises here is no business of the job's
            self._refused = True
            _LOG.warning("job %s: Ray takes no metrics", report.job, exc_info=True)

    def _give_all(self, report: JobReport) -> None:
        told: dict[_Key, float | HistogramFigures] = {}
        for sample in samples(report):
            key = (sample.metric.name, tuple(map(_ascii, sample.labels.values())))
            told[key] = sample.value
            self._give(sample, self._told.get(key))
        # What is not there any more, such as a subtask or a state, is told as nothing.
        for name, labels in self._told.keys() - told.keys():
            if hasattr(self._made[name], "set"):
                keys = self._made[name].info["tag_keys"]
                self._made[name].set(0.0, dict(zip(keys, labels, strict=True)))
        self._told = told

    def _give(self, sample: Sample, before: float | HistogramFigures | None) -> None:
        metric, value = sample.metric, sample.value
        tags = {name: _ascii(label) for name, label in sample.labels.items()}
        made = self._made.get(metric.name)
        if made is None:
            made = self._made[metric.name] = _made(metric, tuple(tags))
        if isinstance(value, HistogramFigures):
            old = before.counts if isinstance(before, HistogramFigures) else ()
            for bound in _observed(value.counts, old):
                made.observe(bound, tags)
        elif metric.kind == "counter":
            added = _added(value, before if isinstance(before, int | float) else 0)
            if added > 0:
                made.inc(added, tags)
        else:
            made.set(float(value), tags)


def _ascii(label: str) -> str:
    """Write a label as Ray takes it: names of chains have an arrow, users' names anything."""
    return label.replace("→", "->").encode("ascii", "backslashreplace").decode()


def _added(value: float, before: float) -> float:
    # An attempt counts anew: what it has counted so far is all new.
    return value if value < before else value - before


def _observed(counts: tuple[int, ...], before: tuple[int, ...]) -> list[float]:
    """Give a value for each that has come since: the upper bound of its bucket."""
    old = before if before and sum(before) <= sum(counts) else (0,) * len(counts)
    bounds = (*BOUNDS, BOUNDS[-1] * 2)
    values: list[float] = []
    for bound, new, known in zip(bounds, counts, old, strict=True):
        values += [bound] * min(max(0, new - known), _OBSERVED_MAX - len(values))
    return values


def _made(metric: Metric, tag_keys: tuple[str, ...]) -> Any:
    name = f"{PREFIX}{metric.name}"
    match metric.kind:
        case "counter":
            return ray_metrics.Counter(name, metric.meaning, tag_keys)
        case "gauge":
            return ray_metrics.Gauge(name, metric.meaning, tag_keys)
        case "histogram":
            return ray_metrics.Histogram(name, metric.meaning, list(BOUNDS), tag_keys)
