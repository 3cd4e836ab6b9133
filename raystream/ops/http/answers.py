"""What goes out: JSON that every reader takes, and refusals that say what to do instead."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from raystream.errors import (
    ClusterError,
    ConfigError,
    ExternalError,
    JobFailed,
    NotFound,
    PlanError,
    RaystreamError,
    UserError,
)


class Refused(UserError):  # noqa: N818  the name says what happened
    """A request that is not answered, with the status and the code that say why."""

    def __init__(self, status: int, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status and its text."""

    status: int
    text: str
    content_type: str = "application/json"


_STATUS: tuple[tuple[type[RaystreamError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (PlanError, 422, "cannot_be"),
    (ConfigError, 409, "not_so_configured"),
    (UserError, 422, "cannot_be"),
    (JobFailed, 409, "job_failed"),
    (ClusterError, 504, "no_answer"),
    (ExternalError, 502, "outside_failed"),
)
"""What a failure is called; the first that fits counts."""


def answer(value: Any, status: int = 200) -> Answer:
    """Answer with a value as JSON; a text is Prometheus's and goes out as it is."""
    if isinstance(value, str):
        return Answer(status, value, "text/plain; version=0.0.4")
    return Answer(status, json_text(value))


def problem(error: RaystreamError) -> Answer:
    """Say what went wrong; tracebacks stay where they are."""
    if isinstance(error, Refused):
        status, code = error.status, error.code
    else:
        fits = ((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
        status, code = next(fits, (500, "bug"))
    said = {"code": code, "message": error.message, "hint": error.hint}
    return answer({"error": said}, status)


def json_text(value: Any) -> str:
    """Write JSON that is ASCII, and holds neither NaN nor infinities: null stands for those."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _finite(getattr(value, field.name)) for field in fields}
    return value
