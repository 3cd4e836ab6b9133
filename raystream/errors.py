"""Every exception that raystream raises.

RaystreamError(message, *, hint, where)
├─ UserError            the job or the call is wrong; repeating it will not help
│  ├─ PlanError         found while the job is built, before any actor starts
│  │  └─ RestoreRefused a snapshot does not fit the job that is to start from it
│  ├─ ConfigError       a setting, a name or a flag
│  │  └─ NotFound       it names something that is not there
│  └─ UserFunctionError a function of the job raised; its exception is the ``__cause__``
├─ ExternalError        something outside failed
│  ├─ SourceError, SinkError, StorageError
│  └─ ClusterError      Ray cannot be reached
├─ SubtaskLost          an actor or its node died
├─ JobFailed            the job ended without its result; the reason is the ``__cause__``
│  └─ JobTimeout        it took longer than it was allowed to
└─ InternalError        a bug of ours
   ├─ ProtocolError     a machine met an event that its state does not allow
   └─ CorruptSnapshot   what was kept cannot be taken up again
"""

from __future__ import annotations

import traceback
from typing import Any


class RaystreamError(Exception):
    """Say what went wrong, where, and what to do next."""

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy(), self.__cause__)


def _rebuild(
    kind: type[RaystreamError],
    message: str,
    fields: dict[str, Any],
    cause: BaseException | None,
) -> RaystreamError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(fields)
    error.__cause__ = cause
    return error


class UserError(RaystreamError):
    """The job or the call is wrong; repeating it will not help."""


class PlanError(UserError):
    """The job cannot be built; no actor was started."""


class RestoreRefused(PlanError):  # noqa: N818  the name says what happened
    """A snapshot does not fit the job that is to start from it."""


class ConfigError(UserError):
    """A setting, a name or a flag is wrong."""


class NotFound(ConfigError):  # noqa: N818  the name says what happened
    """A name or a path is of nothing that is there."""


class UserFunctionError(UserError):
    """A function of the job raised; ``user_traceback`` is its own, without our frames."""

    def __init__(
        self,
        message: str,
        *,
        operator: str = "",
        row: str | None = None,
        user_traceback: str = "",
        hint: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.operator = operator
        self.row = row
        self.user_traceback = user_traceback


class ExternalError(RaystreamError):
    """Something outside of the job failed."""


class SourceError(ExternalError):
    """A source cannot be read."""


class SinkError(ExternalError):
    """A sink cannot be written."""


class StorageError(ExternalError):
    """Object storage refused or lost something."""


class ClusterError(ExternalError):
    """Ray cannot be reached or does not answer."""


class SubtaskLost(RaystreamError):  # noqa: N818  the name says what happened
    """An actor or its node died."""


class JobFailed(RaystreamError):  # noqa: N818  the name is the API's
    """The job ended without its result: the user's own traceback first, then our story."""

    def __init__(
        self,
        message: str,
        *,
        user_traceback: str = "",
        hint: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.user_traceback = user_traceback

    def __str__(self) -> str:
        story = super().__str__()
        return f"{self.user_traceback.rstrip()}\n\n{story}" if self.user_traceback else story


class JobTimeout(JobFailed, TimeoutError):  # noqa: N818  a TimeoutError as well
    """The job took longer than ``run(timeout=…)`` allowed, and was canceled."""


class InternalError(RaystreamError):
    """A bug in raystream."""

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        report = hint or "This is a bug in raystream. Please report it with this message."
        super().__init__(message, hint=report, where=where)


class ProtocolError(InternalError):
    """A machine met an event that its state does not allow."""


class CorruptSnapshot(InternalError):  # noqa: N818  the name says what is wrong
    """What was kept cannot be taken up again."""


def job_failed(job: str, error: BaseException) -> JobFailed:
    """Wrap the reason of a failure for the caller of ``run``: its own traceback comes first."""
    if isinstance(error, JobFailed):
        return error
    user_traceback = error.user_traceback if isinstance(error, UserFunctionError) else ""
    if isinstance(error, RaystreamError):
        message, where, hint = error.message, error.where, error.hint
    else:
        message, where, hint = f"{type(error).__name__}: {error}", None, None
        user_traceback = "".join(traceback.format_exception(error))
    failed = JobFailed(
        f'job "{job}" failed: {message}', user_traceback=user_traceback, hint=hint, where=where
    )
    failed.__cause__ = error
    return failed
