"""The actor that runs one subtask: calls become events, effects become calls.

``push`` and the ``ctl`` methods only put into the mailbox; one thread owns the machine. Rows come
in order because the class has no ``async def`` and one thread a group; a source is read in a thread
of its own.
"""

from __future__ import annotations

import contextlib
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
from raystream.flow.codec import decode_credit, encode_credit
from raystream.flow.control import SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.operators.sink import SinkSpec
from raystream.runtime.ray.delivery import Outbox, pack
from raystream.runtime.ray.report import pack_report
from raystream.runtime.shell import Readers, contexts, sink_specs, source_spec, travelling
from raystream.subtask import events as sub
from raystream.subtask.machine import State, SubtaskMachine

_ATTEMPT = 1
_IDLE_S = 0.25


class Stopped(BaseException):  # not an error: the way out of a wait, past whoever catches errors
    """The subtask was told to close while it waited."""


class SubtaskCalls:
    """One subtask of a job."""

    def __init__(self) -> None:
        sys.setswitchinterval(0.0005)
        pa.set_cpu_count(1)
        _choose_memory_pool()
        self._mailbox: queue.SimpleQueue[sub.Event] = queue.SimpleQueue()  # bounded by credit
        self._done = threading.Event()
        self._closing = threading.Event()
        self._shell: _Shell | None = None
        self._outbox = Outbox(1)

    def push(self, frame: bytes) -> None:
        """Take a frame; the caller was granted the room for it."""
        self._mailbox.put(sub.Received(frame))

    def deploy(
        self,
        plan: bytes,
        subtask: SubtaskId,
        peers: dict[SubtaskId, Any],
        coordinator: Any,
        attached: bool,
    ) -> None:
        """Make the subtask; the coordinator hears of it when it is ready."""
        loaded: PhysicalPlan = cloudpickle.loads(plan)
        self._outbox = Outbox(loaded.limits.deliver_batches_max)
        shell = _Shell(loaded, subtask, self._mailbox, self._outbox, self._closing)
        shell.connect(peers, coordinator, attached=attached)
        self._shell = shell
        threading.Thread(target=self._run, args=(shell,), name=str(subtask), daemon=True).start()

    def credit(self, message: bytes) -> None:
        """Take a grant."""
        self._mailbox.put(sub.CreditCame(*decode_credit(message)))

    def control(self, event: sub.Event) -> None:
        """Take a word of the coordinator, or a question of a sender."""
        if isinstance(event, sub.Finish | sub.Cancel):
            self._closing.set()
            self._outbox.close()
        self._mailbox.put(event)

    def pull(self, timeout_s: float) -> list[tuple[str, bytes]] | None:
        """Give the driver rows; None when no more will come."""
        return self._outbox.take(timeout_s)

    def wait_exit(self) -> None:
        """Return when the subtask has let go; fails at once if the process dies."""
        self._done.wait()

    def _run(self, shell: _Shell) -> None:
        try:
            shell.run()
            shell.drain()
        finally:
            self._outbox.close()
            self._done.set()


SubtaskActor: Any = ray.remote(
    max_restarts=0,
    max_task_retries=0,
    max_concurrency=1,
    enable_task_events=False,
    concurrency_groups={"ctl": 1, "results": 1, "exit": 1},
)(SubtaskCalls)


def _choose_memory_pool() -> None:
    """Prefer jemalloc: it stays small where one thread allocates and another frees.

    mimalloc was slower while memory grew (many splits open), and as fast once it had; a build of
    Arrow that has no jemalloc says so by NotImplementedError, and keeps its default.
    """
    with contextlib.suppress(NotImplementedError):
        pa.set_memory_pool(pa.jemalloc_memory_pool())


