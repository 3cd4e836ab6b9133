"""Write what is known of jobs as Prometheus reads it.

Source: the text exposition format 0.0.4, prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from raystream.coordinator.metric_names import METRICS, Metric
from raystream.coordinator.metrics import Sample, samples
from raystream.coordinator.report import JobReport
from raystream.flow.figures import BOUNDS, HistogramFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def prometheus_text(jobs: Iterable[JobReport]) -> str:
    """Give the metrics of all jobs, each metric once with its help and its kind."""
    found: dict[str, list[Sample]] = {}
    for report in jobs:
        for sample in samples(report):
            found.setdefault(sample.metric.name, []).append(sample)
    lines = (
        line
        for metric in METRICS
        if metric.name in found
        for line in _family(metric, found[metric.name])
    )
    return "".join(f"{line}\n" for line in lines)


def _family(metric: Metric, values: list[Sample]) -> Iterator[str]:
    yield f"# HELP {metric.exported} {_escaped(metric.meaning)}"
    yield f"# TYPE {metric.exported} {metric.kind}"
    for sample in values:
        if isinstance(sample.value, HistogramFigures):
            yield from _histogram(metric.exported, sample.labels, sample.value)
        else:
            yield f"{metric.exported}{_labels(sample.labels)} {_number(sample.value)}"


def _histogram(name: str, labels: Mapping[str, str], value: HistogramFigures) -> Iterator[str]:
    seen = 0
    for bound, count in zip([*map(_number, BOUNDS), "+Inf"], value.counts, strict=True):
        seen += count
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {seen}"
    yield f"{name}_sum{_labels(labels)} {_number(value.total)}"
    yield f"{name}_count{_labels(labels)} {seen}"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
