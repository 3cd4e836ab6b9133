"""What took how long in the life of a job, as spans.

There is one trace for each checkpoint, each change of size and each restart.

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
from raystream.coordinator.chronicle import LOST
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.states import AT_WORK
from raystream.flow.control import UNDER_WAY, Rescaling
from raystream.flow.past import Failure
from raystream.runtime.causes import failure_of

Attribute: TypeAlias = str | int | bool | float

_CAUSE_CHARS_MAX = 300

_STEPS = {"closing": "close", "waiting": "close", "opening": "read the log", "starting": "start"}
"""What a change of size does in each state of the job; before them come processes and a barrier."""

_RESTART_STEPS = {**_STEPS, "waiting": "wait"}
"""What a restart does: behind a failure there may be a pause."""


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
        self._born_us = clock.now_us()
        self._restart: _Restart | None = None
        self._last_error: BaseException | None = None
        self._taken_over = False

    def look(self, machine: CoordinatorMachine, event: job.Event) -> list[Span]:
        """Take what a step has changed; give what is over by it."""
        found = []
        shown = machine.checkpoints
        if shown and shown[-1] is not self._newest:
            self._newest = shown[-1]
            found.append(checkpoint_span(self._name, shown[-1]))
        over = self._moves(machine, event)
        found += [] if over is None else [over]
        return [*found, *self._restarts(machine, event)]

    def _restarts(self, machine: CoordinatorMachine, event: job.Event) -> list[Span]:
        now_us, over = self._clock.now_us(), []
        error, chronicle = machine.last_error, machine.chronicle
        if error is not None and error is not self._last_error:
            self._last_error = error
            if self._restart is not None:  # it has failed again before it ran
                over.append(self._restart.span(self._name, machine, now_us))
            failed = job.Failed(None, error)
            if isinstance(event, job.Failed) and event.error is error:
                failed = event
            self._restart = _Restart(failure_of(failed, now_us, machine.attempt), now_us)
        if chronicle.taken_over and not self._taken_over:
            self._taken_over = True
            self._restart = _Restart(chronicle.failures[-1], self._born_us)
        if self._restart is not None:
            self._restart.step(machine.state, now_us)
            if machine.over or machine.state in AT_WORK:
                over.append(self._restart.span(self._name, machine, now_us))
                self._restart = None
        return over

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


class _Steps:
    """One step behind the other, each a child of what they make."""

    def __init__(self, name: str, at_us: int) -> None:
        self.name = name
        self._at_us = at_us
        self._over: list[Span] = []

    def go_on(self, name: str, now_us: int) -> None:
        """Be in a step by now, the same or another."""
        if name != self.name:
            self._over.append(Span(self.name, self._at_us, now_us))
            self.name, self._at_us = name, now_us

    def end(self, now_us: int) -> tuple[Span, ...]:
        """Give all of them: the last is over."""
        return (*self._over, Span(self.name, self._at_us, now_us))


class _Restart:
    """A failure that another attempt follows, until rows flow again."""

    def __init__(self, failure: Failure, at_us: int) -> None:
        self._failure = failure
        self._at_us = at_us
        self._steps = _Steps("close" if failure.kind != LOST else "read the log", at_us)

    def step(self, state: str, now_us: int) -> None:
        """Note which step it is in by now."""
        self._steps.go_on(_RESTART_STEPS.get(state, self._steps.name), now_us)

    def span(self, name: str, machine: CoordinatorMachine, now_us: int) -> Span:
        """Give it as a trace: rows flow, or it has come to nothing."""
        failure = self._failure
        attributes: dict[str, Attribute] = {
            "job": name,
            "attempt": failure.attempt,
            "next_attempt": machine.attempt,
            "kind": failure.kind,
            "cause": failure.message[:_CAUSE_CHARS_MAX],
            "operator": failure.operator,
            "subtask": failure.subtask,
            "where": failure.where,
        }
        known = {key: value for key, value in attributes.items() if value != ""}
        error = "" if machine.state in AT_WORK else "it has failed again"
        if machine.over:
            error = f"the job is {machine.state}"
        return Span("restart", self._at_us, now_us, known, self._steps.end(now_us), error)


class _Move:
    """A change of size that is under way, and its steps so far."""

    def __init__(self, told: Rescaling, attempt: int) -> None:
        self.told = told
        self._attempt = attempt
        self._steps = _Steps("processes", told.at_us)

    def step(self, state: str, event: job.Event, now_us: int) -> None:
        """Note which step it is in by now."""
        name = _STEPS.get(state, self._steps.name)
        if self._steps.name == "processes" and isinstance(event, job.Grown):
            name = "checkpoint"
        self._steps.go_on(name, now_us)

    def span(self, name: str, told: Rescaling, now_us: int) -> Span:
        """Give it as a trace: it is over."""
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
        return Span("rescale", told.at_us, now_us, attributes, self._steps.end(now_us), error)


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{chain}={count}" for chain, count in sizes.items())
