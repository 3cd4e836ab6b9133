"""The checkpoints of one attempt: when one begins, who has acked, what is committed when.

One barrier is in flight at a time. Its story: triggered at the sources; acked by every subtask;
then durable, by an entry of the log; only then are readers told, and sinks commit, one checkpoint
after the other. Whatever goes wrong before the entry gives the checkpoint up, with a reason.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from raystream.contracts.checkpointing import Checkpointing
from raystream.coordinator.commits import Commits
from raystream.coordinator.events import Effect, SavepointAsked, Tell
from raystream.flow.figures import SnapshotFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Acked, Completed, GiveUp, Prepared, Settled, Trigger
from raystream.flow.snapshots import Manifest, OperatorEntry, Part, SubtaskSnapshot
from raystream.graph.physical import PhysicalPlan

PARTS_MAX = 32
"""Of so many subtasks, the slowest, a checkpoint says where their time went."""

UNSETTLED_MAX = 4
"""With so many checkpoints whose commits are not confirmed no new one begins."""


class Reason(enum.Enum):
    """Why a checkpoint was given up; ``counts`` tells whether that is a failure."""

    TIMEOUT = "not every subtask has stored its part in time"
    DECLINED = "a subtask cannot store its part"
    NOT_WRITTEN = "its manifest or its entry in the log cannot be written"
    STOPPED = "the job is stopping"

    @property
    def counts(self) -> bool:
        """Whether it counts toward the failures that are tolerated."""
        return self is not Reason.STOPPED


@dataclass(frozen=True, slots=True)
class CheckpointFigures:
    """One checkpoint as it is shown: times in microseconds since the epoch and of length.

    ``bytes`` is all that it names, ``new_bytes`` what was stored for it. ``parts`` say of the
    slowest subtasks where their time went; of the newest checkpoints only. ``state`` is what each
    operator keeps, by its uid: stored rows and bytes.
    """

    checkpoint_id: int
    attempt: int
    status: str
    triggered_us: int
    duration_us: int
    bytes: int = 0
    new_bytes: int = 0
    savepoint: bool = False
    reason: str = ""
    parts: Mapping[str, SnapshotFigures] = field(default_factory=dict)
    state: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Pending:
    """The checkpoint that is under way."""

    checkpoint_id: int
    began_us: int
    triggered_us: int
    asked: SavepointAsked | None
    acks: dict[SubtaskId, SubtaskSnapshot] = field(default_factory=dict)
    parts: dict[SubtaskId, SnapshotFigures] = field(default_factory=dict)
    new_bytes: int = 0
    writing: bool = False

    @property
    def target(self) -> str:
        """The URL of the savepoint that it is, if it is one."""
        return "" if self.asked is None else self.asked.target

    @property
    def address(self) -> str:
        """The URL of the savepoint's manifest, if it is one."""
        return f"{self.target}/manifest.json" if self.target else ""

    @property
    def commits(self) -> bool:
        """Whether sinks make visible what it holds: a savepoint on the way commits nothing."""
        return not self.target or (self.asked is not None and self.asked.stop)


