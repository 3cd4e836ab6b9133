"""One clear error where a script would end with a page of our frames."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from raystream.errors import InternalError, RaystreamError


def report(error: RaystreamError) -> None:
    """Print a failure to stderr: the user's traceback first, then our message, without our frames.

    With RAYSTREAM_TRACEBACK=1, and for a bug of ours, our frames too.
    """
    user_traceback = getattr(error, "user_traceback", "")
    lines = [f"error: {RaystreamError.__str__(error)}"]
    if _with_frames(error):
        lines.insert(0, "".join(traceback.format_exception(error)))
    elif user_traceback:
        lines.insert(0, f"{user_traceback.rstrip()}\n")
    sys.stderr.write("\n".join(lines) + "\n")


def report_uncaught() -> None:
    """Let what a script does not catch be told by ``report``, unless it has a hook of its own."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, RaystreamError):
        report(error)
    else:
        sys.__excepthook__(kind, error, trace)


def _with_frames(error: RaystreamError) -> bool:
    return os.environ.get("RAYSTREAM_TRACEBACK") == "1" or isinstance(error, InternalError)
