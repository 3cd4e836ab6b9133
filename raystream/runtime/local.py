"""The shell in one process: the same machines, one thread, no Ray.

Tests, notebooks and debuggers run jobs here. With ``rng`` the order of everything that may happen
next is drawn from it, so that a seed decides the interleaving and repeats it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from typing_extensions import assert_never

from raystream.clock import Clock, SystemClock
from raystream.contracts.batch import Batch
from raystream.coordinator import events as job
from raystream.coordinator.figures import JobFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.errors import JobTimeout, RaystreamError, job_failed
from raystream.flow.control import JobResult, JobStatus
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.runtime.shell import (
    Readers,
    abort_sinks,
    contexts,
    list_splits,
    sink_specs,
    source_spec,
)
from raystream.subtask import events as sub
from raystream.subtask.machine import SubtaskMachine

Progress: TypeAlias = Callable[[JobStatus], None]

Happened: TypeAlias = Callable[[SubtaskId | None, "sub.Event | job.Event | None"], None]
"""Told before an event of a subtask, a slice of its work (None), an event of the job (no subtask).
"""

_PROGRESS_US = 1_000_000
_WAIT_US_MAX = 50_000


def run(
    plan: PhysicalPlan,
    *,
    timeout_s: float | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> JobResult:
    """Run a job to its end in this thread.

    Raises: JobFailed; JobTimeout after ``timeout_s`` seconds.
    """
    local = LocalJob(plan, clock or SystemClock(), rng)
    try:
        return local.run(timeout_s, progress, sleep)
    finally:
        local.close()


def _nobody(subtask: SubtaskId | None, event: object) -> None:
    """Tell nobody what happens."""


class LocalJob:
    """One job's machines, and the links between them.

    ``run`` drives it; so does whoever calls ``begin``, ``advance`` while that does something, and
    decides what to do about time when it does not.
    """

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: Clock,
        rng: random.Random | None,
        happened: Happened | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._rng = rng
        self._happened = happened or _nobody
        self._coordinator = CoordinatorMachine(plan)
        self._figures = JobFigures(plan, clock.monotonic_us())
        self._machines: dict[SubtaskId, SubtaskMachine] = {}
        self._readers: dict[SubtaskId, Readers] = {}
        # From None comes what the coordinator says of alignment.
        self._links: dict[tuple[SubtaskId | None, SubtaskId], list[sub.Event]] = {}
        self._discoveries: list[tuple[int, str]] = []
        self._satisfied = False

    def run(
        self, timeout_s: float | None, progress: Progress | None, sleep: Callable[[float], None]
    ) -> JobResult:
        """Let things happen until the job is over."""
        started_us = shown_us = self._clock.monotonic_us()
        self.begin()
        while not self.over:
            now_us = self._clock.monotonic_us()
            if timeout_s is not None and now_us - started_us > timeout_s * 1e6:
                self._job(job.StopAsked())
                raise JobTimeout(f'job "{self._plan.job}" took longer than {timeout_s} s')
            if progress is not None and now_us - shown_us >= _PROGRESS_US:
                shown_us = now_us
                progress(self._status())
            if not self.advance():
                sleep(self._pause_us() / 1e6)
        if progress is not None:
            progress(self._status())
        return self.result()

    def begin(self) -> None:
        """Deploy the job."""
        self._do_job(self._coordinator.begin())

    @property
    def over(self) -> bool:
        return self._coordinator.over

    def finish(self) -> None:
        """End the job where it stands: what has come out is all that was wanted."""
        self._job(job.StopAsked(finished=True))

    @property
    def wake_us(self) -> int | None:
        """Monotonic time at which there is something to do, if nothing can be done now."""
        return self._least([machine.wake_us for machine in self._machines.values()])

    @property
    def errand_us(self) -> int | None:
        """Of ``wake_us``, what neither a timer nor a split has said of time."""
        return self._least([machine.errand_us for machine in self._machines.values()])

    def _least(self, dues: list[int | None]) -> int | None:
        known = [due for due in dues if due is not None] + [due for due, _ in self._discoveries]
        return min(known, default=None)

    def close(self) -> None:
        """Let go of everything, in whatever state the job is: Ctrl-C may come at any moment."""
        self._job(job.StopAsked())
        for subtask in self._machines:
            self._step(subtask, sub.Cancel())

    # What happens next -----------------------------------------------------------------------

    def advance(self) -> bool:
        """Let one thing happen if there is an order drawn, else all that can; tell if any did."""
        now_us = self._clock.monotonic_us()
        for due_us, chain in [d for d in self._discoveries if d[0] <= now_us]:
            self._discoveries.remove((due_us, chain))
            self._list(chain, again=True)
        links = [link for link, waiting in self._links.items() if waiting]
        runnable = [s for s, machine in self._machines.items() if machine.runnable]
        choices: list[Callable[[], None]] = [
            *(lambda link=link: self._deliver(link) for link in links),
            *(lambda s=s: self._work(s) for s in runnable),
        ]
        if self._rng is not None and choices:
            choices = [self._rng.choice(choices)]
        for choice in choices:
            choice()
        return bool(choices)

    def _pause_us(self) -> int:
        wake_us, now_us = self.wake_us, self._clock.monotonic_us()
        return _WAIT_US_MAX if wake_us is None else max(0, min(wake_us - now_us, _WAIT_US_MAX))

    def _work(self, subtask: SubtaskId) -> None:
        machine = self._machines[subtask]
        self._happened(subtask, None)
        try:
            effects = machine.work()
        except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._job(job.Failed(subtask, error))
            return
        self._do(subtask, effects)
        if self._satisfied:
            self._satisfied = False
            self._job(job.StopAsked(finished=True))

    def _deliver(self, link: tuple[SubtaskId | None, SubtaskId]) -> None:
        self._step(link[1], self._links[link].pop(0))

    def _step(self, subtask: SubtaskId, event: sub.Event) -> None:
        self._happened(subtask, event)
        try:
            effects = self._machines[subtask].step(event)
        except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._job(job.Failed(subtask, error))
            if isinstance(event, sub.Finish | sub.Cancel):
                self._job(job.SubtaskClosed(subtask))
            return
        self._do(subtask, effects)

    def _pass(self, sender: SubtaskId | None, to: SubtaskId, event: sub.Event) -> None:
        if self._rng is None:
            self._step(to, event)
        else:
            self._links.setdefault((sender, to), []).append(event)

    # Effects of subtasks ---------------------------------------------------------------------

    def _do(self, subtask: SubtaskId, effects: list[sub.Effect]) -> None:
        for effect in effects:
            match effect:
                case sub.Send(to, frame):
                    self._pass(subtask, to, sub.Received(frame))
                case sub.GrantCredit(to, credit):
                    self._pass(subtask, to, credit)
                case sub.AskProgress(to, channel):
                    self._pass(subtask, to, sub.ProgressAsked(channel))
                case sub.Poll():
                    self._poll(subtask, effect)
                case sub.TellTime(least_us):
                    self._job(job.SourceTime(subtask, least_us))
                case sub.Ended(committables):
                    self._figures.take(self._machines[subtask].figures())
                    self._job(job.SubtaskEnded(subtask, committables))
                case sub.Committed():
                    self._job(job.SubtaskCommitted(subtask))
                case sub.Closed():
                    self._job(job.SubtaskClosed(subtask))
                case _:
                    assert_never(effect)

    def _poll(self, subtask: SubtaskId, poll: sub.Poll) -> None:
        try:
            polled = self._readers[subtask].poll(poll)
        except RaystreamError as error:
            self._job(job.Failed(subtask, error))
            return
        self._step(subtask, polled)

    # Effects of the coordinator --------------------------------------------------------------

    def _job(self, event: job.Event) -> None:
        self._happened(None, event)
        before = self._coordinator.state
        effects = self._coordinator.step(event)
        if before == "starting" and self._coordinator.state == "running":
            self._figures.running(self._clock.monotonic_us())
        self._do_job(effects)

    def _do_job(self, effects: list[job.Effect]) -> None:
        for effect in effects:
            match effect:
                case job.Deploy():
                    self._deploy()
                case job.ListSplits(chain, 0):
                    self._list(chain, again=False)
                case job.ListSplits(chain, after_us):
                    self._discoveries.append((self._clock.monotonic_us() + after_us, chain))
                case job.StartSubtask(subtask, splits, more, others_us):
                    self._step(subtask, sub.Start(splits, more, others_us))
                case job.GiveSplits(subtask, splits):
                    self._step(subtask, sub.SplitsFound(splits))
                case job.AlignSource(subtask, others_us):
                    self._pass(None, subtask, sub.AlignTo(others_us))
                case job.CommitSubtask(subtask, committables):
                    prepared = tuple((name, tuple(some)) for name, some in committables.items())
                    self._step(subtask, sub.Commit(1, prepared))
                case job.CloseSubtask(subtask):
                    self._close_subtask(subtask)
                case job.AbortSinks(committables):
                    abort_sinks(self._plan, committables)
                case job.Done():
                    pass
                case _:
                    assert_never(effect)

    def _deploy(self) -> None:
        for subtask in self._plan.subtasks:
            context = contexts(self._plan, subtask, self._clock, self._deliver_rows)
            try:
                machine = SubtaskMachine(self._plan, subtask, 1, self._clock, context)
            except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
                self._job(job.Failed(subtask, error))
                return
            self._machines[subtask] = machine
            spec = source_spec(self._plan.chain(subtask.chain))
            if spec is not None:
                self._readers[subtask] = Readers(spec)
        for subtask in self._plan.subtasks:
            self._job(job.Ready(subtask))

    def _close_subtask(self, subtask: SubtaskId) -> None:
        machine = self._machines.get(subtask)
        if subtask in self._readers:
            try:
                self._readers[subtask].close()
            except RaystreamError as error:
                self._job(job.Failed(subtask, error))
        if machine is None:
            self._job(job.SubtaskClosed(subtask))
            return
        self._figures.take(machine.figures())
        self._step(subtask, sub.Finish())

    def _list(self, chain: str, *, again: bool) -> None:
        spec = source_spec(self._plan.chain(chain))
        assert spec is not None, "only a source has splits"
        try:
            splits = list_splits(spec, again=again)
        except RaystreamError as error:
            self._job(job.Failed(None, error))
            return
        self._job(job.SplitsListed(chain, splits))

    def _deliver_rows(self, node: ChainNode, batch: Batch) -> None:
        if sink_specs(self._plan)[node.name].sink.receive(batch):
            self._satisfied = True

    # Results ---------------------------------------------------------------------------------

    def _status(self) -> JobStatus:
        for machine in self._machines.values():
            self._figures.take(machine.figures())
        return self._figures.status(self._coordinator.state, self._clock.monotonic_us())

    def result(self) -> JobResult:
        """Give how a job ended that is over.

        Raises: JobFailed.
        """
        error = self._coordinator.error
        if error is not None:
            raise job_failed(self._plan.job, error)
        return self._figures.result(self._coordinator.state, self._clock.monotonic_us())
