"""Join a stream with a table that every subtask has whole: nothing waits, nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.changes import DELETE, INSERT, takes_back
from raystream.flow.gather import one_record
from raystream.keyed.key_index import KeyIndex
from raystream.operators.join_plan import JoinPlan
from raystream.operators.operator import Operator, Output


@dataclass(frozen=True, slots=True, eq=False)
class TableJoinSpec:
    """Each row beside the rows of ``table`` that have its key; of a changelog, with its kind."""

    plan: JoinPlan
    table: pa.Table

    @property
    def verb(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"{self.plan} with a table of {self.table.num_rows:,} rows"

    def build(self) -> TableJoin:
        return TableJoin(self)


class TableJoin(Operator):
    """The operator of one subtask: the table, sorted by key."""

    def __init__(self, spec: TableJoinSpec) -> None:
        self._plan = spec.plan
        self._table = spec.table

    def open(self, ctx: OpenContext) -> None:
        self._rows_max = ctx.limits.batch_rows_max
        record = one_record(self._table)
        self._index = KeyIndex(self._plan.key_types)
        valid = self._plan.matchable(1, record)
        if valid is not None:
            record = record.filter(pa.array(valid))
        slots, _ = self._index.lookup(self._plan.keys(1, record))
        order = np.argsort(slots, kind="stable")
        self._rows = record.take(pa.array(order))
        self._counts = np.bincount(slots, minlength=self._index.count + 1)
        self._starts = np.cumsum(self._counts) - self._counts

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "the stream is columnar"
        # A key that the table has not is slot -1: the last of the counts, which is always 0.
        slots = self._index.find(self._plan.keys(0, batch.record))
        matches = self._counts[slots]
        how = self._plan.how
        if how == "left":
            matches = np.maximum(matches, 1)
        elif how != "inner":
            matches = ((matches > 0) == (how == "semi")).astype(np.int64)
        # A row may match many: no output has more rows than the input, or than the limit.
        ends, limit = np.cumsum(matches), max(self._rows_max, batch.num_rows)
        for start in range(0, int(ends[-1]) if len(ends) else 0, limit):
            numbers = np.arange(start, min(start + limit, int(ends[-1])))
            lefts = np.searchsorted(ends, numbers, side="right")
            nth = numbers - (ends - matches)[lefts]
            yield self._beside(batch, lefts, slots[lefts], nth)

    def _beside(self, batch: Columns, lefts: Int64s, slots: Int64s, nth: Int64s) -> Columns:
        times, ops = batch.timestamps, batch.ops
        if times is not None:
            times = times[lefts]
        if ops is not None:
            # One change may become many: those of an update would not stand side by side.
            ops = np.where(takes_back(ops[lefts]), DELETE, INSERT).astype(np.int8)
        left = batch.record.take(pa.array(lefts))
        if self._plan.left_only:
            return self._plan.lefts(left, times, ops)
        rights = pa.array(self._starts[slots] + nth, mask=slots < 0)
        return self._plan.pairs(left, self._rows.take(rights), times, ops)
