"""What the rows of a batch say of time: where in it watermarks stand, by the strategy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Protocol, TypeAlias

from typing_extensions import assert_never

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import Punctuated, Strategy, WatermarkStrategy
from raystream.flow.batch import Batch, Columns, Int64s, Objects, with_times
from raystream.flow.element import MAX_TIME
from raystream.operators import guard
from raystream.operators.rejecting import call_rows, picked, rows_kept
from raystream.operators.timestamps import instant

Mark: TypeAlias = tuple[int, int]
"""A watermark in microseconds behind the first so many rows of a batch."""

Marked: TypeAlias = tuple[Batch, Int64s, list[Mark]]
"""A batch, its event times, and the watermarks in it."""


class Watermarks(Protocol):
    """Finds the watermarks of batches."""

    def open(self, ctx: OpenContext) -> None:
        """Get ready."""

    def marks(self, batch: Batch, times: Int64s, after_us: int, rejects: Rejects) -> Marked:
        """Give the watermarks that rise above ``after_us``, in order, each above the one before.

        They stand in the batch of the rows that have not failed, which comes with its times.
        Shapes: batch and times [n] -> batch and times [m], marks [k].
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""


def watermarks_of(strategy: Strategy, operator: str, where: str) -> Watermarks:
    """Make what finds the watermarks that a strategy means."""
    match strategy:
        case WatermarkStrategy():
            return _Trailing(strategy.out_of_orderness_us)
        case Punctuated():
            return _Marked(strategy, operator, where)
        case _:
            assert_never(strategy)


def cut(batch: Batch, marks: list[Mark]) -> Iterator[tuple[Batch, int | None]]:
    """Cut a batch behind the rows that watermarks stand behind; the rest comes without one.

    A batch without rows comes as it is: its rows may all have failed, and whoever takes it looks
    for their letters.
    """
    start = 0
    for stop, watermark_us in marks:
        yield _part(batch, start, stop), watermark_us
        start = stop
    if start < batch.num_rows or not batch.num_rows:
        yield _part(batch, start, batch.num_rows), None


def _part(batch: Batch, start: int, stop: int) -> Batch:
    whole = start == 0 and stop == batch.num_rows
    return batch if whole else batch.slice(start, stop - start)


class _Trailing:
    """Bounded out-of-orderness: one watermark a batch, behind its rows."""

    def __init__(self, delay_us: int) -> None:
        self._delay_us = delay_us

    def open(self, ctx: OpenContext) -> None:
        """Nothing to get ready."""

    def marks(self, batch: Batch, times: Int64s, after_us: int, rejects: Rejects) -> Marked:
        allowed_us = int(times.max()) - self._delay_us - 1 if len(times) else after_us
        return batch, times, [(len(times), allowed_us)] if allowed_us > after_us else []

    def close(self) -> None:
        """Nothing to let go of."""


class _Marked:
    """Punctuation: a watermark stands behind the row that carries it."""

    def __init__(self, strategy: Punctuated, operator: str, where: str) -> None:
        self._strategy = strategy
        self._function: OpenFunction | None = None
        self._operator = operator
        self._where = where

    def open(self, ctx: OpenContext) -> None:
        function = Function(self._strategy.fn)
        self._function = guard.open_function(
            function, ctx, operator=self._operator, where=self._where
        )

    def marks(self, batch: Batch, times: Int64s, after_us: int, rejects: Rejects) -> Marked:
        assert self._function is not None, "an operator is opened before its rows come"
        function = self._function.call
        rows, batch, times = self._rows(batch, times, rejects)
        # What a row says of time comes from the user's function: there is no column to compute.
        said, kept = call_rows(
            lambda row: self._point(function(row)),
            rows,
            times,
            rejects,
            operator=self._operator,
            where=self._where,
        )
        found: list[Mark] = []
        for number, time_us in enumerate(said, 1):
            if time_us is not None and time_us > after_us:
                found.append((number, time_us))
                after_us = time_us
        return picked(batch, kept), times if kept is None else times[kept], found

    def close(self) -> None:
        if self._function is not None:
            function, self._function = self._function, None
            guard.close_function(function, operator=self._operator, where=self._where)

    def _rows(
        self, batch: Batch, times: Int64s, rejects: Rejects
    ) -> tuple[list[Any], Batch, Int64s]:
        if isinstance(batch, Objects):
            return batch.values, batch, times
        rows, timed = rows_kept(with_times(batch.visible, times), rejects)
        assert isinstance(timed, Columns)
        assert timed.timestamps is not None, "made with times"
        return rows, Columns(timed.visible), timed.timestamps

    def _point(self, value: object) -> int | None:
        if value is None:
            return None
        # Rows are read by floor: of a watermark in nanoseconds counts what it says of whole
        # microseconds. MAX is what the end of the input says, and nobody else.
        ahead = 1 if self._strategy.unit == "ns" and not isinstance(value, date) else 0
        return min(instant(value, self._strategy.unit, plus=ahead) - ahead, MAX_TIME - 1)
