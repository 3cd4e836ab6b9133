"""Keep one row of each key: the first to arrive, or the one with the greatest event time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s, bounded, with_ops, with_times
from raystream.flow.changes import INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.flow.hashing import hash_columns
from raystream.flow.key import check_key_type
from raystream.keyed.groups import Grouper, Groups
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.row_store import RowStore
from raystream.keyed.segmented import first_least
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section
from raystream.keyed.touched import Lineage, TouchedSlots
from raystream.operators.emitting import EmittingOperator, no_rows_kept
from raystream.operators.operator import Output

_NEVER = NO_TIME
"""Earlier than every row: the time of a key that has none."""

_COMPACT_MIN = 8_192
_LATEST, _WRITTEN = "__latest", "__written"


@dataclass(frozen=True)
class DeduplicateSpec:
    """Rows that take their key's place: the first, or each with a greater event time than before.

    With ``keep="last"`` the first of equals stays. ``emit`` is ``"row"`` (each such row as it
    comes), ``"batch"`` (one a key and batch), ``"final"`` (each key's row at the end of bounded
    input) or ``"changes"``: with ``before`` each behind the row that it replaces. A key that was
    not written for ``ttl_us`` of processing time is forgotten, except for a row that is to be taken
    back. ``input`` and ``output`` are wire schemas; without event time every row is later than
    those before.
    """

    keys: tuple[str, ...]
    keep: str
    emit: str
    ttl_us: int | None
    input: pa.Schema
    output: pa.Schema
    before: bool = False

    def __post_init__(self) -> None:
        for key in self.keys:
            check_key_type(self.input.field(key).type)

    @property
    def verb(self) -> str:
        return "deduplicate"

    def describe(self) -> str:
        ttl = "" if self.ttl_us is None else f"  ttl={text(self.ttl_us)}"
        return f"by {', '.join(self.keys)}: keep {self.keep}  emit={self.emit}{ttl}"

    def build(self) -> Deduplicate:
        return Deduplicate(self)


class Deduplicate(EmittingOperator):
    """The operator of one subtask: a slot a key, and in it when the kept row was and was written.

    Rows themselves are held only where they go out again: at the end, or when they are replaced.
    """

    def __init__(self, spec: DeduplicateSpec) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._first = spec.keep == "first"
        # The first row of a key stays, unless the key is forgotten.
        stays = self._first and spec.ttl_us is None
        self._before = spec.before and spec.emit == "changes" and not stays
        self._holds = self._final or self._before
        self._grouper = Grouper()
        self._store = RowStore(spec.input)
        self._given = 0
        self._compact_at = _COMPACT_MIN
        self._lineage = Lineage()
        self._begin()

    def _begin(self) -> None:
        self._index = KeyIndex([self._spec.input.field(key).type for key in self._spec.keys])
        self._latest = SlotColumn("i8", _NEVER)
        self._written = SlotColumn("i8", _NEVER)
        self._number = SlotColumn("i8", -1)
        self._touched = TouchedSlots()  # slots are others: all is given anew

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        slots, first_new = self._index.lookup([batch.record.column(key) for key in self._spec.keys])
        count = self._index.count
        for column in (self._latest, self._written, self._number):
            column.reserve(count)
        groups = self._grouper.group(slots, count)
        unseen = self._unseen(groups.slots, first_new)
        kept = self._kept(batch, groups, unseen)
        if len(kept):
            yield from self._take(batch, groups, kept, groups.slots >= first_new)
        self._compact()

    def on_end(self) -> Iterator[Output]:
        count = self._index.count if self._final else 0
        while self._given < count:
            start = self._given
            self._given = min(start + self._ctx.limits.batch_rows_max, count)
            yield Columns(self._store.take(self._number.values[start : self._given]))

    def snapshot(self) -> Snapshot:
        return (self._section(np.arange(self._given, self._index.count)),)

    def changes(self) -> Snapshot:
        """Give the keys whose row changed; what has only expired is dead wherever it is read."""
        touched = self._touched.take(self._index.count)
        # At the end keys go one after the other: no delta says so.
        if touched is None or self._given or self._lineage.wants_whole(len(touched)):
            return (self._lineage.given(*self.snapshot()),)
        return (self._lineage.given(self._section(touched, delta=True)),)

    def _section(self, slots: Int64s, *, delta: bool = False) -> Section:
        keys = self._index.keys(slots)
        columns = dict(zip(self._spec.keys, keys, strict=True))
        columns[_LATEST] = pa.array(self._latest.values[slots])
        columns[_WRITTEN] = pa.array(self._written.values[slots])
        if self._holds:
            rows = self._store.table(self._number.values[slots])
            columns |= {f"row.{name}": rows.column(name) for name in rows.column_names}
        hashes, groups = hash_columns(keys), self._ctx.max_parallelism
        key = self._spec.keys
        return keyed_section("keys", pa.table(columns), hashes, groups, key, delta=delta)

    def restore(self, snapshot: Snapshot) -> None:
        table = section(snapshot, "keys")
        for record in [] if table is None else table.to_batches():
            self._restore(record)

    def _restore(self, record: pa.RecordBatch) -> None:
        slots, _ = self._index.lookup([record.column(key) for key in self._spec.keys])
        for column, name in ((self._latest, _LATEST), (self._written, _WRITTEN)):
            column.reserve(self._index.count)
            column.values[slots] = record.column(name).to_numpy()
        if self._holds:
            names = self._spec.input.names
            if f"row.{names[0]}" not in record.schema.names:
                raise no_rows_kept(self._ctx.operator)
            rows = [record.column(f"row.{name}") for name in names]
            held = pa.RecordBatch.from_arrays(rows, schema=self._spec.input)
            self._number.reserve(self._index.count)
            self._number.values[slots] = self._store.append(held) + np.arange(held.num_rows)

    def _unseen(self, slots: Int64s, first_new: int) -> npt.NDArray[np.bool_]:
        """Tell which keys have no row: new ones, and those that were forgotten."""
        unseen: npt.NDArray[np.bool_] = slots >= first_new
        if self._spec.ttl_us is not None:
            unseen |= self._ctx.clock.now_us() - self._written.values[slots] >= self._spec.ttl_us
        return unseen

    def _kept(self, batch: Columns, groups: Groups, unseen: npt.NDArray[np.bool_]) -> Int64s:
        """Give the positions of rows that take their key's place, in order of position."""
        if self._first:
            return groups.starts[unseen]
        times = batch.timestamps
        if times is None:
            return np.arange(len(groups.order))
        here = times[groups.order]
        before = np.where(unseen, _NEVER, self._latest.values[groups.slots])
        records = first_least(~here, groups) == np.arange(len(here))
        # A key without a row takes any, also one without an event time.
        later = (here > groups.spread(before)) | groups.spread(unseen) & (groups.places == 0)
        return np.flatnonzero(records & later)

    def _take(
        self, batch: Columns, groups: Groups, kept: Int64s, new: npt.NDArray[np.bool_]
    ) -> Iterator[Output]:
        segments = groups.segments[kept]
        last = np.flatnonzero(np.diff(segments, append=-1))
        rows, slots = groups.order[kept], groups.slots[segments]
        self._touched.mark(slots[last], self._index.count)
        if batch.timestamps is not None:
            self._latest.values[slots[last]] = batch.timestamps[rows[last]]
        if self._spec.ttl_us is not None:
            self._written.values[slots[last]] = self._ctx.clock.now_us()
        earlier = self._number.values[slots[last]]
        if self._holds:
            number = self._store.append(batch.take(rows[last]).record)
            self._number.values[slots[last]] = number + np.arange(len(last))
        if self._final:
            return
        if self._spec.emit == "changes":
            changed = self._changed(batch, rows, segments, new, earlier)
            yield from bounded(changed, self._ctx.limits.batch_rows_max)
            return
        if self._spec.emit == "batch":
            rows = rows[last]
        yield batch.take(np.sort(rows))

    def _changed(
        self,
        batch: Columns,
        rows: Int64s,
        segments: Int64s,
        new: npt.NDArray[np.bool_],
        earlier: Int64s,
    ) -> Columns:
        """Give rows as changes; ``earlier`` are the numbers of the rows kept before, by segment.

        Shapes: rows and segments [k], in order of segments; new [m]; earlier as many as segments
        are among them.
        """
        first = np.diff(segments, prepend=-1) != 0
        inserts = first & new[segments]
        if self._spec.ttl_us is not None and not self._before:
            inserts[:] = False  # a key that is new here may be one that was forgotten
        ops = np.where(inserts, INSERT, UPDATE_AFTER).astype(np.int8)
        order = np.argsort(rows)
        if not self._before:
            return with_ops(batch.take(rows[order]), ops[order])
        n = batch.num_rows
        held = self._store.take(earlier[earlier >= 0])
        # What each row replaces: the one before it in the batch, or the one that was kept.
        replaced = np.roll(rows, 1)
        replaced[first] = np.where(earlier >= 0, n + np.cumsum(earlier >= 0) - 1, -1)
        ops[first] = np.where(earlier >= 0, UPDATE_AFTER, INSERT)
        both = np.flatnonzero(replaced >= 0)
        source = pa.concat_batches([batch.record, held.cast(batch.record.schema)])
        at = np.concatenate([replaced[both], rows])
        of = np.concatenate([rows[both], rows])
        order = np.argsort(2 * of + (np.arange(len(of)) >= len(both)), kind="stable")
        kinds = np.concatenate([np.full(len(both), UPDATE_BEFORE, np.int8), ops])[order]
        made = Columns(source.take(pa.array(at[order]))).visible
        times = batch.timestamps
        # A row that goes does so when the one comes that replaces it.
        return with_ops(with_times(made, None if times is None else times[of[order]]), kinds)

    def _compact(self) -> None:
        count = self._index.count
        if self._holds and self._store.row_count > 2 * count + _COMPACT_MIN:
            self._store.keep(self._number.values[:count])
            self._number.values[:count] = np.arange(count)
        if self._spec.ttl_us is None or count < self._compact_at or self._before:
            return
        oldest_us = self._ctx.clock.now_us() - self._spec.ttl_us
        alive = np.flatnonzero(self._written.values[:count] > oldest_us)
        if 2 * len(alive) < count and not self._final:
            keys = self._index.keys(alive)
            latest, written = self._latest.values[alive], self._written.values[alive]
            self._begin()
            slots, _ = self._index.lookup(keys)
            for column, values in ((self._latest, latest), (self._written, written)):
                column.reserve(self._index.count)
                column.values[slots] = values
        self._compact_at = max(_COMPACT_MIN, 2 * self._index.count)
