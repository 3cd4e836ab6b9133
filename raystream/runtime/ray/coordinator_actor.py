"""The actor that runs one job: makes its subtasks, watches them, and tells whoever asks.

It owns the subtask actors, so that they die with it. One thread owns the machine; calls only put
into its mailbox or read the last published status.
"""

from __future__ import annotations

import dataclasses
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
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.figures import JobFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.states import Beginning
from raystream.errors import SubtaskLost
from raystream.flow.control import JobResult, JobStatus, SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Closed, Finish
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.ray.errands import Errands
from raystream.runtime.ray.placement import Room, actor_options
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.runtime.ray.spare import Spare
from raystream.runtime.ray.subtask_actor import Deployment
from raystream.runtime.shell import Restarting, abort_sinks, list_splits, source_spec, travelling
from raystream.runtime.vault import Home
from raystream.subtask import events as sub

_CLOSE_S = 10.0
_CLOSE_FAILED_S = 3.0
_LINGER_S = 300.0
_TICK_S = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What the coordinator says of its job; ``error`` is packed, ``result`` there once it ended.

    ``by`` is another one where the coordinator has died and come back.
    """

    job_id: str
    status: JobStatus
    over: bool
    result: JobResult | None = None
    error: bytes | None = None
    by: str = ""
    attempt: int = 0
    answers: Mapping[str, job.Answer] = dataclasses.field(default_factory=dict)
    checkpoints: tuple[CheckpointFigures, ...] = ()


class CoordinatorCalls:
    """One job."""

    def __init__(
        self, plan: bytes, job_id: str, home: Home | None, *, attached: bool, patience_s: float
    ) -> None:
        self._mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # one entry an event
        self._changed = threading.Condition()
        loaded: PhysicalPlan = cloudpickle.loads(plan)
        # The root of a job lies in a folder of its name, and that in the directory.
        rooted = home is not None and bool(home.url)
        self._directory = home.url.rsplit("/", 2)[0] if home is not None and rooted else None
        given = _Given(loaded, plan, job_id, home, attached)
        self._shell = _Shell(given, self._mailbox, self._publish)
        self._published = self._shell.published()
        me = ray.get_runtime_context().current_actor
        self._shell.room.patience_s = patience_s
        thread = threading.Thread(target=self._run, args=(me, attached), daemon=True)
        thread.start()

    def report(self, packed: bytes) -> None:
        """Take what a subtask says; what breaks is an event, for nobody waits for an answer."""
        try:
            self._mailbox.put(unpack_report(packed))
        except Exception as error:  # noqa: BLE001  what users' classes do when they are loaded
            self._mailbox.put(job.Failed(None, error))

    def report_taken(self) -> None:
        """Answer once the reports that the caller sent before this call are taken."""

    def published(self, timeout_s: float = 0.0) -> Published:
        """Give the status; with a timeout not before it changed, or that much time has passed."""
        with self._changed:
            before = self._published
            if timeout_s and not before.over:
                self._changed.wait_for(lambda: self._published is not before, timeout_s)
            return self._published

    def stop(self, finished: bool) -> None:
        """Stop the job: canceled, or finished because enough was seen."""
        self._mailbox.put(job.StopAsked(finished))

    def fail(self, packed: bytes) -> None:
        """Fail the job: the driver's part of it broke."""
        self._mailbox.put(unpack_report(packed))

    def ask(self, asked: job.SavepointAsked) -> None:
        """Ask for a savepoint; the answer is published."""
        self._mailbox.put(asked)

    def directory(self) -> str | None:
        """Give the directory of the job's checkpoints, if it makes any."""
        return self._directory

    def subtasks(self) -> tuple[int, dict[SubtaskId, Any]]:
        """Give the attempt and its actors, once they are made."""
        return self._shell.deployed

    def _publish(self, published: Published) -> None:
        with self._changed:
            self._published = published
            self._changed.notify_all()

    def _run(self, me: Any, attached: bool) -> None:
        self._shell.run(me)
        if not attached:
            # Whoever asks how a detached job ended finds it here for a while.
            time.sleep(_LINGER_S)
            ray.kill(me)


@dataclasses.dataclass(frozen=True, slots=True)
class _Died:
    """An actor is no more."""

    subtask: SubtaskId
    attempt: int


CoordinatorActor: Any = ray.remote(
    max_concurrency=1,
    num_cpus=0,
    enable_task_events=False,
    concurrency_groups={"driver": 4, "report": 1},
)(CoordinatorCalls)


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """What a coordinator is told of its job, each time that its process starts."""

    plan: PhysicalPlan
    packed: bytes
    job_id: str
    home: Home | None
    attached: bool


