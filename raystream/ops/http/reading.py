"""Answers about what a job's coordinator publishes: none of them asks a subtask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.diagnosis import diagnose
from raystream.coordinator.report import JobReport, SubtaskReport
from raystream.coordinator.states import ENDED, shown_state
from raystream.flow.control import OperatorStatus
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.figures import InputFigures
from raystream.ops.http.answers import Refused
from raystream.ops.http.schemas import SCHEMAS
from raystream.ops.http.view import JobsView, JobView
from raystream.ops.prometheus import prometheus_text

_HELD_LOW, _HELD_HIGH = 0.1, 0.5
"""From these shares of time on an operator waits for others a little, or much."""


def jobs(known: JobsView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List the jobs."""
    return {"jobs": [summary(name, seen) for name, seen in known.list()]}


def metrics(known: JobsView, _: Mapping[str, Any]) -> str:
    """Give the metrics of all jobs that answer, as Prometheus reads them."""
    return prometheus_text(report for _, report in known.list() if report is not None)


def job(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a job is at."""
    return details(one.name, one.report())


def plan(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Show what runs, with live figures."""
    shown, figures = one.plan(), _by_name(one.report())
    chains = [
        {
            **chain,
            "operators": [
                {**operator, "figures": figures.get(operator["name"])}
                for operator in chain["operators"]
            ],
        }
        for chain in shown["chains"]
    ]
    return {
        "job": shown["job"],
        "max_parallelism": shown["max_parallelism"],
        "chains": chains,
        "edges": shown["edges"],
    }


def subtasks(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Give the figures of an operator's subtasks."""
    name, report = asked["operator"], one.report()
    known = [each.name for each in report.status.operators]
    if name not in known:
        raise Refused(
            404, "not_found", "the job has no such operator", hint=f"it has {', '.join(known)}"
        )
    return {"subtasks": [_subtask(each, name) for each in report.subtasks_of(name)]}


def operators(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Give the figures of its operators."""
    return {"operators": [*_by_name(one.report()).values()]}


def watermarks(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how far event time has come, and which inputs hold it."""
    report = one.report()
    return {
        "operators": [
            {"name": each.name, **_time(each.watermark_us, report.at_us)}
            for each in report.status.operators
        ],
        "subtasks": [
            {
                "subtask": str(each.figures.subtask),
                **_time(each.figures.watermark_us, report.at_us),
                "inputs": [_input(one) for one in each.figures.inputs],
            }
            for each in report.subtasks
        ],
    }


def backpressure(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell where time goes, and who waits for whom."""
    report, shares = one.report(), ("busy", "idle", "backpressured")
    return {
        "operators": [
            {
                "name": each.name,
                **{name: _share(getattr(each, name)) for name in shares},
                "level": _level(each.backpressured),
            }
            for each in report.status.operators
        ],
        "subtasks": [
            {
                "subtask": str(each.figures.subtask),
                **{name: _share(getattr(each, name)) for name in shares},
                "level": _level(each.backpressured),
                "outputs": [dataclasses.asdict(one) for one in each.figures.outputs],
            }
            for each in report.subtasks
        ],
    }


def _level(held: float) -> str:
    return "high" if held >= _HELD_HIGH else "low" if held >= _HELD_LOW else "ok"


def checkpoints(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List the newest checkpoints and savepoints, newest first."""
    made = [_checkpoint(each) for each in reversed(one.report().checkpoints)]
    return {"settings": one.plan()["checkpoint"], "checkpoints": made}


def checkpoint(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how one checkpoint went, subtask by subtask."""
    known = one.report().checkpoints
    for each in reversed(known):
        if each.checkpoint_id == asked["checkpoint"]:
            parts = sorted(each.parts.items(), key=lambda part: -part[1].acked_us)
            return {
                **_checkpoint(each),
                "subtasks": [
                    _only("Part", {"subtask": subtask, **dataclasses.asdict(part)})
                    for subtask, part in parts
                ],
                "state": [
                    {"uid": uid, "rows": rows, "bytes": size}
                    for uid, (rows, size) in each.state.items()
                ],
            }
    ids = ", ".join(str(each.checkpoint_id) for each in known) or "none"
    raise Refused(
        404, "not_found", "no such checkpoint is remembered", hint=f"those that are: {ids}"
    )


def exceptions(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List what broke, newest first."""
    report = one.report()
    failed = [_only("Failure", dataclasses.asdict(each)) for each in reversed(report.failures)]
    return {"restarts": report.restarts, "exceptions": failed}


def changes(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List when the job went from one state to another, newest first."""
    report = one.report()
    return {"changes": [_only("Change", dataclasses.asdict(c)) for c in reversed(report.changes)]}


def diagnosis(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Name what holds the job up, and what its watermark waits for."""
    found = diagnose(one.report())
    held = found.bottleneck
    return {
        "says": str(found),
        "bottleneck": None
        if held is None
        else {
            "cause": held.cause.name.lower(),
            "operator": held.operator,
            "subtask": held.subtask,
            "says": held.sentence,
        },
        "watermark": list(found.watermark),
    }


def rescales(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how its size has changed, newest first, and why it has the one that it has."""
    status = one.report().status
    past = [_only("Rescaling", dataclasses.asdict(each)) for each in reversed(one.rescalings())]
    return {
        "under_way": status.state == "rescaling",
        "sizes": {each.name: each.parallelism for each in status.operators},
        "says": status.scaling,
        "rescales": past,
    }


def config(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Show its settings."""
    shown = one.plan()
    names = ("job", "max_parallelism", "checkpoint", "restart", "limits", "input_bytes_max")
    return {name: shown[name] for name in names}


def summary(name: str, report: JobReport | None) -> dict[str, Any]:
    """Tell of a job what stands in a list; ``None`` is one that does not answer."""
    if report is None:
        nothing = dict.fromkeys(("uptime_s", "attempt", "restarts", "over"))
        return {"id": None, "name": name, "status": "unknown", **nothing}
    return {
        "id": report.job_id,
        "name": name,
        "status": shown_state(report.status.state, report.attempt),
        "uptime_s": report.status.uptime_s,
        "attempt": report.attempt,
        "restarts": report.restarts,
        "over": report.status.state in ENDED,
    }


def details(name: str, report: JobReport | None) -> dict[str, Any]:
    """Tell of a job what stands on its page."""
    newest = report.checkpoints[-1] if report is not None and report.checkpoints else None
    failed = report.failures[-1] if report is not None and report.failures else None
    return {
        **summary(name, report),
        "at_us": None if report is None else report.at_us,
        "operators": [] if report is None else [*_by_name(report).values()],
        "newest_checkpoint": None if newest is None else _checkpoint(newest),
        "newest_failure": None if failed is None else _only("Failure", dataclasses.asdict(failed)),
    }


# Shapes -------------------------------------------------------------------------------------------


def _by_name(report: JobReport) -> dict[str, dict[str, Any]]:
    """Give the figures of each operator, with the rates of all its subtasks together."""
    passed: dict[str, tuple[float, float]] = {}
    for subtask in report.subtasks:
        for rates in subtask.operators:
            rows_in, rows_out = passed.get(rates.name, (0.0, 0.0))
            passed[rates.name] = rows_in + rates.rows_in_per_s, rows_out + rates.rows_out_per_s
    return {
        one.name: _figures(one, passed.get(one.name, (0.0, 0.0))) for one in report.status.operators
    }


def _figures(one: OperatorStatus, per_s: tuple[float, float]) -> dict[str, Any]:
    shares = {name: _share(getattr(one, name)) for name in ("busy", "idle", "backpressured")}
    time_us = one.watermark_us
    times = {"watermark_us": _known(time_us), "ended": time_us == MAX_TIME}
    rates = {"rows_in_per_s": per_s[0], "rows_out_per_s": per_s[1]}
    return _only("OperatorFigures", {**dataclasses.asdict(one), **shares, **times, **rates})


def _subtask(one: SubtaskReport, operator: str) -> dict[str, Any]:
    figures = one.figures
    said = {
        **dataclasses.asdict(figures),
        **{name: value for name, value in dataclasses.asdict(one).items() if name != "figures"},
        "subtask": str(figures.subtask),
        "index": figures.subtask.index,
        "watermark_us": _known(figures.watermark_us),
        "ended": figures.watermark_us == MAX_TIME,
        "inputs": [_input(each) for each in figures.inputs],
        "operator": _in_subtask(one, operator),
        **{name: _share(getattr(one, name)) for name in ("busy", "idle", "backpressured")},
    }
    return _only("SubtaskFigures", said)


def _in_subtask(one: SubtaskReport, operator: str) -> dict[str, Any] | None:
    """Give what passed one operator of a subtask; its report may be older than the plan."""
    said: dict[str, Any] = {"busy": 0.0, "rows_in_per_s": 0.0, "rows_out_per_s": 0.0}
    for rates in one.operators:
        if rates.name == operator:
            said |= {**dataclasses.asdict(rates), "busy": _share(rates.busy)}
    for each in one.figures.operators:
        if each.name == operator:
            return _only("OperatorInSubtask", {**dataclasses.asdict(each), **said})
    return None


def _input(one: InputFigures) -> dict[str, Any]:
    return _only("Input", {**dataclasses.asdict(one), "watermark_us": _known(one.watermark_us)})


def _time(time_us: int | None, now_us: int) -> dict[str, Any]:
    known_us = _known(time_us)
    return {
        "watermark_us": known_us,
        "lag_us": None if known_us is None else now_us - known_us,
        "ended": time_us == MAX_TIME,
    }


def _known(time_us: int | None) -> int | None:
    """Leave out the times that stand for none yet, and for the end."""
    return None if time_us in (None, MIN_TIME, MAX_TIME) else time_us


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _checkpoint(one: CheckpointFigures) -> dict[str, Any]:
    return _only("Checkpoint", dataclasses.asdict(one))


def _only(shape: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the fields that the description tells of: figures that are new wait for theirs."""
    return {name: fields[name] for name in SCHEMAS[shape]["properties"] if name in fields}
