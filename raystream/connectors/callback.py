"""Give rows to a function where the job was started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raystream.connectors.driver import Delivery, rows_of
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.operators.guard import call_each


class CallbackSink(Sink):
    """Call ``fn(row)`` with each row, in the process that started the job.

    Guarantee: at least once; rows that come again after a failure are given again.

    The function stays in that process, so it may write to its variables and need not be picklable.
    """

    to_driver = True

    def __init__(self, fn: Callable[[Any], object]) -> None:
        self._fn = fn

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fn": None}

    def open(self, ctx: OpenContext) -> Writer:
        return Delivery(ctx)

    def receive(self, batch: Batch) -> bool:
        call_each(self._fn, rows_of(batch), operator=self.describe(), where="")
        return False

    def describe(self) -> str:
        return f"CallbackSink({getattr(self._fn, '__name__', type(self._fn).__name__)})"
