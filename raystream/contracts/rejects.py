"""What an operator does with a row that fails: fail the job, leave the row out, or keep it aside.

An operator that knows which row failed calls ``ctx.errors.reject(error, row, timestamp_us)``. Under
the policy ``fail`` that raises the error; else the operator goes on without the row.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any, Final, TypeAlias

from raystream.contracts.metrics import Counter
from raystream.errors import RaystreamError, SinkError, UserFunctionError

FAIL: Final = "fail"
SKIP: Final = "skip"
DEAD_LETTER: Final = "dead_letter"
POLICIES: Final = (FAIL, SKIP, DEAD_LETTER)

DEAD_LETTERS: Final = "__dead_letters"
"""The tag under which dead letters leave an operator; no function of a user may send under it."""

Letter: TypeAlias = dict[str, Any]
"""``row``, ``error``, ``traceback``, ``operator`` and ``timestamp`` of a row that failed."""

_OURS = f"{Path(__file__).parents[1]}{os.sep}"


class Rejects:
    """The policy of one operator in one subtask, and the letters that have not yet left.

    Whoever runs the operator takes the letters after each step of its work, so that there are never
    more of them than a batch has rows.
    """

    def __init__(
        self, policy: str = FAIL, operator: str = "", failed_rows: Counter | None = None
    ) -> None:
        assert policy in POLICIES, f"a policy is one of {POLICIES}"
        self.policy = policy
        self.letters: list[Letter] = []
        self._operator = operator
        self._failed_rows = Counter() if failed_rows is None else failed_rows

    @property
    def tolerant(self) -> bool:
        """Whether an operator is to go on without the rows that fail."""
        return self.policy != FAIL

    def reject(self, error: RaystreamError, row: object, timestamp_us: int | None = None) -> None:
        """Give up a row, which is as the user sees it; ``timestamp_us`` is its event time.

        Raises: the error, where the job is to fail of it.
        """
        if self.policy == FAIL:
            raise error
        self._failed_rows.inc()
        if self.policy == DEAD_LETTER:
            self.letters.append(
                {
                    "row": row,
                    "error": _told(error),
                    "traceback": _traceback(error),
                    "operator": self._operator,
                    "timestamp": timestamp_us,
                }
            )

    def take(self) -> list[Letter]:
        """Give the letters, and forget them."""
        letters, self.letters = self.letters, []
        return letters


def user_traceback(error: BaseException) -> str:
    """Give the traceback of an exception and of its causes without the frames of raystream."""
    story = traceback.TracebackException.from_exception(error)
    _trim(story, set())
    return "".join(story.format())


def _told(error: RaystreamError) -> str:
    """Say in a line what was raised: by the user's code, or by ours about the row."""
    users = isinstance(error, SinkError) or (
        isinstance(error, UserFunctionError) and bool(error.user_traceback)
    )
    cause = error.__cause__ if users and error.__cause__ is not None else error
    what = cause.message if isinstance(cause, RaystreamError) else str(cause)
    return f"{type(cause).__name__}: {what}".rstrip(": ")


def _traceback(error: RaystreamError) -> str:
    if isinstance(error, UserFunctionError) and error.user_traceback:
        return error.user_traceback
    return user_traceback(error)


def _trim(story: traceback.TracebackException, seen: set[int]) -> None:
    if id(story) in seen:
        return
    seen.add(id(story))
    frames = [frame for frame in story.stack if not frame.filename.startswith(_OURS)]
    story.stack = traceback.StackSummary.from_list(frames)
    for cause in (story.__cause__, story.__context__):
        if cause is not None:
            _trim(cause, seen)
