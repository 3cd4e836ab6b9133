"""Windows that have fired and may fire again: what they hold, till no late row can come any more.

A firing's rows are kept as they are. Only when a late row comes are the windows that fired with its
own looked at: each of their rows gets a number by its key and window, and a row that changes is
written behind the others, so that a late row costs the same whatever its window holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures import Measures
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import BUCKET

_CHUNKS_MAX: Final = 32
"""Records of changed rows that lie side by side before they are made one."""

_STALE_MIN: Final = 1_024
"""Rows that have been written anew are let go when there are more than this and than the rest."""


class FiredWindows:
    """Windows in the order in which they have fired; keys are columns of ``types``."""

    def __init__(self, types: Sequence[pa.DataType], measures: Measures) -> None:
        assert not measures.holds_objects, "users' accumulators cannot be kept by reference"
        self._types = list(types)
        self._measures = measures
        self._firings: list[_Firing] = []

    @property
    def row_count(self) -> int:
        """Rows that are held, one for each key and window."""
        return sum(firing.count for firing in self._firings)

    def keep(self, rows: pa.RecordBatch, last: int) -> None:
        """Keep what has fired; ``last`` is the last window of the step.

        A window that fires in pieces comes in several calls.
        Shapes: rows [n], one for each key and window.
        """
        if self._firings and self._firings[-1].last == last:
            self._firings[-1].extend(rows)
            return
        self._firings.append(_Firing(rows, last, self._types, self._measures))

    def forget(self, gone: int) -> None:
        """Let go of windows up to one."""
        self._firings = [firing for firing in self._firings if firing.last > gone]

    def kept(self) -> list[pa.RecordBatch]:
        """Give all rows as they are now."""
        return [firing.rows() for firing in self._firings]

    def add(self, rows: pa.RecordBatch, items: Int64s, windows: Int64s) -> pa.RecordBatch:
        """Put rows into windows that have fired, and give each window as it is behind the row.

        Shapes: rows [n]; items, the places of rows, and windows int64 [m], in order of arrival ->
        partials [m], in that order.
        """
        lasts = [firing.last for firing in self._firings]
        latest = int(windows.max())
        if not lasts or lasts[-1] < latest:
            # No row had come to it before it fired.
            self.keep(pa.RecordBatch.from_pylist([], schema=self._measures.schema), latest)
            lasts.append(latest)
        places = np.searchsorted(np.array(lasts), windows)
        order, changed = [], []
        for place in np.unique(places).tolist():
            here = np.flatnonzero(places == place)
            numbers, partials = self._firings[place].add(rows, items[here], windows[here])
            order.append(here[numbers])
            changed.append(partials)
        return pa.concat_batches(changed).take(pa.array(np.argsort(np.concatenate(order))))


class _Firing:
    """The windows of one step of a firing, up to ``last``."""

    def __init__(
        self, rows: pa.RecordBatch, last: int, types: list[pa.DataType], measures: Measures
    ) -> None:
        self.last = last
        self._types, self._measures = types, measures
        self._chunks = [rows]
        self._total = rows.num_rows
        self._index: KeyIndex | None = None
        self._place = SlotColumn("i8", fill=-1)

    @property
    def count(self) -> int:
        return self._total if self._index is None else self._index.count

    def extend(self, rows: pa.RecordBatch) -> None:
        """Keep another piece of the window, before any late row has come."""
        assert self._index is None, "a window is changed when all of it has fired"
        self._chunks = [pa.concat_batches([*self._chunks, rows])]
        self._total += rows.num_rows

    def rows(self) -> pa.RecordBatch:
        """Give the rows as they are now."""
        if self._index is None:
            return self._chunks[0]
        return self._at(self._place.values[: self._index.count])

    def add(
        self, rows: pa.RecordBatch, items: Int64s, windows: Int64s
    ) -> tuple[Int64s, pa.RecordBatch]:
        """Put rows into windows; give partials, and the number of the pair that made each."""
        slots = self._slots(rows, items, windows)
        by_slot = stable_order(slots)
        begins = np.flatnonzero(np.diff(slots[by_slot], prepend=-1))
        lengths = np.diff(begins, append=len(slots))
        turns = np.empty_like(slots)
        turns[by_slot] = np.arange(len(slots)) - np.repeat(begins, lengths)
        numbers, changed = [], []
        # A loop over rows only where they are of one key and window: each fires it once more, with
        # all that came before it. Rows of different keys go side by side.
        for turn in range(int(lengths.max())):
            pairs = np.flatnonzero(turns == turn)
            numbers.append(pairs)
            changed.append(self._changed(rows, items[pairs], slots[pairs], windows[pairs]))
        self._tidy()
        return np.concatenate(numbers), pa.concat_batches(changed)

    def _slots(self, rows: pa.RecordBatch, items: Int64s, windows: Int64s) -> Int64s:
        names = self._measures.key_names
        if self._index is None:
            self._index = KeyIndex([*self._types, pa.int64()])
            held = self._chunks[0]
            slots, _ = self._index.lookup([held.column(name) for name in (*names, BUCKET)])
            self._write(slots, 0)
        keys = rows.select(names).take(pa.array(items)).columns if names else []
        slots, _ = self._index.lookup([*keys, pa.array(windows)])
        self._place.reserve(self._index.count)
        return slots

    def _changed(
        self, rows: pa.RecordBatch, items: Int64s, slots: Int64s, windows: Int64s
    ) -> pa.RecordBatch:
        """Join rows to what their windows hold; each slot comes once."""
        places = self._place.values[slots]
        known = np.flatnonzero(places >= 0)
        measures = self._measures
        # The number of the pair stands for the window, so that what comes out is in that order.
        held = measures.spread(self._at(places[known]), np.arange(len(known)), known)
        came = measures.fold(rows.take(pa.array(items)), np.arange(len(items)))
        joined = measures.merge([held, came])
        assert joined.num_rows == len(items), "a row and its window have one key"
        joined = measures.spread(joined, np.arange(len(items)), windows)
        self._write(slots, self._total)
        self._chunks.append(joined)
        self._total += joined.num_rows
        return joined

    def _write(self, slots: Int64s, start: int) -> None:
        if len(slots):
            self._place.reserve(int(slots.max()) + 1)
            self._place.values[slots] = start + np.arange(len(slots))

    def _at(self, places: Int64s) -> pa.RecordBatch:
        taken = pa.Table.from_batches(self._chunks).take(pa.array(places)).combine_chunks()
        arrays = [
            column.chunk(0) if column.num_chunks else pa.array([], column.type)
            for column in taken.columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._measures.schema)

    def _tidy(self) -> None:
        assert self._index is not None, "rows have been added"
        count = self._index.count
        if self._total > 2 * count + _STALE_MIN:
            self._chunks = [self._at(self._place.values[:count])]
            self._place.values[:count] = np.arange(count)
            self._total = count
        elif len(self._chunks) > _CHUNKS_MAX:
            self._chunks[1:] = [pa.concat_batches(self._chunks[1:])]
