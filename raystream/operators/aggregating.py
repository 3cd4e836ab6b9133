"""Running aggregates of plain rows, and what those of changelogs share with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.errors import RestoreRefused, UserFunctionError
from raystream.flow.batch import EVENT_TIME, NO_TIME, Batch, Columns, Int64s
from raystream.flow.changes import INSERT, UPDATE_AFTER
from raystream.flow.hashing import hash_columns
from raystream.keyed.accumulators import RunningAggregate
from raystream.keyed.groups import Grouper, Groups, Rows
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.retracting import RetractingAggregate
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import (
    Section,
    Snapshot,
    arrival_section,
    keyed_section,
    restored_arrival,
    section,
)
from raystream.keyed.touched import Lineage, TouchedSlots
from raystream.operators.changing import Changes, bounded, changes
from raystream.operators.emitting import EmittingOperator
from raystream.operators.guard import NO_ROW, call, failed
from raystream.operators.pyrows import to_rows

_SLOT, _LATEST, ROWS = "__slot", "__latest", "__rows"

_OWN = (_SLOT, _LATEST, ROWS)

KeptAggregate: TypeAlias = RunningAggregate | RetractingAggregate


@dataclass(frozen=True)
class RunningPlan:
    """What ``RunningAggregateSpec`` says, for those who do it."""

    keys: tuple[str, ...]
    aggregates: tuple[Bound, ...]
    emit: str
    output: pa.Schema
    before: bool = False
    signed: bool = False

    def rule(self, bound: Bound) -> KeptAggregate:
        """Make one of the aggregates."""
        if self.signed:
            return RetractingAggregate(bound, to_rows)
        return RunningAggregate(bound, to_rows)


class RunningAggregateOperator(EmittingOperator):
    """The operator of one subtask."""

    def __init__(self, spec: RunningPlan) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._timed = EVENT_TIME in spec.output.names
        types = [spec.output.field(key).type for key in spec.keys]
        self._index = KeyIndex(types)
        self._grouper = Grouper()
        self._latest = SlotColumn("i8", NO_TIME)
        self._arrived = 0
        self._given = 0
        self._touched, self._lineage = TouchedSlots(), Lineage()

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._aggregates = self._made()

    def _made(self) -> list[KeptAggregate]:
        bounds = self._spec.aggregates
        return [self._spec.rule(_guarded(bound, self._ctx)) for bound in bounds]

    def restore(self, snapshot: Snapshot) -> None:
        self._arrived = restored_arrival(snapshot)
        table = section(snapshot, "keys")
        assert table is not None, "keys are kept, be there none"
        if (ROWS in table.column_names) is not self._spec.signed:
            was = "a changelog" if ROWS in table.column_names else "plain rows"
            raise RestoreRefused(
                f"what was kept are aggregates of {was}, and that is not what comes in now",
                hint="give the operator another uid",
            )
        # What comes first at the end is what came first: also of what was divided before.
        order = np.argsort(table.column(_SLOT).to_numpy(), kind="stable")
        kept = [self._kept_names(place) for place in range(len(self._aggregates))]
        missing = [name for names in kept for name in names if name not in table.column_names]
        if missing:
            raise RestoreRefused(
                f"the aggregates that were kept are {', '.join(_aggregates_of(table))}; "
                f"{_aggregate(missing[0])} is not one of them",
                hint="aggregate as before, or give the operator another uid",
            )
        for record in table.take(pa.array(order)).to_batches():
            slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
            count = self._index.count
            self._restore_beside(record, slots, count)
            if self._keeps_latest and _LATEST in record.schema.names:
                self._latest.reserve(count)
                self._latest.values[slots] = record.column(_LATEST).to_numpy()
            for aggregate, names in zip(self._aggregates, kept, strict=True):
                aggregate.restore(slots, [record.column(name) for name in names], count)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        assert isinstance(batch, Columns), "the stream is columnar"
        if not batch.num_rows:
            return
        record = batch.record
        slots, first_new = self._index.lookup([record.column(key) for key in self._spec.keys])
        count = self._index.count
        groups = self._grouper.group(slots, count)
        self._touched.mark(groups.slots, count)
        rows = Rows(record, batch.timestamps, self._arrived)
        self._arrived += record.num_rows
        if self._spec.emit in ("row", "changes"):
            if self._spec.before:
                yield from self._with_before(groups, rows, count, first_new)
            else:
                yield self._after_each(groups, rows, count, first_new)
            return
        with self._named():
            for aggregate in self._plain:
                aggregate.fold(groups, rows, count)
        if self._spec.emit == "batch":
            yield self._after_batch(groups, rows)
        elif rows.timestamps is not None:
            self._latest.reserve(count)
            times = np.maximum(self._latest.values[groups.slots], _latest(groups, rows))
            self._latest.values[groups.slots] = times

    def on_end(self) -> Iterator[Batch]:
        # Begun at the MAX watermark, so that windows behind this operator still take the rows.
        count = self._index.count if self._spec.emit == "final" else 0
        while self._given < count:
            start = self._given
            self._given = min(start + self._ctx.limits.batch_rows_max, count)
            slots = np.arange(start, self._given)
            times = self._latest.values[slots] if self._timed else None
            yield self._batch(self._index.keys(slots), slots, times)

    def snapshot(self) -> Snapshot:
        # What has been given at the end is not needed again: no rows come after it.
        kept = self._section(np.arange(self._given, self._index.count))
        return kept, arrival_section(self._arrived)

    def changes(self) -> Snapshot:
        touched = self._touched.take(self._index.count)
        # At the end keys go one after the other: no delta says so.
        if touched is None or self._given or self._lineage.wants_whole(len(touched)):
            kept, arrived = self.snapshot()
        else:
            kept, arrived = self._section(touched, delta=True), arrival_section(self._arrived)
        return self._lineage.given(kept), arrived

    def _section(self, slots: Int64s, *, delta: bool = False) -> Section:
        keys = self._index.keys(slots)
        columns = dict(zip(self._spec.keys, keys, strict=True))
        columns[_SLOT] = pa.array(slots)
        if self._keeps_latest:
            self._latest.reserve(self._index.count)
            columns[_LATEST] = pa.array(self._latest.values[slots])
        columns |= self._beside(slots)
        for place, aggregate in enumerate(self._aggregates):
            state = self._state(aggregate, slots)
            columns |= dict(zip(self._kept_names(place), state, strict=True))
        if delta:
            columns |= self._gone(slots)
        table = pa.table(list(columns.values()), list(columns))
        hashes, groups = hash_columns(keys), self._ctx.max_parallelism
        return keyed_section("keys", table, hashes, groups, self._spec.keys, delta=delta)

    @property
    def _keeps_latest(self) -> bool:
        return self._timed and self._spec.emit == "final"

    def _beside(self, slots: Int64s) -> dict[str, pa.Array]:
        """Give what else is kept of some keys."""
        return {}

    def _restore_beside(self, record: pa.RecordBatch, slots: Int64s, count: int) -> None:
        """Take up what ``_beside`` gave; ``count`` is above every slot."""

    def _gone(self, slots: Int64s) -> dict[str, pa.Array]:
        """Say which keys of a delta are no more; nothing where all stay."""
        return {}

    @property
    def _plain(self) -> list[RunningAggregate]:
        return [one for one in self._aggregates if isinstance(one, RunningAggregate)]

    def _state(self, aggregate: KeptAggregate, slots: Int64s) -> list[pa.Array]:
        with self._named():
            return aggregate.state(slots, self._index.count)

    def _kept_names(self, place: int) -> list[str]:
        """Name the columns that an aggregate keeps: others may come, go and change places."""
        width = len(self._state(self._aggregates[place], np.zeros(0, np.int64)))
        bound = self._spec.aggregates[place]
        return [f"__{bound.name}.{bound.kind}.{i}" for i in range(width)]

    def _after_each(self, groups: Groups, rows: Rows, count: int, first_new: int) -> Columns:
        arrays = [rows.record.column(key) for key in self._spec.keys]
        with self._named():
            arrays += [aggregate.scan(groups, rows, count) for aggregate in self._plain]
        if self._spec.emit == "changes":
            ops = np.full(rows.record.num_rows, UPDATE_AFTER, np.int8)
            ops[groups.order[groups.starts[groups.slots >= first_new]]] = INSERT
            arrays.append(pa.array(ops))
        if self._timed:
            arrays.append(rows.record.column(rows.record.num_columns - 1))
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))

    def _with_before(
        self, groups: Groups, rows: Rows, count: int, first_new: int
    ) -> Iterator[Columns]:
        known = groups.slots < first_new
        born = np.zeros(len(groups.order), np.bool_)
        born[groups.starts[~known]] = True
        told = changes(groups, born, np.zeros(len(born), np.bool_), before=True)
        pools = []
        with self._named():
            for aggregate in self._plain:
                # A user's aggregate is not asked for values of keys that it has seen no row of.
                old = aggregate.before(groups.slots[known], count)
                after = aggregate.scan(groups, rows, count).take(pa.array(groups.order))
                pools.append(pa.concat_arrays([after, old]))
        places = np.arange(len(born) + len(known))
        places[len(born) :] = len(born) + np.cumsum(known) - 1
        told = told._replace(places=places[told.places])
        yield from self._changed(rows.record, told, pools)

    def _changed(
        self, record: pa.RecordBatch, told: Changes, pools: list[pa.Array]
    ) -> Iterator[Columns]:
        """Make batches of changes; ``pools`` hold the values of each aggregate, by place."""
        rows, places = pa.array(told.rows), pa.array(told.places)
        arrays = [record.column(key).take(rows) for key in self._spec.keys]
        arrays += [pool.take(places) for pool in pools]
        arrays.append(pa.array(told.ops))
        if self._timed:
            arrays.append(record.column(record.num_columns - 1).take(rows))
        made = pa.RecordBatch.from_arrays(arrays, schema=self._spec.output)
        for cut in bounded(told.ops, self._ctx.limits.batch_rows_max):
            yield Columns(made.slice(cut.start, cut.stop - cut.start))

    def _after_batch(self, groups: Groups, rows: Rows) -> Columns:
        firsts = pa.array(groups.order[groups.starts])
        keys = [rows.record.column(key).take(firsts) for key in self._spec.keys]
        return self._batch(keys, groups.slots, _latest(groups, rows) if self._timed else None)

    def _batch(self, keys: list[pa.Array], slots: Int64s, times: Int64s | None) -> Columns:
        with self._named():
            arrays = [*keys, *self._results(slots)]
        if times is not None:
            arrays.append(pa.array(times))
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))

    def _results(self, slots: Int64s) -> list[pa.Array]:
        return [aggregate.result(slots) for aggregate in self._aggregates]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Tell the operator in errors of aggregates, which do not know it."""
        try:
            yield
        except UserFunctionError as error:
            if error.operator:
                raise
            operator, where = self._ctx.operator, self._ctx.where
            raise failed(error, operator=operator, where=where) from error


