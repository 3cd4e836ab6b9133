"""The rows that wait on one side of a join, given whole or as what was added since.

Rows go in order of time: a delta is the rows that were added, and one more that says up to which
time all are gone. That a row has had a partner is told in a section of its own, so that the row is
not given again for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MIN_TIME
from raystream.flow.hashing import hash_columns
from raystream.keyed.snapshot import BUCKET, GONE, KEY_GROUP, Section, Snapshot, keyed_section
from raystream.keyed.touched import Lineage
from raystream.keyed.waiting_rows import WaitingRows

_ID = "__id"
_IDS_MAX = 1 << 45
"""So many rows a subtask takes in a life; key groups are told by the bits above."""


@dataclass(frozen=True)
class Restored:
    """Rows that wait again, and which of them have had a partner; [n] both."""

    record: pa.RecordBatch
    matched: npt.NDArray[np.bool_]


class WaitingSnapshot:
    """Gives and reads the sections of one side: ``flagged``, also who has had a partner.

    ``keys`` gives the key columns of slots.
    """

    def __init__(
        self,
        name: str,
        keys: Callable[[Int64s], list[pa.Array]],
        max_parallelism: int,
        *,
        flagged: bool,
    ) -> None:
        self._name, self._keys, self._flagged = name, keys, flagged
        self._max_parallelism = max_parallelism
        self._rows, self._matches = Lineage(), Lineage()
        self._since = 0

    @property
    def _matched_name(self) -> str:
        return f"{self._name}.matched"

    def whole(self, side: WaitingRows) -> Snapshot:
        """Give everything."""
        numbers = side.numbers()
        rows = self._rows_section(side, numbers)
        if not self._flagged:
            return (rows,)
        return rows, self._matched_section(side, numbers[side.matched(numbers)])

    def changes(self, side: WaitingRows, gone_to: int | None) -> Snapshot:
        """Give what is new since the last call, where that is less than everything.

        ``gone_to`` is the time up to which all rows are gone, and none above it; None where no time
        says so.
        """
        new = side.since(self._since)
        self._since = side.next_id
        sections = [self._rows.given(self._changed(side, new, gone_to, self._rows_section))]
        if self._flagged:
            matched = side.newly_matched()
            made = self._changed(side, matched, gone_to, self._matched_section)
            sections.append(self._matches.given(made))
        return tuple(sections)

    def restored(self, snapshot: Snapshot, schema: pa.Schema) -> Iterator[Restored]:
        """Read what was kept, batch by batch."""
        tables = {one.name: one.table for one in snapshot}
        rows = tables.get(self._name)
        if rows is None:
            return
        matches = tables.get(self._matched_name)
        for record in rows.to_batches():
            arrays = [record.column(f"row.{name}") for name in schema.names]
            held = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if matches is None:
                yield Restored(held, np.zeros(held.num_rows, np.bool_))
            else:
                yield Restored(held, np.isin(_names(record), _names(matches)))

    def _changed(
        self,
        side: WaitingRows,
        numbers: Int64s,
        gone_to: int | None,
        section: Callable[..., Section],
    ) -> Section:
        rows = section == self._rows_section
        lineage = self._rows if rows else self._matches
        # When half of what was given is gone, it is not worth keeping.
        stale = lineage.rows > 2 * side.live
        if gone_to is None or stale or lineage.wants_whole(len(numbers)):
            numbers = side.numbers()
            return section(side, numbers if rows else numbers[side.matched(numbers)])
        return section(side, numbers[side.times(numbers) > gone_to], gone_to)

    def _rows_section(
        self, side: WaitingRows, numbers: Int64s, gone_to: int | None = None
    ) -> Section:
        rows = side.store.table(numbers)
        columns = {f"row.{name}": rows.column(name) for name in rows.column_names}
        return self._section(self._name, side, numbers, columns, gone_to)

    def _matched_section(
        self, side: WaitingRows, numbers: Int64s, gone_to: int | None = None
    ) -> Section:
        return self._section(self._matched_name, side, numbers, {}, gone_to)

    def _section(
        self,
        name: str,
        side: WaitingRows,
        numbers: Int64s,
        columns: dict[str, pa.Array],
        gone_to: int | None,
    ) -> Section:
        ids, times = pa.array(side.ids(numbers)), pa.array(side.times(numbers))
        table = pa.table({_ID: ids, BUCKET: times, **columns})
        hashes = hash_columns(self._keys(side.slots(numbers)))
        if gone_to is not None:
            gone = np.zeros(table.num_rows, np.bool_)
            if gone_to > MIN_TIME:
                bound = pa.Table.from_pylist([{BUCKET: gone_to}], table.schema)
                table = pa.concat_tables([table, bound])
                gone, hashes = np.append(gone, True), np.append(hashes, np.uint64(0))
            table = table.append_column(GONE, pa.array(gone))
        delta = gone_to is not None
        return keyed_section(name, table, hashes, self._max_parallelism, delta=delta)


def _names(table: pa.Table) -> Int64s:
    """Give each row a number that no other has: a key group was kept by one subtask.

    Shapes: int64 [n].
    """
    groups = table.column(KEY_GROUP).to_numpy().astype(np.int64)
    names: Int64s = groups * _IDS_MAX + table.column(_ID).to_numpy()
    return names
