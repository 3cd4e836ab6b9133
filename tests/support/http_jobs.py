"""Jobs of plain objects behind the HTTP API, and somebody who asks it."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from aiohttp.test_utils import TestClient, TestServer

import raystream as rs
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.report import (
    Failure,
    JobReport,
    OperatorRates,
    StateChange,
    SubtaskReport,
)
from raystream.errors import ConfigError, NotFound
from raystream.flow.control import (
    JobStatus,
    OperatorFigures,
    OperatorStatus,
    Rescaling,
    SubtaskFigures,
)
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.figures import (
    HistogramFigures,
    InputFigures,
    OutputFigures,
    ProcessFigures,
    SnapshotFigures,
)
from raystream.flow.ids import SubtaskId
from raystream.graph.described import described
from raystream.graph.planner import physical_plan
from raystream.ops.http.security import Door, door
from raystream.ops.http.server import Api
from raystream.ops.http.serving import PLAIN
from raystream.runtime.profiler import Cost, Frame, Profile
from raystream.storage import states

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105  of a server that lives as long as a test
JOB = "hot items"
JOB_ID = "20260102T030405678Z-ab12"
SECOND_US = 1_000_000


def counted(seen: int, row: dict) -> tuple[int, dict]:
    return seen + 1, {"user": row["user"], "seen": seen + 1}


def job_of(folder: str) -> rs.Job:
    """Give a job that keeps a typed state and one that is pickled."""
    job = rs.Job(JOB, checkpoint=folder, runtime="local", parallelism=2)
    users = job.from_items(pa.table({"user": list("abcabca")})).named("users/a")
    keyed = users.key_by("user")
    keyed.map_with_state(counted, 0, type=pa.int64()).uid("count").sink(rs.MemorySink())
    keyed.map_with_state(counted, 0).uid("loose").sink(rs.MemorySink())
    return job


def report_of(shown: dict) -> JobReport:
    """Give a report with something of everything in it, about a plan."""
    names = [(chain, one["name"]) for chain in shown["chains"] for one in chain["operators"]]
    times = [None, 5 * SECOND_US, MAX_TIME]
    histogram = {"ms": HistogramFigures((1, 2), 3.5)}
    operators = tuple(
        OperatorStatus(
            name,
            chain["parallelism"],
            10 + i,
            10,
            times[i % 3],
            *(0.2, 0.1, 0.7, 1, 0),
            chain=chain["name"],
            counters={"seen": 7},
            gauges={"level": float("nan")},
            histograms=histogram,
        )
        for i, (chain, name) in enumerate(names)
    )
    made = (
        CheckpointFigures(
            3,
            1,
            "completed",
            10,
            20,
            1_000,
            10,
            parts={
                "a[0/2]": SnapshotFigures(3, 1, 2, 3, 4),
                "a[1/2]": SnapshotFigures(3, 1, 2, 3, 9),
            },
            state={"count": (3, 900)},
        ),
        CheckpointFigures(4, 1, "failed", 30, 20, reason="a subtask cannot store its part"),
    )
    return JobReport(
        JOB_ID,
        9 * SECOND_US,
        JobStatus(JOB, "running", 12.5, operators),
        1,
        2,
        tuple(subtask_of(chain, index) for chain in shown["chains"] for index in (0, 1)),
        made,
        (
            Failure(1, 1, "a[0/2]", "ValueError", "first"),
            Failure(2, 1, "a[1/2]", "KeyError", "then", "job.py:7", "count"),
        ),
        (StateChange(1, 1, "starting", "running"),),
    )


def subtask_of(chain: dict, index: int) -> SubtaskReport:
    """Give a subtask of a chain that something holds."""
    counted = tuple(OperatorFigures(one["name"], 5, 4) for one in chain["operators"])
    rates = tuple(OperatorRates(one["name"], 0.5, 3.5, 2.0) for one in chain["operators"])
    inputs = (
        InputFigures("up[0/2]", "active", MIN_TIME, None, 3),
        InputFigures("up[1/2]", "finished", MAX_TIME),
    )
    figures = SubtaskFigures(
        SubtaskId(chain["name"], index, 2),
        counted,
        5 * SECOND_US,
        *(10, 20, 30),
        inputs=inputs,
        inputs_active=1,
        outputs=(OutputFigures(0, "down", 100, 7, 1),),
        process=ProcessFigures(42, 1_000, "n", "10.0.0.1"),
        snapshot=SnapshotFigures(3),
    )
    return SubtaskReport(figures, 5, SECOND_US, 0.2, 0.1, 1.0000001, 3.5, 2.5, 1.0, 0.0, rates)


@dataclass
class FakeJob:
    """A job that has run in this process, and notes what it is asked."""

    root: str
    shown: dict
    name: str = JOB
    asked: list = field(default_factory=list)
    stuck: threading.Event | None = None
    fails: Exception | None = None
    py_spy: bool = True

    def report(self):
        if self.stuck is not None:
            self.stuck.wait(30)
        if self.fails is not None:
            raise self.fails
        return report_of(self.shown)

    def rescalings(self):
        return [
            Rescaling(1, "", {"a": 1}, {"a": 2}, "done", 7),
            Rescaling(2, "it is busy", {"a": 2}, {"a": 3}),
        ]

    def plan(self):
        return self.shown

    def states(self):
        return states.held(self.root)

    def state(self, uid, name):
        return states.read(self.root, uid, name)

    def sample(self, operator, *, subtask, rows, seconds):
        self.asked.append(("sample", operator, subtask, rows, seconds))
        row = {"subtask": subtask or 0, "value": {"user": "a"}, "timestamp_us": 7, "op": None}
        return [row] * min(rows, 3)

    def profile(self, operator, subtask, *, seconds, native):
        self.asked.append(("profile", operator, subtask, seconds, native))
        stacks = {("t", (Frame("f", "f.py", 1), Frame("g", "g.py", 2))): Cost(3, 3_000_000)}
        if native and not self.py_spy:
            hint = "pip install 'raystream[native]', on every node"
            raise ConfigError("native frames need the program py-spy", hint=hint)
        if native:
            stacks["t", (Frame("f", "f.py", 1), Frame("sha256", "ssl.so", 0))] = Cost(1, 1_000_000)
        return Profile(operator, 1.0, 3, True, stacks)

    def place(self, name):
        if name == "taken":
            raise ConfigError('there is a savepoint "taken" already')
        return f"s3://kept/{name}"

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


class FakeJobs:
    """A cluster of one job."""

    def __init__(self, job: FakeJob) -> None:
        self.job = job

    def list(self):
        return [(self.job.name, self.job.report()), ("silent", None)]

    def attach(self, job):
        if job not in (self.job.name, JOB_ID):
            raise NotFound("no such job is known here", hint=f"known jobs: {self.job.name}")
        return self.job


def ran(folder) -> FakeJob:
    """Run a job, and give what is left of it as one that runs."""
    job = job_of(str(folder))
    job.run()
    (root,) = (folder / "hot%20items").glob("*Z-*")
    return FakeJob(str(root), json.loads(json.dumps(described(physical_plan(job._draft.plan())))))


@dataclass
class Said:
    """An answer."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Asker:
    """Asks an API that runs in this thread, with the token if not told otherwise."""

    def __init__(self, jobs: FakeJobs, guarded: Door | None = None, **more: Any) -> None:
        self._loop = asyncio.new_event_loop()
        guarded = door("127.0.0.1", TOKEN) if guarded is None else guarded
        self.api = Api(jobs, guarded, **more)
        self.client = self.run(self._started())

    async def _started(self) -> TestClient:
        server = TestServer(self.api.app())
        await server.start_server(**PLAIN)
        client = TestClient(server)
        await client.start_server()
        return client

    def run(self, what: Any) -> Any:
        return self._loop.run_until_complete(what)

    def close(self) -> None:
        self.run(self.client.close())
        self._loop.close()

    def __call__(self, method: str, path: str, **more: Any) -> Said:
        return self.run(self.ask(method, path, **more))

    async def ask(self, method: str, path: str, *, token: str | None = TOKEN, **more: Any) -> Said:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token}")
        from yarl import URL

        base = self.client.make_url("/")
        url = URL(f"{str(base).rstrip('/')}{path}", encoded=True)
        async with self.client.session.request(method, url, headers=headers, **more) as response:
            return Said(response.status, dict(response.headers), await response.read())
