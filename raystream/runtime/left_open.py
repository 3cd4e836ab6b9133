"""What rests between two attempts of a job in one process: each goes on, or is closed."""

from __future__ import annotations

import logging
from collections.abc import Collection

from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.subtask.handing_over import OpenReaders, Resting

_LOG = logging.getLogger("raystream")


class LeftOpen:
    """What closed subtasks have left open for the next attempt."""

    def __init__(self) -> None:
        self._resting: dict[SubtaskId, Resting] = {}

    @property
    def subtasks(self) -> list[SubtaskId]:
        """Whose operators rest."""
        return list(self._resting)

    def put(self, resting: Resting | None) -> None:
        """Take what a subtask has left open, if anything."""
        if resting is not None:
            self._resting[resting.subtask] = resting

    def keep(self, plan: PhysicalPlan, chains: Collection[str]) -> None:
        """Close what does not go on in an attempt: all of a chain does, or nothing of it."""
        whole = {c for c in chains if self._resting.keys() >= set(plan.chain(c).subtasks)}
        for subtask in [one for one in self._resting if one.chain not in whole]:
            close(self._resting.pop(subtask))

    def take(self, subtask: SubtaskId) -> Resting | None:
        """Give what a subtask goes on with, if anything: it is the caller's now."""
        return self._resting.pop(subtask, None)

    def lose(self, subtask: SubtaskId) -> None:
        """Forget what a process held that is no more."""
        self._resting.pop(subtask, None)

    def close(self) -> None:
        """Close all: no attempt follows."""
        while self._resting:
            close(self._resting.popitem()[1])


def with_readers(
    resting: Resting | None, readers: OpenReaders | None, *, still: bool = True
) -> Resting | None:
    """Leave the readers of a subtask open beside its operators, or close them.

    They go on only where all that they were asked for is known: ``still`` nothing is under way.
    """
    if readers is None:
        return resting
    if resting is not None and still and not resting.awaited:
        return resting.reading(readers)
    if resting is not None:
        _LOG.debug("%s: its readers are opened anew, an answer is missing", resting.subtask)
    readers.close()
    return resting


def close(resting: Resting | None) -> None:
    """Close what nobody goes on with; their attempt is over, and cannot fail any more."""
    if resting is None:
        return
    try:
        resting.close()
    except Exception:  # noqa: BLE001  the edge of the shell: users' code is closed here
        _LOG.warning("%s: what was left open cannot be closed", resting.subtask, exc_info=True)
