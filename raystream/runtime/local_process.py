"""What a job in this process is made of: its subtasks, and what storage is to do for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from raystream.clock import Clock, SystemClock
from raystream.contracts.batch import Batch
from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.machine import CoordinatorMachine
from raystream.errors import RaystreamError, StorageError
from raystream.flow.control import SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Acked, Cancel, Closed, Finish
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.runtime.left_open import with_readers
from raystream.runtime.process_figures import process_figures
from raystream.runtime.shell import Readers, contexts, list_splits, source_spec, uploaded
from raystream.runtime.user_line import user_line
from raystream.runtime.vault import Keeper, Upload, Vault
from raystream.subtask import events as sub
from raystream.subtask.handing_over import Resting, Restored
from raystream.subtask.machine import SubtaskMachine

_TRIES = 6
_BACKOFF_US = 50_000
"""Storage that fails is asked again after this, then after twice that, and so on."""


Link: TypeAlias = tuple[SubtaskId | None, SubtaskId | None]
"""From and to; None is the coordinator. From a subtask to itself is what its readers are asked."""

Happened: TypeAlias = Callable[[SubtaskId | None, "sub.Event | job.Event | None"], None]
"""Told before an event of a subtask, a slice of its work (None), an event of the job (no subtask).
"""


@dataclass(eq=False, slots=True)
class Process:
    """One subtask of one attempt: what a worker process would hold."""

    subtask: SubtaskId
    attempt: int
    machine: SubtaskMachine
    readers: Readers | None
    keeper: Keeper
    thread: int = field(default_factory=threading.get_ident)

    def figures(self) -> SubtaskFigures:
        """Tell what the subtask has done; may be asked while a function of it does not return."""
        figures = self.machine.figures()
        at = user_line(self.thread) if figures.working_us else ""
        return replace(figures, at=at, process=process_figures())

    def read(self, asked: sub.Poll | sub.Acknowledge) -> sub.Polled | None:
        """Do what the readers are asked; give what comes of it.

        Raises: SourceError.
        """
        assert self.readers is not None, "only a source reads"
        if isinstance(asked, sub.Poll):
            return self.readers.poll(asked)
        self.readers.acknowledge(asked)
        return None

    def let_go(
        self, event: Finish | Cancel, asked: Sequence[sub.Poll | sub.Acknowledge]
    ) -> tuple[list[sub.Effect], list[Exception], Resting | None]:
        """Close machine and readers, whatever goes wrong, but for what rests.

        ``asked`` is what the readers were asked, and have not come to: it is done, as a thread of
        theirs would. Gives what is to be done, and said, and what is left open.
        """
        wrongs: list[Exception] = []
        try:
            effects = self.machine.step(event)
        except Exception as error:  # noqa: BLE001  the edge of the shell: an error is an event
            effects, wrongs = [sub.Tell(Closed())], [error]
        still = True
        try:
            for one in asked:
                polled = self.read(one)
                if polled is not None:
                    self.machine.step(polled)
        except RaystreamError as error:
            still, wrongs = False, [*wrongs, error]
        resting = self.machine.resting
        try:
            resting = with_readers(resting, self.readers, still=still)
        except RaystreamError as error:
            wrongs.append(error)
        return effects, wrongs, resting


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """Makes the processes of a job."""

    plan: PhysicalPlan
    clock: Clock
    vault: Vault
    deliver: Callable[[ChainNode, Batch], None]

    def make(self, subtask: SubtaskId, deploy: job.Deploy, resting: Resting | None) -> Process:
        """Make a subtask, its operators open and restored, unless they have rested."""
        plan, attempt = self.plan, deploy.attempt
        keeper = Keeper(self.vault, plan, subtask, attempt)
        restored: Restored | Resting | None = resting
        if deploy.manifest is not None and resting is None:
            restored = keeper.restore(deploy.manifest, deploy.path)
        context = contexts(plan, subtask, self.clock, self.deliver)
        with contextlib.ExitStack() as undo:
            if resting is not None:
                undo.callback(resting.close)
            machine = SubtaskMachine(plan, subtask, attempt, self.clock, context, restored=restored)
            undo.pop_all()
        spec = source_spec(plan.chain(subtask.chain))
        readers = None if resting is None else resting.readers
        if spec is not None and readers is None:
            readers = Readers(spec)
        assert readers is None or isinstance(readers, Readers), "they are this shell's"
        return Process(subtask, attempt, machine, readers, keeper)


def listed(plan: PhysicalPlan, chain: str, *, again: bool) -> job.SplitsListed | job.Failed:
    """List the splits of the source at the head of a chain."""
    spec = source_spec(plan.chain(chain))
    assert spec is not None, "only a source has splits"
    try:
        return job.SplitsListed(chain, list_splits(spec, again=again))
    except RaystreamError as error:
        return job.Failed(None, error)


def acked(keep: sub.Keep, upload: Upload, clock: Clock) -> Acked:
    """Store a snapshot, and say so."""
    began_us = clock.monotonic_us()
    snapshot = upload()
    return Acked(keep.checkpoint_id, snapshot, uploaded(keep, clock.monotonic_us() - began_us))


class Breather:
    """Leaves rows as much time as checkpoints take: here one thread is at both.

    Elsewhere snapshots are stored beside the work; where a seed decides the order, it decides.
    """

    def __init__(self, clock: Clock, *, paced: bool) -> None:
        self._clock = clock
        # A clock that a test drives says itself how much time there is.
        self._paced = paced and isinstance(clock, SystemClock)
        self._newest: CheckpointFigures | None = None
        self._until_us = 0

    def wake_us(self, coordinator: CoordinatorMachine) -> int | None:
        """Tell the monotonic time at which the coordinator is to be woken."""
        shown, wake_us = coordinator.checkpoints, coordinator.wake_us
        if not self._paced or not shown or wake_us is None:
            return wake_us
        if shown[-1] is not self._newest:
            self._newest = shown[-1]
            self._until_us = self._clock.monotonic_us() + self._newest.duration_us
        return max(wake_us, self._until_us)


class Errands:
    """What storage is to do: at once, or, where an order is drawn, when its turn comes."""

    def __init__(self, clock: Clock, *, drawn: bool) -> None:
        self._clock = clock
        self._drawn = drawn
        self.waiting: list[Callable[[], None]] = []  # bounded by what machines ask for
        self.later: list[tuple[int, Callable[[], None]]] = []  # each with when it is due

    def send(self, what: Callable[[], None]) -> None:
        """Ask for something."""
        if self._drawn:
            self.waiting.append(what)
        else:
            what()

    def run(self, what: Callable[[], None]) -> None:
        """Do what waits."""
        self.waiting.remove(what)
        what()

    def retried(
        self,
        what: Callable[[], None],
        failed: Callable[[Exception], None],
        tries: int = 0,
    ) -> None:
        """Ask for something that storage may refuse; it is tried again, with longer pauses."""

        def attempted() -> None:
            try:
                what()
            except StorageError as error:
                if tries + 1 == _TRIES:
                    failed(error)
                    return
                due_us = self._clock.monotonic_us() + (_BACKOFF_US << tries)
                again = lambda: self.retried(what, failed, tries + 1)  # noqa: E731  said once
                self.later.append((due_us, again))
            except RaystreamError as error:
                failed(error)

        self.send(attempted)

    def after(self, us: int, what: Callable[[], None]) -> None:
        """Ask for something in a while; at once where none is to pass."""
        if not us:
            what()
            return
        self.later.append((self._clock.monotonic_us() + us, what))

    def due(self) -> list[Callable[[], None]]:
        """Take what is due by now."""
        now_us = self._clock.monotonic_us()
        due = [what for due_us, what in self.later if due_us <= now_us]
        self.later = [one for one in self.later if one[0] > now_us]
        return due
