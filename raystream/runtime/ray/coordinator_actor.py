"""The actor that runs one job: makes its subtasks, watches them, and tells whoever asks.

It owns the subtask actors, so that they die with it. One thread owns the machine; calls only put
into its mailbox or read the last published status.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

import cloudpickle
import ray

from raystream.clock import SystemClock
from raystream.coordinator import events as job
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.report import JobReport
from raystream.coordinator.states import Beginning
from raystream.flow.control import SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Closed
from raystream.graph.described import described
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan
from raystream.operators.source import SourceSpec
from raystream.runtime.journal import Journal, LogLine, record
from raystream.runtime.observing import Observer
from raystream.runtime.ray.crew import Crew, Died, Given, Settled
from raystream.runtime.ray.errands import Errands
from raystream.runtime.ray.exporting import Export
from raystream.runtime.ray.handed import HandedOver
from raystream.runtime.ray.hiring import Recruits
from raystream.runtime.ray.nodes import Draining, Lookout, until_us
from raystream.runtime.ray.placement import Place
from raystream.runtime.ray.published import Lines, Published
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.runtime.ray.sight import node_id
from raystream.runtime.scaling import Scaling
from raystream.runtime.shell import abort_sinks, list_splits, source_spec, travelling
from raystream.runtime.tracing import try_tracing
from raystream.runtime.vault import Home

_LINGER_S = 300.0
_TICK_S = 0.2

RESCALING = "rescaling"
"""What a job is at, whatever its state, while it changes its size."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Somebody wants to see all that is known; the thread that owns it answers."""

    answer: queue.SimpleQueue[JobReport]


class CoordinatorCalls:
    """One job."""

    def __init__(
        self,
        plan: bytes,
        logical: bytes | None,
        job_id: str,
        home: Home | None,
        *,
        attached: bool,
        patience_s: float,
        place: Place,
    ) -> None:
        self._mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # one entry an event
        self._changed = threading.Condition()
        loaded: PhysicalPlan = cloudpickle.loads(plan)
        self._clock = SystemClock()
        # The root of a job lies in a folder of its name, and that in the directory.
        rooted = home is not None and bool(home.url)
        self._root = home.url if home is not None and rooted else None
        self._directory = home.url.rsplit("/", 2)[0] if home is not None and rooted else None
        replan = None if logical is None else Replan(cloudpickle.loads(logical))
        given = Given(loaded, plan, replan, job_id, home, attached, place)
        self._attempt = 0
        self._journal = Journal(loaded.limits.log_lines_kept_max)
        record(self._note, loaded.limits, lambda: {"job": loaded.job, "attempt": self._attempt})
        self._shell = _Shell(given, self._mailbox, self._publish)
        self._published = self._shell.published()
        me = ray.get_runtime_context().current_actor
        self._shell.crew.room.patience_s = patience_s
        thread = threading.Thread(target=self._run, args=(me, attached), daemon=True)
        thread.start()

    def report(self, packed: bytes) -> None:
        """Take what a subtask says; what breaks is an event, for nobody waits for an answer."""
        try:
            self._mailbox.put(unpack_report(packed))
        except Exception as error:  # noqa: BLE001  what users' classes do when they are loaded
            self._mailbox.put(job.Failed(None, error))

    def take(self, handed: HandedOver) -> None:
        """Hold what a subtask hands over to the next attempt."""
        self._mailbox.put(handed)

    def log(self, lines: list[LogLine]) -> None:
        """Keep what a subtask has logged and printed."""
        self._journal.add(lines)

    def lines(self, by: str, number: int) -> Lines:
        """Give the lines after so many, all of them to those who have heard another coordinator."""
        published = self._published
        count, lines = self._journal.after(number if by == published.by else 0)
        chains = {
            chain.name: frozenset(word for node in chain.nodes for word in (node.name, node.uid))
            for chain in self._shell.crew.plan.chains
        }
        return Lines(published.by, count, lines, chains, published.over)

    def _note(self, level: str, text: str, fields: Mapping[str, str | int]) -> None:
        attempt = int(fields.get("attempt", self._attempt))
        at_us = self._clock.now_us()
        self._journal.add([LogLine(at_us, level, text, attempt=attempt, fields=fields)])

    def report_taken(self) -> None:
        """Answer once the reports that the caller sent before this call are taken."""

    def published(self, timeout_s: float = 0.0) -> Published:
        """Give the status; with a timeout not before it changed, or that much time has passed."""
        with self._changed:
            before = self._published
            if timeout_s and not before.over:
                self._changed.wait_for(lambda: self._published is not before, timeout_s)
            return self._published

    def observed(self) -> JobReport:
        """Give all that is known of the job: every subtask, what failed, what was when."""
        answer: queue.SimpleQueue[JobReport] = queue.SimpleQueue()  # one answer
        self._mailbox.put(_Look(answer))
        while not self._published.over:
            with contextlib.suppress(queue.Empty):
                return answer.get(timeout=_TICK_S)
        return self._shell.report()

    def stop(self, finished: bool) -> None:
        """Stop the job: canceled, or finished because enough was seen."""
        self._mailbox.put(job.StopAsked(finished))

    def fail(self, packed: bytes) -> None:
        """Fail the job: the driver's part of it broke."""
        self._mailbox.put(unpack_report(packed))

    def ask(self, asked: job.SavepointAsked | job.RescaleAsked) -> None:
        """Ask for a savepoint, or another size; the answer is published."""
        self._mailbox.put(asked)

    def directory(self) -> str | None:
        """Give the directory of the job's checkpoints, if it makes any."""
        return self._directory

    def root(self) -> str | None:
        """Give the folder of this job's checkpoints, if it makes any."""
        return self._root

    def plan(self) -> dict[str, Any]:
        """Give what runs, as JSON has it: nobody needs the job's own modules to read it."""
        return described(self._shell.crew.plan)

    def subtasks(self) -> tuple[int, dict[SubtaskId, Any]]:
        """Give the attempt and its actors, once they are made."""
        return self._shell.crew.deployed

    def node(self) -> str:
        """Give the id of the node that the coordinator is on."""
        return node_id()

    def _publish(self, published: Published) -> None:
        with self._changed:
            self._published, self._attempt = published, published.attempt
            self._changed.notify_all()

    def _run(self, me: Any, attached: bool) -> None:
        self._shell.run(me)
        if not attached:
            # Whoever asks how a detached job ended finds it here for a while.
            time.sleep(_LINGER_S)
            ray.kill(me)


