"""The actor that runs one job: makes its subtasks, watches them, and tells whoever asks.

It owns the subtask actors, so that they die with it. One thread owns the machine; calls only put
into its mailbox or read the last published status.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from typing import Any

import cloudpickle
import ray
from typing_extensions import assert_never

from raystream.clock import SystemClock
from raystream.coordinator import events as job
from raystream.coordinator.figures import JobFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.errors import SubtaskLost
from raystream.flow.control import JobResult, JobStatus, SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.ray.placement import Room, actor_options
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.runtime.ray.subtask_actor import SubtaskActor
from raystream.runtime.shell import abort_sinks, list_splits, source_spec, travelling
from raystream.subtask import events as sub

_CLOSE_S = 10.0
_CLOSE_FAILED_S = 3.0
_LINGER_S = 300.0
_TICK_S = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What the coordinator says of its job; ``error`` is packed, ``result`` there once it ended."""

    job_id: str
    status: JobStatus
    over: bool
    result: JobResult | None = None
    error: bytes | None = None


class CoordinatorCalls:
    """One job."""

    def __init__(self, plan: bytes, job_id: str, *, attached: bool, patience_s: float) -> None:
        self._mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # one entry an event
        self._changed = threading.Condition()
        loaded: PhysicalPlan = cloudpickle.loads(plan)
        self._shell = _Shell(loaded, plan, job_id, self._mailbox, self._publish)
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

    def subtasks(self) -> dict[SubtaskId, Any]:
        """Give the actors, once they are made."""
        return self._shell.actors

    def _publish(self, published: Published) -> None:
        with self._changed:
            self._published = published
            self._changed.notify_all()

    def _run(self, me: Any, attached: bool) -> None:
        self._shell.run(me, attached=attached)
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


