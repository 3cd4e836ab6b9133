"""Running aggregates of changelogs: rows take others back, and a key without rows is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.context import OpenContext
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s
from raystream.flow.changes import takes_back
from raystream.keyed.groups import Grouper, Groups, Rows
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.retracting import RetractingAggregate, Scan, nothing_where
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import GONE, Snapshot, arrival_section
from raystream.keyed.touched import TouchedSlots
from raystream.keyed.turns import Turn, counted
from raystream.operators.aggregating import ROWS, RunningAggregateOperator, RunningPlan
from raystream.operators.changing import changes

_COUNTS = ("count", "count_distinct")
_GONE_MIN = 8_192


class _Taken(NamedTuple):
    """A batch without the rows that take back what was never there, and how many rows keys have."""

    turn: Turn
    born: npt.NDArray[np.bool_]
    gone: npt.NDArray[np.bool_]


class RetractingAggregateOperator(RunningAggregateOperator):
    """The operator of one subtask.

    A key that is gone keeps its slot, in case that it comes again, until most slots are such.
    """

    def __init__(self, spec: RunningPlan) -> None:
        super().__init__(spec)
        self._rows = SlotColumn("i8")
        self._alive = 0

    def open(self, ctx: OpenContext) -> None:
        super().open(ctx)
        self._ignored = ctx.metrics.counter("ignored_retractions")

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        assert isinstance(batch, Columns), "the stream is columnar"
        taken = self._take(batch)
        if taken is None:
            return
        turn = taken.turn
        groups, rows, count = turn.groups, turn.rows, self._index.count
        with self._named():
            scans = [one.scan(groups, rows, turn.signs, count) for one in self._retracting]
        self._keep_latest(turn)
        if self._spec.emit == "changes":
            told = changes(groups, taken.born, taken.gone, before=self._spec.before)
            pools = [pa.concat_arrays([scan.after, scan.before]) for scan in scans]
            yield from self._changed(rows.record, told, pools)
        elif self._spec.emit == "row":
            yield self._after_row(taken, scans)
        elif self._spec.emit == "batch":
            yield self._after_batch(groups, rows)
        self._forget(groups.slots[turn.counts[groups.ends] == 0])

    def on_end(self) -> Iterator[Batch]:
        count = self._index.count if self._spec.emit == "final" else 0
        while self._given < count:
            start = self._given
            self._given = min(start + self._ctx.limits.batch_rows_max, count)
            slots = self._living(start)
            slots = slots[slots < self._given]
            if len(slots):
                times = self._latest.values[slots] if self._timed else None
                yield self._batch(self._index.keys(slots), slots, times)

    def snapshot(self) -> Snapshot:
        return self._section(self._living(self._given)), arrival_section(self._arrived)

    @property
    def _retracting(self) -> list[RetractingAggregate]:
        return [one for one in self._aggregates if isinstance(one, RetractingAggregate)]

    def _take(self, batch: Columns) -> _Taken | None:
        """Count the rows of each key; None where no row changes anything."""
        record, ops, times = batch.record, batch.ops, batch.timestamps
        if not batch.num_rows:
            return None
        assert ops is not None, "the stream is a changelog"
        slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
        self._rows.reserve(self._index.count)
        removes = takes_back(ops)
        groups, counts, passed = self._counted(slots, removes)
        if passed is not None:
            self._ignored.inc(int(passed.sum()))
            kept = np.sort(groups.order[~passed])
            if not len(kept):
                return None
            record, slots, removes = record.take(pa.array(kept)), slots[kept], removes[kept]
            times = None if times is None else times[kept]
            groups, counts, _ = self._counted(slots, removes)
        signs = np.where(removes, -1, 1)[groups.order]
        self._alive += int((counts[groups.ends] > 0).sum())
        self._alive -= int((self._rows.values[groups.slots] > 0).sum())
        self._rows.values[groups.slots] = counts[groups.ends]
        self._touched.mark(groups.slots, self._index.count)
        rows = Rows(record, times, self._arrived)
        self._arrived += batch.num_rows
        born = (counts == 1) & (signs > 0)
        return _Taken(Turn(groups, rows, signs, counts), born, counts == 0)

    def _counted(
        self, slots: Int64s, removes: npt.NDArray[np.bool_]
    ) -> tuple[Groups, Int64s, npt.NDArray[np.bool_] | None]:
        groups = self._grouper.group(slots, self._index.count)
        signs = np.where(removes, -1, 1)[groups.order]
        return groups, *counted(groups, signs, self._rows.values[groups.slots])

    def _keep_latest(self, turn: Turn) -> None:
        """Keep the latest event time of each key since it last came to be."""
        times = turn.rows.timestamps
        if not self._keeps_latest or times is None:
            return
        groups, runs = turn.groups, turn.runs
        self._latest.reserve(self._index.count)
        latest = np.maximum.reduceat(times[groups.order], runs.starts)
        last = runs.segments[groups.ends]
        known = np.where(turn.fresh[last], NO_TIME, self._latest.values[groups.slots])
        self._latest.values[groups.slots] = np.maximum(latest[last], known)

    def _after_row(self, taken: _Taken, scans: list[Scan]) -> Columns:
        groups, record = taken.turn.groups, taken.turn.rows.record
        rows = pa.array(groups.inverse)
        arrays = [record.column(key) for key in self._spec.keys]
        for place, scan in enumerate(scans):
            arrays.append(self._shown(place, scan.after, taken.gone).take(rows))
        if self._timed:
            arrays.append(record.column(record.num_columns - 1))
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))

    def _results(self, slots: Int64s) -> list[pa.Array]:
        gone = self._rows.values[slots] == 0
        return [
            self._shown(place, one.result(slots), gone)
            for place, one in enumerate(self._retracting)
        ]

    def _shown(self, place: int, values: pa.Array, gone: npt.NDArray[np.bool_]) -> pa.Array:
        """Give null, or of counts 0, where a key has no rows."""
        if not gone.any():
            return values
        if self._spec.aggregates[place].kind in _COUNTS:
            return pc.if_else(pa.array(gone), pa.scalar(0, values.type), values)
        return nothing_where(gone, values)

    def _living(self, start: int) -> Int64s:
        """Give the slots from ``start`` whose keys have rows, ascending."""
        self._rows.reserve(self._index.count)
        return start + np.flatnonzero(self._rows.values[start : self._index.count] > 0)

    def _beside(self, slots: Int64s) -> dict[str, pa.Array]:
        return {ROWS: pa.array(self._rows.values[slots])}

    def _restore_beside(self, record: pa.RecordBatch, slots: Int64s, count: int) -> None:
        self._rows.reserve(count)
        self._rows.values[slots] = record.column(ROWS).to_numpy()
        self._alive += len(slots)

    def _gone(self, slots: Int64s) -> dict[str, pa.Array]:
        return {GONE: pa.array(self._rows.values[slots] == 0)}

    def _forget(self, gone: Int64s) -> None:
        """Leave nothing of keys that are gone; where most are, number the others anew."""
        for one in self._retracting:
            one.forget(gone)
        count = self._index.count
        if count <= 2 * self._alive + _GONE_MIN:
            return
        slots = self._living(0)
        keys, rows = self._index.keys(slots), self._rows.values[slots]
        states = [self._state(kept, slots) for kept in self._aggregates]
        self._latest.reserve(count)
        latest = self._latest.values[slots]
        self._index, self._grouper = KeyIndex([key.type for key in keys]), Grouper()
        self._touched = TouchedSlots()
        self._rows, self._latest = SlotColumn("i8"), SlotColumn("i8", NO_TIME)
        places, _ = self._index.lookup(keys)
        for column, values in ((self._rows, rows), (self._latest, latest)):
            column.reserve(len(places))
            column.values[places] = values
        self._aggregates = self._made()
        for aggregate, state in zip(self._aggregates, states, strict=True):
            aggregate.restore(places, state, len(places))
