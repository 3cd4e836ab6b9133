"""Which operators stay open from one attempt to the next, because nothing changes for them.

Only behind the barrier of a move, where every subtask is at the checkpoint that the next attempt
begins from; only in chains that both plans have, in processes that stay; and only where all
subtasks of a chain have found that nothing has touched their operators since. One that is restored
takes its part of what all had kept, which must not be open elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raystream.coordinator.events import CloseSubtask
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest
from raystream.graph.physical import PhysicalPlan


class Staying:
    """What is known of it while an attempt closes; forgotten when anything else comes between."""

    def __init__(self) -> None:
        self._offered: tuple[int, PhysicalPlan, frozenset[str]] | None = None
        self._closing = False
        self._rest: set[SubtaskId] = set()

    def offer(
        self,
        checkpoint_id: int,
        plan: PhysicalPlan,
        unchanged: Iterable[str],
        leaving: Collection[SubtaskId],
    ) -> None:
        """Let the operators of some chains stay, for the attempt that follows at once."""
        moved = {subtask.chain for subtask in leaving}
        self._offered = (checkpoint_id, plan, frozenset(unchanged) - moved)
        self._closing = False

    def close(self, plan: PhysicalPlan) -> list[CloseSubtask]:
        """Close an attempt; what was offered counts for the first that closes, and no other."""
        if self._closing:
            self._offered = None
        self._closing, self._rest = True, set()
        if self._offered is None:
            return [CloseSubtask(subtask) for subtask in plan.subtasks]
        checkpoint_id, _, chains = self._offered
        return [CloseSubtask(s, checkpoint_id if s.chain in chains else 0) for s in plan.subtasks]

    def closed(self, subtask: SubtaskId, *, rests: bool) -> None:
        """Note that a subtask has closed, and whether its operators rest."""
        if rests:
            self._rest.add(subtask)

    def take(self, plan: PhysicalPlan, manifest: Manifest | None) -> frozenset[str]:
        """Name the chains whose operators go on in the attempt that begins; it is asked once."""
        offered, self._offered = self._offered, None
        if offered is None or manifest is None:
            return frozenset()
        checkpoint_id, planned, chains = offered
        if planned is not plan or manifest.checkpoint_id != checkpoint_id:
            return frozenset()
        return frozenset(
            name for name in chains if self._rest.issuperset(plan.chain(name).subtasks)
        )
