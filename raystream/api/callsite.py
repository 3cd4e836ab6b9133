"""Find the line of the user's script that a call of the API stands on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raystream.errors import RaystreamError

_PACKAGE = __name__.partition(".")[0]


def user_line() -> str:
    """Give ``jobs/x.py:12``: the nearest caller outside of this package; empty if there is none."""
    frame = sys._getframe(1)  # noqa: SLF001  inspect.stack() reads every source file on the way
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module != _PACKAGE and not module.startswith(f"{_PACKAGE}."):
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Give an error of ours the line of the script, where it has none."""
    try:
        yield
    except RaystreamError as error:
        error.where = error.where or where
        raise


def _short(filename: str) -> str:
    path = Path(filename)
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return filename
