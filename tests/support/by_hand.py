"""A job in this process, in the hands of a test: it goes on only while somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import raystream as rs
from raystream.clock import Clock
from raystream.coordinator import events as job
from raystream.coordinator.states import Beginning
from raystream.graph.rescaling import Replan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.vault import Home, Vault


class ByHand:
    """``pace`` lets time go by, told whether the job did anything; False: there is none left."""

    def __init__(
        self,
        made: rs.Job,
        folder: Path,
        clock: Clock,
        pace: Callable[[bool], bool],
        source: str = "",
    ) -> None:
        replan, beginning = Replan(made._draft.plan()), Beginning("me", source=source)
        plan = replan.plan({})
        self.vault = Vault(plan, Home(str(folder), "id", beginning))
        self.local = LocalJob(
            plan, clock, None, vault=self.vault, beginning=beginning, replan=replan
        )
        self._pace = pace
        self.local.begin()

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self.local.over:
                self.local.result()  # raises what it has failed of
            if self.local.over or not self._pace(self.local.advance()):
                raise AssertionError(f"{self.local.state}: it does not come to that")

    def rescale(self, scale: Mapping[str, int], request: str) -> None:
        answer = self._asked(job.RescaleAsked(request, scale))
        assert answer.error == ""

    def stop(self, target: str) -> str:
        """Stop behind a savepoint, and give its URL."""
        answer = self._asked(job.SavepointAsked("stop", target, stop=True))
        assert answer.error == ""
        self.until(lambda: self.local.over)
        return answer.url

    def _asked(self, asked: job.RescaleAsked | job.SavepointAsked) -> job.Answer:
        self.local.ask(asked)
        self.until(lambda: asked.request in self.local.answers)
        return self.local.answers[asked.request]