class _Shell:
    """The mailbox thread: owns the machine, executes its effects."""

    def __init__(
        self,
        plan: PhysicalPlan,
        subtask: SubtaskId,
        mailbox: queue.SimpleQueue[sub.Event],
        outbox: Outbox,
        closing: threading.Event,
    ) -> None:
        self._plan = plan
        self._subtask = subtask
        self._mailbox = mailbox
        self._outbox = outbox
        self._closing = closing
        self._clock = SystemClock()
        self._attached = True
        self._coordinator: Any = None
        self._push: dict[SubtaskId, Any] = {}
        self._credit: dict[SubtaskId, Any] = {}
        self._control: dict[SubtaskId, Any] = {}
        self._sinks: dict[str, SinkSpec] = sink_specs(plan)
        self._polls: queue.SimpleQueue[sub.Poll | None] = queue.SimpleQueue()  # two at most
        self._reported_us = 0

    def connect(self, peers: dict[SubtaskId, Any], coordinator: Any, *, attached: bool) -> None:
        """Bind the calls to peers once: looking a method up costs as much as calling it."""
        self._attached = attached
        self._coordinator = coordinator
        for peer, actor in peers.items():
            self._push[peer] = actor.push.options(num_returns=0)
            self._credit[peer] = actor.credit.options(num_returns=0, concurrency_group="ctl")
            self._control[peer] = actor.control.options(num_returns=0, concurrency_group="ctl")

    def run(self) -> None:
        """Live from deployment to the end; whatever breaks is told to the coordinator."""
        try:
            context = contexts(self._plan, self._subtask, self._clock, self._deliver)
            machine = SubtaskMachine(self._plan, self._subtask, _ATTEMPT, self._clock, context)
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._failed(error)
            self._closing.wait()
            return
        spec = source_spec(self._plan.chain(self._subtask.chain))
        if spec is not None:
            reading = threading.Thread(target=self._read, args=(Readers(spec),), daemon=True)
            reading.start()
        self._report(job.Ready(self._subtask))
        try:
            self._live(machine)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  a user's function may call sys.exit
            self._failed(error)
            self._closing.wait()
        self._polls.put(None)
        self._let_go(machine)
        if spec is not None:
            reading.join(timeout=2)

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
                    self._credit[to].remote(message)
                case sub.AskProgress(to, channel):
                    self._control[to].remote(sub.ProgressAsked(channel))
                case sub.Poll():
                    self._polls.put(effect)
                case sub.TellTime(least_us):
                    self._report(job.SourceTime(self._subtask, least_us))
                case sub.Ended(committables):
                    self._outbox.wait_empty()
                    self._report(machine.figures())
                    self._report(job.SubtaskEnded(self._subtask, committables))
                case sub.Committed():
                    self._report(job.SubtaskCommitted(self._subtask))
                case sub.Closed():
                    self._report(machine.figures())
                case _:
                    assert_never(effect)
        if sends:
            machine.sending_cost((time.monotonic_ns() - started) // 1000)

    def _read(self, readers: Readers) -> None:
        try:
            with contextlib.closing(readers):
                while (poll := self._polls.get()) is not None:
                    self._mailbox.put(readers.poll(poll))
        except BaseException as error:  # noqa: BLE001  a user's reader may call sys.exit
            self._failed(error)

    def _let_go(self, machine: SubtaskMachine) -> None:
        try:
            self._do(machine, machine.step(sub.Cancel()))
        except BaseException as error:  # noqa: BLE001  the edge of the shell: an error is an event
            self._failed(error)

    def _deliver(self, node: ChainNode, batch: Batch) -> None:
        if not self._attached:
            if self._sinks[node.name].sink.receive(batch):
                self._report(job.StopAsked(finished=True))
        elif not self._outbox.put((node.name, pack(batch))):
            raise Stopped

    def _heartbeat(self, machine: SubtaskMachine) -> None:
        now_us = self._clock.monotonic_us()
        if now_us - self._reported_us >= self._plan.limits.heartbeat_us:
            self._reported_us = now_us
            self._report(machine.figures())

    def drain(self) -> None:
        """Return when all reports are taken: whoever hears of the exit has heard them before."""
        taken = self._coordinator.report_taken.options(concurrency_group="report").remote()
        with contextlib.suppress(ray.exceptions.RayError):  # nobody is left to hear
            ray.get(taken)

    def _failed(self, error: BaseException) -> None:
        self._report(job.Failed(self._subtask, travelling(self._plan.job, error)))

    def _report(self, report: job.Event | SubtaskFigures) -> None:
        self._coordinator.report.options(num_returns=0, concurrency_group="report").remote(
            pack_report(report)
        )
