"""Cells of sessions that are not their key's latest, by key and pane.

Where rows come in order nobody asks for them, and a session is over before a hash would be worth
it: what has become older is only noted, and entered when somebody asks, if it is still open then.
"""

from __future__ import annotations

import numpy as np

from raystream.flow.batch import Int64s
from raystream.keyed.code_table import CodeTable
from raystream.keyed.slots import SlotColumn

NO_CELL = -1


class OlderCells:
    """The cell that was entered last for each key and pane; it may have been closed since."""

    def __init__(self) -> None:
        self._table = CodeTable(2)
        self._cell = SlotColumn("i8", fill=NO_CELL)
        self._noted: list[Int64s] = []
        self._noted_count = 0

    @property
    def count(self) -> int:
        """How many keys and panes have been entered, and cells noted."""
        return self._table.count + self._noted_count

    def note(self, cells: Int64s) -> None:
        """Remember cells that are to be entered when somebody asks."""
        if len(cells):
            self._noted.append(cells)
            self._noted_count += len(cells)

    def noted(self) -> Int64s | None:
        """Give the cells that are to be entered before somebody asks, and forget them."""
        if not self._noted:
            return None
        noted, self._noted, self._noted_count = self._noted, [], 0
        return np.concatenate(noted)

    def enter(self, slots: Int64s, first: Int64s, last: Int64s, cells: Int64s) -> None:
        """Enter cells for all panes from their first to their last.

        Shapes: int64 [n] each.
        """
        counts = last - first + 1
        begins = np.cumsum(counts) - counts
        panes = np.arange(int(counts.sum())) + np.repeat(first - begins, counts)
        self.put(np.repeat(slots, counts), panes, np.repeat(cells, counts))

    def put(self, slots: Int64s, panes: Int64s, cells: Int64s) -> None:
        """Enter one cell for each key and pane.

        Shapes: int64 [n] each.
        """
        if len(slots):
            entries = self._table.lookup([slots, panes])
            self._cell.reserve(self._table.count)
            self._cell.values[entries] = cells

    def find(self, slots: Int64s, panes: Int64s) -> Int64s:
        """Give the cell of each key and pane, -1 where there is none.

        Shapes: slots, panes int64 [n] -> int64 [n].
        """
        entries = self._table.find([slots, panes])
        cells: Int64s = self._cell.values[entries]
        cells[entries < 0] = NO_CELL
        return cells
