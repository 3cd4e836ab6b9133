"""Rows of both sides that wait for the session of their key to end.

Sessions are those of ``SessionCells``: rows of one key in one pane of a gap's length share a cell,
and cells that follow one another are joined when the first of them falls due. Rows hang on cells,
so that joining two moves none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import EVENT_TIME, EVENT_TIME_FIELD, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import stable_order
from raystream.keyed.due_cells import DueCells
from raystream.keyed.row_chains import RowChains
from raystream.keyed.session_admission import admit, last_due, place
from raystream.keyed.session_cells import SessionCells
from raystream.operators.join_matching import Pair, Windowed
from raystream.operators.join_plan import JoinPlan, side_schema


class SessionRows:
    """The rows of one subtask. A window is named by its last instant, the time of its output."""

    def __init__(self, plan: JoinPlan, gap_us: int, limits: Limits) -> None:
        self.watermark_us = MIN_TIME
        self._plan = plan
        self._gap_us = gap_us
        self._rows_max = limits.firing_rows_max
        self._cells = SessionCells(plan.key_types, gap_us)
        self._chains = tuple(
            RowChains(side_schema(plan, port).append(EVENT_TIME_FIELD)) for port in (0, 1)
        )
        # Sessions that are over and not yet taken.
        self._over: Int64s = np.zeros(0, np.int64)
        # Each open cell once, by the time of its last row, or an earlier one.
        self._due = DueCells()

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        return sum(chains.row_count for chains in self._chains)

    @property
    def behind(self) -> bool:
        """Whether sessions that the watermark has ended may not have been taken."""
        if len(self._over):
            return True
        first_us = self._due.first_us
        return first_us is not None and first_us <= last_due(self.watermark_us, self._gap_us)

    def times(self, windows: Int64s) -> Int64s:
        """Give the event time of what windows give."""
        return windows

    def add(self, port: int, rows: pa.RecordBatch, times_us: Int64s) -> int:
        """Hold rows of one side; tell how many are late: they join no session that has not ended.

        Shapes: rows [n], times_us int64 [n], n > 0.
        """
        assert not self.behind, "what had ended was taken"
        due_us = last_due(self.watermark_us, self._gap_us)
        slots = self._cells.slots(self._plan.keys(port, rows), rows.num_rows)
        admitted = admit(self._cells, self._gap_us, due_us, slots, times_us)
        late = 0
        if admitted is not None and not admitted.all():
            wanted = np.flatnonzero(admitted)
            late = rows.num_rows - len(wanted)
            rows, slots, times_us = rows.take(pa.array(wanted)), slots[wanted], times_us[wanted]
        if rows.num_rows:
            self._hold(port, rows, place(self._cells, due_us, slots, times_us), times_us)
        return late

    def settle(self) -> Iterator[None]:
        """Merge what is to be merged, in bounded steps: nothing is."""
        return iter(())

    def take(self) -> Pair | None:
        """Take the rows of the next sessions that have ended, in one step; None: no more.

        The rows of a step are bounded, unless one session alone has more.
        """
        if not len(self._over):
            if not self.behind:
                return None
            self._over = self._ended()
        sizes = np.cumsum(sum(chains.sizes(self._over) for chains in self._chains))
        count = max(1, int(np.searchsorted(sizes, self._rows_max, "right")))
        cells, self._over = self._over[:count], self._over[count:]
        last = self._cells.last_us(cells)
        # Ends saturate at the end of time.
        windows = np.where(last > MAX_TIME - self._gap_us, MAX_TIME, last + self._gap_us) - 1
        left, right = (self._taken(chains, cells, windows) for chains in self._chains)
        self._cells.close(cells)
        return left, right

    def kept(self, port: int) -> pa.RecordBatch:
        """Give the rows of one side as another takes them up."""
        return self._chains[port].held()

    def restore(self, rows: tuple[pa.RecordBatch | None, ...], watermark_us: int) -> None:
        """Take up what was kept, by one or by many."""
        self.watermark_us = watermark_us
        for port, some in enumerate(rows):
            if some is not None and some.num_rows:
                times = some.column(EVENT_TIME).to_numpy()
                slots = self._cells.slots(self._plan.keys(port, some), some.num_rows)
                visible = some.select(some.schema.names[:-1])
                self._hold(port, visible, self._cells.put(slots, times), times)

    def _hold(self, port: int, rows: pa.RecordBatch, cells: Int64s, times_us: Int64s) -> None:
        for chains in self._chains:
            chains.reserve(self._cells.count)
        schema = side_schema(self._plan, port).append(EVENT_TIME_FIELD)
        columns = [*rows.columns, pa.array(times_us)]
        self._chains[port].add(cells, pa.RecordBatch.from_arrays(columns, schema=schema))
        opened = self._cells.opened
        self._due.add(opened, self._cells.opened_us)

    def _ended(self) -> Int64s:
        """Give the cells of the next sessions that are over, in order of their ends."""
        due_us = last_due(self.watermark_us, self._gap_us)
        cells, until_us = self._due.take(due_us, self._rows_max)
        last_us = self._cells.last_us(cells)
        later = last_us > until_us
        self._due.add(cells[later], last_us[later])
        cells = cells[~later]
        joined = self._cells.join(cells)
        gone_on = joined != cells
        for chains in self._chains:
            chains.join(cells[gone_on], joined[gone_on])
        cells = cells[~gone_on]
        in_order: Int64s = cells[stable_order(self._cells.last_us(cells))]
        return in_order

    def _taken(self, chains: RowChains, cells: Int64s, windows: Int64s) -> Windowed:
        rows, places = chains.take(cells)
        items = np.arange(rows.num_rows)
        visible = rows.select(rows.schema.names[:-1])
        return Windowed(visible, items, windows[places], np.zeros(len(items), np.int64))