def _latest(groups: Groups, rows: Rows) -> Int64s:
    """Give the latest event time of each segment's rows."""
    assert rows.timestamps is not None, "a timed stream has event times"
    latest: Int64s = np.maximum.reduceat(rows.timestamps[groups.order], groups.starts)
    return latest


class _Guarded(AggregateFunction):
    """A user's aggregate whose exceptions tell the operator and the row."""

    def __init__(self, function: AggregateFunction, ctx: OpenContext) -> None:
        self._function, self._ctx = function, ctx

    def create(self) -> Any:
        return self._call("create")

    def add(self, acc: Any, row: Any) -> Any:
        return self._call("add", acc, row, row=row)

    def merge(self, a: Any, b: Any) -> Any:
        return self._call("merge", a, b)

    def result(self, acc: Any) -> Any:
        return self._call("result", acc)

    def retract(self, acc: Any, row: Any) -> Any:
        """Call what the user's class must have where rows are taken back."""
        return self._call("retract", acc, row, row=row)

    def _call(self, method: str, *arguments: Any, row: object = NO_ROW) -> Any:
        function = getattr(self._function, method)
        operator, where = self._ctx.operator, self._ctx.where
        return call(function, *arguments, operator=operator, where=where, row=row)


def _guarded(bound: Bound, ctx: OpenContext) -> Bound:
    if bound.function is None:
        return bound
    return replace(bound, function=_Guarded(bound.function, ctx))


def _aggregates_of(table: pa.Table) -> list[str]:
    """Name the aggregates whose state a section holds."""
    own = [n for n in table.column_names if n.startswith("__") and n not in _OWN]
    return list(dict.fromkeys(map(_aggregate, own)))


def _aggregate(column: str) -> str:
    """Name the aggregate of a column that is kept: its name and its kind."""
    return column[2:].rpartition(".")[0]
