"""Give a sink one row of each key, whatever the order in which changes come.

Behind a join of orders with their customers, spread by customer, an order that goes from one
customer to another is taken back (-D) by one subtask and brought (+I) by another. Each of them
tells its own rows in order, but who is first is open; a sink that went by the key alone would lose
the order where -D comes last. Here all rows of a key that are there are kept: a change takes an
equal row back or adds one, and the newest that is left is what the sink is told.

Source: Flink's SinkUpsertMaterializer (FLINK-20374).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import (
    Batch,
    Columns,
    Int64s,
    bounded,
    visible_schema,
    with_ops,
    with_times,
)
from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, takes_back
from raystream.flow.gather import one_record
from raystream.flow.key import check_key_type
from raystream.keyed.groups import Grouper, Groups
from raystream.keyed.join_side import JoinSide
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.snapshot import Snapshot, section
from raystream.operators.operator import Operator, Output
from raystream.operators.regular_join import UNKNOWN_REMOVALS

_ROWS = "rows"
_KEYS_MIN = 8_192


@dataclass(frozen=True)
class UpsertsSpec:
    """Changes of a table, told by these columns: the newest row that each key has, or none.

    ``input`` is the wire schema of both sides; each row that leaves the table is announced whole.
    """

    keys: tuple[str, ...]
    input: pa.Schema

    def __post_init__(self) -> None:
        for key in self.keys:
            check_key_type(self.input.field(key).type)

    @property
    def verb(self) -> str:
        return "upserts"

    @property
    def before(self) -> bool:
        """Whether what an update replaces is announced: never, sinks go by the key."""
        return False

    def describe(self) -> str:
        return f"by {', '.join(self.keys)}: the newest row that is there"

    def build(self) -> Upserts:
        return Upserts(self)


class Upserts(Operator):
    """The operator of one subtask: a slot a key, and the rows that are there in order of arrival.

    Each key that a batch touches is told behind it, also where nothing seems to have changed:
    before a failure the batch may have been cut elsewhere, and a sink have seen what was between.
    """

    def __init__(self, spec: UpsertsSpec) -> None:
        self._spec = spec
        self._types = [spec.input.field(key).type for key in spec.keys]
        self._index = KeyIndex(self._types)
        self._grouper = Grouper()
        self._held = JoinSide(visible_schema(spec.input), spec.keys, changes=True, ages=False)

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "the stream is columnar"
        ops = batch.ops
        assert ops is not None, "the stream is a changelog"
        if not batch.num_rows:
            return
        self._compact()
        for _ in self._index.grow():
            yield batch.slice(0, 0)
        rows, removes = batch.visible, takes_back(ops)
        groups = self._grouper.group(self._lookup(rows), self._index.count)
        before = self._newest(groups.slots)
        numbers = self._held.apply(rows, groups, removes, 0)
        self._ctx.metrics.counter(UNKNOWN_REMOVALS).inc(int((numbers < 0).sum()))
        told = self._told(batch, groups, before, self._newest(groups.slots))
        yield from bounded(told, self._ctx.limits.batch_rows_max)

    def snapshot(self) -> Snapshot:
        return (self._held.section(_ROWS, self._ctx.max_parallelism),)

    def changes(self) -> Snapshot:
        return (self._held.changes(_ROWS, self._ctx.max_parallelism),)

    def restore(self, snapshot: Snapshot) -> None:
        table = section(snapshot, _ROWS)
        assert table is not None, "rows are kept, be they none"
        for rows, came, met in self._held.read(table):
            self._held.restore(rows, self._lookup(rows), came, met)

    def _lookup(self, rows: pa.RecordBatch) -> Int64s:
        slots, _ = self._index.lookup([rows.column(key) for key in self._spec.keys])
        self._held.reserve(self._index.count)
        return slots

    def _newest(self, slots: Int64s) -> Int64s:
        """Give the number of each key's newest row, -1 where it has none.

        Shapes: int64 [m] -> int64 [m].
        """
        numbers, counts = self._held.lists.read(slots)
        # Numbers grow as rows come; those of dead rows count for nothing.
        numbers = np.where(self._held.alive(numbers), numbers, -1)
        newest = np.full(len(slots), -1)
        some = np.flatnonzero(counts)
        starts = np.cumsum(counts) - counts
        if len(some):
            newest[some] = np.maximum.reduceat(numbers, starts[some])
        return newest

    def _told(self, batch: Columns, groups: Groups, before: Int64s, after: Int64s) -> Columns:
        """Say of each key what its row is now, at the time of the last change of it.

        What is taken back is the row that was told before. A key that had none, and has none, is
        told as one that comes and goes: so it is gone, whatever a sink had seen of it.
        Shapes: groups of n rows and m keys, before and after int64 [m] -> [m + keys without rows].
        """
        last = groups.order[groups.ends]
        order = np.argsort(last)
        last, before, after = last[order], before[order], after[order]
        none = (before < 0) & (after < 0)
        kinds = np.where(after < 0, DELETE, np.where(before < 0, INSERT, UPDATE_AFTER))
        shown = np.where(after < 0, before, after)
        held = np.flatnonzero(~none)
        places = last.copy()
        places[held] = batch.num_rows + np.arange(len(held))
        many = 1 + none
        kinds = np.repeat(kinds, many).astype(np.int8)
        kinds[(np.cumsum(many) - many)[none]] = UPDATE_AFTER
        pool = pa.Table.from_batches([batch.visible, self._held.take(shown[held])])
        record = one_record(pool).take(pa.array(np.repeat(places, many)))
        times = batch.timestamps
        rows = with_times(record, None if times is None else np.repeat(times[last], many))
        return with_ops(rows, kinds)

    def _compact(self) -> None:
        """Forget what is dead, once that is the larger part: rows, and keys without rows."""
        stale = self._index.count > max(_KEYS_MIN, 2 * self._held.row_count)
        if not (stale or self._held.is_sparse):
            return
        numbers, slots = self._held.rows()
        if stale:
            self._index = KeyIndex(self._types)
            rows = self._held.take(numbers)
            slots, _ = self._index.lookup([rows.column(key) for key in self._spec.keys])
        self._held.rebuild(numbers, slots, self._index.count)
