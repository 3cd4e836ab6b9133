"""A cluster in words: one job that notes what it is asked, and a driver that knows it, or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.report import Failure, JobReport
from raystream.errors import ClusterError, NotFound
from raystream.flow.control import JobResult, JobStatus, OperatorStatus, Rescaling
from raystream.runtime.journal import LogLine
from raystream.runtime.profiler import Cost, Frame, Profile

SECOND_US = 1_000_000
RUNNING = {"job": "hot", "attempt": 1, "state": "running", "from": "starting", "to": "running"}
LINES = [
    LogLine(3 * SECOND_US, "warning", "slow", "count", 1, 1),
    LogLine(1 * SECOND_US, "info", "running", fields=RUNNING),
    LogLine(2 * SECOND_US, "print", "seen 1", "source#1", 0, 1),
]


@dataclass
class Handle:
    """A job that notes what it is asked; it passes ten rows a second."""

    name: str = "hot"
    id: str = "hot-1"
    state: str = "running"
    asked: list = field(default_factory=list)
    looked: int = 0

    def status(self):
        return self.state

    def checkpoints(self):
        return [CheckpointFigures(3, 1, "completed", 0, 20, 1_000)]

    def report(self):
        self.looked += 1
        operator = OperatorStatus("count", 2, 10 * self.looked, 5 * self.looked, busy=0.75)
        said = "the size fits: count is busiest, 40% of its time"
        status = JobStatus("hot", "running", float(self.looked), (operator,), said)
        failure = Failure(0, 1, "count[0/2]", "ValueError", "no such price\nin row 3")
        return JobReport(
            self.id,
            5 * SECOND_US,
            status,
            attempt=2,
            restarts=1,
            checkpoints=tuple(self.checkpoints()),
            failures=(failure,),
        )

    def rescalings(self):
        return [Rescaling(0, "", {"count": 2}, {"count": 4}, "done", 300_000)]

    def lines(self, before=None):
        later = [LogLine(4 * SECOND_US, "error", "late", "count", 0, 1)]
        chains = {"count": frozenset({"count", "count-uid"}), "source#1": frozenset({"source#1"})}
        return SimpleNamespace(
            by="me", count=3, lines=later if before else LINES, chains=chains, over=bool(before)
        )

    def profile(self, operator, subtask, *, seconds):
        work = Frame("work", "job.py", 3)
        stacks = {("mailbox", (work,)): Cost(10, 1_000_000)}
        return Profile(f"{operator}[{subtask}]", seconds, 10, cpu_known=True, stacks=stacks)

    def savepoint(self, path=None):
        self.asked.append(("savepoint", path))
        return path or "s3://kept/1"

    def stop(self, savepoint=True, drain=False):
        self.asked.append(("stop", savepoint, drain))
        return "s3://kept/2" if savepoint else None

    def cancel(self):
        self.asked.append(("cancel",))

    def rescale(self, to):
        self.asked.append(("rescale", to))


class Cluster:
    """A driver that knows one job."""

    def __init__(self):
        self.job = Handle()

    def attach(self, name):
        if name not in (self.job.name, self.job.id):
            raise NotFound(f'no job "{name}" is known to this cluster', hint="known jobs: hot")
        return self.job

    def list_jobs(self):
        return [self.job]

    def overview(self, timeout_s):
        return [(self.job.name, self.job, self.job.report())]

    def submit(self, plan, **_):
        self.job.asked.append(("submit", plan.job))
        return self.job

    def run(self, plan, **_):
        self.job.asked.append(("run", plan.job))
        return JobResult("finished", 1.0)


class Gone:
    """A driver whose cluster is not there."""

    def __getattr__(self, _):
        def unreachable(*_, **__):
            raise ClusterError("cannot reach Ray at 127.0.0.1:1", hint="check RAY_ADDRESS")

        return unreachable
