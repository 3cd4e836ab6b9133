"""What took how long in the life of a job, as spans: one trace a checkpoint, one a change of size.

They are made of what the coordinator tells anyhow, behind each of its steps, and are plain values;
``tracing`` hands them to whoever collects them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from raystream.clock import Clock
from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.flow.control import UNDER_WAY, Rescaling

Attribute: TypeAlias = str | int | bool | float

_STEPS = {"closing": "close", "waiting": "close", "opening": "read the log", "starting": "start"}
"""What a change of size does in each state of the job; before them come processes and a barrier."""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time, in microseconds since the epoch; ``error`` says why it failed."""

    name: str
    start_us: int
    end_us: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    children: tuple[Span, ...] = ()
    error: str = ""


def checkpoint_span(name: str, figures: CheckpointFigures) -> Span:
    """Make the trace of a checkpoint that is over; its children are what subtasks have stored.

    A child lasts until the coordinator had heard of it: the last one is what the others waited for.
    Of a checkpoint of very many subtasks the slowest are told.
    """
    begun_us = figures.triggered_us
    identity: dict[str, Attribute] = {
        "job": name,
        "attempt": figures.attempt,
        "checkpoint": figures.checkpoint_id,
    }
    children = tuple(
        Span(
            "snapshot",
            begun_us,
            begun_us + part.acked_us,
            {
                **identity,
                "subtask": subtask,
                "alignment_us": part.alignment_us,
                "sync_us": part.sync_us,
                "upload_us": part.upload_us,
                "bytes": part.bytes,
                "rows": part.rows,
            },
        )
        for subtask, part in figures.parts.items()
    )
    told: dict[str, Attribute] = {
        "status": figures.status,
        "bytes": figures.bytes,
        "new_bytes": figures.new_bytes,
    }
    return Span(
        "savepoint" if figures.savepoint else "checkpoint",
        begun_us,
        begun_us + figures.duration_us,
        {**identity, **told},
        children,
        "" if figures.status == "completed" else figures.reason or figures.status,
    )


class Spans:
    """Gives the spans of one job, each once it is over."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._newest: CheckpointFigures | None = None
        self._move: _Move | None = None
        self._moved_us = -1  # when the newest change was asked for that is told of

    def look(self, machine: CoordinatorMachine, event: job.Event) -> list[Span]:
        """Take what a step has changed; give what is over by it."""
        found = []
        shown = machine.checkpoints
        if shown and shown[-1] is not self._newest:
            self._newest = shown[-1]
            found.append(checkpoint_span(self._name, shown[-1]))
        over = self._moves(machine, event)
        return found if over is None else [*found, over]

    def _moves(self, machine: CoordinatorMachine, event: job.Event) -> Span | None:
        now_us, over = self._clock.now_us(), None
        known = [one for one in machine.moves.shown if one.at_us >= self._moved_us]
        if self._move is not None:
            told = next(one for one in known if one.at_us == self._move.told.at_us)
            self._move.step(machine.state, event, now_us)
            if told.outcome != UNDER_WAY:
                over = self._move.span(self._name, told, now_us)
                self._move, self._moved_us = None, told.at_us + 1
        if self._move is None and known and known[-1].outcome == UNDER_WAY:
            self._move, self._moved_us = _Move(known[-1], machine.attempt), known[-1].at_us
        return over


class _Move:
    """A change of size that is under way, and its steps so far."""

    def __init__(self, told: Rescaling, attempt: int) -> None:
        self.told = told
        self._attempt = attempt
        self._at = ("processes", told.at_us)
        self._steps: list[Span] = []

    def step(self, state: str, event: job.Event, now_us: int) -> None:
        """Note which step it is in by now."""
        name = _STEPS.get(state, self._at[0])
        if self._at[0] == "processes" and isinstance(event, job.Grown):
            name = "checkpoint"
        if name != self._at[0]:
            self._steps.append(Span(self._at[0], self._at[1], now_us))
            self._at = (name, now_us)

    def span(self, name: str, told: Rescaling, now_us: int) -> Span:
        """Give it as a trace: it is over."""
        steps = (*self._steps, Span(self._at[0], self._at[1], now_us))
        attributes: dict[str, Attribute] = {
            "job": name,
            "attempt": self._attempt,
            "before": _sizes(told.before),
            "after": _sizes(told.after),
            "by": "autoscaler" if told.reason else "request",
        }
        if told.reason:
            attributes["reason"] = told.reason
        if told.pause_us is not None:
            attributes["pause_us"] = told.pause_us
        error = "" if told.outcome == "done" else told.outcome
        return Span("rescale", told.at_us, now_us, attributes, steps, error)


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{chain}={count}" for chain, count in sizes.items())