def _came_back() -> bool:
    """Tell whether this actor's process is not its first: then there is something to go on with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own use of what it has deprecated
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)


class _Shell:
    """The mailbox thread: owns the machine, executes its effects."""

    def __init__(self, given: _Given, mailbox: queue.SimpleQueue[Any], publish: Any) -> None:
        self._given = given
        self._plan = given.plan
        self._mailbox = mailbox
        self._publish = publish
        self._clock = SystemClock()
        beginning = given.home.beginning if given.home is not None else Beginning()
        # Two processes may one after the other be this actor, and for a moment at the same time.
        self._by = uuid.uuid4().hex
        beginning = dataclasses.replace(
            beginning,
            by=self._by,
            born_us=self._clock.now_us(),
            resumed=beginning.resumed or _came_back(),
        )
        self._machine = CoordinatorMachine(given.plan, self._clock, beginning)
        self._figures = JobFigures(given.plan, self._clock.monotonic_us())
        self._errands = Errands(given.plan, given.home, mailbox.put)
        self._deadlines: dict[SubtaskId, float] = {}
        self._closed: set[SubtaskId] = set()  # of this attempt
        self._dead: set[SubtaskId] = set()  # whose actors are no more
        self._answers: dict[str, job.Answer] = {}
        self._spare = Spare(given.packed, kept=given.home is not None)
        self._restarting = Restarting(given.plan.job)
        self.room = Room(given.plan.job)
        self.actors: dict[SubtaskId, Any] = {}
        self.deployed: tuple[int, dict[SubtaskId, Any]] = (0, {})

    def published(self) -> Published:
        """Give the status as of now."""
        now_us = self._clock.monotonic_us()
        machine = self._machine
        return Published(
            self._given.job_id,
            self._figures.status(machine.state, now_us),
            machine.over,
            self._result() if machine.over else None,
            None if machine.error is None else pack_report(job.Failed(None, machine.error)),
            self._by,
            machine.attempt,
            dict(self._answers),
            tuple(machine.checkpoints),
        )

    def _result(self) -> JobResult:
        machine = self._machine
        result = self._figures.result(machine.state, self._clock.monotonic_us())
        return dataclasses.replace(
            result, checkpoints=tuple(machine.checkpoints), restarts=machine.restarts.count
        )

    def run(self, me: Any) -> None:
        """Live until the job is over; an error of our own ends it too."""
        self._me = me
        try:
            self._do(self._machine.begin())
            while not self._machine.over:
                self._take()
                self._enforce_deadlines()
                if self._machine.state == "starting":
                    self.room.check()
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            # What it wants done about it is of no use any more: all subtasks are killed below.
            self._machine.abandon(travelling(self._plan.job, error))
        finally:
            self._errands.close()
            self._spare.close()
            for actor in self.actors.values():
                ray.kill(actor)
            self._publish(self.published())

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
            self._figures.take(message)
            return
        if isinstance(message, _Died):
            if message.attempt == self._machine.attempt:
                self._dead.add(message.subtask)
            return
        if isinstance(message, job.Said) and isinstance(message.report, Closed):
            self._deadlines.pop(message.subtask, None)
            self._closed.add(message.subtask)
        state = self._machine.state
        self._step(message)
        if self._machine.state != state:
            self._publish(self.published())

    def _step(self, event: job.Event) -> None:
        before = self._machine.state
        effects = self._machine.step(event)
        self._restarting.look(self._machine)
        if before == "starting" and self._machine.state == "running":
            self._figures.running(self._clock.monotonic_us())
            self._spare.prepare()
        self._do(effects)

    def _do(self, effects: list[job.Effect]) -> None:
        for effect in effects:
            match effect:
                case job.Deploy():
                    self._deploy(effect)
                case job.ListSplits(chain, after_us):
                    threading.Thread(target=self._list, args=(chain, after_us), daemon=True).start()
                case job.Tell(subtask, order):
                    self._tell(subtask, order)
                case job.CloseSubtask(subtask):
                    self._close(subtask)
                case job.AbortSinks(prepared):
                    abort_sinks(self._plan, prepared)
                case job.Answer(request):
                    self._answers[request] = effect
                    self._publish(self.published())
                case job.Done():
                    pass
                case _:
                    self._errands.put(effect)

    def _deploy(self, deploy: job.Deploy) -> None:
        options = actor_options(self._plan, ray.cluster_resources())
        self.room.ask(options)
        alive = {s: actor for s, actor in self.actors.items() if s not in self._dead}
        # Whoever asks for the actors gets all of them or none.
        self.actors = {
            subtask: alive.get(subtask) or self._spare.take(options[subtask.chain])
            for subtask in self._plan.subtasks
        }
        self._closed, self._dead, self._deadlines = set(), set(), {}
        watched: dict[Any, SubtaskId] = {}
        for subtask, actor in self.actors.items():
            given = self._given
            deployment = Deployment(
                given.packed,
                subtask,
                deploy.attempt,
                {peer: self.actors[peer] for peer in self._peers(subtask)},
                self._me,
                given.attached,
                given.home,
                deploy.manifest,
                deploy.path,
            )
            watched[actor.deploy.remote(deployment)] = subtask
        self.deployed = (deploy.attempt, self.actors)
        watch = threading.Thread(target=self._watch, args=(deploy.attempt, watched), daemon=True)
        watch.start()

    def _peers(self, subtask: SubtaskId) -> list[SubtaskId]:
        edges = [*self._plan.inputs(subtask.chain), *self._plan.outputs(subtask.chain)]
        names = {edge.upstream for edge in edges} | {edge.downstream for edge in edges}
        return [s for s in self._plan.subtasks if s.chain in names and s != subtask]

    def _watch(self, attempt: int, deployments: dict[Any, SubtaskId]) -> None:
        actors, exits = self.actors, dict[Any, SubtaskId]()
        waiting = list(deployments)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=None)
            for ref in done:
                if ref in exits:
                    self._watched(attempt, exits[ref], ref, exited=True)
                    continue
                subtask = deployments[ref]
                self._watched(attempt, subtask, ref, exited=False)
                # Only now does it know of this attempt, whose end is waited for.
                wait_exit = actors[subtask].wait_exit.options(concurrency_group="exit")
                exit_ref = wait_exit.remote(attempt)
                exits[exit_ref] = subtask
                waiting.append(exit_ref)

    def _watched(self, attempt: int, subtask: SubtaskId, ref: Any, *, exited: bool) -> None:
        try:
            ray.get(ref)
        except ray.exceptions.RayActorError as error:
            lost = SubtaskLost(
                f"{subtask} died: its worker process is gone",
                hint=str(error).strip().splitlines()[-1] if str(error) else None,
            )
            self._mailbox.put(_Died(subtask, attempt))
            if subtask not in self._closed:  # else it was killed because it did not let go
                self._mailbox.put(job.Failed(subtask, lost, attempt))
        except ray.exceptions.RayError as error:
            cannot = SubtaskLost(f"{subtask} cannot be made: {str(error).strip()}")
            self._mailbox.put(job.Failed(subtask, cannot, attempt))
        if exited:
            self._mailbox.put(job.Said(subtask, attempt, Closed()))

    def _list(self, chain: str, after_us: int) -> None:
        if after_us:
            time.sleep(after_us / 1e6)
        spec = source_spec(self._plan.chain(chain))
        assert spec is not None, "only a source has splits"
        try:
            self._mailbox.put(job.SplitsListed(chain, list_splits(spec, again=bool(after_us))))
        except BaseException as error:  # noqa: BLE001  a user's source may call sys.exit
            self._mailbox.put(job.Failed(None, travelling(self._plan.job, error)))

    def _tell(self, subtask: SubtaskId, event: sub.Event) -> None:
        control = self.actors[subtask].control.options(concurrency_group="ctl", num_returns=0)
        control.remote(event, self._machine.attempt)

    def _close(self, subtask: SubtaskId) -> None:
        if subtask not in self.actors or subtask in self._closed or subtask in self._dead:
            self._let_go(subtask)
            return
        allowed_s = _CLOSE_S if self._machine.error is None else _CLOSE_FAILED_S
        self._deadlines[subtask] = time.monotonic() + allowed_s
        self._tell(subtask, Finish())

    def _enforce_deadlines(self) -> None:
        for subtask, deadline in list(self._deadlines.items()):
            if time.monotonic() > deadline:
                del self._deadlines[subtask]
                self._dead.add(subtask)
                self._let_go(subtask)
                ray.kill(self.actors[subtask])

    def _let_go(self, subtask: SubtaskId) -> None:
        self._closed.add(subtask)
        self._mailbox.put(job.Said(subtask, self._machine.attempt, Closed()))
