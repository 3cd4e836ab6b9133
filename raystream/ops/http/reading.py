"""Answers about what a job's coordinator publishes: none of them asks a subtask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from raystream.clock import SystemClock
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.states import shown_state
from raystream.flow.control import OperatorStatus
from raystream.flow.element import MAX_TIME
from raystream.ops.http.answers import Refused
from raystream.ops.http.view import JobsView, JobView, Seen

_HELD_LOW, _HELD_HIGH = 0.1, 0.5
"""From these shares of time on an operator waits for others a little, or much."""


def jobs(known: JobsView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List the jobs."""
    return {"jobs": [summary(name, seen) for name, seen in known.list()]}


def job(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a job is at."""
    return details(one.name, one.look())


def plan(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Show what runs, with live figures."""
    shown, figures = one.plan(), _by_name(one.look())
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


def operators(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Give the figures of its operators."""
    return {"operators": [*_by_name(one.look()).values()]}


def watermarks(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how far event time has come."""
    now_us = SystemClock().now_us()
    said = []
    for figures in _by_name(one.look()).values():
        time_us = figures["watermark_us"]
        lag_us = None if time_us is None else now_us - time_us
        shown = {name: figures[name] for name in ("name", "watermark_us", "ended")}
        said.append({**shown, "lag_us": lag_us})
    return {"operators": said}


def backpressure(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Tell where time goes, and who waits for whom."""
    said = []
    for figures in _by_name(one.look()).values():
        held = figures["backpressured"]
        level = "high" if held >= _HELD_HIGH else "low" if held >= _HELD_LOW else "ok"
        shares = {name: figures[name] for name in ("name", "busy", "idle", "backpressured")}
        said.append({**shares, "level": level})
    return {"operators": said}


def checkpoints(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List the newest checkpoints and savepoints, newest first."""
    made = [_checkpoint(each) for each in reversed(one.look().checkpoints)]
    return {"settings": one.plan()["checkpoint"], "checkpoints": made}


def checkpoint(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Tell how one checkpoint went."""
    known = one.look().checkpoints
    for each in reversed(known):
        if each.checkpoint_id == asked["checkpoint"]:
            return _checkpoint(each)
    ids = ", ".join(str(each.checkpoint_id) for each in known) or "none"
    raise Refused(
        404, "not_found", "no such checkpoint is remembered", hint=f"those that are: {ids}"
    )


def config(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """Show its settings."""
    shown = one.plan()
    names = ("job", "max_parallelism", "checkpoint", "restart", "limits", "input_bytes_max")
    return {name: shown[name] for name in names}


def summary(name: str, seen: Seen | None) -> dict[str, Any]:
    """Tell of a job what stands in a list; ``None`` is one that does not answer."""
    if seen is None:
        nothing = dict.fromkeys(("uptime_s", "attempt", "over"))
        return {"id": None, "name": name, "status": "unknown", **nothing}
    return {
        "id": seen.job_id,
        "name": name,
        "status": shown_state(seen.status.state, seen.attempt),
        "uptime_s": seen.status.uptime_s,
        "attempt": seen.attempt,
        "over": seen.over,
    }


def details(name: str, seen: Seen | None) -> dict[str, Any]:
    """Tell of a job what stands on its page."""
    newest = seen.checkpoints[-1] if seen is not None and seen.checkpoints else None
    return {
        **summary(name, seen),
        "operators": [] if seen is None else [*_by_name(seen).values()],
        "newest_checkpoint": None if newest is None else _checkpoint(newest),
    }


def _by_name(seen: Seen) -> dict[str, dict[str, Any]]:
    return {one.name: _figures(one) for one in seen.status.operators}


def _figures(one: OperatorStatus) -> dict[str, Any]:
    figures = dataclasses.asdict(one)
    ended = one.watermark_us == MAX_TIME
    shares = {name: min(1.0, max(0.0, figures[name])) for name in ("busy", "idle", "backpressured")}
    return {
        **figures,
        **shares,
        "ended": ended,
        "watermark_us": None if ended else one.watermark_us,
    }


def _checkpoint(one: CheckpointFigures) -> dict[str, Any]:
    return dataclasses.asdict(one)
