"""What the sinks that work in the process that started the job have in common."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Writer
from raystream.operators.pyrows import to_rows


class Delivery(Writer):
    """Hands batches to the driver, in order; waits while it is behind."""

    def __init__(self, ctx: OpenContext) -> None:
        self._deliver = ctx.deliver

    def write(self, batch: Batch) -> None:
        if len(batch):
            self._deliver(batch)


def rows_of(batch: Batch) -> list[Any]:
    """Give the rows as Python values: dicts where the stream has columns."""
    return to_rows(batch.rows) if isinstance(batch.rows, pa.RecordBatch) else batch.rows
