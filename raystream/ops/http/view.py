"""What the HTTP API needs to know of jobs: a cluster's, or plain objects of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from raystream.coordinator.report import JobReport
from raystream.flow.control import Rescaling
from raystream.runtime.profiler import Profile
from raystream.storage.states import Held


class JobView(Protocol):
    """One job: what it is at, and what may be asked of it. Any call may take a while."""

    @property
    def name(self) -> str:
        """Its name, which no other running job has."""
        ...

    def report(self) -> JobReport:
        """Give all that is known of it."""
        ...

    def rescalings(self) -> Sequence[Rescaling]:
        """Give how its size has changed, newest last."""
        ...

    def plan(self) -> Mapping[str, Any]:
        """Give what runs, and the job's settings, as JSON has them."""
        ...

    def states(self) -> Sequence[Held]:
        """Tell what the newest checkpoint holds."""
        ...

    def state(self, uid: str, name: str) -> pa.Table:
        """Read a state of the newest checkpoint; one that is pickled is refused."""
        ...

    def sample(
        self, operator: str, *, subtask: int | None, rows: int, seconds: float
    ) -> Sequence[Mapping[str, Any]]:
        """Give rows that leave an operator now."""
        ...

    def profile(
        self, operator: str, subtask: int | None, *, seconds: float, native: bool
    ) -> Profile:
        """Tell where the process of a subtask spends its time, in compiled code too if asked."""
        ...

    def place(self, name: str) -> str:
        """Give the URL of a savepoint of a name beside the job's checkpoints."""
        ...

    def savepoint(self, path: str | None = None) -> str:
        """Make a savepoint."""
        ...

    def stop(self, savepoint: bool | str = True, drain: bool = False) -> str | None:
        """Stop it behind a savepoint."""
        ...

    def cancel(self) -> None:
        """End it where it stands."""

    def rescale(self, to: int | Mapping[str, int]) -> None:
        """Change how many subtasks run it."""


class JobsView(Protocol):
    """The jobs that a server tells of; it knows of no others."""

    def list(self) -> Sequence[tuple[str, JobReport | None]]:
        """Give each job's name and what it is at; None where it does not answer soon."""
        ...

    def attach(self, job: str) -> JobView:
        """Find a job by its name or id.

        Raises: NotFound.
        """
        ...
