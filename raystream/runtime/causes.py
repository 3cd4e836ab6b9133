"""What a failure says of itself: whose function broke, and on which of the user's lines."""

from __future__ import annotations

import re

from raystream.coordinator import events as job
from raystream.coordinator.report import MESSAGE_CHARS_MAX
from raystream.errors import RaystreamError, UserFunctionError
from raystream.flow.past import Failure

_FILE_LINE = re.compile(r'File "([^"]+)", line (\d+)')


def failure_of(event: job.Failed, at_us: int, attempt: int) -> Failure:
    """Say what broke, and the user's line if it is known: the operator's, else the function's."""
    error = event.error
    message = error.message if isinstance(error, RaystreamError) else str(error)
    cause = error.__cause__ if isinstance(error, UserFunctionError) else None
    return Failure(
        at_us,
        event.attempt or attempt,
        "" if event.subtask is None else str(event.subtask),
        type(error if cause is None else cause).__name__,
        message[:MESSAGE_CHARS_MAX],
        _where(error),
        getattr(error, "operator", "") or ("" if event.subtask is None else event.subtask.chain),
    )


def _where(error: BaseException) -> str:
    where = getattr(error, "where", None)
    if where:
        return str(where)
    lines = _FILE_LINE.findall(getattr(error, "user_traceback", "") or "")
    return ":".join(lines[-1]) if lines else ""
