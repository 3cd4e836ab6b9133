"""One attempt on its way: which checkpoint comes next, and when all is done.

Savepoints that were asked for come before checkpoints that are due. When every subtask has ended
there is a last checkpoint, so that what sinks have prepared becomes visible.
"""

from __future__ import annotations

import dataclasses

from raystream.clock import Clock
from raystream.coordinator.checkpoints import CheckpointFigures, Checkpoints, Reason
from raystream.coordinator.events import (
    Answer,
    Discard,
    Effect,
    SavepointAsked,
    Tell,
    WriteSavepoint,
)
from raystream.coordinator.journal import Journal
from raystream.errors import StorageError
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Acked, Declined, Drain
from raystream.flow.snapshots import CheckpointEntry, SavepointEntry, manifest_path
from raystream.graph.physical import PhysicalPlan
from raystream.operators.sink import SinkSpec

_SHOWN_MAX = 100
"""So many of the newest checkpoints are shown."""

_DETAILED_MAX = 10
"""Of so many of them it is told where the time of each subtask went."""


class Course:
    """Decides what follows; ``checkpoints`` carries it out."""

    def __init__(
        self,
        plan: PhysicalPlan,
        clock: Clock,
        checkpoints: Checkpoints,
        journal: Journal,
        asked: list[SavepointAsked],
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._journal = journal
        self.checkpoints = checkpoints
        self.asked = asked  # not begun; in the order of the asking
        self.shown: list[CheckpointFigures] = []  # the newest; bounded by _SHOWN_MAX
        self.broken: StorageError | None = None  # why this attempt cannot go on
        self._running = set(plan.subtasks)
        self._stop: SavepointAsked | None = None
        self.stopped_us: int | None = None  # when sources were told to, by the time of day
        self._final = False
        self._at_once = False
        specs = [node.spec for chain in plan.chains for node in chain.nodes]
        # Writers finish what they have begun when they are asked to prepare.
        writes = any(isinstance(spec, SinkSpec) and not spec.sink.to_driver for spec in specs)
        self._needs_final = writes or plan.checkpoint is not None

    def ended(self, subtask: SubtaskId) -> None:
        """Note that a subtask has seen the end of its input."""
        self._running.discard(subtask)

    @property
    def all_ended(self) -> bool:
        """Whether every subtask has seen the end of its input."""
        return not self._running

    @property
    def stopping(self) -> bool:
        """Whether somebody has stopped the job."""
        return self._stop is not None

    @property
    def stopped_by(self) -> SavepointAsked | None:
        """Who has, if anybody."""
        return self._stop

    def due_us(self) -> int | None:
        """Tell when a checkpoint is due, or when the one under way has taken too long."""
        if self.checkpoints.pending is None and (self.stopping or self.all_ended):
            return None
        return self.checkpoints.due_us()

    def at_once(self) -> None:
        """Let the next checkpoint begin as soon as one may."""
        self._at_once = True

    def go_on(self) -> list[Effect]:
        """Begin what is to come next, if nothing is under way."""
        if not self.checkpoints.may_begin:
            return []
        next_asked = self.asked[0] if self.asked else None
        if self.all_ended and (next_asked is None or next_asked.stop):
            if self._final or not (self._needs_final or next_asked):
                return []
            self._final = True
            self._stop = self._stop or next_asked
            return self._begin()
        if self.stopping or (next_asked is None and not self._at_once):
            return []
        if next_asked is not None and next_asked.stop:
            self._stop, self.stopped_us = next_asked, self._clock.now_us()
            if next_asked.drain:
                return [Tell(source, Drain()) for source in self.checkpoints.sources]
        return self._begin()

    def due(self) -> list[Effect]:
        """Do what is due: begin a checkpoint, or give up the one that has taken too long."""
        if self.checkpoints.pending is not None:
            return self._give_up(Reason.TIMEOUT)
        return [] if self._journal.under_way is not None else self._begin()

    def acked(self, subtask: SubtaskId, ack: Acked) -> list[Effect]:
        """Take an ack; once all are there the checkpoint is written down."""
        if not self.checkpoints.acked(subtask, ack, self._clock.monotonic_us()):
            return []
        pending = self.checkpoints.under_way
        manifest, logged = self.checkpoints.manifest(), self._plan.checkpoint is not None
        if pending.target and not (pending.commits and logged):
            return [WriteSavepoint(pending.target, manifest)]
        if not logged:
            return self._complete()
        at_us = self._clock.now_us()
        path = pending.address or manifest_path(manifest.attempt, pending.checkpoint_id)
        entry = CheckpointEntry(pending.checkpoint_id, manifest.attempt, path, at_us)
        return [*self._journal.append(entry, manifest)]

    def declined(self, subtask: SubtaskId, word: Declined) -> list[Effect]:
        """Take that a subtask cannot store its part."""
        pending = self.checkpoints.pending
        if pending is None or pending.checkpoint_id != word.checkpoint_id or pending.writing:
            return []
        return self._give_up(Reason.DECLINED, f"{subtask}: {word.reason}")

    def durable(self) -> list[Effect]:
        """Note that the checkpoint under way is in the log; older ones need not be kept."""
        assert self._plan.checkpoint is not None, "what is logged is kept"
        retired = self._journal.retire(self._plan.checkpoint.keep)
        gone: list[Effect] = []
        if retired:
            live = self.checkpoints.live_parts
            gone.append(Discard(tuple(retired), self._journal.manifests, live))
        return [*gone, *self._complete()]

    def savepoint_written(self) -> list[Effect]:
        """Note that a savepoint is complete."""
        pending = self.checkpoints.pending
        if pending is None or not pending.writing:
            return []
        if self._plan.checkpoint is None:
            return self._complete()
        # It is complete by itself; the entry lets whoever resumes the job find it.
        attempt, at_us = self.checkpoints.attempt, self._clock.now_us()
        entry = SavepointEntry(pending.checkpoint_id, attempt, pending.address, at_us)
        return [*self._journal.append(entry), *self._complete()]

    def not_written(self, error: BaseException) -> list[Effect]:
        """Take that the manifest of a savepoint cannot be written."""
        if self.checkpoints.pending is None:
            return []
        return self._give_up(Reason.NOT_WRITTEN, str(error))

    def _begin(self) -> list[Effect]:
        self._at_once = False
        asked = self.asked.pop(0) if self.asked else None
        return self.checkpoints.begin(self._clock.monotonic_us(), self._clock.now_us(), asked)

    def _complete(self) -> list[Effect]:
        pending = self.checkpoints.under_way
        self._show("completed")
        effects = self.checkpoints.durable(self._clock.monotonic_us())
        if pending.asked is not None and pending.asked.request:
            effects.append(Answer(pending.asked.request, pending.target or None))
        return effects

    def _give_up(self, reason: Reason, details: str = "") -> list[Effect]:
        pending = self.checkpoints.under_way
        why = f"{reason.value}: {details}" if details else reason.value
        self._show("aborted", why)
        effects = self.checkpoints.give_up(self._clock.monotonic_us(), reason)
        if pending.asked is not None and pending.asked.request:
            effects.append(Answer(pending.asked.request, None, why))
        if self._needed or self.checkpoints.too_many_failures:
            text = f"checkpoint {pending.checkpoint_id} was given up: {why}"
            self.broken = StorageError(text)
        return effects

    def _show(self, status: str, reason: str = "") -> None:
        figures = self.checkpoints.figures(status, self._clock.monotonic_us(), reason)
        shown = self.shown[1 - _SHOWN_MAX :]
        if len(shown) >= _DETAILED_MAX:
            old = dataclasses.replace(shown[-_DETAILED_MAX], parts={}, state={})
            shown[-_DETAILED_MAX] = old
        self.shown = [*shown, figures]

    @property
    def _needed(self) -> bool:
        """Whether the checkpoint under way cannot be done without: sources have stopped."""
        return self._final or (self._stop is not None and not self._stop.drain)

    @property
    def outcome(self) -> str | None:
        """How the job ends, once nothing is left to do."""
        if self.checkpoints.pending is not None or not self.checkpoints.settled:
            return None
        if self._stop is not None and not self._stop.drain and self._stop not in self.asked:
            return "stopped"
        if not self.all_ended or (self._needs_final and not self._final) or self.asked:
            return None
        return "finished" if self._stop is None else "stopped"

    def refuse(self, why: str) -> list[Effect]:
        """Answer the requests that have no answer yet."""
        pending = self.checkpoints.pending
        under_way = [] if pending is None or pending.asked is None else [pending.asked]
        asked = [one.request for one in (*under_way, *self.asked) if one.request]
        return [Answer(request, None, why) for request in asked]
