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
from raystream.errors import ConfigError, NotFound
from raystream.flow.control import JobStatus, OperatorStatus
from raystream.flow.element import MAX_TIME
from raystream.graph.described import described
from raystream.graph.planner import physical_plan
from raystream.ops.http.security import Door, door
from raystream.ops.http.server import Api
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


@dataclass
class Seen:
    """What a coordinator would publish."""

    job_id: str = JOB_ID
    status: Any = None
    over: bool = False
    attempt: int = 1
    checkpoints: tuple = ()


@dataclass
class FakeJob:
    """A job that has run in this process, and notes what it is asked."""

    root: str
    shown: dict
    name: str = JOB
    asked: list = field(default_factory=list)
    stuck: threading.Event | None = None
    fails: Exception | None = None

    def look(self):
        if self.stuck is not None:
            self.stuck.wait(30)
        if self.fails is not None:
            raise self.fails
        names = [one["name"] for chain in self.shown["chains"] for one in chain["operators"]]
        times = [None, 5 * SECOND_US, MAX_TIME]
        operators = tuple(
            OperatorStatus(name, 2, 10 + i, 10, times[i % 3], 0.2, 0.1, 0.7, 1, 0)
            for i, name in enumerate(names)
        )
        made = (
            CheckpointFigures(3, 1, "completed", 10, 20, 1_000, 10),
            CheckpointFigures(4, 1, "failed", 30, 20, reason="a subtask cannot store its part"),
        )
        return Seen(status=JobStatus(JOB, "running", 12.5, operators), checkpoints=made)

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

    def profile(self, operator, subtask, *, seconds):
        self.asked.append(("profile", operator, subtask, seconds))
        stacks = {("t", (Frame("f", "f.py", 1), Frame("g", "g.py", 2))): Cost(3, 3_000_000)}
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
        return [(self.job.name, self.job.look()), ("silent", None)]

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
        client = TestClient(TestServer(self.api.app()))
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
