"""Join each row with the newest one of another stream up to its event time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.hashing import hash_columns
from raystream.keyed.bucket_rows import BucketRows
from raystream.keyed.newest_rows import NewestRows
from raystream.keyed.slots import distinct
from raystream.keyed.snapshot import (
    Section,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.join_plan import JoinPlan, side_schema
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS
from raystream.operators.window_times import event_times

_SIDES: Final = ("left", "right")


@dataclass(frozen=True, slots=True, eq=False)
class AsOfJoinSpec:
    """Each row of the left beside the right's newest of its key, once the watermark passes it.

    Of the right it is the row with the greatest event time that is not above the left's, nor more
    than ``tolerance_us`` below it; of equal times the one that came last.
    """

    plan: JoinPlan
    tolerance_us: int | None = None

    @property
    def verb(self) -> str:
        return "as_of_join"

    def describe(self) -> str:
        tolerance = "" if self.tolerance_us is None else f" up to {text(self.tolerance_us)} before"
        return f"{self.plan}, the newest{tolerance}"

    def build(self) -> AsOfJoin:
        return AsOfJoin(self)


class AsOfJoin(Operator):
    """The operator of one subtask.

    Rows of both sides that the watermark has not reached wait by event time. Of the right's that
    it has, only the newest of each key stays.
    """

    def __init__(self, spec: AsOfJoinSpec) -> None:
        self._plan = plan = spec.plan
        self._tolerance_us = spec.tolerance_us
        self._schemas = [side_schema(plan, port) for port in (0, 1)]
        keys = (plan.left_keys, plan.right_keys)
        self._pending = [
            BucketRows(schema, names) for schema, names in zip(self._schemas, keys, strict=True)
        ]
        self._newest = NewestRows(self._schemas[1], plan.key_types, partial(plan.keys, 1))
        self._waiting: pa.RecordBatch | None = None
        self._watermark_us = MIN_TIME
        self._nothing = Columns(pa.RecordBatch.from_pylist([], schema=plan.output))

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        return self._newest.row_count + sum(side.row_count for side in self._pending)

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a join takes columns"
        if not batch.num_rows:
            return
        times = event_times(batch, self._ctx)
        wanted = times > self._watermark_us
        self._late.inc(len(times) - int(np.count_nonzero(wanted)))
        matchable = self._plan.matchable(port, batch.record)
        if matchable is not None and (port == 1 or not self._plan.keeps_left):
            wanted &= matchable
        rows = batch.record.select(self._schemas[port].names)
        if not wanted.all():
            rows, times = rows.filter(pa.array(wanted)), times[wanted]
        self._pending[port].add(rows, times)
        for _ in self._pending[port].settle():
            yield self._nothing

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        yield from self._out()
        self._watermark_us = max(self._watermark_us, time_us)
        while (stop := self._stop()) is not None:
            self._due(stop)
            if self._waiting is None:
                # Rows of the right alone: many of them take long.
                yield self._nothing
            yield from self._out()

    def snapshot(self) -> Snapshot:
        newest, times = self._newest.held(self._from_us)
        waiting = self._waiting
        if waiting is None:
            waiting = self._nothing.record
        return (
            *(
                self._section(name, port, *self._pending[port].held())
                for port, name in enumerate(_SIDES)
            ),
            self._section("newest", 1, newest, times),
            self._keyed("waiting", self._plan.left_keys, waiting),
            watermark_section(self._watermark_us),
        )

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._watermark_us = watermark_us
        for port, name in enumerate(_SIDES):
            if (rows := _whole(section(snapshot, name))) is not None:
                self._pending[port].add(*self._parted(port, rows))
                for _ in self._pending[port].settle():
                    pass
        if (rows := _whole(section(snapshot, "newest"))) is not None:
            self._newest.restore(*self._parted(1, rows))
        if (rows := _whole(section(snapshot, "waiting"))) is not None and rows.num_rows:
            self._waiting = pa.RecordBatch.from_arrays(rows.columns, schema=self._plan.output)

    def close(self) -> None:
        self._waiting = None

    @property
    def _from_us(self) -> int:
        """The first event time of the right that a row may still match."""
        # Rows that are due may not have been matched yet.
        first = self._pending[0].first_bucket()
        horizon_us = self._watermark_us + 1 if first is None else first
        horizon_us = min(horizon_us, self._watermark_us + 1)
        if self._tolerance_us is None:
            return MIN_TIME if horizon_us <= MAX_TIME else MAX_TIME
        return min(max(horizon_us - self._tolerance_us, MIN_TIME), MAX_TIME)

    def _stop(self) -> int | None:
        """Give where the next step ends: as much as fits into its rows, one time at least.

        None where nothing is due.
        """
        firsts = [side.first_bucket() for side in self._pending]
        first = min((some for some in firsts if some is not None), default=None)
        if first is None or first > self._watermark_us:
            return None
        fits, more = first + 1, self._watermark_us + 1
        if self._count(more) <= self._ctx.limits.firing_rows_max:
            return more
        while more - fits > 1:
            middle = (fits + more) // 2
            if self._count(middle) <= self._ctx.limits.firing_rows_max:
                fits = middle
            else:
                more = middle
        return fits

    def _count(self, stop: int) -> int:
        return sum(side.count_below(stop) for side in self._pending)

    def _due(self, stop: int) -> None:
        """Match the rows of the left below a time, and get ready what they give."""
        (left, left_us), (right, right_us) = (
            side.between(MIN_TIME, stop) for side in self._pending
        )
        right_slots = self._newest.slots(self._plan.keys(1, right))
        left_slots = self._newest.find(self._plan.keys(0, left))
        touched = distinct(np.concatenate((left_slots[left_slots >= 0], right_slots)))
        old, old_us, old_slots = self._newest.of(touched)
        # What came before stands first: of equal times the last to arrive is the newest.
        pool = pa.concat_batches([old, right])
        pool_us = np.concatenate((old_us, right_us))
        slots = np.concatenate((old_slots, right_slots))
        order = np.lexsort((pool_us, slots))
        if left.num_rows:
            rows = _newest_of(slots[order], pool_us[order], left_slots, left_us)
            matched = np.where(rows >= 0, order[rows], -1) if len(order) else rows
            self._waiting = self._beside(left, left_us, pool, pool_us, matched)
        last = order[np.flatnonzero(np.diff(slots[order], append=-1))]
        fresh = last[last >= old.num_rows]
        if len(fresh):
            self._newest.put(
                slots[fresh], pool.take(pa.array(fresh)), pool_us[fresh], self._from_us
            )
        for side in self._pending:
            side.drop_below(stop)

    def _beside(
        self,
        left: pa.RecordBatch,
        left_us: Int64s,
        pool: pa.RecordBatch,
        pool_us: Int64s,
        matched: Int64s,
    ) -> pa.RecordBatch | None:
        """Put rows of the left, in order of time, beside those that they match; -1: none."""
        tolerance_us = self._tolerance_us
        if tolerance_us is not None and len(pool_us):
            least_us = np.maximum(left_us, MIN_TIME + tolerance_us) - tolerance_us
            matched = np.where(pool_us[matched] >= least_us, matched, -1)
        order = np.argsort(left_us, kind="stable")
        if not self._plan.keeps_left:
            order = order[matched[order] >= 0]
        if not len(order):
            return None
        left, matched = left.take(pa.array(order)), matched[order]
        rights = pool.take(pa.array(matched, mask=matched < 0))
        return self._plan.pairs(left, rights, left_us[order]).record

    def _out(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        while (waiting := self._waiting) is not None:
            more = waiting.num_rows > rows_max
            self._waiting = waiting.slice(rows_max) if more else None
            yield Columns(waiting.slice(0, rows_max))

    def _section(self, name: str, port: int, rows: pa.RecordBatch, times_us: Int64s) -> Section:
        columns = [*rows.columns, pa.array(times_us)]
        names = [*rows.schema.names, EVENT_TIME]
        keys = self._plan.right_keys if port else self._plan.left_keys
        return self._keyed(name, keys, pa.RecordBatch.from_arrays(columns, names=names))

    def _keyed(self, name: str, keys: tuple[str, ...], rows: pa.RecordBatch) -> Section:
        hashes = hash_columns([rows.column(key) for key in keys])
        return keyed_section(name, rows, hashes, self._ctx.max_parallelism)

    def _parted(self, port: int, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Int64s]:
        """Part rows from their event times."""
        columns, times = rows.columns[:-1], rows.columns[-1].to_numpy()
        return pa.RecordBatch.from_arrays(columns, schema=self._schemas[port]), times


def _newest_of(slots: Int64s, times_us: Int64s, left_slots: Int64s, left_us: Int64s) -> Int64s:
    """Give for each row of the left the place of the newest row of its key up to its time.

    Slots and times are sorted, by slot and then by time; a row of the left may have no slot.
    Shapes: slots, times_us int64 [n]; left_slots, left_us int64 [m] -> int64 [m], -1 for none.
    """
    if not len(slots):
        return np.full(len(left_us), -1)
    moments = distinct(times_us)
    width = len(moments) + 1
    # Ranks of times instead of times: a slot and a rank are one number.
    codes = slots * width + np.searchsorted(moments, times_us) + 1
    wanted = left_slots * width + np.searchsorted(moments, left_us, "right")
    places = np.searchsorted(codes, wanted, "right") - 1
    found = (places >= 0) & (slots[places] == left_slots)
    return np.where(found, places, -1)


def _whole(table: pa.Table | None) -> pa.RecordBatch | None:
    if table is None:
        return None
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, names=table.column_names)
