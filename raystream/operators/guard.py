"""Where user code is called: its exception becomes a UserFunctionError that tells the row.

Calls are guarded a batch at a time, because a ``try`` for each row would cost more than many of the
functions do. The row that failed is found afterwards, from how far the iterator had come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any, Final, TypeVar

import numpy as np

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction, Run
from raystream.contracts.process import ProcessMaker
from raystream.contracts.rejects import user_traceback
from raystream.errors import RaystreamError, UserFunctionError
from raystream.flow.batch import Int64s

Result = TypeVar("Result")

ROW_CHARACTERS_MAX = 300
"""How much of a row an error shows."""

NO_ROW: Final = object()
"""Stands for the row where a call had none, or had a whole batch."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What came of user code that was awaited, where that is an exception."""

    error: BaseException


def failed(
    error: BaseException, *, operator: str, where: str = "", row: object = NO_ROW, doing: str = ""
) -> UserFunctionError:
    """Wrap an exception of user code: its own traceback, without our frames; the row, shortened.

    ``doing`` says which call it was, where it was not the function itself (``open``).
    """
    if isinstance(error, UserFunctionError) and error.operator:
        return error
    # An error of ours that user code has caused (a row without its keys) has a message of its own.
    ours = error if isinstance(error, RaystreamError) else None
    what = ours.message if ours else f"{type(error).__name__}: {error}".rstrip(": ")
    wrapped = UserFunctionError(
        f"{operator} failed{f' in {doing}' if doing else ''}: {what}",
        operator=operator,
        row=None if row is NO_ROW else short(row),
        user_traceback=user_traceback(error),
        hint=ours.hint if ours else None,
        where=where or None,
    )
    if wrapped.row is not None:
        wrapped.message += f"\n  row: {wrapped.row}"
    wrapped.__cause__ = error
    return wrapped


def call(
    function: Callable[..., Any],
    *arguments: Any,
    operator: str,
    where: str,
    row: object = NO_ROW,
) -> Any:
    """Call user code once."""
    try:
        return function(*arguments)
    except Exception as error:
        raise failed(error, operator=operator, where=where, row=row) from error


def attempt(computation: Callable[[], Result]) -> Result | Exception:
    """Run what may raise anything, because users wrote what it computes; give what came of it."""
    try:
        return computation()
    except Exception as error:  # noqa: BLE001  the caller decides what it means
        return error


def call_each(
    function: Callable[[Any], Any], rows: list[Any], *, operator: str, where: str
) -> list[Any]:
    """Call user code with each row; at 10 M calls/s besides what the function costs.

    Shapes: rows [n] -> results [n].
    """
    left = iter(rows)
    try:
        results = list(map(function, left))
    except Exception as error:
        row = rows[len(rows) - length_hint(left) - 1]
        raise failed(error, operator=operator, where=where, row=row) from error
    if len(results) < len(rows):
        # ``map`` had taken a StopIteration of the function for its own end.
        row = rows[len(results)]
        raise failed(StopIteration(), operator=operator, where=where, row=row)
    return results


def expand(
    function: Callable[[Any], Any], rows: list[Any], limit: int, *, operator: str, where: str
) -> Iterator[tuple[list[Any], Int64s]]:
    """Call user code with each row for several rows, and give them by up to ``limit``.

    The user's generator is pulled no further than that: what one row makes need never be in memory
    at once. Beside the values stands the index of the row that each comes from.
    """
    values: list[Any] = []
    origins: list[int] = []
    counts: list[int] = []
    row: Any = NO_ROW
    try:
        # A loop over rows: the function is the user's, and says how many rows it makes.
        for index, row in enumerate(rows):
            made = function(row)
            if made is None:
                continue
            if type(made) is list and len(values) + len(made) < limit:
                values += made
                origins.append(index)
                counts.append(len(made))
                continue
            rest = rows_made(made)
            while True:
                before, room = len(values), limit - len(values)
                values.extend(islice(rest, room))
                origins.append(index)
                counts.append(len(values) - before)
                if len(values) < limit:
                    break
                yield values, np.repeat(origins, counts)
                values, origins, counts = [], [], []
    except Exception as error:
        raise failed(error, operator=operator, where=where, row=row) from error
    if values:
        yield values, np.repeat(origins, counts)


def rows_made(made: Any) -> Iterator[Any]:
    """Iterate over what a function returned for its rows; a single row is refused."""
    if isinstance(made, (Mapping, str, bytes, bytearray)) or not isinstance(made, Iterable):
        raise UserFunctionError(
            f"it returned {short(made)}, a {type(made).__name__}, where rows are expected",
            hint="return [row], or yield",
        )
    return iter(made)


async def attempts(
    function: Callable[[Any], Awaitable[Any]], row: Any, *, times: int, timeout_s: float | None
) -> Any | Failed:
    """Await user code, again where it fails, up to so many times; give what came of the last.

    An attempt that takes longer than ``timeout_s`` is canceled, and has failed.
    """
    failure = Failed(AssertionError("at least one attempt"))
    for _ in range(times):
        try:
            # A timer for each attempt, so that what hangs is canceled.
            return await asyncio.wait_for(function(row), timeout_s)
        except asyncio.TimeoutError as error:  # noqa: PERF203  each attempt may fail
            said = str(error) or f"no answer within {timeout_s:g} s" if timeout_s else str(error)
            failure = Failed(TimeoutError(said).with_traceback(error.__traceback__))
        except (Exception, SystemExit) as error:  # noqa: BLE001  of a user: the caller decides
            failure = Failed(error)
    return failure


def open_function(
    function: Function | ProcessMaker,
    ctx: OpenContext,
    *,
    operator: str,
    where: str,
    run: Run | None = None,
) -> OpenFunction:
    """Make the function of one subtask and open it."""
    try:
        return function.open(ctx, run)
    except Exception as error:
        raise failed(error, operator=operator, where=where, doing="open") from error


def close_function(function: OpenFunction, *, operator: str, where: str) -> None:
    """Close a function that was opened."""
    try:
        function.close()
    except Exception as error:
        raise failed(error, operator=operator, where=where, doing="close") from error


def short(row: object) -> str:
    """Give a row's repr, cut in the middle where it is long; never fails."""
    try:
        text = repr(row)
    except Exception as error:  # a class of the user may have a repr that raises  # noqa: BLE001  a user's __repr__ may raise anything
        return f"<{type(row).__name__} whose repr raises {type(error).__name__}>"
    if len(text) <= ROW_CHARACTERS_MAX:
        return text
    half = (ROW_CHARACTERS_MAX - 5) // 2
    # Cutting the middle keeps the closing bracket, and with it the shape of the value.
    return f"{text[:half]} ... {text[-half:]}"