class _Shell:
    """The mailbox thread: owns the machine, executes its effects."""

    def __init__(
        self,
        plan: PhysicalPlan,
        packed: bytes,
        job_id: str,
        mailbox: queue.SimpleQueue[Any],
        publish: Any,
    ) -> None:
        self._plan = plan
        self._packed = packed
        self._job_id = job_id
        self._mailbox = mailbox
        self._publish = publish
        self._clock = SystemClock()
        self._machine = CoordinatorMachine(plan)
        self._figures = JobFigures(plan, self._clock.monotonic_us())
        self._deadlines: dict[SubtaskId, float] = {}
        self._deployments: dict[Any, SubtaskId] = {}
        self._exits: dict[Any, SubtaskId] = {}
        self._closed: set[SubtaskId] = set()
        self.room = Room(plan.job)
        self.actors: dict[SubtaskId, Any] = {}

    def published(self) -> Published:
        """Give the status as of now."""
        now_us = self._clock.monotonic_us()
        machine = self._machine
        return Published(
            self._job_id,
            self._figures.status(machine.state, now_us),
            machine.over,
            self._figures.result(machine.state, now_us) if machine.over else None,
            None if machine.error is None else pack_report(job.Failed(None, machine.error)),
        )

    def run(self, me: Any, *, attached: bool) -> None:
        """Live until the job is over; an error of our own ends it too."""
        try:
            self._begin(me, attached=attached)
            while not self._machine.over:
                self._take()
                self._enforce_deadlines()
                if self._machine.state == "starting":
                    self.room.check()
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            # What it wants done about it is of no use any more: all subtasks are killed below.
            self._machine.step(job.Failed(None, travelling(self._plan.job, error)))
            for subtask in self._plan.subtasks:
                self._step(job.SubtaskClosed(subtask))
        finally:
            for actor in self.actors.values():
                ray.kill(actor)
            self._publish(self.published())

    def _begin(self, me: Any, *, attached: bool) -> None:
        self._me, self._attached = me, attached
        self._do(self._machine.begin())

    def _take(self) -> None:
        try:
            message = self._mailbox.get(timeout=_TICK_S)
        except queue.Empty:
            self._publish(self.published())
            return
        if isinstance(message, SubtaskFigures):
            self._figures.take(message)
            return
        state = self._machine.state
        self._step(message)
        if self._machine.state != state:
            self._publish(self.published())

    def _step(self, event: job.Event) -> None:
        before = self._machine.state
        effects = self._machine.step(event)
        if before == "starting" and self._machine.state == "running":
            self._figures.running(self._clock.monotonic_us())
        self._do(effects)

    def _do(self, effects: list[job.Effect]) -> None:
        for effect in effects:
            match effect:
                case job.Deploy():
                    self._deploy()
                case job.ListSplits(chain, after_us):
                    threading.Thread(target=self._list, args=(chain, after_us), daemon=True).start()
                case job.StartSubtask(subtask, splits, more, others_us):
                    self._tell(subtask, sub.Start(splits, more, others_us))
                case job.GiveSplits(subtask, splits):
                    self._tell(subtask, sub.SplitsFound(splits))
                case job.AlignSource(subtask, others_us):
                    self._tell(subtask, sub.AlignTo(others_us))
                case job.CommitSubtask(subtask, committables):
                    prepared = tuple((name, tuple(some)) for name, some in committables.items())
                    self._tell(subtask, sub.Commit(1, prepared))
                case job.CloseSubtask(subtask):
                    self._close(subtask)
                case job.AbortSinks(committables):
                    abort_sinks(self._plan, committables)
                case job.Done():
                    pass
                case _:
                    assert_never(effect)

    def _deploy(self) -> None:
        options = actor_options(self._plan, ray.cluster_resources())
        self.room.asked = options
        # Whoever asks for the actors gets all of them or none.
        self.actors = {
            subtask: SubtaskActor.options(**options[subtask.chain]).remote()
            for subtask in self._plan.subtasks
        }
        for subtask, actor in self.actors.items():
            peers = {peer: self.actors[peer] for peer in self._peers(subtask)}
            deployed = actor.deploy.remote(self._packed, subtask, peers, self._me, self._attached)
            self._deployments[deployed] = subtask
            self._exits[actor.wait_exit.options(concurrency_group="exit").remote()] = subtask
        threading.Thread(target=self._watch, daemon=True).start()

    def _peers(self, subtask: SubtaskId) -> list[SubtaskId]:
        edges = [*self._plan.inputs(subtask.chain), *self._plan.outputs(subtask.chain)]
        names = {edge.upstream for edge in edges} | {edge.downstream for edge in edges}
        return [s for s in self._plan.subtasks if s.chain in names and s != subtask]

    def _watch(self) -> None:
        waiting = [*self._deployments, *self._exits]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=None)
            for ref in done:
                self._watched(ref)

    def _watched(self, ref: Any) -> None:
        subtask = self._exits.get(ref) or self._deployments[ref]
        try:
            ray.get(ref)
        except ray.exceptions.RayActorError as error:
            lost = SubtaskLost(
                f"{subtask} died: its worker process is gone",
                hint=str(error).strip().splitlines()[-1] if str(error) else None,
            )
            if subtask not in self._closed:  # else it was killed because it did not let go
                self._mailbox.put(job.Failed(subtask, lost))
        except ray.exceptions.RayError as error:
            cannot = SubtaskLost(f"{subtask} cannot be made: {str(error).strip()}")
            self._mailbox.put(job.Failed(subtask, cannot))
        if ref in self._exits:
            self._mailbox.put(job.SubtaskClosed(subtask))

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
        self.actors[subtask].control.options(concurrency_group="ctl").remote(event)

    def _close(self, subtask: SubtaskId) -> None:
        if subtask not in self.actors or subtask in self._closed:
            self._dead(subtask)
            return
        allowed_s = _CLOSE_S if self._machine.error is None else _CLOSE_FAILED_S
        self._deadlines[subtask] = time.monotonic() + allowed_s
        self._tell(subtask, sub.Finish())

    def _enforce_deadlines(self) -> None:
        for subtask, deadline in list(self._deadlines.items()):
            if time.monotonic() > deadline:
                del self._deadlines[subtask]
                self._dead(subtask)
                ray.kill(self.actors[subtask])

    def _dead(self, subtask: SubtaskId) -> None:
        self._closed.add(subtask)
        self._mailbox.put(job.SubtaskClosed(subtask))