CoordinatorActor: Any = ray.remote(
    max_concurrency=1,
    num_cpus=0,
    enable_task_events=False,
    concurrency_groups={"driver": 4, "report": 1},
)(CoordinatorCalls)


def _came_back() -> bool:
    """Tell whether this actor's process is not its first: then there is something to go on with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own use of what it has deprecated
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)


class _Shell:
    """The mailbox thread: owns the machine, executes its effects."""

    def __init__(self, given: Given, mailbox: queue.SimpleQueue[Any], publish: Any) -> None:
        self._given = given
        self._mailbox = mailbox
        self._publish = publish
        self._clock = SystemClock()
        beginning = given.home.beginning if given.home is not None else Beginning()
        # Two processes may one after the other be this actor, and for a moment at the same time.
        self._by = uuid.uuid4().hex
        came_back = _came_back()
        beginning = dataclasses.replace(
            beginning,
            by=self._by,
            born_us=self._clock.now_us(),
            resumed=beginning.resumed or came_back,
            came_back=came_back,
        )
        self._machine = CoordinatorMachine(given.plan, self._clock, beginning, given.replan)
        tracing = try_tracing(given.plan.limits, given.plan.job)
        chronicle = self._machine.chronicle
        self._observer = Observer(given.plan, self._clock, chronicle, tracing)
        self._export, self._told_us = Export(), 0
        self._errands = Errands(given.plan, given.home, mailbox.put)
        self._answers: dict[str, job.Answer] = {}
        self._scaling = Scaling(given.plan.job, given.replan, self._clock, chronicle)
        self.crew = Crew(given, mailbox.put)
        self._lookout = Lookout(mailbox.put)
        self._goes = False

    def published(self) -> Published:
        """Give the status as of now."""
        machine = self._machine
        return Published(
            self._given.job_id,
            self._observer.status(self._state, self._scaling.said),
            machine.over,
            self._observer.result(machine) if machine.over else None,
            None if machine.error is None else pack_report(job.Failed(None, machine.error)),
            self._by,
            machine.attempt,
            dict(self._answers),
            tuple(machine.checkpoints),
            machine.moves.shown,
        )

    def report(self) -> JobReport:
        """Give all that is known of the job."""
        job_id, scaling = self._given.job_id, self._scaling
        return self._observer.report(
            self._machine, job_id, self._state, scaling.said, scaling.sizing
        )

    @property
    def _state(self) -> str:
        moves = self._machine.moves.resizes and not self._machine.over
        return RESCALING if moves else self._machine.state

    def run(self, me: Any) -> None:
        """Live until the job is over; an error of our own ends it too."""
        self._me = me
        try:
            self._do(self._machine.begin())
            while not self._machine.over:
                self._take()
                self._tell_ray()
                for wish in self._scaling.look(self._machine, self.crew.plan):
                    self._step(wish)
                self.crew.enforce_deadlines()
                if self._machine.state == "starting":
                    self.crew.room.check()
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            # What it wants done about it is of no use any more: all subtasks are killed below.
            self._machine.abandon(travelling(self._given.plan.job, error))
        finally:
            self._errands.close()
            self._lookout.close()
            self.crew.end()
            self._observer.close()  # first: who hears of the end may end this process
            self._publish(self.published())
            self._export.give(self.report())

    def _tell_ray(self) -> None:
        now_us = self._clock.monotonic_us()
        if now_us - self._told_us >= self._given.plan.limits.heartbeat_us:
            self._told_us = now_us
            self._export.give(self.report())

    def _take(self) -> None:
        wake_us, now_us = self._machine.wake_us, self._clock.monotonic_us()
        due_s = _TICK_S if wake_us is None else max(0.0, (wake_us - now_us) / 1e6)
        try:
            message = self._mailbox.get(timeout=min(_TICK_S, due_s))
        except queue.Empty:
            self._step(job.Ticked())
            self._publish(self.published())
            return
        if isinstance(message, SubtaskFigures):
            self._observer.take(message)
            self._scaling.take(message)
            return
        if isinstance(message, _Look):
            message.answer.put(self.report())
            return
        if isinstance(message, Settled | Died | HandedOver):
            self.crew.hear(message)
            return
        if isinstance(message, Draining):
            self._leave(message)
            return
        if isinstance(message, Recruits):
            self._step(job.Grown(message.request, message.error))
            self.crew.take(message, wanted=self._machine.moves.wants(message.request))
            return
        if isinstance(message, job.Said) and isinstance(message.report, Closed):
            self.crew.closed(message.subtask, message.attempt)
        state = self._machine.state
        self._step(message)
        if self._machine.state != state:
            self._publish(self.published())

    def _leave(self, draining: Draining) -> None:
        nodes = draining.nodes
        self.crew.avoid(nodes)
        self._goes = self._given.home is not None and node_id() in nodes
        if self._goes:
            # Whom it has hired dies with it: it hires nobody more, stops, and begins elsewhere.
            self._step(job.NodesLeaving(frozenset(self.crew.plan.subtasks), 0))
            return
        ends = [end for node, end in nodes.items() if end and self.crew.on([node])]
        until = until_us(min(ends, default=0), self._clock.now_us(), self._clock.monotonic_us())
        self._step(job.NodesLeaving(self.crew.on(nodes), until))

    def _step(self, event: job.Event) -> None:
        before = self._machine.state
        effects = self._machine.step(event)
        self._observer.look(self._machine, event)
        if before == "starting" and self._machine.state == "running":
            self.crew.running()
        self._do(effects)

    def _do(self, effects: list[job.Effect]) -> None:
        for effect in effects:
            match effect:
                case job.Deploy():
                    self._deploy(effect)
                case job.Grow():
                    self.crew.grow(effect)
                    self._publish(self.published())
                case job.ListSplits():
                    spec = source_spec(self.crew.plan.chain(effect.chain))
                    arguments = (effect, spec, self._machine.attempt)
                    threading.Thread(target=self._list, args=arguments, daemon=True).start()
                case job.Tell(subtask, order):
                    self.crew.tell(subtask, order)
                case job.CloseSubtask():
                    self.crew.close(effect, failed=self._machine.error is not None)
                case job.AbortSinks(prepared):
                    abort_sinks(self._given.plan, prepared)
                case job.Answer(request):
                    if not self._scaling.heard(effect):
                        self._answers[request] = effect
                    self._publish(self.published())
                case job.Done():
                    pass
                case _:
                    self._errands.put(effect)

    def _deploy(self, deploy: job.Deploy) -> None:
        if self._goes:
            os._exit(0)  # Ray starts it again, on a node that stays; the log says where
        if deploy.plan is not self.crew.plan:
            self._observer.follow(deploy.plan)
        self.crew.deploy(deploy, self._me)

    def _list(self, asked: job.ListSplits, spec: SourceSpec | None, attempt: int) -> None:
        if asked.after_us:
            time.sleep(asked.after_us / 1e6)
            if self._machine.attempt != attempt:
                return  # the next attempt asks by itself
        assert spec is not None, "only a source has splits"
        try:
            splits = list_splits(spec, again=bool(asked.after_us))
            self._mailbox.put(job.SplitsListed(asked.chain, splits))
        except BaseException as error:  # noqa: BLE001  a user's source may call sys.exit
            self._mailbox.put(job.Failed(None, travelling(self._given.plan.job, error)))