class Checkpoints:
    """Decides on the checkpoints of one attempt."""

    def __init__(self, plan: PhysicalPlan, attempt: int, next_id: int, now_us: int) -> None:
        self._plan = plan
        self.attempt = attempt
        self._settings: Checkpointing | None = plan.checkpoint
        self.sources = [s for c in plan.chains if not plan.inputs(c.name) for s in c.subtasks]
        self._began_us = now_us
        self._ended_us = now_us
        self._failures = 0
        self._newest_durable = self._settled_id = 0
        self._durable: list[int] = []  # in order, not yet settled; bounded by UNSETTLED_MAX
        self.next_id = next_id
        self.commits = Commits(plan)
        self.pending: Pending | None = None
        self.newest: dict[SubtaskId, SubtaskSnapshot] = {}
        self._left: dict[SubtaskId, Prepared] = {}  # by subtasks that have closed

    # Beginning -------------------------------------------------------------------------------

    def due_us(self) -> int | None:
        """Tell the monotonic time at which something is to be done, if nothing happens before."""
        settings = self._settings
        if settings is None:
            return None
        if self.pending is not None:
            return None if self.pending.writing else self.pending.began_us + settings.timeout_us
        if len(self._durable) >= UNSETTLED_MAX:
            return None
        return max(self._began_us + settings.every_us, self._ended_us + settings.min_pause_us)

    def begin(self, now_us: int, triggered_us: int, asked: SavepointAsked | None) -> list[Effect]:
        """Begin a checkpoint, or the savepoint that was asked for."""
        assert self.pending is None, "one barrier is in flight at a time"
        pending = Pending(self.next_id, now_us, triggered_us, asked)
        self.pending = pending
        self.next_id += 1
        self._began_us = now_us
        stop = asked is not None and asked.stop and not asked.drain
        trigger = Trigger(pending.checkpoint_id, pending.target, stop)
        return [Tell(source, trigger) for source in self.sources]

    @property
    def under_way(self) -> Pending:
        """The checkpoint that is under way, where there is one."""
        assert self.pending is not None, "a checkpoint is under way"
        return self.pending

    @property
    def may_begin(self) -> bool:
        """Whether a barrier may be sent out now."""
        return self.pending is None and len(self._durable) < UNSETTLED_MAX

    # Acks ------------------------------------------------------------------------------------

    def acked(self, subtask: SubtaskId, ack: Acked, now_us: int) -> bool:
        """Take an ack; True once all are there. One that is late, or comes twice, is ignored."""
        pending = self.pending
        if pending is None or ack.checkpoint_id != pending.checkpoint_id or pending.writing:
            return False
        if subtask in pending.acks:
            return False
        pending.acks[subtask] = ack.snapshot
        pending.parts[subtask] = dataclasses.replace(
            ack.figures or SnapshotFigures(ack.checkpoint_id),
            acked_us=now_us - pending.began_us,
            bytes=sum(part.length for part in ack.snapshot.parts),
            rows=sum(part.rows for part in ack.snapshot.parts),
        )
        known = set(self.newest[subtask].parts) if subtask in self.newest else set()
        new = set(ack.snapshot.parts) - known
        pending.new_bytes += sum(part.length for part in new)
        if not pending.target:
            self.newest[subtask] = ack.snapshot
        pending.writing = len(pending.acks) == len(self._plan.subtasks)
        return pending.writing

    def manifest(self) -> Manifest:
        """Give the manifest of the checkpoint that all have acked."""
        pending = self.under_way
        operators = tuple(
            OperatorEntry(node.uid, node.name, node.spec.verb, _keeps(pending, node.uid))
            for chain in self._plan.chains
            for node in chain.nodes
        )
        return Manifest(
            job=self._plan.job,
            checkpoint_id=pending.checkpoint_id,
            attempt=self.attempt,
            max_parallelism=self._plan.max_parallelism,
            taken_us=pending.triggered_us,
            savepoint=bool(pending.target),
            operators=operators,
            subtasks=tuple(self._unsettled(pending.acks[s]) for s in self._plan.subtasks),
        )

    def _unsettled(self, snapshot: SubtaskSnapshot) -> SubtaskSnapshot:
        """Leave out what is visible by now: not every subtask had heard so when it acked."""
        left = tuple(one for one in snapshot.prepared if one[0] > self._settled_id)
        return dataclasses.replace(snapshot, prepared=left)

    @property
    def live_parts(self) -> tuple[Part, ...]:
        """What the newest acks name: the next checkpoint may name it again."""
        acks = [] if self.pending is None else list(self.pending.acks.values())
        snapshots = [*self.newest.values(), *acks]
        return tuple(part for snapshot in snapshots for part in snapshot.parts)

    # Ends ------------------------------------------------------------------------------------

    def durable(self, now_us: int) -> list[Effect]:
        """Note that the checkpoint under way is complete: readers are told, then sinks commit."""
        pending = self.under_way
        self.pending = None
        self._ended_us, self._failures = now_us, 0
        checkpoint_id = pending.checkpoint_id
        effects: list[Effect] = [
            Tell(source, Completed(checkpoint_id)) for source in self.sources if pending.commits
        ]
        self._newest_durable = checkpoint_id
        if pending.commits:
            self._durable.append(checkpoint_id)
            self.commits.add(checkpoint_id, pending.acks)
        return [*effects, *self.commit_next()]

    def recover(self, manifest: Manifest) -> list[Effect]:
        """Let sinks commit all that the restored checkpoint had prepared: it may not be visible."""
        self._durable.append(manifest.checkpoint_id)
        self.commits.recover(manifest)
        self._newest_durable = manifest.checkpoint_id
        return self.commit_next()

    def commit_next(self) -> list[Effect]:
        """Let sinks commit the oldest durable checkpoint, once the one before is confirmed."""
        effects: list[Effect] = []
        while self._durable and not self.commits.under_way:
            effects += self.commits.begin(self._durable[0])
            if self.commits.under_way:
                break
            effects += self._settle()
        return effects

    def committed(self, subtask: SubtaskId, checkpoint_id: int) -> list[Effect]:
        """Take that a subtask has committed; once all have, it is the next one's turn."""
        if not self._durable or checkpoint_id != self._durable[0]:
            return []
        if not self.commits.confirm(subtask):
            return []
        return [*self._settle(), *self.commit_next()]

    def give_up(self, now_us: int, reason: Reason) -> list[Effect]:
        """Give the checkpoint under way up."""
        pending = self.under_way
        self.pending = None
        self._ended_us = now_us
        self._failures += reason.counts
        return [Tell(s, GiveUp(pending.checkpoint_id)) for s in self._plan.subtasks]

    @property
    def too_many_failures(self) -> bool:
        """Whether more checkpoints in a row have failed than are tolerated."""
        tolerated = 0 if self._settings is None else self._settings.tolerate_failures
        return self._failures > tolerated

    @property
    def settled(self) -> bool:
        """Whether all that is durable is visible too."""
        return not self._durable

    @property
    def _is_undecided(self) -> bool:
        return self.pending is not None and self.pending.writing

    def closed(self, subtask: SubtaskId, prepared: Prepared) -> None:
        """Take what a subtask leaves behind; one that is dead cannot say."""
        if prepared:
            self._left[subtask] = prepared

    def undone(self) -> Prepared:
        """Give what subtasks had prepared that will never be durable, as far as is known."""
        return () if self._is_undecided else self._behind_the_last()

    @property
    def undecided(self) -> Prepared:
        """What they had prepared, while an entry may have been written of which nobody knows."""
        return self._behind_the_last() if self._is_undecided else ()

    def _behind_the_last(self) -> Prepared:
        # Without a log nobody comes back for what is complete and not yet visible.
        last = self._settled_id if self._settings is None else self._newest_durable
        prepared = {subtask: one.prepared for subtask, one in self.newest.items()} | self._left
        return tuple(one for some in prepared.values() for one in some if one[0] > last)

    def figures(self, status: str, now_us: int, reason: str) -> CheckpointFigures:
        """Tell how the checkpoint under way ended."""
        pending = self.under_way
        parts = {part for one in pending.acks.values() for part in one.parts}
        return CheckpointFigures(
            pending.checkpoint_id,
            self.attempt,
            status,
            pending.triggered_us,
            now_us - pending.began_us,
            sum(part.length for part in parts),
            pending.new_bytes,
            bool(pending.target),
            reason,
            _slowest(pending),
            _state(pending),
        )

    def _settle(self) -> list[Effect]:
        checkpoint_id = self._settled_id = self._durable.pop(0)
        return [Tell(s, Settled(checkpoint_id)) for s in self.commits.writers]


def _keeps(pending: Pending, uid: str) -> bool:
    return any(snapshot.operators.get(uid) for snapshot in pending.acks.values())


def _slowest(pending: Pending) -> dict[str, SnapshotFigures]:
    last = sorted(pending.parts.items(), key=lambda one: one[1].acked_us, reverse=True)
    return {str(subtask): figures for subtask, figures in last[:PARTS_MAX]}


def _state(pending: Pending) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for snapshot in pending.acks.values():
        for uid, kept in snapshot.operators.items():
            rows, size = found.get(uid, (0, 0))
            parts = [part for one in kept for part in one.parts]
            found[uid] = (
                rows + sum(part.rows for part in parts),
                size + sum(part.length for part in parts),
            )
    return found
