"""Reports of subtasks as bytes: whatever a user's exception holds, something arrives."""

from __future__ import annotations

import cloudpickle

from raystream.coordinator import events as job
from raystream.errors import JobFailed, RaystreamError, UserFunctionError
from raystream.flow.control import SubtaskFigures


def pack_report(report: job.Event | SubtaskFigures) -> bytes:
    """Pickle a report; an error that cannot be is told without what cannot travel."""
    try:
        packed: bytes = cloudpickle.dumps(report)
        if isinstance(report, job.Failed):
            cloudpickle.loads(packed)
    except Exception:
        # A user's exception may refuse to be pickled, or to be made again, with any error at all.
        if not isinstance(report, job.Failed):
            raise
        packed = cloudpickle.dumps(job.Failed(report.subtask, _without_cause(report.error)))
    return packed


def unpack_report(packed: bytes) -> job.Event | SubtaskFigures:
    """Read a report."""
    report: job.Event | SubtaskFigures = cloudpickle.loads(packed)
    return report


def _without_cause(error: BaseException) -> RaystreamError:
    if isinstance(error, UserFunctionError):
        return UserFunctionError(
            error.message,
            operator=error.operator,
            row=error.row,
            user_traceback=error.user_traceback,
            hint=error.hint,
            where=error.where,
        )
    if isinstance(error, JobFailed):
        return JobFailed(
            error.message,
            user_traceback=error.user_traceback,
            hint=error.hint,
            where=error.where,
        )
    if isinstance(error, RaystreamError):
        return type(error)(error.message, hint=error.hint, where=error.where)
    return RaystreamError(f"{type(error).__name__}: {error}")
