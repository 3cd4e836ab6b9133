"""Print rows where the job was started."""

from __future__ import annotations

import sys

from raystream.connectors.driver import Delivery, rows_of
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer


class PrintSink(Sink):
    """Print each row on a line of its own, in the process that started the job.

    Guarantee: at least once; rows that come again after a failure are printed again.

    With ``prefix`` a line reads ``prefix> row``.
    """

    to_driver = True

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = "" if prefix is None else f"{prefix}> "

    def open(self, ctx: OpenContext) -> Writer:
        return Delivery(ctx)

    def receive(self, batch: Batch) -> bool:
        # A loop over rows: each is a line of text.
        lines = [f"{self._prefix}{row}\n" for row in rows_of(batch)]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
        return False

    def describe(self) -> str:
        return "PrintSink()"
