"""A subtask's part in checkpoints: when its snapshot is taken, and what becomes of what it wrote.

What sinks have prepared stays here, and in every snapshot, until the coordinator says that it is
visible: a checkpoint that is given up takes nothing with it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from raystream.clock import Clock
from raystream.errors import SinkError
from raystream.flow.codec import pickled
from raystream.flow.element import Barrier
from raystream.flow.figures import SnapshotFigures
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.flow.messages import Commit, Committed, Prepared
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.keyed.snapshot import Snapshot
from raystream.operators import sink
from raystream.operators.sink import SinkSpec
from raystream.subtask.alignment import Alignment
from raystream.subtask.chain import RunningChain
from raystream.subtask.events import Acknowledge, Effect, Keep, Tell
from raystream.subtask.handing_over import Resting, Restored
from raystream.subtask.inbox import Inbox
from raystream.subtask.kept_frames import frames_section, kept_frames
from raystream.subtask.kept_splits import KeptSplit, kept_splits, splits_section
from raystream.subtask.outputs import Outputs
from raystream.subtask.splits import Splits


class Keeping:
    """Takes the snapshots of one subtask."""

    def __init__(
        self,
        plan: PhysicalPlan,
        chain: RunningChain,
        splits: Splits | None,
        inbox: Inbox,
        restored: Restored | None,
        *,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._aligned_us = 0  # how long the barriers of the checkpoint that is taken took
        self.newest: SnapshotFigures | None = None
        self._settings = plan.checkpoint
        self._chain = chain
        self._splits = splits
        self._inbox = inbox
        holds = plan.checkpoint is None or plan.checkpoint.mode == "exactly_once"
        done = 0 if restored is None else restored.checkpoint_id
        self._alignment = Alignment(inbox.channels, holds=holds, done=done)
        self._taken = done
        self._prepared: dict[int, dict[str, bytes]] = {}
        self._positions: dict[int, list[KeptSplit]] = {}  # of checkpoints that may complete
        self.frames: tuple[bytes, ...] = ()  # that waited before the barrier of what is restored
        self._at_rest: tuple[int, Snapshot] | None = None  # the newest snapshot that is whole
        # Changes of operators that stayed open would stand behind what is not of this attempt.
        self._begins = restored is not None and restored.open
        if restored is not None:
            if not restored.open:
                chain.restore(restored.operators)
            beside = restored.operators.get(chain.nodes[0].uid, ())
            self.frames = kept_frames(beside)
            if splits is not None:
                splits.restore(kept_splits(beside), restored.ahead)

    # Barriers --------------------------------------------------------------------------------

    def barrier(
        self, channel: ChannelId, barrier: Barrier, now_us: int, outputs: Outputs
    ) -> list[Effect]:
        """Take a barrier from a channel: the snapshot, if it is the last one."""
        complete = self._alignment.barrier(channel, barrier, now_us)
        self._aligned_us = now_us - self._alignment.since_us
        return self._go_on(complete, outputs)

    def finish(self, channel: ChannelId, outputs: Outputs) -> list[Effect]:
        """Note the end of a channel: nobody waits for its barrier."""
        self._aligned_us = self._clock.monotonic_us() - self._alignment.since_us
        return self._go_on(self._alignment.finish(channel), outputs)

    def give_up(self, checkpoint_id: int) -> None:
        """Let go of a checkpoint that will not be completed."""
        self._alignment.give_up(checkpoint_id)
        self._positions.pop(checkpoint_id, None)
        self._release()

    def without_waiting(self, now_us: int, outputs: Outputs) -> list[Effect]:
        """Take the snapshot before all rows before the barrier are through, if it waits for long.

        It overtakes nothing: the barriers must have arrived, the rows before them are kept.
        """
        pending, due_us = self._alignment.pending, self._unaligned_us
        if pending is None or due_us is None or now_us < due_us or pending.for_others:
            return []
        frames = self._inbox.before(pending.checkpoint_id, self._alignment.missing)
        self._aligned_us = now_us - self._alignment.since_us
        return [] if frames is None else self.take(pending, outputs, tuple(frames))

    def dues(self, *, begun: bool) -> Iterator[int]:
        """Tell when waiting ends; in the middle of an element nothing can be taken."""
        if self._unaligned_us is not None and not begun:
            pending = self._alignment.pending
            assert pending is not None, "what is due is pending"
            missing = self._alignment.missing
            if self._inbox.before(pending.checkpoint_id, missing) is not None:
                yield self._unaligned_us

    @property
    def _unaligned_us(self) -> int | None:
        after_us = None if self._settings is None else self._settings.unaligned_after_us
        pending = self._alignment.pending
        if after_us is None or pending is None or pending.for_others:
            return None
        return self._alignment.since_us + after_us

    def _go_on(self, complete: Barrier | None, outputs: Outputs) -> list[Effect]:
        if complete is not None:
            return self.take(complete, outputs)
        self._release()  # a newer barrier may have given an older one up
        for channel in self._alignment.held:
            self._inbox.hold(channel)
        return []

    def _release(self) -> None:
        self._inbox.release(but=self._alignment.held)

    # Snapshots -------------------------------------------------------------------------------

    def take(
        self, barrier: Barrier, outputs: Outputs, channels: tuple[bytes, ...] = ()
    ) -> list[Effect]:
        """Take the snapshot, and let the barrier go on."""
        checkpoint_id = barrier.checkpoint_id
        if checkpoint_id <= self._taken:
            return []  # it was asked for twice
        self._taken, began_us = checkpoint_id, self._clock.monotonic_us()
        self._prepare(checkpoint_id)
        operators: dict[str, Snapshot] = {}
        beside: Snapshot = ()
        if barrier.target:
            operators = self._chain.snapshot()
        elif self._settings is not None:
            operators = self._changes()
        if barrier.target or self._settings is not None:
            beside = self._keep_splits(checkpoint_id, operators)
        if self._settings is not None and self._settings.unaligned_after_us is not None:
            # Also where nothing waits: each subtask takes up its own again.
            head = self._chain.nodes[0].uid
            operators[head] = (*operators.get(head, ()), frames_section(channels))
        sync_us = self._clock.monotonic_us() - began_us
        self.newest = SnapshotFigures(checkpoint_id, self._aligned_us, sync_us)
        self._aligned_us = 0
        keep = Keep(
            checkpoint_id,
            barrier.target,
            operators,
            self.prepared,
            () if self._splits is None else self._splits.names,
            self.newest,
            barrier.stops,
        )
        self._alignment.passed(checkpoint_id)
        self._release()
        self._at_rest = None if channels else (checkpoint_id, beside)
        self._chain.touched = False
        return [*outputs.urgent(barrier), keep]

    def _changes(self) -> dict[str, Snapshot]:
        changes = self._chain.changes()
        if not self._begins:
            return changes
        self._begins = False
        return self._chain.snapshot()  # the same moment, as a whole: what follows stands behind it

    def resting(self, subtask: SubtaskId, checkpoint_id: int) -> Resting | None:
        """Give the operators as they were at a checkpoint; None where that is not certain."""
        if self._at_rest is None or self._at_rest[0] != checkpoint_id or self._chain.touched:
            return None
        at_rest = Resting(subtask, checkpoint_id, self._chain, self._at_rest[1])
        if self._splits is None:
            return at_rest
        return replace(at_rest, ahead=self._splits.ahead, awaited=self._splits.awaited)

    @property
    def prepared(self) -> Prepared:
        """What sinks have written and, as far as this subtask knows, nobody has made visible."""
        return tuple(self._prepared.items())

    def _prepare(self, checkpoint_id: int) -> None:
        written = {
            node.uid: _packed(node, some)
            for node, operator in self._chain.sinks()
            if (some := operator.prepare_commit(checkpoint_id))
        }
        if written:
            self._prepared[checkpoint_id] = written

    def _keep_splits(self, checkpoint_id: int, operators: dict[str, Snapshot]) -> Snapshot:
        if self._splits is None:
            return ()
        kept = self._splits.kept()
        uid, section = self._chain.nodes[0].uid, splits_section(kept)
        operators[uid] = (*operators.get(uid, ()), section)
        self._positions[checkpoint_id] = kept
        return (section,)

    # What follows ----------------------------------------------------------------------------

    def completed(self, checkpoint_id: int) -> list[Acknowledge]:
        """Tell readers how far a durable checkpoint has come."""
        kept = self._positions.pop(checkpoint_id, None)
        for older in [n for n in self._positions if n < checkpoint_id]:
            del self._positions[older]
        if kept is None or self._splits is None:
            return []
        return list(self._splits.acknowledge(kept))

    def commit(self, order: Commit) -> Tell:
        """Make visible what was prepared, checkpoint by checkpoint."""
        specs: dict[str, Any] = {node.uid: node.spec for node, _ in self._chain.sinks()}
        gathered: dict[tuple[int, str], list[Any]] = {}
        for checkpoint_id, prepared in order.prepared:
            for uid, packed in prepared.items():
                gathered.setdefault((checkpoint_id, uid), []).extend(pickle.loads(packed))
        for (checkpoint_id, uid), committables in gathered.items():
            spec = specs[uid]
            assert isinstance(spec, SinkSpec), "a sink operator has a sink's spec"
            sink.commit(spec, checkpoint_id, committables)
        return Tell(Committed(order.checkpoint_id))

    def settled(self, checkpoint_id: int) -> None:
        """Forget what is visible."""
        for older in [n for n in self._prepared if n <= checkpoint_id]:
            del self._prepared[older]


def _packed(node: ChainNode, committables: list[Any]) -> bytes:
    try:
        return pickled(committables)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise SinkError(
            f'what the writer of "{node.name}" has prepared cannot be kept: {error}',
            where=node.where,
            hint="prepare_commit() gives plain values, such as paths and ids, that can be pickled",
        ) from error
