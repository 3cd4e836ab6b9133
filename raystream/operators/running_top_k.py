"""The best rows of each key as rows come, and what those of changelogs share with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s
from raystream.flow.changes import INSERT, OP
from raystream.flow.element import MAX_TIME
from raystream.flow.hashing import hash_columns
from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures_pick import sort_key
from raystream.keyed.ranking import Change, Ranking, Told, sort_values
from raystream.keyed.row_store import RowStore
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section
from raystream.operators.emitting import EmittingOperator
from raystream.operators.operator import Output

_COMPACT_MIN = 8_192
_ARRIVAL, _RANK = "__arrival", "__rank"


@dataclass(frozen=True)
class TopKPlan:
    """What ``TopKSpec`` says, for those who do it."""

    keys: tuple[str, ...]
    k: int
    by: tuple[tuple[str, bool], ...]
    ties: bool
    rank: str | None
    emit: str
    input: pa.Schema
    output: pa.Schema
    before: bool = False

    @property
    def signed(self) -> bool:
        """Whether what comes in is a changelog."""
        return OP in self.input.names


class TopK(EmittingOperator):
    """The operator of one subtask.

    A batch is thinned out by columns first: a row that is worse in the first column than the worst
    of a full list cannot enter. What may enter is taken in row by row.
    """

    def __init__(self, spec: TopKPlan) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._index = KeyIndex([spec.input.field(key).type for key in spec.keys])
        self._ranking = Ranking(spec.k, ties=spec.ties)
        # What a row does to the table is not part of it.
        names = [name for name in spec.input.names if name != OP]
        self._store = RowStore(pa.schema([spec.input.field(name) for name in names]))
        kind = spec.input.field(spec.by[0][0]).type
        self._thins = (pa.types.is_integer(kind) and kind != pa.uint64()) or pa.types.is_floating(
            kind
        )
        floating = pa.types.is_floating(kind)
        self._bars = SlotColumn("f8", np.inf) if floating else SlotColumn("i8", MAX_TIME)
        self._arrived = 0
        self._live = 0
        self._given: set[int] = set()
        self._waiting: list[Told] = []

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    @property
    def _entries(self) -> Mapping[Any, Sequence[tuple[Any, ...]]]:
        """What is held of each key: ``(sort, arrival, number of the row, …)``."""
        return self._ranking.best

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        record = batch.record
        slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
        self._bars.reserve(self._index.count)
        hopeful = self._hopeful(record, slots)
        if len(hopeful):
            yield from self._told(self._take(batch.take(hopeful), slots[hopeful]))
        self._compact()

    def on_end(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        left = iter([slot for slot in self._entries if slot not in self._given])
        while self._spec.emit == "final":
            while len(self._waiting) < rows_max and (slot := next(left, None)) is not None:
                self._given.add(slot)
                self._waiting += self._whole(slot)
            if not self._waiting:
                return
            some, self._waiting = self._waiting[:rows_max], self._waiting[rows_max:]
            yield self._batch([(None, told) for told in some])

    def snapshot(self) -> Snapshot:
        entries = [
            entry[1:3]
            for slot, best in self._entries.items()
            if slot not in self._given
            for entry in best
        ]
        arrivals, numbers = (np.array([entry[i] for entry in entries], np.int64) for i in (0, 1))
        waiting = np.array([told.row for told in self._waiting], np.int64)
        ranks = np.array([told.rank for told in self._waiting], np.int64)
        return (
            self._section("rows", numbers, _ARRIVAL, arrivals),
            self._section("waiting", waiting, _RANK, ranks),
        )

    def _section(self, name: str, numbers: Int64s, beside: str, values: Int64s) -> Section:
        """Make a section of held rows, with a column beside them."""
        rows = self._store.take(numbers)
        table = pa.Table.from_batches([rows]).append_column(beside, pa.array(values))
        keys = [rows.column(key) for key in self._spec.keys]
        return keyed_section(name, table, hash_columns(keys), self._ctx.max_parallelism)

    def restore(self, snapshot: Snapshot) -> None:
        held, arrivals = self._held(snapshot, "rows", _ARRIVAL)
        if held.num_rows:
            order = stable_order(arrivals)
            rows = held.take(order)
            slots, _ = self._index.lookup([rows.record.column(key) for key in self._spec.keys])
            self._resume(rows, slots, arrivals[order])
            self._arrived = int(arrivals.max()) + 1
        waiting, ranks = self._held(snapshot, "waiting", _RANK)
        if waiting.num_rows:
            first = self._store.append(waiting.record)
            self._waiting = [
                Told(first + at, rank, INSERT) for at, rank in enumerate(ranks.tolist())
            ]

    def _resume(self, rows: Columns, slots: Int64s, arrivals: Int64s) -> None:
        """Take up rows that were kept."""
        self._bars.reserve(self._index.count)
        for _ in self._changes(rows, slots, arrivals):
            pass  # taking a row in is what restores it

    def _held(self, snapshot: Snapshot, name: str, beside: str) -> tuple[Columns, Int64s]:
        table = section(snapshot, name)
        if table is None or not table.num_rows:
            return Columns(self._store.take(np.empty(0, np.int64))), np.empty(0, np.int64)
        record = table.combine_chunks().to_batches()[0]
        values: Int64s = record.column(beside).to_numpy()
        return Columns(record.select(self._store.schema.names)), values

    def _hopeful(self, record: pa.RecordBatch, slots: Int64s) -> Int64s:
        """Leave out rows that the first column alone rules out."""
        name, descending = self._spec.by[0]
        if not self._thins:
            return np.arange(len(slots))
        column = record.column(name)
        if column.null_count or pa.types.is_floating(column.type):
            column = column.fill_null(0)
            values = column.to_numpy(zero_copy_only=False).astype(self._bars.values.dtype)
            values = (~values if values.dtype == np.int64 else -values) if descending else values
        else:
            values = sort_key(column, greatest=descending)
        # Not <=: NaN must not be ruled out while a list has room for it.
        out = values > self._bars.values[slots]
        missing = record.column(name).is_null().to_numpy(zero_copy_only=False)
        return np.flatnonzero(~out | missing)

    def _changes(
        self, rows: Columns, slots: Int64s, arrivals: Int64s
    ) -> Iterator[tuple[int, int, Change]]:
        """Take rows in; give the place, the slot and what it did of each that entered."""
        first = self._store.append(rows.record)
        columns = [
            sort_values(rows.record.column(name), descending=descending)
            for name, descending in self._spec.by
        ]
        # A loop over rows: each meets the list that the one before left. Few come this far.
        for place, (slot, arrival, *sort) in enumerate(
            zip(slots.tolist(), arrivals.tolist(), *columns, strict=True)
        ):
            change = self._ranking.offer(slot, (tuple(sort), arrival, first + place))
            if change is None:
                continue
            worst = self._ranking.worst(slot)
            if self._thins and worst is not None and worst[0][0] == 0:
                self._bars.values[slot] = worst[0][1]
            yield place, slot, change

    def _take(self, rows: Columns, slots: Int64s) -> Iterator[tuple[int, Told]]:
        """Take rows in, and give what is to be told, with its event time."""
        arrivals = self._arrived + np.arange(rows.num_rows)
        self._arrived += rows.num_rows
        times = rows.timestamps
        at = [0] * rows.num_rows if times is None else times.tolist()
        changed: dict[int, int] = {}
        for place, slot, change in self._changes(rows, slots, arrivals):
            if self._spec.emit in ("row", "changes"):
                for told in self._news(change):
                    yield at[place], told
            else:
                changed[slot] = max(at[place], changed.get(slot, at[place]))
        if self._spec.emit == "batch":
            for slot, time_us in changed.items():
                for told in self._whole(slot):
                    yield time_us, told

    def _news(self, change: Change) -> Iterator[Told]:
        ranked = self._spec.rank is not None
        if self._spec.emit == "row":
            return self._ranking.newest(change, ranked=ranked)
        if ranked and not self._spec.ties:
            return self._ranking.by_rank(change, before=self._spec.before)
        return self._ranking.by_row(change, ranked=ranked)

    def _whole(self, slot: int) -> Iterator[Told]:
        best = self._ranking.best[slot]
        for entry, rank in zip(best, self._ranking.ranks(best), strict=True):
            yield Told(entry[2], rank, INSERT)

    def _told(self, news: Iterable[tuple[int | None, Told]]) -> Iterator[Output]:
        """Make bounded batches of rows, each at the time that is told, or at its own."""
        rows_max = self._ctx.limits.batch_rows_max
        waiting: list[tuple[int | None, Told]] = []
        for one in news:
            waiting.append(one)
            if len(waiting) == rows_max:
                yield self._batch(waiting)
                waiting = []
        if waiting:
            yield self._batch(waiting)

    def _batch(self, news: list[tuple[int | None, Told]]) -> Columns:
        rows = self._store.take(np.array([told.row for _, told in news], np.int64))
        own: dict[str, npt.NDArray[np.generic]] = {
            OP: np.array([told.op for _, told in news], np.int8),
        }
        if self._spec.rank is not None:
            own[self._spec.rank] = np.array([told.rank for _, told in news], np.int64)
        if news[0][0] is not None and EVENT_TIME in self._spec.output.names:
            own[EVENT_TIME] = np.array([time_us for time_us, _ in news], np.int64)
        arrays = [
            pa.array(own[name]) if name in own else rows.column(name)
            for name in self._spec.output.names
        ]
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))

    def _compact(self) -> None:
        """Forget rows that have been pushed out, once they are half of what is held."""
        # Lists seldom shrink, so what was counted last will do: not all keys at every batch.
        if self._store.row_count <= 2 * self._live + _COMPACT_MIN:
            return
        self._live = sum(map(len, self._ranking.best.values()))
        if self._store.row_count <= 2 * self._live + _COMPACT_MIN:
            return
        numbers = [entry[2] for best in self._ranking.best.values() for entry in best]
        self._store.keep(np.array(numbers, np.int64))
        number = iter(range(len(numbers)))
        for best in self._ranking.best.values():
            best[:] = [(sort, arrival, next(number)) for sort, arrival, _ in best]
