"""What a subtask tells its coordinator: all of it in order, and nothing is waited for."""

from __future__ import annotations

import contextlib
from typing import Any

import ray

from raystream.coordinator import events as job
from raystream.flow.control import SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Report
from raystream.runtime.ray.handed import HandedOver, References
from raystream.runtime.ray.noting import NOTING
from raystream.runtime.ray.report import pack_report
from raystream.runtime.shell import travelling


class Telling:
    """The words of one subtask in one attempt."""

    def __init__(self, coordinator: Any, job_name: str, subtask: SubtaskId, attempt: int) -> None:
        self._coordinator = coordinator
        self._job, self._subtask, self._attempt = job_name, subtask, attempt

    def say(self, report: Report) -> None:
        """Tell what has become of an order."""
        self.report(job.Said(self._subtask, self._attempt, report))

    def failed(self, error: BaseException) -> None:
        """Tell what broke."""
        self.report(job.Failed(self._subtask, travelling(self._job, error), self._attempt))

    def report(self, report: job.Event | SubtaskFigures) -> None:
        """Tell anything."""
        self._coordinator.report.options(num_returns=0, concurrency_group="report").remote(
            pack_report(report)
        )

    def hand_over(self, references: References) -> None:
        """Give what the next attempt reads: as arguments, for Ray to know who holds them."""
        if references:
            handed = HandedOver(self._attempt, references)
            take = self._coordinator.take.options(num_returns=0, concurrency_group="report")
            take.remote(handed)

    def notes(self) -> None:
        """Send what was logged and printed, if anything."""
        NOTING.tell(self._coordinator)

    def taken(self) -> None:
        """Return when all of it is taken."""
        self.notes()
        taken = self._coordinator.report_taken.options(concurrency_group="report").remote()
        with contextlib.suppress(ray.exceptions.RayError):  # nobody is left to hear
            ray.get(taken)
