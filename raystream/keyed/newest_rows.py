"""The newest row of each key: what as-of joins look up when nothing newer has come.

A key's row is replaced by appending another; what was replaced or has expired goes when it is as
much as what is left, with the keys that have no row any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.row_store import RowStore
from raystream.keyed.slots import SlotColumn

_NONE: Final = -1

_ROOM_MIN: Final = 8_192
"""Fewer rows and keys than this are never worth looking through for those that are gone."""

KeysOf = Callable[[pa.RecordBatch], list[pa.Array]]
"""Gives the key columns of rows, in the types of the keys."""


class NewestRows:
    """Rows of ``schema`` and their event times, one row a key at most."""

    def __init__(self, schema: pa.Schema, types: Sequence[pa.DataType], keys_of: KeysOf) -> None:
        self._types = types
        self._keys_of = keys_of
        self._room = _ROOM_MIN
        self._clear(schema)

    def _clear(self, schema: pa.Schema) -> None:
        self._index = KeyIndex(self._types)
        self._store = RowStore(schema)
        self._row, self._time = SlotColumn("i8", _NONE), SlotColumn("i8")

    @property
    def row_count(self) -> int:
        """Rows that are held, replaced ones included."""
        return self._store.row_count

    def slots(self, keys: Sequence[pa.Array]) -> Int64s:
        """Give the slot of each row's key, a new one where it has none; they hold until ``put``.

        Shapes: keys, each [n] -> int64 [n].
        """
        slots, _ = self._index.lookup(keys)
        self._row.reserve(self._index.count)
        self._time.reserve(self._index.count)
        return slots

    def find(self, keys: Sequence[pa.Array]) -> Int64s:
        """Give the slot of each row's key, -1 where it has none, or a null is in it.

        Shapes: keys, each [n] -> int64 [n].
        """
        return self._index.find(keys)

    def of(self, slots: Int64s) -> tuple[pa.RecordBatch, Int64s, Int64s]:
        """Give the rows of those keys that have one, their event times, and their slots.

        Shapes: slots int64 [n], each once -> [m], int64 [m], int64 [m].
        """
        slots = slots[self._row.values[slots] != _NONE]
        return self._store.take(self._row.values[slots]), self._time.values[slots], slots

    def put(self, slots: Int64s, rows: pa.RecordBatch, times_us: Int64s, from_us: int) -> None:
        """Replace the rows of keys; rows of times before ``from_us`` may go.

        Shapes: slots, times_us int64 [n], each slot once; rows [n], which nobody will change.
        """
        first = self._store.append(rows)
        self._row.values[slots] = first + np.arange(rows.num_rows)
        self._time.values[slots] = times_us
        if max(self._store.row_count, self._index.count) >= self._room:
            self.restore(*self.held(from_us))

    def held(self, from_us: int) -> tuple[pa.RecordBatch, Int64s]:
        """Give the rows of that event time or a later one, and their times.

        Shapes: -> [m], int64 [m].
        """
        count = self._index.count
        rows, times = self._row.values[:count], self._time.values[:count]
        living = np.flatnonzero((rows != _NONE) & (times >= from_us))
        return self._store.take(rows[living]), times[living]

    def restore(self, rows: pa.RecordBatch, times_us: Int64s) -> None:
        """Take up rows of different keys, in the place of all that is held."""
        self._clear(self._store.schema)
        slots = self.slots(self._keys_of(rows))
        self._store.append(rows)
        self._row.values[slots] = np.arange(rows.num_rows)
        self._time.values[slots] = times_us
        self._room = max(_ROOM_MIN, 2 * rows.num_rows)
