"""One job in one process: its machines, one thread, no Ray.

With ``rng`` the order of everything that may happen next is drawn from it, so that a seed decides
the interleaving and repeats it: messages are then under way for a while, and so is what storage is
to do.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from typing_extensions import assert_never

from raystream.clock import Clock
from raystream.contracts.batch import Batch
from raystream.coordinator import events as job
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.report import JobReport
from raystream.coordinator.states import Beginning
from raystream.errors import RaystreamError, StorageError, SubtaskLost, job_failed
from raystream.flow import messages
from raystream.flow.control import JobResult, JobStatus
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.graph.rescaling import Replan
from raystream.runtime import local_process, shell
from raystream.runtime.left_open import LeftOpen
from raystream.runtime.local_process import Breather, Errands, Happened, Link, Maker, Process
from raystream.runtime.observing import Observer
from raystream.runtime.scaling import Scaling
from raystream.runtime.tracing import tracing_of
from raystream.runtime.vault import Errand, Vault, frozen
from raystream.subtask import events as sub


class LocalJob:
    """One job's machines, and the links between them.

    ``run`` drives it; so does whoever calls ``begin``, ``advance`` while that does something, and
    decides what to do about time when it does not. With ``slow_words`` what the coordinator and its
    subtasks say to each other is under way for a while, as rows are, and so are polls.
    """

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: Clock,
        rng: random.Random | None,
        happened: Happened | None = None,
        *,
        vault: Vault | None = None,
        beginning: Beginning | None = None,
        replan: Replan | None = None,
        slow_words: bool = False,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._rng = rng
        self._happened = happened or (lambda *_: None)
        self._vault = vault or Vault(plan, None)
        self._maker = Maker(plan, clock, self._vault, self._deliver_rows)
        self._coordinator = CoordinatorMachine(plan, clock, beginning, replan)
        chronicle = self._coordinator.chronicle
        self._observer = Observer(plan, clock, chronicle, tracing_of(plan.limits))
        self._processes: dict[SubtaskId, Process] = {}
        # Each message with the attempt that it belongs to; nothing comes through what is jammed.
        self.links: dict[Link, list[tuple[int, Any]]] = {}
        self.jammed: set[Link] = set()
        self._slow_words = slow_words
        self._breather = Breather(clock, paced=rng is None)
        self._errands = Errands(clock, drawn=rng is not None and slow_words)
        self._satisfied = False
        self._left = LeftOpen()
        self._scaling = Scaling(plan.job, replan, clock, chronicle)
        self.answers: dict[str, job.Answer] = {}

    def begin(self) -> None:
        self._do_job(self._coordinator.begin())

    @property
    def over(self) -> bool:
        return self._coordinator.over

    @property
    def state(self) -> str:
        return self._coordinator.state

    def ask(self, event: job.Event) -> None:
        self._job(event)

    def finish(self) -> None:
        self._job(job.StopAsked(finished=True))

    @property
    def wake_us(self) -> int | None:
        """Monotonic time at which there is something to do, if nothing can be done now."""
        return self._least([process.machine.wake_us for process in self._processes.values()])

    @property
    def errand_us(self) -> int | None:
        """Of ``wake_us``, what neither a timer nor a split has said of time."""
        return self._least([process.machine.errand_us for process in self._processes.values()])

    def _least(self, dues: list[int | None]) -> int | None:
        dues = [*dues, self._breather.wake_us(self._coordinator)]
        known = [due for due in dues if due is not None] + [due for due, _ in self._errands.later]
        return min(known, default=None)

    def close(self) -> None:
        """Let go of everything, in whatever state the job is: Ctrl-C may come at any moment."""
        self._rng = None  # nothing is under way any more
        self._job(job.StopAsked())
        for subtask in list(self._processes):
            self._step(subtask, messages.Cancel())
        self._left.close()
        self._observer.close()

    # Failures --------------------------------------------------------------------------------

    @property
    def alive(self) -> list[SubtaskId]:
        return [*self._processes, *self._left.subtasks]

    def crash(self, *subtasks: SubtaskId) -> None:
        """Let processes die where they stand; the coordinator hears of it in its turn."""
        for subtask in subtasks:
            self._left.lose(subtask)
        for process in [self._processes[one] for one in subtasks if one in self._processes]:
            if self._processes.get(process.subtask) is process:  # else it ended as one before died
                del self._processes[process.subtask]
                self._fails(process, SubtaskLost(f"{process.subtask} died: its process is gone"))
                self._says(process, messages.Closed())

    def lose(self, subtask: SubtaskId, attempt: int, *, closing: bool) -> None:
        """Let the coordinator take a subtask for dead, and live on; or end it."""
        process = self._processes.get(subtask)
        if closing and process is not None and process.attempt == attempt:
            del self._processes[subtask]
        lost = job.Failed(subtask, SubtaskLost(f"{subtask} does not answer"), attempt)
        closed = job.Said(subtask, attempt, messages.Closed())
        self._pass(subtask, None, attempt, closed if closing else lost)

    # What happens next -----------------------------------------------------------------------

    def advance(self) -> bool:
        """Let one thing happen if there is an order drawn, else all that can; tell if any did."""
        now_us = self._clock.monotonic_us()
        due = self._errands.due()
        for what in due:
            what()
        wake_us = self._breather.wake_us(self._coordinator)
        if wake_us is not None and wake_us <= now_us:
            self._job(job.Ticked())
        for wish in self._scaling.among(self._coordinator, self._plan, self._processes.values()):
            self._job(wish)
        links = [link for link, some in self.links.items() if some and link not in self.jammed]
        runnable = [p for p in self._processes.values() if p.machine.runnable]
        choices: list[Callable[[], None]] = [
            *(lambda link=link: self._deliver(link) for link in links),
            *(lambda p=p: self._work(p) for p in runnable),
            *(partial(self._errands.run, what) for what in self._errands.waiting),
        ]
        if self._rng is not None and choices:
            choices = [self._rng.choice(choices)]
        for choice in choices:
            choice()
        return bool(choices) or bool(due)

    def _work(self, process: Process) -> None:
        if self._processes.get(process.subtask) is not process:
            return
        self._happened(process.subtask, None)
        try:
            effects = process.machine.work()
        except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._fails(process, error)
            return
        self._do(process, effects)
        if self._satisfied:
            self._satisfied = False
            self._job(job.StopAsked(finished=True))

    def _deliver(self, link: Link) -> None:
        self._arrive(link[1], *self.links[link].pop(0))

    def _arrive(self, to: SubtaskId | None, attempt: int, event: Any) -> None:
        if to is None:
            self._job(event)
            return
        process = self._processes.get(to)
        # What is old is dropped here; only frames say themselves which attempt they are of.
        if process is not None and (process.attempt == attempt or isinstance(event, sub.Received)):
            if isinstance(event, sub.Poll | sub.Acknowledge):
                self._read(process, event)
            else:
                self._step(to, event)

    def _step(self, subtask: SubtaskId, event: sub.Event) -> None:
        process = self._processes[subtask]
        self._happened(subtask, event)
        if isinstance(event, messages.Finish | messages.Cancel):
            self._let_go(process, event)
            return
        try:
            effects = process.machine.step(event)
        except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._fails(process, error)
            return
        self._do(process, effects)

    def _let_go(self, process: Process, event: messages.Finish | messages.Cancel) -> None:
        del self._processes[process.subtask]
        self._observer.take(process.figures())
        asked = self.links.pop((process.subtask, process.subtask), [])
        reads = [what for attempt, what in asked if attempt == process.attempt]
        effects, wrongs, resting = process.let_go(event, reads)
        self._left.put(resting)
        for error in wrongs:
            self._fails(process, error)
        self._do(process, effects)

    def _pass(
        self,
        sender: SubtaskId | None,
        to: SubtaskId | None,
        attempt: int,
        event: sub.Event | job.Event | sub.Poll | sub.Acknowledge,
    ) -> None:
        word = (sender is None or to is None) and not isinstance(event, messages.AlignTo)
        at_once = word or sender == to
        if self._rng is None or (at_once and not self._slow_words):
            self._arrive(to, attempt, event)
        else:
            self.links.setdefault((sender, to), []).append((attempt, event))

    def _says(self, process: Process, report: messages.Report) -> None:
        subtask, attempt = process.subtask, process.attempt
        self._pass(subtask, None, attempt, job.Said(subtask, attempt, report))

    def _fails(self, process: Process, error: BaseException) -> None:
        subtask, attempt = process.subtask, process.attempt
        self._pass(subtask, None, attempt, job.Failed(subtask, error, attempt))

    # Storage ---------------------------------------------------------------------------------

    def _store(self, effect: Errand) -> None:
        def perform() -> None:
            event = self._vault.perform(effect)
            if event is not None:
                self._pass(None, None, 0, event)

        def failed(error: Exception) -> None:
            self._pass(None, None, 0, job.StorageFailed(effect, error))

        self._errands.retried(perform, failed)

    def _keep(self, process: Process, keep: sub.Keep) -> None:
        keep, upload = frozen(keep, process.keeper, self._clock)

        def store() -> None:
            if self._processes.get(process.subtask) is process:  # else it died, and this with it
                self._says(process, local_process.acked(keep, upload, self._clock))

        def failed(error: Exception) -> None:
            self._says(process, messages.Declined(keep.checkpoint_id, str(error)))

        self._errands.retried(store, failed)

    # Effects of subtasks ---------------------------------------------------------------------

    def _do(self, process: Process, effects: list[sub.Effect]) -> None:
        subtask, attempt = process.subtask, process.attempt
        for effect in effects:
            match effect:
                case sub.Send(to, frame):
                    self._pass(subtask, to, attempt, sub.Received(frame))
                case sub.GrantCredit(to, credit):
                    self._pass(subtask, to, attempt, credit)
                case sub.AskProgress(to, channel):
                    self._pass(subtask, to, attempt, sub.ProgressAsked(channel))
                case sub.Poll() | sub.Acknowledge():
                    self._pass(subtask, subtask, attempt, effect)
                case sub.Keep():
                    self._keep(process, effect)
                case sub.Tell(report):
                    if isinstance(report, messages.Ended):
                        self._observer.take(process.figures())
                    self._says(process, report)
                case _:
                    assert_never(effect)

    def _read(self, process: Process, asked: sub.Poll | sub.Acknowledge) -> None:
        try:
            polled = process.read(asked)
        except RaystreamError as error:
            self._fails(process, error)
            return
        if polled is not None and self._processes.get(process.subtask) is process:  # else it ended
            self._step(process.subtask, polled)

    # Effects of the coordinator --------------------------------------------------------------

    def _job(self, event: job.Event) -> None:
        self._happened(None, event)
        effects = self._coordinator.step(event)
        self._observer.look(self._coordinator, event)
        self._do_job(effects)

    def _do_job(self, effects: list[job.Effect]) -> None:
        for effect in effects:
            match effect:
                case job.Deploy():
                    self._deploy(effect)
                case job.Grow(request):
                    self._pass(None, None, 0, job.Grown(request))
                case job.ListSplits(chain, after_us):
                    self._list(chain, after_us)
                case job.Tell(subtask, order):
                    self._pass(None, subtask, self._coordinator.attempt, order)
                case job.CloseSubtask():
                    self._close_subtask(effect)
                case job.AbortSinks(prepared):
                    shell.abort_sinks(self._plan, prepared)
                case job.Answer(request):
                    if not self._scaling.heard(effect):
                        self.answers[request] = effect
                case job.Done():
                    self._left.close()
                case _:
                    self._store(effect)

    def _deploy(self, deploy: job.Deploy) -> None:
        if deploy.plan is not self._plan:
            self._plan = deploy.plan
            self._maker = dataclasses.replace(self._maker, plan=deploy.plan)
            self._observer.follow(deploy.plan)
        self._left.keep(self._plan, deploy.kept)
        for subtask in self._plan.subtasks:
            self._make(subtask, deploy)

    def _make(self, subtask: SubtaskId, deploy: job.Deploy) -> None:
        def make() -> None:
            coordinator = self._coordinator
            if coordinator.attempt != deploy.attempt or coordinator.state != "starting":
                return
            try:
                process = self._maker.make(subtask, deploy, self._left.take(subtask))
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
                failed(error)
                return
            self._processes[subtask] = process
            self._says(process, messages.Ready(process.machine.splits))

        def failed(error: Exception) -> None:
            attempt = deploy.attempt
            self._pass(subtask, None, attempt, job.Failed(subtask, error, attempt))

        self._errands.retried(make, failed)

    def _close_subtask(self, close: job.CloseSubtask) -> None:
        subtask, attempt = close.subtask, self._coordinator.attempt
        if subtask in self._processes:
            self._pass(None, subtask, attempt, messages.Finish(close.rests_at))
        else:
            self._pass(subtask, None, attempt, job.Said(subtask, attempt, messages.Closed()))

    def _list(self, chain: str, after_us: int) -> None:
        attempt = self._coordinator.attempt

        def now() -> None:
            if self._coordinator.attempt == attempt:  # else the next one asks by itself
                self._job(local_process.listed(self._plan, chain, again=bool(after_us)))

        self._errands.after(after_us, now)

    def _deliver_rows(self, node: ChainNode, batch: Batch) -> None:
        if shell.sink_specs(self._plan)[node.name].sink.receive(batch):
            self._satisfied = True

    def status(self) -> JobStatus:
        for process in list(self._processes.values()):
            self._observer.take(process.figures())
        return self._observer.status(self._coordinator.state, self._scaling.said)

    def report(self) -> JobReport:
        told = self.status()
        sizing = self._scaling.sizing
        return self._observer.report(self._coordinator, told.job, told.state, told.scaling, sizing)

    def result(self) -> JobResult:
        """Give how a job ended that is over; raises JobFailed."""
        if self._coordinator.error is not None:
            raise job_failed(self._plan.job, self._coordinator.error)
        return self._observer.result(self._coordinator)
