"""The jobs of a Ray cluster as the HTTP API sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raystream.api import running
from raystream.coordinator.report import JobReport
from raystream.errors import NotFound
from raystream.ops.http.view import JobView

_SOON_S = 3.0
"""A job that has not answered by then does not keep the list of all waiting."""


class ClusterJobs:
    """All jobs of the cluster that RAY_ADDRESS names, or one of them."""

    def __init__(self, only: str | None = None) -> None:
        self._only = only

    def list(self) -> Sequence[tuple[str, JobReport | None]]:
        return [(name, seen) for name, _, seen in self._overview()]

    def attach(self, job: str) -> JobView:
        found: JobView | None = running.driver().named(job) if self._only in (None, job) else None
        if found is not None:
            return found
        known = self._overview()
        for _, handle, seen in known:
            if seen is not None and job == seen.job_id:
                found = handle
                assert found is not None, "a job that is seen has a handle"
                return found
        listed = ", ".join(name for name, _, _ in known) or "none"
        raise NotFound("no such job is known here", hint=f"known jobs: {listed}")

    def _overview(self) -> Sequence[tuple[str, Any, JobReport | None]]:
        known = running.driver().overview(_SOON_S)
        return [one for one in known if self._only in (None, one[0])]
