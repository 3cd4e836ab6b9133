"""Keep the best rows of each key of a table whose changes flow: rows are taken back too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.changes import INSERT, takes_back
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.ranking import Told, sort_values
from raystream.keyed.retracting_ranking import (
    Held,
    RetractingRanking,
    Turned,
    by_rank,
    by_row,
    entered,
)
from raystream.keyed.row_identity import row_hashes
from raystream.keyed.snapshot import Snapshot
from raystream.operators.operator import Output
from raystream.operators.running_top_k import TopKPlan
from raystream.operators.top_k_by_row import TopKByRow

_COMPACT_MIN = 8_192


class RetractingTopK(TopKByRow):
    """The operator of one subtask.

    Rows are the same that sort alike and whose hashes of 64 bits are equal.
    """

    def __init__(self, spec: TopKPlan) -> None:
        super().__init__(spec)
        self._all = RetractingRanking(spec.k, ties=spec.ties)
        self._live = 0

    def open(self, ctx: OpenContext) -> None:
        super().open(ctx)
        self._ignored = ctx.metrics.counter("ignored_retractions")

    @property
    def _entries(self) -> Mapping[Any, list[Held]]:
        return self._all.rows

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        slots, _ = self._index.lookup([batch.record.column(key) for key in self._spec.keys])
        turns = self._turns(batch, slots)
        yield from self._told(self._timed(batch, turns, self._told_of))
        self._compact()

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        # In order of arrival rows of one key do not come sorted.
        for rows in self._all.rows.values():
            rows.sort(key=lambda held: held[:2])

    def _resume(self, rows: Columns, slots: Int64s, arrivals: Int64s) -> None:
        first = self._store.append(rows.record)
        self._arrived = int(arrivals[-1]) + 1
        self._live += rows.num_rows
        parts = (self._sorts(rows.record), arrivals.tolist(), row_hashes(rows.record).tolist())
        for at, (slot, sort, arrival, which) in enumerate(zip(slots.tolist(), *parts, strict=True)):
            self._all.rows.setdefault(slot, []).append(Held(sort, arrival, first + at, which))

    def _turns(self, batch: Columns, slots: Int64s) -> Iterator[tuple[int, int, Turned]]:
        """Take rows in and back; give the place, the slot and what it did of each that mattered."""
        record, ops = batch.record, batch.ops
        assert ops is not None, "the stream is a changelog"
        removes = takes_back(ops)
        rows = record.select(self._store.schema.names)
        number = self._store.append(rows.take(pa.array(np.flatnonzero(~removes))))
        parts = (removes.tolist(), self._sorts(record), row_hashes(record).tolist())
        # A loop over rows: each meets the list that the one before left.
        for place, (slot, remove, sort, which) in enumerate(
            zip(slots.tolist(), *parts, strict=True)
        ):
            if remove:
                found, turned = self._all.take_back(slot, sort, which)
                self._live -= found
                self._ignored.inc(not found)
            else:
                turned = self._all.add(slot, Held(sort, self._arrived, number, which))
                self._live += 1
                number += 1
            self._arrived += 1
            if turned is not None:
                yield place, slot, turned

    def _sorts(self, record: pa.RecordBatch) -> list[tuple[Any, ...]]:
        columns = [
            sort_values(record.column(name), descending=descending)
            for name, descending in self._spec.by
        ]
        return list(zip(*columns, strict=True))

    def _told_of(self, turned: Turned) -> Iterator[Told]:
        ranked = self._spec.rank is not None
        if self._spec.emit == "row":
            return entered(turned, ranked=ranked)
        if ranked and not self._spec.ties:
            return by_rank(turned, before=self._spec.before)
        return by_row(turned, ranked=ranked)

    def _whole(self, slot: int) -> Iterator[Told]:
        for held, rank in self._all.best(slot):
            yield Told(held.row, rank, INSERT)

    def _compact(self) -> None:
        """Forget rows and keys that are gone, once they are half of what is held."""
        rows = self._all.rows
        if self._store.row_count > 2 * self._live + _COMPACT_MIN:
            numbers = [held.row for some in rows.values() for held in some]
            self._store.keep(np.array(numbers, np.int64))
            number = iter(range(len(numbers)))
            for some in rows.values():
                some[:] = [held._replace(row=next(number)) for held in some]
        if self._index.count > 2 * len(rows) + _COMPACT_MIN:
            keys = self._index.keys(np.array(list(rows), np.int64))
            self._index = KeyIndex([key.type for key in keys])
            slots, _ = self._index.lookup(keys)
            self._all.rows = dict(zip(slots.tolist(), rows.values(), strict=True))
