"""What is known of each cell of a session, side by side, by the number of the cell.

With many keys a row costs what it fetches from far away in memory, so that it is to fetch once.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.keyed.older_cells import NO_CELL
from raystream.keyed.slots import SlotColumn

Records: TypeAlias = npt.NDArray[Any]

_CELL: Final = np.dtype(
    [("first", "i8"), ("last", "i8"), ("pane", "i8"), ("slot", "i4"), ("next", "i4")]
)
"""The first and the last time of a cell's rows, the first of its panes, the slot of its key, and a
later cell of that: the one that goes on with the session, if any does. Its last pane is that of its
last row."""

CLOSED: Final = -1
"""The slot of a cell that is closed."""


def made_of(slots: Int64s, panes: Int64s, times_us: Int64s) -> Records:
    """Make records of cells that know of one row each.

    Shapes: int64 [n] each -> [n].
    """
    made = np.empty(len(slots), _CELL)
    made["slot"], made["pane"] = slots, panes
    made["first"], made["last"], made["next"] = times_us, times_us, NO_CELL
    return made


class CellRecords:
    """Records by number; those of closed cells are given again, the last one first."""

    def __init__(self) -> None:
        self.count = 0
        """Numbers are below this."""
        self._column = SlotColumn(_CELL)
        self._free, self._free_count = SlotColumn("i8"), 0

    @property
    def open_count(self) -> int:
        """How many cells are open."""
        return self.count - self._free_count

    @property
    def values(self) -> Records:
        """Records by number, more than there are."""
        return self._column.values

    def read(self, cells: Int64s, *fields: str) -> list[Int64s]:
        """Give fields of cells, each side by side; -1 is the last record, of whatever cell.

        Shapes: int64 [n] -> for each field [n].
        """
        held = self._column.values.take(cells)
        return [np.ascontiguousarray(held[name]) for name in fields]

    def append(self, made: Records) -> Int64s:
        """Give numbers to cells.

        Shapes: records [n] -> int64 [n].
        """
        again = min(self._free_count, len(made))
        self._free_count -= again
        freed = self._free.values[self._free_count : self._free_count + again]
        start, self.count = self.count, self.count + len(made) - again
        cells = np.concatenate((freed, np.arange(start, self.count)))
        self._column.reserve(self.count)
        # NumPy writes whole records by index ten times as slowly, and reads them so as well.
        self._column.values.put(cells, made)
        return cells

    def close(self, cells: Int64s) -> None:
        """Forget cells, all open, each once."""
        self._column.values["slot"][cells] = CLOSED
        start, self._free_count = self._free_count, self._free_count + len(cells)
        self._free.reserve(self._free_count)
        self._free.values[start : self._free_count] = cells

    def open_cells(self) -> Int64s:
        """Give the numbers of all cells that are open."""
        return np.flatnonzero(self._column.values["slot"][: self.count] != CLOSED)
