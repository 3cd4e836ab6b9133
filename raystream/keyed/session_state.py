"""The open sessions of one operator: what they hold, and the steps in which a watermark ends them.

Partials of cells lie in a table by the time of their cell's last row. What comes out of the table
by a watermark either ends a session or belongs to one that has gone on since; the latter is put
back by the time it has come to. A row is put back about once while its session moves on by a gap,
so that its cost grows neither with the open sessions nor with the watermarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.keyed.folding import Folding
from raystream.keyed.measures import Measures
from raystream.keyed.partials import PartialTable
from raystream.keyed.session_admission import admit, last_due, place
from raystream.keyed.session_cells import SessionCells
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.totals import Totals

CELL: Final = "__cell"
"""The one key column of the partial table: the number of a cell."""

_MERGE_ALL: Final = 0.7
"""Where more rows than this share their cell, leaving out the others saves nothing."""

CELL_FIELD: Final = pa.field(CELL, pa.int64(), nullable=False)

BARE: Final = pa.schema([CELL_FIELD, pa.field(BUCKET, pa.int64(), nullable=False)])


FIRST: Final = "__first"
"""The column of a table of sessions with the time of each one's first row."""

LAST: Final = "__last"
"""The same for its last row."""


class SessionState:
    """The open sessions of one operator; ``measures`` has ``CELL`` as its only key.

    A session holds its first row's time up to its last row's time and the gap; rows that touch it
    join it.
    """

    def __init__(
        self, keys: Sequence[pa.Field], gap_us: int, limits: Limits, measures: Measures
    ) -> None:
        assert measures.key_names == [CELL], "partials are those of cells"
        self.watermark_us = MIN_TIME
        self._gap_us = gap_us
        self._rows_max = limits.firing_rows_max
        self._measures = measures
        self._folding = Folding(measures)
        self._cells = SessionCells([field.type for field in keys], gap_us)
        self._table = PartialTable(self._merged, [CELL])
        # Where parts add up they stand by cell, and the table holds cells alone.
        self._totals = totals_of(measures)
        times = [pa.field(name, pa.int64(), nullable=False) for name in (FIRST, LAST)]
        parts = list(measures.schema)[2:]
        self.schema = pa.schema([*keys, *times, *parts])

    @property
    def row_count(self) -> int:
        """Partials that are held."""
        return self._table.row_count

    @property
    def nbytes(self) -> int:
        """Bytes of the partials that are held."""
        totals = 0 if self._totals is None or not self._table.row_count else self._totals.nbytes
        return self._table.nbytes + totals

    @property
    def due_us(self) -> int:
        """The last time of a row whose session is over if nothing follows it; any int."""
        return last_due(self.watermark_us, self._gap_us)

    @property
    def is_due(self) -> bool:
        """Whether ``take`` has not been called to the end."""
        bucket = self._table.first_bucket()
        return bucket is not None and bucket <= self.due_us

    def next_end_us(self) -> int | None:
        """Give the last instant of the session that ends first, unless a row joins it before.

        It may have moved on already.
        """
        bucket = self._table.first_bucket()
        return None if bucket is None else min(bucket + self._gap_us, MAX_TIME) - 1

    def slots(self, keys: list[pa.Array], count: int) -> Int64s:
        """Give a number for the key of each row, for one ``admit`` and ``add``.

        Shapes: keys, each [n]; count n -> int64 [n].
        """
        return self._cells.slots(keys, count)

    def admit(self, slots: Int64s, times_us: Int64s) -> npt.NDArray[np.bool_] | None:
        """Tell which rows join a session or open one; None: all do.

        Shapes: slots, times_us int64 [n], n > 0 -> bool [n].
        """
        return admit(self._cells, self._gap_us, self.due_us, slots, times_us)

    def add(self, rows: pa.RecordBatch, slots: Int64s, times_us: Int64s) -> None:
        """Hold rows, all admitted.

        Shapes: rows [n], slots, times_us int64 [n], n > 0.
        """
        cells = place(self._cells, self.due_us, slots, times_us)
        rows = rows.append_column(CELL_FIELD, pa.array(cells))
        if self._totals is not None:
            self._add_up(cells, self._measures.lift(rows, 0))
        else:
            partials, _ = self._folding(rows, 0)
            self._table.append(self._by_time(partials))

    def take(self, watermark_us: int) -> pa.RecordBatch | None:
        """Take the next sessions that a watermark ends, in one bounded step; None: no more.

        Shapes: -> rows of ``schema`` [n], in order of their ends; n may be 0.
        """
        self.watermark_us = max(self.watermark_us, watermark_us)
        if not self.is_due:
            return None
        last_us = self._last_of_step()
        if self._totals is not None:
            return self._taken_whole(self._totals, last_us)
        taken = self._one_a_cell(self._table.between(MIN_TIME, last_us + 1))
        self._table.drop_below(last_us + 1)
        cells = _cells_of(taken)
        ending = self._cells.last_us(cells) <= last_us
        joined = cells.copy()
        joined[ending] = self._cells.join(cells[ending])
        over = self._cells.last_us(joined) <= last_us
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
        return self._ended(self._one_a_cell([ended]) if moved else ended)

    def results(self, sessions: pa.RecordBatch) -> list[pa.Array]:
        """Give the value of each aggregate.

        Shapes: rows of ``schema`` [n] -> arrays, each [n].
        """
        keys = sessions.num_columns - len(self._measures.schema)
        partials = sessions.columns[keys:]
        return self._measures.results(
            pa.RecordBatch.from_arrays(partials, schema=self._measures.schema)
        )

    def kept(self) -> pa.RecordBatch:
        """Give what is open, as rows of ``schema``, for another state to ``restore``."""
        partials = self._one_a_cell(self._table.between(MIN_TIME, MAX_TIME + 1))
        cells = _cells_of(partials)
        return self._sessions(cells, self._whole(cells) if self._totals is not None else partials)

    def restore(self, sessions: pa.RecordBatch) -> None:
        """Take up what other states kept, of keys that this one has none of."""
        keys = sessions.num_columns - len(self._measures.schema)
        first, last = (sessions.column(name).to_numpy() for name in (FIRST, LAST))
        slots = self._cells.slots(sessions.columns[:keys], sessions.num_rows)
        cells = self._cells.enter(slots, first, last)
        columns = [pa.array(cells), *sessions.columns[keys + 1 :]]
        partials = pa.RecordBatch.from_arrays(columns, schema=self._measures.schema)
        if self._totals is not None:
            self._add_up(cells, partials)
        else:
            self._table.append(self._by_time(partials))

    def _add_up(self, cells: Int64s, partials: pa.RecordBatch) -> None:
        """Add partials where their cells stand; merge from now on where a sum might overflow."""
        totals, parts = self._totals, partials.columns[2:]
        assert totals is not None, "parts add up"
        if totals.fits(parts):
            fresh = totals.add(cells, self._cells.count, parts)
            if len(fresh):
                self._table.append(self._by_time(bare(fresh)))
            return
        held = _cells_of(self._one_a_cell(self._table.between(MIN_TIME, MAX_TIME + 1)))
        everything = self._by_time(self._whole(held))
        self._totals = None
        self._table = PartialTable(self._merged, [CELL])
        self._table.append(everything)
        self._table.append(self._by_time(partials), merged=False)

    def _whole(self, cells: Int64s) -> pa.RecordBatch:
        """Give the partials of cells where these stand."""
        assert self._totals is not None, "parts add up"
        columns = [*bare(cells).columns, *self._totals.partials(cells)]
        return pa.RecordBatch.from_arrays(columns, schema=self._measures.schema)

    def _taken_whole(self, totals: Totals, last_us: int) -> pa.RecordBatch:
        """Take the sessions that are over by a time; the table has each open cell once."""
        views = self._table.between(MIN_TIME, last_us + 1)
        cells = np.concatenate([_cells_of(view) for view in views])
        self._table.drop_below(last_us + 1)
        ending = self._cells.last_us(cells) <= last_us
        joined = cells.copy()
        joined[ending] = self._cells.join(cells[ending])
        moved = joined != cells
        if moved.any():
            totals.add(joined[moved], self._cells.count, totals.partials(cells[moved]))
            totals.clear(cells[moved])
        cells = cells[~moved]
        over = self._cells.last_us(cells) <= last_us
        if not over.all():
            self._table.append(self._by_time(bare(cells[~over])))
        ended = self._ended(self._whole(cells[over]))
        totals.clear(cells[over])
        return ended

    def _last_of_step(self) -> int:
        """Give the last time of a step: as much as fits into its rows, one time at least."""
        due_us = self.due_us
        if self._table.count_below(due_us + 1) <= self._rows_max:
            return due_us
        first = self._table.first_bucket()
        assert first is not None, "there is something due"
        fits, more = first, due_us
        while more - fits > 1:
            middle = (fits + more) // 2
            if self._table.count_below(middle + 1) <= self._rows_max:
                fits = middle
            else:
                more = middle
        return fits

    def _ended(self, partials: pa.RecordBatch) -> pa.RecordBatch:
        cells = _cells_of(partials)
        order = np.argsort(self._cells.last_us(cells), kind="stable")
        sessions = self._sessions(cells[order], partials.take(pa.array(order)))
        self._cells.close(cells)
        return sessions

    def _sessions(self, cells: Int64s, partials: pa.RecordBatch) -> pa.RecordBatch:
        fields = list(self.schema)[: -len(self._measures.schema)]
        keys = zip(self._cells.keys(cells), fields, strict=True)
        typed = [key if key.type == field.type else key.cast(field.type) for key, field in keys]
        times = [pa.array(self._cells.first_us(cells)), pa.array(self._cells.last_us(cells))]
        return pa.RecordBatch.from_arrays(
            [*typed, *times, *partials.columns[2:]], schema=self.schema
        )

    def _merged(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        return self._by_time(self._one_a_cell(partials))

    def _one_a_cell(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Merge partials of the same cell; where most cells come once, only those that do not."""
        if not partials:
            return pa.RecordBatch.from_pylist([], schema=self._measures.schema)
        whole = pa.concat_batches(partials)
        if self._totals is not None:
            return whole
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
        order = np.argsort(last)
        columns = partials.take(pa.array(order)).columns
        columns[1] = pa.array(last[order])
        return pa.RecordBatch.from_arrays(columns, schema=partials.schema)


def totals_of(measures: Measures) -> Totals | None:
    """Make accumulators by cell, where the parts add up."""
    reductions = measures.reductions if measures.liftable else None
    return None if reductions is None else Totals(reductions)


def bare(cells: Int64s) -> pa.RecordBatch:
    """Make rows of cells alone, whose time is still to be told."""
    return pa.RecordBatch.from_arrays(
        [pa.array(cells), pa.array(np.zeros(len(cells), np.int64))], schema=BARE
    )


def _cells_of(partials: pa.RecordBatch) -> Int64s:
    cells: Int64s = partials.column(0).to_numpy()
    return cells
