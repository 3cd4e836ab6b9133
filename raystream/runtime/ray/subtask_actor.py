"""The actor that runs one subtask: calls become events, effects become calls.

``push`` and the ``ctl`` methods only put into the mailbox; one thread owns the machine. Rows come
in order because the class has no ``async def`` and one thread a group; a source is read in a thread
of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import sys
import threading
import time
from typing import Any

import cloudpickle
import pyarrow as pa
import ray
from typing_extensions import assert_never

from raystream.clock import SystemClock
from raystream.contracts.batch import Batch
from raystream.coordinator import events as job
from raystream.errors import SubtaskLost
from raystream.flow.codec import decode_credit, encode_credit
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import (
    Acked,
    Cancel,
    Closed,
    Declined,
    Ended,
    Finish,
    Ready,
)
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.operators.sink import SinkSpec
from raystream.runtime import profiler, sampling
from raystream.runtime.left_open import close, with_readers
from raystream.runtime.memory import choose_allocators
from raystream.runtime.native_profile import native_profile
from raystream.runtime.process_figures import process_figures
from raystream.runtime.ray.delivery import Outbox, pack
from raystream.runtime.ray.deployment import Deployment
from raystream.runtime.ray.first_use import load_what_is_used
from raystream.runtime.ray.handed import Handed, put
from raystream.runtime.ray.noting import NOTING
from raystream.runtime.ray.sight import Sight, node_id
from raystream.runtime.ray.telling import Telling
from raystream.runtime.ray.turns import Turns
from raystream.runtime.ray.watch import Watch
from raystream.runtime.reading import ReadingThread, reading_of
from raystream.runtime.shell import contexts, sink_specs, uploaded
from raystream.runtime.vault import Home, Keeper, Upload, Vault, frozen, uploaded_in_time
from raystream.subtask import events as sub
from raystream.subtask.chain import RunningChain
from raystream.subtask.handing_over import Resting, Restored
from raystream.subtask.machine import SubtaskMachine
from raystream.subtask.states import State

_IDLE_S = 0.25
_CLOSE_S = 10.0
_SOON_S = 0.02


class Stopped(BaseException):  # not an error: the way out of a wait, past whoever catches errors
    """The subtask was told to close while it waited."""


class SubtaskCalls:
    """One subtask of a job."""

    def __init__(self) -> None:
        sys.setswitchinterval(0.0005)
        pa.set_cpu_count(1)
        choose_allocators()
        self._mailbox: queue.SimpleQueue[sub.Event] = queue.SimpleQueue()  # bounded by credit
        self._done = threading.Event()
        self._closing = threading.Event()
        self._shell: _Shell | None = None
        self._turns = Turns()
        self._outbox = Outbox(1)
        self._attempt = 0
        self._let_go_until = 0  # attempts that were told to let go, be they deployed or not yet
        self._sight = Sight()

    def warm(self, plan: bytes, home: Home | None = None, attempt: int = 0) -> str:
        """Load what the job's code needs, before there is a subtask to run; give the node's id.

        Raises: ConfigError where the node does not see the job's ``home``.
        """
        loaded: PhysicalPlan = cloudpickle.loads(plan)
        load_what_is_used()
        if home is not None:
            self._sight.look(loaded, home, attempt, threading.Event())
        return node_id()

    def push(self, frame: bytes) -> None:
        """Take a frame; the caller was granted the room for it."""
        self._mailbox.put(sub.Received(frame))

    def deploy(self, deployment: Deployment) -> str:
        """Make the subtask, also where one of an older attempt was; give the id of the node."""
        if self._shell is not None:  # it has been told to close; whoever waits is let go
            self._closing.set()
            self._outbox.close()
            if not self._done.wait(_CLOSE_S):
                self.release(0.0)  # once it comes back
        plan: PhysicalPlan = cloudpickle.loads(deployment.plan)
        self._mailbox = queue.SimpleQueue()
        self._done, self._closing = threading.Event(), threading.Event()
        self._outbox = Outbox(plan.limits.deliver_batches_max)
        self._attempt = deployment.attempt
        NOTING.deployed(deployment.subtask, deployment.attempt, plan.job, plan.limits)
        if deployment.attempt <= self._let_go_until:  # the word overtook the deployment
            self._closing.set()
            self._mailbox.put(Finish())
        given = (plan, deployment, self._mailbox, self._outbox, self._closing)
        self._shell = _Shell(*given, sight=self._sight, done=self._done)
        self._turns.give(self._shell)
        return node_id()

    def release(self, wait_s: float = _CLOSE_S) -> None:
        """Close what was left open for an attempt in which this actor has no part."""
        self._turns.end(wait_s)
        self._turns = Turns()

    def credit(self, message: bytes, attempt: int) -> None:
        """Take a grant."""
        if attempt == self._attempt:
            self._mailbox.put(sub.CreditCame(*decode_credit(message)))

    def control(self, event: sub.Event, attempt: int) -> None:
        """Take a word of the coordinator, or a question of a sender."""
        if closes := isinstance(event, Finish | Cancel):
            self._let_go_until = max(self._let_go_until, attempt)
        if attempt != self._attempt:
            return
        if closes:
            self._closing.set()
            self._outbox.close()
        self._mailbox.put(event)

    def pull(self, timeout_s: float, attempt: int) -> list[tuple[str, bytes]] | None:
        """Give the driver rows; None when no more will come of this attempt."""
        if attempt > self._attempt:  # its deployment is still on its way
            time.sleep(_SOON_S)
            return []
        return self._outbox.take(timeout_s) if attempt == self._attempt else None

    def wait_exit(self, attempt: int) -> None:
        """Return when the subtask of an attempt has let go; fails at once if the process dies."""
        if attempt == self._attempt:
            self._done.wait()

    def sample(self, operator: str, rows: int, seconds: float) -> list[dict[str, Any]]:
        """Give rows that leave an operator now, as JSON has them: a few, for people."""
        shell = self._shell
        chain = None if shell is None else shell.chain
        if chain is None:
            return []
        return sampling.sample(chain, operator, rows, seconds, over=self._done.is_set)

    def profile(self, what: str, seconds: float, *, native: bool = False) -> profiler.Profile:
        """Tell where this process spends its time."""
        if native:
            return native_profile(what, seconds)
        return profiler.profile(what, seconds, stop=self._done)


SubtaskActor: Any = ray.remote(
    max_restarts=0,
    max_task_retries=0,
    max_concurrency=1,
    enable_task_events=False,
    concurrency_groups={"ctl": 1, "results": 1, "exit": 1, "look": 2},
)(SubtaskCalls)


class _Shell:
    """The mailbox thread: owns the machine, executes its effects."""

    def __init__(
        self,
        plan: PhysicalPlan,
        deployment: Deployment,
        mailbox: queue.SimpleQueue[sub.Event],
        outbox: Outbox,
        closing: threading.Event,
        *,
        sight: Sight,
        done: threading.Event,
    ) -> None:
        self._plan, self._sight = plan, sight
        self._deployment = deployment
        self.done = done
        self.name, self.stays = str(deployment.subtask), deployment.stays
        self._subtask, self._attempt = deployment.subtask, deployment.attempt
        self._mailbox = mailbox
        self._outbox = outbox
        self._closing = closing
        self._clock = SystemClock()
        given = (deployment.coordinator, plan.job, deployment.subtask, deployment.attempt)
        self._telling = Telling(*given)
        self._push: dict[SubtaskId, Any] = {}
        self._credit: dict[SubtaskId, Any] = {}
        self._control: dict[SubtaskId, Any] = {}
        self._sinks: dict[str, SinkSpec] = sink_specs(plan)
        self._reading: ReadingThread | None = None
        self._uploads: queue.SimpleQueue[tuple[sub.Keep, Upload] | None] = queue.SimpleQueue()
        self._reported_us = 0
        self.chain: RunningChain | None = None
        self._over = threading.Event()
        self._node_id = ray.get_runtime_context().get_node_id()
        self._node_ip = ray.util.get_node_ip_address()
        # Bound once: looking a method up costs as much as calling it.
        for peer, actor in deployment.peers.items():
            self._push[peer] = actor.push.options(num_returns=0)
            self._credit[peer] = actor.credit.options(num_returns=0, concurrency_group="ctl")
            self._control[peer] = actor.control.options(num_returns=0, concurrency_group="ctl")

    def run(self, resting: Resting | None) -> Resting | None:
        """Live from deployment to the end; whatever breaks is told to the coordinator."""
        try:
            machine = self._make(resting)
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            close(resting)  # unless that is done
            self._telling.failed(error)
            self._closing.wait()
            self._telling.say(Closed())
            return None
        self.chain = machine.chain
        self._reading = reading_of(self._plan.chain(self._subtask.chain), resting)
        if self._reading is not None:
            self._reading.serve(self._mailbox.put, self._telling.failed)
        threading.Thread(target=self._upload, daemon=True).start()
        self._telling.say(Ready(machine.splits))
        watch = Watch(
            threading.get_ident(),
            lambda: self._reported_us,
            lambda at: self._tell(machine, at),
            self._over,
        )
        every_s = self._plan.limits.heartbeat_us / 1e6
        threading.Thread(target=watch.run, args=(every_s,), daemon=True).start()
        try:
            self._live(machine)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  a user's function may call sys.exit
            self._telling.failed(error)
            self._closing.wait()
        self._over.set()
        self._uploads.put(None)
        self._let_go(machine)
        return self._left_open(machine)

    def _left_open(self, machine: SubtaskMachine) -> Resting | None:
        reading, still = self._reading, False
        if reading is not None and machine.resting is not None and reading.rest():
            still = True
            with contextlib.suppress(queue.Empty):
                while True:  # what was answered late is handed over, too
                    machine.step(self._mailbox.get_nowait())
        return with_readers(machine.resting, reading, still=still)

    def _make(self, resting: Resting | None) -> SubtaskMachine:
        given = self._deployment
        if given.home is not None:
            self._sight.look(self._plan, given.home, self._attempt, self._closing)
        vault = Vault(self._plan, given.home, cached=True)
        self._keeper = Keeper(vault, self._plan, self._subtask, self._attempt)
        restored: Restored | Resting | None = resting
        if self.stays and resting is None:
            raise SubtaskLost(f"{self._subtask} has lost what it had left open")
        if given.manifest is not None and resting is None:
            root = "" if vault.store is None else vault.store.url
            try:
                handed = Handed(root, given.handed)
                restored = self._keeper.restore(given.manifest, given.path, handed)
            finally:
                given.handed.clear()  # nobody else holds them for us
        context = contexts(self._plan, self._subtask, self._clock, self._deliver)
        return SubtaskMachine(
            self._plan, self._subtask, self._attempt, self._clock, context, restored=restored
        )

    def _live(self, machine: SubtaskMachine) -> None:
        while machine.state is not State.CLOSED:
            for event in self._events(machine):
                self._do(machine, machine.step(event))
            while machine.runnable and self._mailbox.empty():
                self._do(machine, machine.work())
                self._heartbeat(machine)
            if machine.runnable:
                self._do(machine, machine.work())
            self._heartbeat(machine)

    def _events(self, machine: SubtaskMachine) -> list[sub.Event]:
        events = []
        try:
            if not machine.runnable:
                wake_us = machine.wake_us
                wait_s = _IDLE_S
                if wake_us is not None:
                    wait_s = min(_IDLE_S, max(0.0, (wake_us - self._clock.monotonic_us()) / 1e6))
                events.append(self._mailbox.get(timeout=wait_s))
            while True:
                events.append(self._mailbox.get_nowait())
        except queue.Empty:
            return events

    def _do(self, machine: SubtaskMachine, effects: list[sub.Effect]) -> None:
        sends, started = 0, time.monotonic_ns()
        for effect in effects:
            match effect:
                case sub.Send(to, frame):
                    self._push[to].remote(frame)
                    sends += 1
                case sub.GrantCredit(to, credit):
                    message = encode_credit(
                        credit.channel,
                        credit.consumed_bytes,
                        credit.window_bytes,
                        credit.received_bytes,
                    )
                    self._credit[to].remote(message, self._attempt)
                case sub.AskProgress(to, channel):
                    self._control[to].remote(sub.ProgressAsked(channel), self._attempt)
                case sub.Poll() | sub.Acknowledge():
                    assert self._reading is not None, "only a source reads"
                    self._reading.ask(effect)
                case sub.Keep():
                    self._uploads.put(frozen(effect, self._keeper, self._clock))
                case sub.Tell(report):
                    if isinstance(report, Ended):
                        self._outbox.wait_empty()
                    if isinstance(report, Ended | Closed):
                        self._tell(machine)
                    self._telling.say(report)
                case _:
                    assert_never(effect)
        if sends:
            machine.sending_cost((time.monotonic_ns() - started) // 1000)

    def _upload(self) -> None:
        while (asked := self._uploads.get()) is not None:
            keep, upload = asked
            began_us = self._clock.monotonic_us()
            try:
                snapshot = uploaded_in_time(upload, self._plan, self._closing)
                figures = uploaded(keep, self._clock.monotonic_us() - began_us)
                if keep.stops and not keep.target:
                    most = self._plan.limits.handed_bytes_max
                    self._telling.hand_over(put(self._keeper.copies(snapshot, most)))
                self._telling.say(Acked(keep.checkpoint_id, snapshot, figures))
            except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
                self._telling.say(Declined(keep.checkpoint_id, str(error)))

    def _let_go(self, machine: SubtaskMachine) -> None:
        try:
            self._do(machine, machine.step(Cancel()))
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._telling.failed(error)

    def _deliver(self, node: ChainNode, batch: Batch) -> None:
        if not self._deployment.attached:
            if self._sinks[node.name].sink.receive(batch):
                self._telling.report(job.StopAsked(finished=True))
        elif not self._outbox.put((node.name, pack(batch))):
            raise Stopped

    def _heartbeat(self, machine: SubtaskMachine) -> None:
        now_us = self._clock.monotonic_us()
        if now_us - self._reported_us >= self._plan.limits.heartbeat_us:
            self._reported_us = now_us
            self._tell(machine)
            self._telling.notes()

    def _tell(self, machine: SubtaskMachine, at: str = "") -> None:
        process = process_figures(self._node_id, self._node_ip)
        self._telling.report(dataclasses.replace(machine.figures(), process=process, at=at))

    def over(self) -> None:
        """Return when all reports are taken: whoever hears of the exit has heard them before."""
        with contextlib.closing(self._outbox):
            self._telling.taken()
