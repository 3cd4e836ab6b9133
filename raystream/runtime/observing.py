"""What a shell keeps of its job for whoever looks: figures, failures, and when its state changed.

Every transition leaves one line in the log, from here and nowhere else: the logger ``raystream``,
with those of ``json_lines.FIELDS`` as extra fields.
Both shells give what they see to ``look``.
"""

from __future__ import annotations

import dataclasses
import logging

from raystream.clock import Clock
from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.chronicle import Chronicle
from raystream.coordinator.figures import JobFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.metrics import by_operator
from raystream.coordinator.report import (
    JobReport,
    Sizing,
)
from raystream.coordinator.states import BETWEEN
from raystream.flow import messages
from raystream.flow.control import JobResult, JobStatus, SubtaskFigures
from raystream.flow.past import StateChange
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.causes import failure_of
from raystream.runtime.spans import Spans
from raystream.runtime.tracing import Tracing

_LOG = logging.getLogger("raystream")

_SUBTASK_STATES = {
    messages.Ready: "ready",
    messages.Ended: "ended",
    messages.Closed: "closed",
    messages.Declined: "declined",
}
"""What a subtask's word says of its life; the others say nothing of it."""


class Observer:
    """Sees every event of a job behind the step that took it."""

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: Clock,
        chronicle: Chronicle,
        tracing: Tracing | None = None,
    ) -> None:
        self._job = plan.job
        self._tracing = tracing
        self._spans = Spans(plan.job, clock)
        self._max_parallelism = plan.max_parallelism  # which a job keeps for life
        self._clock = clock
        self._figures = JobFigures(plan, clock.monotonic_us())
        self._state = "opening"  # as every job begins
        self._last_error: BaseException | None = None
        self._told_takeover = False
        self._newest: CheckpointFigures | None = None
        self._chronicle = chronicle
        chronicle.changed(StateChange(clock.now_us(), 0, "created", self._state))

    def follow(self, plan: PhysicalPlan) -> None:
        """Count on with the subtasks of another plan of the same job."""
        self._figures.follow(plan)

    def take(self, figures: SubtaskFigures) -> None:
        """Take newer figures of a subtask."""
        self._figures.take(figures, self._clock.monotonic_us())

    def look(self, machine: CoordinatorMachine, event: job.Event) -> None:
        """Note what an event has changed."""
        match event:
            case job.Failed():
                self._failed(machine, event)
            case job.Said(subtask, attempt, report) if type(report) in _SUBTASK_STATES:
                state = _SUBTASK_STATES[type(report)]
                self._tell(
                    logging.DEBUG,
                    f"{subtask} is {state}",
                    state=state,
                    attempt=attempt,
                    subtask=str(subtask),
                    operator=subtask.chain,
                )
            case _:
                pass
        shown = machine.checkpoints
        if shown and shown[-1] is not self._newest:
            self._newest = shown[-1]
            self._checkpoint(shown[-1])
        if machine.state != self._state:
            self._changed(machine)
        if self._chronicle.taken_over and not self._told_takeover:
            self._taken_over(machine)
        if machine.last_error is not self._last_error:
            self._restarting(machine)
        if self._tracing is not None:
            self._tracing.give(self._spans.look(machine, event))

    def close(self) -> None:
        """Let go: nothing more will be seen."""
        if self._tracing is not None:
            self._tracing.close()

    # What there is to see --------------------------------------------------------------------

    def status(self, state: str, scaling: str = "") -> JobStatus:
        """Give the job as it stands; ``scaling`` says why it has its size."""
        return self._figures.status(state, self._clock.monotonic_us(), scaling)

    def result(self, machine: CoordinatorMachine) -> JobResult:
        """Give how a job ended that is over."""
        result = self._figures.result(machine.state, self._clock.monotonic_us())
        return dataclasses.replace(
            result,
            metrics=by_operator(self.report(machine, "", machine.state)),
            checkpoints=tuple(machine.checkpoints),
            restarts=self._chronicle.restarts,
        )

    def report(
        self,
        machine: CoordinatorMachine,
        job_id: str,
        state: str,
        scaling: str = "",
        sizing: Sizing | None = None,
    ) -> JobReport:
        """Give all that is known."""
        return JobReport(
            job_id,
            self._clock.now_us(),
            self.status(state, scaling),
            machine.attempt,
            self._chronicle.restarts,
            self._figures.subtasks(self._clock.monotonic_us()),
            tuple(machine.checkpoints),
            self._chronicle.failures,
            self._chronicle.changes,
            self._chronicle.completed,
            self._chronicle.given_up,
            self._max_parallelism,
            sizing,
        )

    # What is noted ---------------------------------------------------------------------------

    def _failed(self, machine: CoordinatorMachine, event: job.Failed) -> None:
        if self._state in BETWEEN or self._state == "closing":
            return  # it dies of what was noted before
        if event.attempt and event.attempt != machine.attempt:
            return
        failure = failure_of(event, self._clock.now_us(), machine.attempt)
        self._chronicle.failed(failure)
        self._tell(
            logging.INFO,
            f"{failure.subtask or 'the coordinator'} has failed: {failure.kind}",
            state="failing",
            subtask=failure.subtask,
            operator=failure.operator,
            attempt=failure.attempt,
        )

    def _changed(self, machine: CoordinatorMachine) -> None:
        before, self._state = self._state, machine.state
        if before == "starting" and machine.state == "running":
            self._figures.running(self._clock.monotonic_us())
        now_us = self._clock.now_us()
        self._chronicle.changed(StateChange(now_us, machine.attempt, before, machine.state))
        text = f"{before} -> {machine.state}"
        states = (before, machine.state)
        self._tell(logging.INFO, text, state=machine.state, attempt=machine.attempt, states=states)

    def _restarting(self, machine: CoordinatorMachine) -> None:
        self._last_error = machine.last_error
        reason = str(machine.last_error).strip().splitlines()
        kind = type(machine.last_error).__name__
        text = f"attempt {machine.attempt} has failed, another follows: {kind}: "
        text += reason[0] if reason else ""
        self._tell(logging.WARNING, text, state="restarting", attempt=machine.attempt)

    def _taken_over(self, machine: CoordinatorMachine) -> None:
        self._told_takeover = True
        text = f"the coordinator has died, another takes over: restart {self._chronicle.restarts}"
        self._tell(logging.WARNING, text, state="restarting", attempt=machine.attempt)

    def _checkpoint(self, figures: CheckpointFigures) -> None:
        completed = figures.status == "completed"
        self._chronicle.checkpoint(completed=completed)
        text = f"checkpoint {figures.checkpoint_id} {figures.status}"
        self._tell(
            logging.INFO if completed else logging.WARNING,
            text if completed else f"{text}: {figures.reason}",
            state=figures.status,
            attempt=figures.attempt,
            checkpoint=figures.checkpoint_id,
        )

    def _tell(
        self,
        level: int,
        text: str,
        *,
        state: str,
        attempt: int,
        operator: str = "",
        subtask: str = "",
        checkpoint: int = 0,
        states: tuple[str, str] = ("", ""),
    ) -> None:
        if _LOG.isEnabledFor(level):
            fields = {
                "job": self._job,
                "attempt": attempt,
                "operator": operator,
                "subtask": subtask,
                "checkpoint": checkpoint,
                "state": state,
                "from": states[0],
                "to": states[1],
            }
            _LOG.log(level, "job %s: %s", self._job, text, extra=fields)
