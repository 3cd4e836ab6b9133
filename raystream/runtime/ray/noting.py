"""What the process of a subtask logs and prints, told to its coordinator with each heartbeat."""

from __future__ import annotations

from typing import Any

from raystream.clock import SystemClock
from raystream.config import Limits
from raystream.flow.ids import SubtaskId
from raystream.runtime.journal import Notes, record


class Noting:
    """Notes lines from the first deployment on, as those of the newest one's subtask."""

    def __init__(self) -> None:
        self._notes: Notes | None = None
        self._where: dict[str, Any] = {}

    def deployed(self, subtask: SubtaskId, attempt: int, job: str, limits: Limits) -> None:
        """Begin, or go on as another subtask."""
        self._where = {
            "job": job,
            "operator": subtask.chain,
            "subtask": str(subtask),
            "attempt": attempt,
        }
        if self._notes is None:
            self._notes = Notes(SystemClock(), limits.log_lines_sent_max)
            record(self._notes.note, limits, lambda: self._where)
        self._notes.chain, self._notes.index = subtask.chain, subtask.index
        self._notes.subtask = str(subtask)
        self._notes.attempt = attempt

    def tell(self, coordinator: Any) -> None:
        """Send what there is, if anything."""
        lines = [] if self._notes is None else self._notes.take()
        if lines:
            coordinator.log.options(num_returns=0, concurrency_group="report").remote(lines)


NOTING = Noting()
"""A process has one: it is the process that logs and prints, whatever actor is in it."""
