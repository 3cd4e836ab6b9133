"""What operators share that keep the best rows of each key as rows come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME, Columns, Int64s
from raystream.flow.changes import INSERT, OP
from raystream.flow.gather import take_rows
from raystream.flow.hashing import hash_table
from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.row_store import RowStore
from raystream.keyed.snapshot import Section, Snapshot, keyed_section, section
from raystream.keyed.top_bars import TopBars
from raystream.operators.emitting import EmittingOperator
from raystream.operators.operator import Output

ARRIVAL: Final = "__arrival"
_RANK: Final = "__rank"
_NONE: Final = np.zeros(0, np.int64)


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


class RunningTopK(EmittingOperator):
    """The operator of one subtask, but for how it keeps lists.

    Rows lie in a store, and are called by their numbers there.
    """

    def __init__(self, spec: TopKPlan) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._index = KeyIndex([spec.input.field(key).type for key in spec.keys])
        # What a row does to the table is not part of it.
        names = [name for name in spec.input.names if name != OP]
        self._store = RowStore(pa.schema([spec.input.field(name) for name in names]))
        name, descending = spec.by[0]
        self._bars = TopBars(spec.input.field(name).type, descending=descending)
        # Rows, and their ranks, that are to go out and wait for room in a batch.
        self._waiting, self._waiting_ranks = _NONE, _NONE

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def _slots(self, rows: pa.RecordBatch) -> Int64s:
        """Give a slot for the key of each row.

        Shapes: [n] -> int64 [n].
        """
        slots, _ = self._index.lookup([rows.column(key) for key in self._spec.keys])
        self._bars.reserve(self._index.count)
        return slots

    def _hopeful(self, rows: pa.RecordBatch) -> tuple[Int64s, Int64s]:
        """Give the slot of each row's key, and the rows that may enter its list.

        Shapes: [n] -> int64 [n], int64 [m], ascending.
        """
        slots = self._slots(rows)
        return slots, self._bars.hopeful(rows.column(self._spec.by[0][0]), slots)

    @abstractmethod
    def _rows(self) -> Section:
        """Give all rows that are held, but for what ``_leaving`` gave, with their arrivals."""

    @abstractmethod
    def _leaving(self, rows_max: int) -> tuple[Int64s, Int64s] | None:
        """Give the best of some more keys, about ``rows_max`` rows, and their ranks; None: no more.

        Shapes: -> int64 [n] each.
        """

    @abstractmethod
    def _resume(self, rows: Columns, slots: Int64s, arrivals: Int64s) -> None:
        """Take up rows that were kept, in order of arrival.

        Shapes: rows [n], n > 0, slots, arrivals int64 [n].
        """

    def on_end(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        while self._spec.emit == "final":
            while len(self._waiting) < rows_max and (more := self._leaving(rows_max)) is not None:
                self._waiting = np.concatenate((self._waiting, more[0]))
                self._waiting_ranks = np.concatenate((self._waiting_ranks, more[1]))
            if not len(self._waiting):
                return
            numbers, ranks = self._waiting[:rows_max], self._waiting_ranks[:rows_max]
            self._waiting = self._waiting[rows_max:]
            self._waiting_ranks = self._waiting_ranks[rows_max:]
            yield self._batch(numbers, ranks, np.full(len(numbers), INSERT, np.int8), None)

    def snapshot(self) -> Snapshot:
        return self._rows(), self._going_out()

    def restore(self, snapshot: Snapshot) -> None:
        names = self._store.schema.names
        held = section(snapshot, "rows")
        if held is not None:
            held = take_rows(held, stable_order(held.column(ARRIVAL).to_numpy()))
            for record in held.to_batches():
                rows = record.select(names)
                arrivals = record.column(ARRIVAL).to_numpy()
                self._resume(Columns(rows), self._slots(rows), arrivals)
        waiting = section(snapshot, "waiting")
        if waiting is not None:
            first = self._store.stop
            for record in waiting.to_batches():
                self._store.append(record.select(names))
            self._waiting = np.arange(first, self._store.stop)
            self._waiting_ranks = waiting.column(_RANK).to_numpy()

    def _going_out(self) -> Section:
        return self._section("waiting", self._waiting, {_RANK: self._waiting_ranks})

    def _section(
        self,
        name: str,
        numbers: Int64s,
        beside: dict[str, Int64s],
        key: tuple[str, ...] = (),
        *,
        delta: bool = False,
    ) -> Section:
        """Make a section of held rows, with columns beside them."""
        table = self._store.table(numbers)
        hashes = hash_table(table.select(self._spec.keys))
        for column, values in beside.items():
            table = table.append_column(column, pa.array(values))
        return keyed_section(name, table, hashes, self._ctx.max_parallelism, key, delta=delta)

    def _batch(
        self, numbers: Int64s, ranks: Int64s, ops: npt.NDArray[np.int8], times: Int64s | None
    ) -> Columns:
        """Make a batch of rows, each at the time beside it, or at its own.

        Shapes: numbers, ranks int64 [n], ops int8 [n], times int64 [n] -> [n].
        """
        rows = self._store.take(numbers)
        own: dict[str, npt.NDArray[np.generic]] = {OP: ops}
        if self._spec.rank is not None:
            own[self._spec.rank] = ranks
        if times is not None:
            own[EVENT_TIME] = times
        arrays = [
            pa.array(own[name]) if name in own else rows.column(name)
            for name in self._spec.output.names
        ]
        return Columns(pa.RecordBatch.from_arrays(arrays, schema=self._spec.output))
