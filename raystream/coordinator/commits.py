"""Who makes visible what sinks have prepared.

That is the subtask that did; for a sink that commits as a whole, and after a recovery, the first
subtask of its chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raystream.coordinator.events import Effect, Tell
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Commit, Prepared
from raystream.flow.snapshots import Manifest, SubtaskSnapshot
from raystream.graph.physical import PhysicalPlan
from raystream.operators.sink import SinkSpec


class Commits:
    """The commits of one attempt, one checkpoint at a time."""

    def __init__(self, plan: PhysicalPlan) -> None:
        self._first: dict[str, SubtaskId] = {}
        self._as_a_whole: dict[str, SubtaskId] = {}
        writers: dict[SubtaskId, None] = {}
        for chain in plan.chains:
            for node in chain.nodes:
                if isinstance(node.spec, SinkSpec):
                    self._first[node.uid] = chain.subtasks[0]
                    writers |= dict.fromkeys(chain.subtasks)
                    if node.spec.sink.global_commit:
                        self._as_a_whole[node.uid] = chain.subtasks[0]
        self.writers = list(writers)
        self._added: dict[int, dict[SubtaskId, Prepared]] = {}
        self._waiting: set[SubtaskId] = set()
        self._settled = 0

    @property
    def under_way(self) -> bool:
        """Whether a commit is to be confirmed."""
        return bool(self._waiting)

    def add(self, checkpoint_id: int, acks: Mapping[SubtaskId, SubtaskSnapshot]) -> None:
        """Take what the subtasks had prepared up to a checkpoint."""
        self._added[checkpoint_id] = self._shares(
            ((s, snapshot.prepared) for s, snapshot in acks.items()), self._as_a_whole
        )

    def recover(self, manifest: Manifest) -> None:
        """Take all that a restored checkpoint had prepared: nobody is left who did it."""
        parts = ((one.subtask, one.prepared) for one in manifest.subtasks)
        self._added[manifest.checkpoint_id] = self._shares(parts, self._first)

    def begin(self, checkpoint_id: int) -> list[Effect]:
        """Order the commits of a checkpoint; none where nothing was prepared."""
        assert not self._waiting, "one checkpoint commits after the other"
        shares = self._added.pop(checkpoint_id)
        orders: list[Effect] = []
        for subtask, prepared in shares.items():
            new = tuple((epoch, some) for epoch, some in prepared if epoch > self._settled)
            if new:
                self._waiting.add(subtask)
                orders.append(Tell(subtask, Commit(checkpoint_id, new)))
        self._settled = checkpoint_id
        return orders

    def confirm(self, subtask: SubtaskId) -> bool:
        """Take that a subtask has committed; True once all have."""
        self._waiting.discard(subtask)
        return not self._waiting

    def _shares(
        self, parts: Iterable[tuple[SubtaskId, Prepared]], moved: Mapping[str, SubtaskId]
    ) -> dict[SubtaskId, Prepared]:
        gathered: dict[SubtaskId, list[tuple[int, Mapping[str, bytes]]]] = {}
        for subtask, prepared in parts:
            for epoch, some in prepared:
                for uid, packed in some.items():
                    if uid not in self._first:
                        continue  # its sink is gone from the job, as somebody has allowed
                    to = moved.get(uid, subtask)
                    gathered.setdefault(to, []).append((epoch, {uid: packed}))
        return {
            subtask: tuple(sorted(some, key=lambda one: one[0]))
            for subtask, some in gathered.items()
        }
