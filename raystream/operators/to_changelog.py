"""Take plain rows for the changes of a table: their kinds stand in a column.

Where each row that leaves the table must be told, the last row of each key is kept: then a +U that
comes alone takes it back first, and a tombstone, which holds nothing but a key, gives it whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.errors import UserFunctionError
from raystream.flow.batch import (
    Batch,
    Columns,
    Int64s,
    bounded,
    visible_names,
    with_ops,
    with_times,
)
from raystream.flow.changes import INSERT, OP, OPS, UPDATE_AFTER, UPDATE_BEFORE, takes_back
from raystream.flow.gather import one_record
from raystream.flow.hashing import hash_columns
from raystream.keyed.groups import Grouper
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.row_store import RowStore
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section
from raystream.keyed.touched import Lineage, TouchedSlots
from raystream.operators.emitting import no_rows_kept
from raystream.operators.operator import Operator, Output
from raystream.operators.rejecting import compute_batch

_NONE, _ROOM = -1, -2
"""In the place of a row's number: the key has no row; it has none since a -U made room for one."""

_COMPACT_MIN = 8_192


@dataclass(frozen=True)
class ToChangelogSpec:
    """Rows are changes of a table with these keys; the column ``op`` holds what each does.

    Where that is the hidden column they are a changelog already, of which rows that leave are told.

    ``before``: each row that leaves the table is announced whole. ``input`` and ``output`` are wire
    schemas.
    """

    keys: tuple[str, ...]
    op: str
    input: pa.Schema
    output: pa.Schema
    before: bool = False

    @property
    def verb(self) -> str:
        return "to_changelog"

    def describe(self) -> str:
        return f"by {', '.join(self.keys)}: op={self.op}"

    def build(self) -> ToChangelog:
        return ToChangelog(self)


