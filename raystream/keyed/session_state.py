"""The open sessions of one operator: which there are, what they hold, which a watermark ends."""

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
from raystream.keyed.session_admission import admit, last_due, place
from raystream.keyed.session_cells import SessionCells
from raystream.keyed.session_table import CELL_FIELD, SessionTable
from raystream.keyed.session_totals import SessionTotals
from raystream.keyed.totals import Totals

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
        self.watermark_us = MIN_TIME
        self._gap_us = gap_us
        self._rows_max = limits.firing_rows_max
        self._measures = measures
        self._folding = Folding(measures)
        self._cells = SessionCells([field.type for field in keys], gap_us)
        reductions = measures.reductions if measures.liftable else None
        self._held: SessionTotals | SessionTable = (
            SessionTable(self._cells, measures)
            if reductions is None
            else SessionTotals(self._cells, Totals(reductions))
        )
        times = [pa.field(name, pa.int64(), nullable=False) for name in (FIRST, LAST)]
        parts = list(measures.schema)[2:]
        self.schema = pa.schema([*keys, *times, *parts])

    @property
    def row_count(self) -> int:
        """Partials that are held."""
        return self._held.row_count

    @property
    def nbytes(self) -> int:
        """Bytes of the partials that are held."""
        return self._held.nbytes

    @property
    def due_us(self) -> int:
        """The last time of a row whose session is over if nothing follows it; any int."""
        return last_due(self.watermark_us, self._gap_us)

    @property
    def is_due(self) -> bool:
        """Whether ``take`` has not been called to the end."""
        first_us = self._held.first_us
        return first_us is not None and first_us <= self.due_us

    def next_end_us(self) -> int | None:
        """Give the last instant of the session that ends first, unless a row joins it before.

        It may have moved on already.
        """
        first_us = self._held.first_us
        return None if first_us is None else min(first_us + self._gap_us, MAX_TIME) - 1

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
        if isinstance(self._held, SessionTotals):
            self._add_up(self._held, cells, self._measures.lift(rows, 0))
        else:
            self._held.add(self._folding(rows, 0)[0])

    def take(self, watermark_us: int) -> pa.RecordBatch | None:
        """Take the next sessions that a watermark ends, in one bounded step; None: no more.

        Shapes: -> rows of ``schema`` [n], in order of their ends; n may be 0.
        """
        self.watermark_us = max(self.watermark_us, watermark_us)
        if not self.is_due:
            return None
        cells, parts = self._held.take(self.due_us, self._rows_max)
        sessions = self._sessions(cells, parts)
        self._cells.close(cells)
        return sessions

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
        return self._sessions(*self._held.everything())

    def restore(self, sessions: pa.RecordBatch) -> None:
        """Take up what other states kept, of keys that this one has none of."""
        keys = sessions.num_columns - len(self._measures.schema)
        first, last = (sessions.column(name).to_numpy() for name in (FIRST, LAST))
        slots = self._cells.slots(sessions.columns[:keys], sessions.num_rows)
        cells = self._cells.enter(slots, first, last)
        partials = self._partials(cells, sessions.columns[keys + 2 :])
        if isinstance(self._held, SessionTotals):
            self._add_up(self._held, cells, partials)
        else:
            self._held.add(partials)

    def _add_up(self, held: SessionTotals, cells: Int64s, partials: pa.RecordBatch) -> None:
        """Add partials where their cells stand; merge from now on where a sum might overflow."""
        if not held.add(cells, partials.columns[2:]):
            self._held = SessionTable(self._cells, self._measures)
            self._held.add(self._partials(*held.everything()))
            self._held.add(partials)

    def _partials(self, cells: Int64s, parts: list[pa.Array]) -> pa.RecordBatch:
        columns = [pa.array(cells), pa.array(np.zeros(len(cells), np.int64)), *parts]
        return pa.RecordBatch.from_arrays(columns, schema=self._measures.schema)

    def _sessions(self, cells: Int64s, parts: list[pa.Array]) -> pa.RecordBatch:
        keys, first, last = self._cells.told(cells)
        typed = [
            key if key.type == field.type else key.cast(field.type)
            for key, field in zip(keys, self.schema, strict=False)
        ]
        columns = [*typed, pa.array(first), pa.array(last), *parts]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)
