"""What open sessions hold where parts do not add up: partials of cells in a table by time.

A partial lies by the time of the last row that its cell had when it was put there. What comes out
of the table either ends a session or belongs to one that has gone on since; the latter is put back
by the time it has come to, merged with what it meets.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import stable_order
from raystream.keyed.measures import Measures
from raystream.keyed.partials import PartialTable
from raystream.keyed.session_cells import SessionCells

CELL: Final = "__cell"
"""The one key column of partials: the number of a cell."""

CELL_FIELD: Final = pa.field(CELL, pa.int64(), nullable=False)

_MERGE_ALL: Final = 0.7
"""Where more rows than this share their cell, leaving out the others saves nothing."""


class SessionTable:
    """Partials by cell, several a cell; ``cells`` are those of the state that has these."""

    def __init__(self, cells: SessionCells, measures: Measures) -> None:
        assert measures.key_names == [CELL], "partials are those of cells"
        self._cells = cells
        self._measures = measures
        self._table = PartialTable(self._merged, [CELL])

    @property
    def row_count(self) -> int:
        """Partials that are held."""
        return self._table.row_count

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._table.nbytes

    @property
    def first_us(self) -> int | None:
        """The time at which there is something to look at."""
        return self._table.first_bucket()

    def add(self, partials: pa.RecordBatch) -> None:
        """Hold partials.

        Shapes: [n]
        """
        self._table.append(self._by_time(partials))

    def take(self, due_us: int, rows_max: int) -> tuple[Int64s, list[pa.Array]]:
        """Take the earliest sessions that are over by a time, in order of their ends.

        Gives the last cell and the parts of each.
        Shapes: -> int64 [n]; columns, each [n].
        """
        until_us = self._fitting(due_us, rows_max)
        taken = self._one_a_cell(self._table.between(MIN_TIME, until_us + 1))
        self._table.drop_below(until_us + 1)
        cells = _cells_of(taken)
        ending = self._cells.last_us(cells) <= until_us
        joined = cells.copy()
        joined[ending] = self._cells.join(cells[ending])
        over = self._cells.last_us(joined) <= until_us
        moved = bool((joined != cells).any())
        if moved:
            taken = taken.set_column(0, CELL_FIELD, pa.array(joined))
        if over.all():
            ended = taken
        else:
            ended, rest = taken.filter(pa.array(over)), taken.filter(pa.array(~over))
            if moved:
                rest = self._one_a_cell([rest])
            self._table.append(self._by_time(rest))
        return _parts(self._by_time(self._one_a_cell([ended]) if moved else ended))

    def everything(self) -> tuple[Int64s, list[pa.Array]]:
        """Give all cells, and their parts."""
        return _parts(self._one_a_cell(self._table.between(MIN_TIME, MAX_TIME + 1)))

    def _fitting(self, due_us: int, rows_max: int) -> int:
        """Give the last time of a step: as much as fits into its rows, one time at least."""
        if self._table.count_below(due_us + 1) <= rows_max:
            return due_us
        fits, more = self._table.first_bucket(), due_us
        assert fits is not None, "there is something due"
        while more - fits > 1:
            middle = (fits + more) // 2
            if self._table.count_below(middle + 1) <= rows_max:
                fits = middle
            else:
                more = middle
        return fits

    def _merged(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        return self._by_time(self._one_a_cell(partials))

    def _one_a_cell(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Merge partials of the same cell; where most cells come once, only those that do not."""
        if not partials:
            return pa.RecordBatch.from_pylist([], schema=self._measures.schema)
        whole = pa.concat_batches(partials)
        repeated = self._cells.repeated(_cells_of(whole))
        count = int(np.count_nonzero(repeated))
        if not count:
            return whole
        if count > _MERGE_ALL * len(repeated):
            return self._measures.merge_into([whole], 0)
        merged = self._measures.merge_into([whole.filter(pa.array(repeated))], 0)
        return pa.concat_batches([whole.filter(pa.array(~repeated)), merged])

    def _by_time(self, partials: pa.RecordBatch) -> pa.RecordBatch:
        """Sort partials by the last row of their cell; nothing depends on the order of equals."""
        last = self._cells.last_us(_cells_of(partials))
        order = stable_order(last)
        columns = partials.take(pa.array(order)).columns
        columns[1] = pa.array(last[order])
        return pa.RecordBatch.from_arrays(columns, schema=partials.schema)


def _cells_of(partials: pa.RecordBatch) -> Int64s:
    cells: Int64s = partials.column(0).to_numpy()
    return cells


def _parts(partials: pa.RecordBatch) -> tuple[Int64s, list[pa.Array]]:
    return _cells_of(partials), partials.columns[2:]
