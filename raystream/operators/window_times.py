"""Whose time windows are cut in: that of the rows, or that of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import TimeKind
from raystream.errors import UserError
from raystream.flow.batch import EVENT_TIME_FIELD, NO_TIME, Batch, Columns, Int64s
from raystream.keyed.measures_parts import ARRIVAL
from raystream.operators.guard import attempt
from raystream.operators.rejecting import reject_row


class WindowTimes:
    """The time of each row for one operator's windows, and rows numbered in order of arrival."""

    def __init__(self, ctx: OpenContext, kind: TimeKind, *, numbered: bool) -> None:
        self.by_event = kind == "event"
        self.arrived = 0
        self._ctx = ctx
        self._numbered = numbered

    def of(self, batch: Batch, watermark_us: int, live_us: int) -> Int64s:
        """Give the time of each row of a batch that is not empty.

        By the time of the machine all rows of a batch come now, and never late: where all windows
        of this instant have just fired, they come in the next one. ``live_us`` is the first time
        that lies in a window that has not fired.
        Raises: UserError that names the missing watermark strategy where a row has no event time.
        """
        if self.by_event:
            return event_times(batch, self._ctx)
        # A clock may be set back: what has fired stays fired.
        now_us = max(self._ctx.clock.now_us(), watermark_us)
        return np.full(batch.num_rows, now_us if now_us >= live_us else watermark_us + 1)

    def timer_us(self, last_us: int | None) -> int | None:
        """Give the processing time at which a window fires whose last instant is ``last_us``."""
        return None if self.by_event else last_us

    def numbered(self, batch: Columns) -> pa.RecordBatch:
        """Give the rows as aggregates read them: with numbers of arrival where those are needed.

        Rows without event time go by their arrival.
        """
        record = batch.record
        untimed = batch.timestamps is None
        if not (self._numbered or untimed):
            return record
        first, self.arrived = self.arrived, self.arrived + record.num_rows
        numbers = pa.array(np.arange(first, self.arrived))
        if untimed:
            record = record.append_column(EVENT_TIME_FIELD, numbers)
        return record.append_column(ARRIVAL, numbers) if self._numbered else record


def event_times(batch: Batch, ctx: OpenContext) -> Int64s:
    """Give the event times of a batch that is not empty.

    Raises: UserError that names the missing watermark strategy where a row has none.
    """
    times = batch.timestamps
    if times is None or int(times.min()) == NO_TIME:
        raise UserError(
            f"{ctx.operator} gathers rows in event-time windows, but "
            f"{'its rows have' if times is None else 'a row has'} no event time",
            hint="the watermark strategy is missing: give the source "
            'watermark=rs.WatermarkStrategy("column"), or call assign_timestamps(...) before the '
            "window",
            where=ctx.where or None,
        )
    return times


def with_event_times(batch: Batch, ctx: OpenContext) -> Batch:
    """Give up the rows that have no event time, where the others have one."""
    times = batch.timestamps
    if times is None or not (bare := times == NO_TIME).any():
        return batch
    for place in np.flatnonzero(bare).tolist():
        error = attempt(partial(event_times, batch.slice(place, 1), ctx))
        assert isinstance(error, UserError), "it has no event time"
        reject_row(ctx.errors, error, batch, place)
    return batch.take(np.flatnonzero(~bare))


def without(batch: Columns, hidden: Sequence[str]) -> Columns:
    """Give rows as the stream has them: without what was computed for the operator."""
    return Columns(batch.record.drop_columns(list(hidden))) if hidden else batch