class ToChangelog(Operator):
    """The operator of one subtask: a slot a key, and in it the number of its row, if any is kept.

    A key that has no row any more keeps its slot until half of them are such.
    """

    def __init__(self, spec: ToChangelogSpec) -> None:
        self._spec = spec
        self._visible = visible_names(spec.output)
        self._schema = pa.schema([spec.output.field(name) for name in self._visible])
        self._others = [name for name in self._visible if name not in spec.keys]
        self._grouper = Grouper()
        self._store = RowStore(self._schema)
        self._errors = Rejects()
        self._lineage = Lineage()
        self._compact_at = _COMPACT_MIN
        self._begin()

    def _begin(self) -> None:
        self._index = KeyIndex([self._schema.field(key).type for key in self._spec.keys])
        self._number = SlotColumn("i8", _NONE)
        self._touched = TouchedSlots()  # slots are others: all is given anew

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._errors = ctx.errors

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        for rows in compute_batch(batch, self._read, self._errors):
            if rows.num_rows:
                told = self._completed(rows) if self._spec.before else rows
                yield from bounded(told, self._ctx.limits.batch_rows_max)

    def _read(self, batch: Batch) -> Columns:
        """Give rows their kinds, from the column that holds them.

        Raises: UserFunctionError for a kind that there is not.
        """
        assert isinstance(batch, Columns), "the stream is columnar"
        if self._spec.op == OP:
            return batch
        record = batch.record
        codes = pc.index_in(record.column(self._spec.op), pa.array(OPS))
        if codes.null_count:
            place = pc.index(codes.is_null(), True).as_py()
            raise self._unknown(record, place)
        rows = with_times(record.select(self._visible), batch.timestamps)
        return with_ops(rows, codes.to_numpy().astype(np.int8))

    def _unknown(self, record: pa.RecordBatch, place: int) -> UserFunctionError:
        value = record.column(self._spec.op)[place].as_py()
        return UserFunctionError(
            f'{self._ctx.operator}: column "{self._spec.op}" holds {value!r:.60}, which is no kind '
            f"of change. Kinds: {', '.join(OPS)}",
            operator=self._ctx.operator,
            where=self._ctx.where or None,
            hint="map other words to these before: with_columns(op=rs.when(…).then(…))",
        )

    def _completed(self, rows: Columns) -> Columns:
        """Put in what each row takes back of those before, and keep the last row of each key."""
        record, ops, times = rows.visible, rows.ops, rows.timestamps
        assert ops is not None, "given by _read"
        slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
        count = self._index.count
        self._number.reserve(count)
        groups = self._grouper.group(slots, count)
        self._touched.mark(groups.slots, count)
        order, number = groups.order, self._number.values[groups.slots]
        # At each position, in order of keys: what its key held before. Numbers from n on are of
        # rows that were kept, those below of the batch.
        n = len(order)
        removes = takes_back(ops[order])
        after = np.where(removes, np.where(ops[order] == UPDATE_BEFORE, _ROOM, _NONE), order)
        before = np.roll(after, 1)
        kept = np.flatnonzero(number >= 0)
        held = self._store.take(number[kept])
        first = number.copy()
        first[kept] = n + np.arange(len(kept))
        before[groups.starts] = first
        by_row = before[groups.inverse]
        taken, made, codes = self._told(ops, by_row, self._tombstones(record, ops))
        source = one_record(pa.Table.from_batches([record, held]))
        # Each row's own change at odd places, what it takes back before it.
        rows_of = np.concatenate([np.flatnonzero(taken >= 0), np.flatnonzero(made >= 0)])
        back = np.count_nonzero(taken >= 0)
        at = np.argsort(2 * rows_of + (np.arange(len(rows_of)) >= back), kind="stable")
        sources = np.concatenate([taken[taken >= 0], made[made >= 0]])[at]
        kinds = np.concatenate([np.full(back, UPDATE_BEFORE, np.int8), codes[made >= 0]])[at]
        out = with_times(
            source.take(pa.array(sources)), None if times is None else times[rows_of[at]]
        )
        self._keep(groups.slots, after[groups.ends], record)
        return with_ops(out, kinds)

    def _told(
        self, ops: npt.NDArray[np.int8], before: Int64s, tombstones: npt.NDArray[np.bool_]
    ) -> tuple[Int64s, Int64s, npt.NDArray[np.int8]]:
        """Say for each row which one it takes back first, which one it tells of, and how.

        Shapes: [n] -> int64 [n], int64 [n], negative for none; int8 [n].
        """
        alone = (ops == UPDATE_AFTER) & (before != _ROOM)
        taken = np.where(alone, before, _NONE)
        made = np.where(tombstones, before, np.arange(len(ops)))
        codes = np.where(alone & (before < 0), INSERT, ops).astype(np.int8)
        return taken, made, codes

    def _tombstones(
        self, record: pa.RecordBatch, ops: npt.NDArray[np.int8]
    ) -> npt.NDArray[np.bool_]:
        """Tell which rows take back a row of which they hold nothing but the key."""
        if not self._others:
            return np.zeros(len(ops), np.bool_)
        told = takes_back(ops)
        for name in self._others:
            told &= record.column(name).is_null().to_numpy(zero_copy_only=False)
        return told

    def _keep(self, slots: Int64s, last: Int64s, record: pa.RecordBatch) -> None:
        kept = np.flatnonzero(last >= 0)
        start = self._store.append(record.take(pa.array(last[kept])))
        self._number.values[slots] = last
        self._number.values[slots[kept]] = start + np.arange(len(kept))
        count = self._index.count
        if self._store.row_count > 2 * count + _COMPACT_MIN:
            full = np.flatnonzero(self._number.values[:count] >= 0)
            self._store.keep(self._number.values[full])
            self._number.values[full] = np.arange(len(full))
        if count >= self._compact_at:
            self._forget_empty(count)

    def _forget_empty(self, count: int) -> None:
        numbers = self._number.values[:count]
        full = np.flatnonzero(numbers != _NONE)
        if 2 * len(full) < count:
            keys, numbers = self._index.keys(full), numbers[full]
            self._begin()
            slots, _ = self._index.lookup(keys)
            self._number.reserve(self._index.count)
            self._number.values[slots] = numbers
        self._compact_at = max(_COMPACT_MIN, 2 * self._index.count)

    # What is kept ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        if not self._spec.before:
            return ()
        return (self._section(np.arange(self._index.count)),)

    def changes(self) -> Snapshot:
        if not self._spec.before:
            return ()
        touched = self._touched.take(self._index.count)
        if touched is None or self._lineage.wants_whole(len(touched)):
            return (self._lineage.given(*self.snapshot()),)
        return (self._lineage.given(self._section(touched, delta=True)),)

    def _section(self, slots: Int64s, *, delta: bool = False) -> Section:
        keys = self._index.keys(slots)
        numbers = self._number.values[slots]
        full = numbers >= 0
        places = pa.array(np.cumsum(full) - 1, mask=~full)
        rows = self._store.take(numbers[full])
        columns = dict(zip(self._spec.keys, keys, strict=True))
        columns["__held"] = pa.array(np.minimum(numbers, 0))
        columns |= {f"row.{name}": rows.column(name).take(places) for name in self._visible}
        hashes, groups = hash_columns(keys), self._ctx.max_parallelism
        table = pa.table(columns)
        return keyed_section("keys", table, hashes, groups, self._spec.keys, delta=delta)

    def restore(self, snapshot: Snapshot) -> None:
        table = section(snapshot, "keys")
        if not self._spec.before:
            return
        if table is None:
            raise no_rows_kept(self._ctx.operator)
        for record in table.to_batches():
            self._restore(record)

    def _restore(self, record: pa.RecordBatch) -> None:
        slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
        self._number.reserve(self._index.count)
        held = record.column("__held").to_numpy()
        full = np.flatnonzero(held >= 0)
        rows = [record.column(f"row.{name}") for name in self._visible]
        kept = pa.RecordBatch.from_arrays(rows, schema=self._schema).take(pa.array(full))
        numbers = held.copy()
        numbers[full] = self._store.append(kept) + np.arange(len(full))
        self._number.values[slots] = numbers
