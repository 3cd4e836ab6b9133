"""Which sessions are open, told without looking at more than one neighbour of each.

Time is cut into panes as long as the gap. Rows of one key in one pane lie in one session, and a
session goes on in the next pane or nowhere: so a session is a chain of *cells*, each of one key and
of a few panes that follow each other, and whether it goes on is seen from the next cell, however
many sessions are open. Cells know the first and the last event time of their rows; a cell that goes
on passes its first time to the next one and is closed, so that what is open behind a firing has one
cell a session, or a few. The latest cell of each key is known by the key, and takes in what goes on
with its session: rows near the order of time need no look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import by_key_and_time
from raystream.keyed.cell_records import CLOSED, CellRecords, Records, made_of
from raystream.keyed.code_table import distinct_rows
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.older_cells import NO_CELL, OlderCells
from raystream.keyed.slots import SlotColumn, distinct

_ROOM_MIN: Final = 65_536
"""Fewer keys and older cells than this are never worth looking through for what is over."""

_ROOM_FACTOR: Final = 2
"""So many times what was left may come before it is looked through again."""

_PANES_MAX: Final = 8
"""So many panes has a cell at most: each is entered by itself once somebody asks for older ones."""

_PANE_MIN: Final = MIN_TIME + 1
_PANE_MAX: Final = MAX_TIME - 1
"""Panes have neighbours."""


class SessionCells:
    """Cells of keys and panes; those of a key are closed in order, their numbers given again."""

    def __init__(self, key_types: Sequence[pa.DataType], gap_us: int) -> None:
        self._types = list(key_types)
        self._gap_us = gap_us
        self._room = _ROOM_MIN
        self._keys = KeyIndex(self._types) if self._types else None
        self._cells = CellRecords()
        self.opened = np.empty(0, np.int64)
        """What the last ``put`` or ``enter`` has opened."""
        self.opened_us = np.empty(0, np.int64)
        """The time of the last row that each had then; more may have come since."""
        self._goes_to = np.empty(0, np.int64)
        self._latest = SlotColumn("i4", fill=NO_CELL)  # by key
        self._older = OlderCells()

    @property
    def count(self) -> int:
        """Numbers of cells are below this; those of closed ones are given again."""
        return self._cells.count

    def slots(self, columns: Sequence[pa.Array], count: int) -> Int64s:
        """Give a number for the key of each row; they hold until the next call.

        Shapes: columns, each [n]; count n -> int64 [n].
        """
        held = self._older.count + (0 if self._keys is None else self._keys.count)
        if held >= self._room:
            if 2 * self._cells.open_count < held:
                self._tidy()
                held = self._older.count + (0 if self._keys is None else self._keys.count)
            self._room = max(_ROOM_MIN, _ROOM_FACTOR * held)
        if self._keys is None:
            return np.zeros(count, np.int64)
        slots = self._keys.lookup(columns)[0]
        self._latest.reserve(self._keys.count)
        return slots

    def put(self, slots: Int64s, times_us: Int64s) -> Int64s:
        """Give the cell of each row, which is open from now on and knows of the row.

        Shapes: slots, times_us int64 [n] -> int64 [n].
        """
        self._open_none()
        return self._made(slots, times_us)

    def enter(self, slots: Int64s, first_us: Int64s, last_us: Int64s) -> Int64s:
        """Give the cell of each session that some other operator kept open.

        Shapes: int64 [n] each -> int64 [n].
        """
        self._open_none()
        panes = self._panes(last_us)
        # Rows may still come to panes in which the session has been.
        since = np.maximum(panes, MIN_TIME + _PANES_MAX) - (_PANES_MAX - 1)
        since = np.maximum(self._panes(first_us), since)
        cells = self._opened(slots, panes, last_us, since, self._latest_of(slots))
        self.widen(cells, first_us)
        return cells

    def first_us(self, cells: Int64s) -> Int64s:
        """Give the time of the first row of each cell."""
        first: Int64s = self._cells.values["first"][cells]
        return first

    def last_us(self, cells: Int64s) -> Int64s:
        """Give the time of the last row of each cell."""
        last: Int64s = self._cells.values["last"][cells]
        return last

    def told(self, cells: Int64s) -> tuple[list[pa.Array], Int64s, Int64s]:
        """Give the key columns of cells, and the time of the first and the last row of each.

        Shapes: int64 [m] -> arrays, each [m]; int64 [m], int64 [m].
        """
        held = self._cells.values.take(cells)
        slots = held["slot"].astype(np.int64)
        return [] if self._keys is None else self._keys.keys(slots), held["first"], held["last"]

    def earliest(self, slots: Int64s, behind_us: int) -> Int64s:
        """Give the cell of each key's session that a row at or before a time could still join.

        All that had ended by that time must be closed. What such a row can touch has a row within
        a gap behind that time: in its pane or in the next one.
        Shapes: slots int64 [n] -> cells int64 [n], -1 where there is none.
        """
        pane = behind_us // self._gap_us
        found = np.full(len(slots), NO_CELL)
        first = np.full(len(slots), MAX_TIME)
        for near in (pane, pane + 1):
            some = np.full(len(slots), min(max(near, _PANE_MIN), _PANE_MAX))
            cells = self._find(slots, some)
            earlier = (cells != NO_CELL) & ((found == NO_CELL) | (self.first_us(cells) < first))
            found[earlier] = cells[earlier]
            first[earlier] = self.first_us(cells[earlier])
        return found

    def widen(self, cells: Int64s, times_us: Int64s) -> None:
        """Let sessions begin earlier, where late rows have joined them."""
        np.minimum.at(self._cells.values["first"], cells, times_us)

    def join(self, cells: Int64s) -> Int64s:
        """Close each cell whose session goes on in the next one; give the cell it has come to.

        Shapes: int64 [n], each cell once -> int64 [n]; the cell itself where nothing follows.
        """
        held = self._cells.values.take(cells)
        followed = np.flatnonzero(held["next"] != NO_CELL)
        held = held.take(followed)
        following = held["next"].astype(np.int64)
        behind = self._cells.values.take(following)
        # Behind the end of time there is nothing, so that the sum need not be right there.
        last = held["last"]
        reach = np.where(last > MAX_TIME - self._gap_us, MAX_TIME, last + self._gap_us)
        # That of another key has been closed in the meantime, and its number given again.
        goes_on = (behind["slot"] == held["slot"]) & (behind["pane"] == self._panes(last) + 1)
        goes_on &= behind["first"] <= reach
        if not goes_on.any():
            return cells
        gone, following = cells[followed[goes_on]], following[goes_on]
        goes_to = self._scratch()
        goes_to[following] = following
        goes_to[cells] = cells
        goes_to[gone] = following
        joined: Int64s = goes_to[cells]
        # Pointers are doubled: as many turns as a chain's length has digits.
        while (goes_to[joined] != joined).any():
            goes_to[cells] = joined = goes_to[joined]
        self.widen(goes_to[gone], self.first_us(gone))
        self.close(gone)
        return joined

    def repeated(self, cells: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which rows share their cell with another row.

        Shapes: cells int64 [n] -> bool [n].
        """
        rows = np.arange(len(cells))
        last = self._scratch()
        last[cells] = rows
        of_cell = last[cells]
        shared: npt.NDArray[np.bool_] = of_cell != rows
        shared[of_cell[shared]] = True
        return shared

    def close(self, cells: Int64s) -> None:
        """Forget the rows of cells, all open, each once."""
        self._cells.close(cells)

    def _tidy(self) -> None:
        """Forget what is of closed cells alone: keys, where those are many, and older cells."""
        cells = self._cells.open_cells()
        slots = self._slot_of(cells)
        self._older = OlderCells()
        if self._keys is not None and 2 * len(alive := distinct(slots)) < self._keys.count:
            keys, latest = self._keys.keys(alive), self._latest_of(alive)
            self._keys, self._latest = KeyIndex(self._types), SlotColumn("i4", fill=NO_CELL)
            renumbered = self._keys.lookup(keys)[0]
            self._latest.reserve(len(alive))
            self._latest.values[renumbered] = latest
            slots = renumbered[np.searchsorted(alive, slots)]
            self._cells.values["slot"][cells] = slots
        self._older.note(cells[self._latest.values[slots] != cells])

    def _slot_of(self, cells: Int64s) -> Int64s:
        slots: Int64s = self._cells.values["slot"][cells].astype(np.int64)
        return slots

    def _latest_of(self, slots: Int64s) -> Int64s:
        """Give the latest cell of each key, -1 where there is none; it may have been closed."""
        cells: Int64s = self._latest.values[slots].astype(np.int64)
        return cells

    def _panes(self, times_us: Int64s) -> Int64s:
        # Divided side by side: those of records lie apart, which takes five times as long.
        panes = np.ascontiguousarray(times_us) // self._gap_us
        # At the ends of time two instants share a pane: they are a gap apart, the least there is.
        return np.clip(panes, _PANE_MIN, _PANE_MAX) if self._gap_us == 1 else panes

    def _made(self, slots: Int64s, times_us: Int64s) -> Int64s:
        """Give the cell of each key and time, one that is new where there is none."""
        panes = self._panes(times_us)
        cells = self._latest_of(slots)
        # Without a cell this reads the last one of the column; that it is none is asked for first.
        since, first, last, of = self._cells.read(cells, "pane", "first", "last", "slot")
        known = (cells != NO_CELL) & (of == slots)
        upto = self._panes(last)
        inside = known & (since <= panes) & (panes <= upto)
        earlier = np.flatnonzero(inside & (times_us < first))
        self.widen(cells[earlier], times_us[earlier])
        self._prolong(cells, times_us, np.flatnonzero(inside & (times_us > last)))
        if inside.all():
            return cells
        older = np.flatnonzero(known & (panes < since))
        if len(older):
            cells[older] = self._filled(slots[older], panes[older], times_us[older])
        ahead = np.flatnonzero(known & (panes > upto))
        grown = self._grown(cells[ahead], since[ahead], last[ahead], panes[ahead], times_us[ahead])
        opens = ~known
        opens[ahead[~grown]] = True
        rows = np.flatnonzero(opens)
        if len(rows):
            before = np.where(known[rows], cells[rows], NO_CELL)
            cells[rows] = self._opened(
                slots[rows], panes[rows], times_us[rows], panes[rows], before
            )
        return cells

    def _grown(
        self, cells: Int64s, since: Int64s, last: Int64s, panes: Int64s, times_us: Int64s
    ) -> npt.NDArray[np.bool_]:
        """Let cells go on in the next pane; tell which rows they have taken in, all behind them."""
        may = (panes == self._panes(last) + 1) & (panes - since < _PANES_MAX)
        grown: npt.NDArray[np.bool_] = may & (times_us - last <= self._gap_us)
        if grown.any():
            self._prolong(cells, times_us, np.flatnonzero(grown))
            # Other rows in the same pane are of the same session.
            others = np.flatnonzero(may & ~grown)
            same = others[panes[others] <= self._panes(self.last_us(cells[others]))]
            self._prolong(cells, times_us, same)
            grown[same] = True
        return grown

    def _opened(
        self, slots: Int64s, panes: Int64s, times_us: Int64s, since: Int64s, before: Int64s
    ) -> Int64s:
        """Make cells behind those that were each key's latest; some rows may be of one cell."""
        rows = np.arange(len(slots))
        latest = self._latest.values
        # Of several writes to one place the last stays: backwards, that is the first row.
        latest[slots[::-1]] = rows[::-1]
        first = latest[slots]
        several = bool((panes[first] != panes).any())
        if several:
            firsts, which = distinct_rows([slots, panes])
            first = firsts[which]
            firsts = firsts[by_key_and_time(slots[firsts], panes[firsts])]
        else:
            firsts = np.flatnonzero(first == rows)
        made = made_of(slots[firsts], since[firsts], times_us[firsts])
        alike = np.flatnonzero(first != rows)
        if len(alike):
            place = np.empty_like(rows)
            place[firsts] = np.arange(len(firsts))
            into = place[first[alike]]
            np.minimum.at(made["pane"], into, since[alike])
            np.minimum.at(made["first"], into, times_us[alike])
            np.maximum.at(made["last"], into, times_us[alike])
        slots, before = slots[firsts], before[firsts]
        again = np.flatnonzero(slots[1:] == slots[:-1]) if several else rows[:0]
        made["pane"][again + 1] = np.maximum(made["pane"][again + 1], panes[firsts[again]] + 1)
        cells = self._append(made)
        before[again + 1] = cells[again]
        self._follow(before, cells)
        self._older.note(before[np.flatnonzero(before != NO_CELL)])
        # Of several writes to one place the last stays: that of the latest pane.
        latest[slots] = cells.astype(np.int32)
        placed = np.empty_like(rows)
        placed[firsts] = cells
        placed[alike] = placed[first[alike]]
        return placed

    def _filled(self, slots: Int64s, panes: Int64s, times_us: Int64s) -> Int64s:
        """Give cells before those that are their key's latest, new ones where there are none."""
        cells = self._find_older(slots, panes)
        missing = np.flatnonzero(cells == NO_CELL)
        if len(missing):
            firsts, which = distinct_rows([slots[missing], panes[missing]])
            slots, panes = slots[missing[firsts]], panes[missing[firsts]]
            made = self._append(made_of(slots, panes, times_us[missing[firsts]]))
            self._older.put(slots, panes, made)
            self._follow(self._find(slots, panes - 1), made)
            self._follow(made, self._find(slots, panes + 1))
            cells[missing] = made[which]
        self.widen(cells, times_us)
        self._prolong(cells, times_us, np.arange(len(cells)))
        return cells

    def _append(self, made: Records) -> Int64s:
        """Give numbers to new cells, and note them."""
        cells = self._cells.append(made)
        last_us = np.ascontiguousarray(made["last"])
        self.opened = np.concatenate((self.opened, cells)) if len(self.opened) else cells
        self.opened_us = np.concatenate((self.opened_us, last_us))
        return cells

    def _open_none(self) -> None:
        self.opened, self.opened_us = self.opened[:0], self.opened_us[:0]

    def _scratch(self) -> Int64s:
        """Give room for a number by cell, in which anything may stand."""
        if len(self._goes_to) < self.count:
            self._goes_to = np.empty(len(self._cells.values), np.int64)
        return self._goes_to

    def _follow(self, cells: Int64s, following: Int64s) -> None:
        """Let each cell, where there is one, know of the next one of its key."""
        some = np.flatnonzero(cells != NO_CELL)
        self._cells.values["next"][cells[some]] = following[some].astype(np.int32)

    def _prolong(self, cells: Int64s, times_us: Int64s, rows: Int64s) -> None:
        """Let the cells of some rows reach to their times."""
        np.maximum.at(self._cells.values["last"], cells[rows], times_us[rows])

    def _find(self, slots: Int64s, panes: Int64s) -> Int64s:
        """Give the open cell of each key and pane, -1 where there is none."""
        cells = self._latest_of(slots)
        held = self._cells.values.take(cells)
        known = (cells != NO_CELL) & (held["slot"] == slots)
        older = np.flatnonzero(known & (panes < held["pane"]))
        outside = (panes < held["pane"]) | (panes > self._panes(held["last"]))
        cells[~known | outside] = NO_CELL
        if len(older):
            cells[older] = self._find_older(slots[older], panes[older])
        return cells

    def _find_older(self, slots: Int64s, panes: Int64s) -> Int64s:
        """Do the same for cells that are not their key's latest."""
        noted = self._older.noted()
        if noted is not None:
            held = self._cells.values.take(noted)
            older = (held["slot"] != CLOSED) & (self._latest.values[held["slot"]] != noted)
            noted = noted[older]
            held = self._cells.values.take(noted)
            upto = self._panes(held["last"])
            self._older.enter(held["slot"].astype(np.int64), held["pane"], upto, noted)
        cells = self._older.find(slots, panes)
        held = self._cells.values.take(cells)
        outside = (panes < held["pane"]) | (panes > self._panes(held["last"]))
        cells[outside | (held["slot"] != slots)] = NO_CELL
        return cells
