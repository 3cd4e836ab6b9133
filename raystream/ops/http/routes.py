"""The table of routes: the router, the OpenAPI description and the page of docs come from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raystream.ops.http import changing, looking, reading
from raystream.ops.http.schemas import Schema
from raystream.ops.http.view import JobsView, JobView
from raystream.runtime.native_profile import START_S

PREFIX = "/api/v1"

READ_S = 15.0
"""A job that has not answered by then is not waited for."""

CHANGE_S = 300.0
"""A savepoint of a large job takes its time."""

Values: TypeAlias = Mapping[str, Any]
"""What a request says: the places in its path, its query, its body, each by its name."""

OfJob: TypeAlias = Callable[[JobView, Values], Any]
OfAll: TypeAlias = Callable[[JobsView, Values], Any]

NAME: Schema = {"type": "string", "maxLength": 400}


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked where, and who answers: ``of_job`` about one job, ``of_all`` about all.

    Neither: the server answers itself. ``gives`` names the shape of the answer; ``takes`` are
    fields of the body where it ``changes`` something, else of the query.
    """

    path: str
    says: str
    gives: str
    of_job: OfJob | None = None
    of_all: OfAll | None = None
    takes: Mapping[str, Schema] = field(default_factory=dict)
    changes: bool = False
    seconds: float = READ_S
    places: Mapping[str, Schema] = field(default_factory=dict)
    content: str = "application/json"

    @property
    def method(self) -> str:
        """GET, or POST where something changes."""
        return "POST" if self.changes else "GET"

    def place(self, name: str) -> Schema:
        """Give the schema of a place in the path."""
        return self.places.get(name, NAME)


def _text(says: str, **more: Any) -> Schema:
    return {"type": "string", "maxLength": 400, "description": says, **more}


def _count(says: str, least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "description": says, **more}


_SECONDS_MAX = 10
_SUBTASKS_MAX = 32_768

_SAVEPOINT_NAME: Schema = _text(
    "a name of letters, digits, `.`, `_` and `-` that does not begin with a dot",
    pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*\Z",
    maxLength=100,
)

_PARALLELISM = _count("how many subtasks", 1, _SUBTASKS_MAX)

_JOB = "/jobs/{job}"

ROUTES: tuple[Route, ...] = (
    Route(
        "/jobs", "List the jobs that run, or ended a short while ago.", "Jobs", of_all=reading.jobs
    ),
    Route(_JOB, "Tell what a job is at.", "JobDetails", reading.job),
    Route(f"{_JOB}/plan", "Show what runs, with live figures.", "Plan", reading.plan),
    Route(
        f"{_JOB}/operators", "Give the figures of its operators.", "Operators", reading.operators
    ),
    Route(
        f"{_JOB}/operators/{{operator}}/subtasks",
        "Give the figures of an operator's subtasks.",
        "Subtasks",
        reading.subtasks,
    ),
    Route(
        f"{_JOB}/watermarks", "Tell how far event time has come.", "Watermarks", reading.watermarks
    ),
    Route(
        f"{_JOB}/backpressure",
        "Tell where time goes, and who waits for whom.",
        "Backpressure",
        reading.backpressure,
    ),
    Route(
        f"{_JOB}/checkpoints",
        "List the newest checkpoints and savepoints.",
        "Checkpoints",
        reading.checkpoints,
    ),
    Route(
        f"{_JOB}/checkpoints/{{checkpoint}}",
        "Tell how one checkpoint went.",
        "CheckpointDetails",
        reading.checkpoint,
        places={"checkpoint": _count("its id", 0, 10**15)},
    ),
    Route(f"{_JOB}/exceptions", "List what broke.", "Exceptions", reading.exceptions),
    Route(f"{_JOB}/changes", "List when its state changed.", "Changes", reading.changes),
    Route(
        f"{_JOB}/diagnosis",
        "Say what holds it up, and what its watermark waits for.",
        "Diagnosis",
        reading.diagnosis,
    ),
    Route(f"{_JOB}/rescales", "Tell its size, and how it changed.", "Rescales", reading.rescales),
    Route(f"{_JOB}/config", "Show its settings.", "Config", reading.config),
    Route(f"{_JOB}/state", "List what the newest checkpoint holds.", "States", looking.states),
    Route(
        f"{_JOB}/state/{{uid}}/{{name}}",
        "Read a typed state as the newest checkpoint has it.",
        "StateRows",
        looking.state,
        takes={
            "key": {
                "type": "array",
                "items": _text("a value of a key column"),
                "maxItems": 16,
                "description": "only rows of this key; once for each column of the key",
            },
            "limit": _count("at most so many rows", 1, 1_000, default=100),
        },
    ),
    Route(
        f"{_JOB}/sample",
        "Show rows that leave an operator now.",
        "Sample",
        looking.sample,
        takes={
            "edge": _text("the id of an edge of the plan, or the operator that rows leave"),
            "subtask": _count("of one subtask alone", 0, _SUBTASKS_MAX),
            "rows": _count("at most so many", 1, 500, default=20),
            "seconds": _count("wait at most so long for them", 1, _SECONDS_MAX, default=2),
        },
        seconds=READ_S + _SECONDS_MAX,
    ),
    Route(
        f"{_JOB}/profile",
        "Profile the process of a subtask while it runs.",
        "Profile",
        looking.profile,
        takes={
            "operator": _text("one of its operators"),
            "subtask": _count("which subtask", 0, _SUBTASKS_MAX, default=0),
            "seconds": _count("for so long", 1, 60, default=5),
            "native": {
                "type": "boolean",
                "default": False,
                "description": "with frames of compiled code; needs py-spy on the subtask's node",
            },
        },
        seconds=READ_S + 60 + START_S,
    ),
    Route(
        f"{_JOB}/savepoint",
        "Make a savepoint beside its checkpoints.",
        "Savepoint",
        changing.savepoint,
        takes={"name": _SAVEPOINT_NAME},
        changes=True,
        seconds=CHANGE_S,
    ),
    Route(
        f"{_JOB}/stop",
        "Stop it behind a savepoint; what it has written becomes visible.",
        "Savepoint",
        changing.stop,
        takes={
            "name": _SAVEPOINT_NAME,
            "savepoint": {"type": "boolean", "default": True, "description": "false: make none"},
            "drain": {
                "type": "boolean",
                "default": False,
                "description": "end the input first, as if the sources had",
            },
        },
        changes=True,
        seconds=CHANGE_S,
    ),
    Route(f"{_JOB}/cancel", "End it where it stands.", "Canceled", changing.cancel, changes=True),
    Route(
        f"{_JOB}/rescale",
        "Run it, or some of its operators, with other numbers of subtasks.",
        "Rescaled",
        changing.rescale,
        takes={
            "parallelism": _PARALLELISM,
            "operators": {
                "type": "object",
                "additionalProperties": _PARALLELISM,
                "maxProperties": 200,
                "description": "numbers of subtasks by an operator's name or uid",
            },
        },
        changes=True,
        seconds=CHANGE_S,
    ),
    Route(
        "/metrics",
        "Give the metrics of all jobs as Prometheus reads them.",
        "Text",
        of_all=reading.metrics,
        content="text/plain",
    ),
    Route("/openapi.json", "Describe this API.", "Description"),
    Route(
        "/events",
        "Tell what jobs are at once a second, as server-sent events.",
        "JobDetails",
        takes={"job": _text("of this job alone")},
        content="text/event-stream",
    ),
)
