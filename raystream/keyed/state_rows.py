"""The rows of one keyed state: cells to columns for a snapshot, and back.

A value is a row; a list is a row with a list in it; each entry of a map is a row. Typed values
stand in ``value`` and ``map_key``, pickled ones in ``pickled`` and ``pickled_key``; ``written`` is
there for states with a ttl.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import RestoreRefused
from raystream.flow.key import canonical
from raystream.keyed.cells import ExpiringList
from raystream.keyed.disk import Piece
from raystream.keyed.disk_views import DiskMaps
from raystream.keyed.handles import Cells
from raystream.keyed.key_form import id_column, plain_key
from raystream.keyed.snapshot import GONE
from raystream.keyed.value_type import ValueType, only_added

Layout: TypeAlias = Literal["value", "list", "map"]

Rows: TypeAlias = tuple[list[Any], dict[str, pa.Array]]
"""The slot of each row, and the columns beside those of keys."""

WRITTEN = "written"
_MAP_ID = "map_id"
_VALUES, _MAP_KEYS = ("value", "pickled"), ("map_key", "pickled_key")

_Column: TypeAlias = tuple[pa.ChunkedArray, bool]
"""A column, and whether its values are plain: else they are pickled."""


@dataclass(frozen=True, slots=True, eq=False)
class StateRows:
    """How one state is laid out; ``make`` makes what a list or a map keeps for one slot."""

    layout: Layout
    keys: ValueType
    values: ValueType
    expires: bool
    make: Callable[[], Any]

    def write(self, cells: Cells) -> Iterator[Rows]:
        """Give all rows, in bounded pieces.

        At least one piece, which has no rows where there are none.
        """
        for slots, values, written in _pieces(cells):
            match self.layout:
                case "value":
                    yield slots, self._columns(values, written)
                case "list":
                    yield slots, self._lists(values)
                case "map":
                    yield self._maps(cells, slots, values, written)

    def write_some(self, cells: Cells, touched: Collection[Any]) -> Rows:
        """Give the rows of some slots, and last the column ``GONE``: whether they are no more.

        ``touched`` are slots, of maps pairs of a slot and a canonical key in it.
        """
        slots = list(touched)
        match self.layout:
            case "value":
                values, written = _found(cells, slots)
                columns = self._columns(values, written)
                gone = [value is None for value in values]
            case "list":
                held, _ = _found(cells, slots)
                gone = [one is None for one in held]
                columns = self._lists([self.make() if one is None else one for one in held])
            case "map":
                names = [name for _, name in touched]
                found = [_entry_of_map(cells, slot, name) for slot, name in touched]
                gone = [one is None for one in found]
                pairs = [
                    (plain_key(name), None) if one is None else _pair(name, one[1])
                    for name, one in zip(names, found, strict=True)
                ]
                written = [None if one is None else one[0] for one in found]
                slots = [slot for slot, _ in touched]
                columns = self._entries(names, pairs, written)
        return slots, columns | {GONE: pa.array(gone, pa.bool_())}

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that tell the rows of one slot apart: the key in a map."""
        if self.layout != "map":
            return ()
        return (_MAP_ID if self.keys.type is None else _name(self.keys, _MAP_KEYS),)

    def read(self, table: pa.Table, slots: Sequence[Hashable], cells: Cells, now_us: int) -> None:
        """Put the rows of a snapshot into cells; without times they were written now."""
        if WRITTEN in table.column_names:
            written = table.column(WRITTEN).to_pylist()
        else:
            written = [now_us] * table.num_rows
        match self.layout:
            case "value":
                for slot, value, at_us in zip(slots, self._values(table), written, strict=True):
                    _put(cells, slot, value, at_us)
            case "list":
                self._read_lists(table, slots, cells, written)
            case "map":
                self._read_maps(table, slots, cells, written)

    def _columns(self, values: list[Any], written: list[Any]) -> dict[str, pa.Array]:
        columns = {_name(self.values, _VALUES): self.values.write(values)}
        if self.expires:
            columns[WRITTEN] = pa.array(written, pa.int64())
        return columns

    def _lists(self, held: list[Any]) -> dict[str, pa.Array]:
        pairs = [one.written() if self.expires else [(0, value) for value in one] for one in held]
        offsets = np.zeros(len(pairs) + 1, np.int32)
        np.cumsum(list(map(len, pairs)), out=offsets[1:])
        flat = list(chain.from_iterable(pairs))
        columns = self._columns([value for _, value in flat], [at_us for at_us, _ in flat])
        starts = pa.array(offsets)
        return {name: pa.ListArray.from_arrays(starts, array) for name, array in columns.items()}

    def _maps(self, cells: Cells, slots: list[Any], held: list[Any], written: list[Any]) -> Rows:
        if isinstance(cells, DiskMaps):
            # Each entry is a row there already.
            rows = [slot for slot, _ in slots]
            names = [name for _, name in slots]
            pairs = list(map(_pair, names, held))
        else:
            # What an entry was written at, not the map.
            each = [one.written() if self.expires else _unwritten(one) for one in held]
            rows = [slot for slot, some in zip(slots, each, strict=True) for _ in some]
            flat = list(chain.from_iterable(each))
            names = [name for name, _, _ in flat]
            pairs = [_pair(name, value) for name, value, _ in flat]
            written = [at_us for _, _, at_us in flat]
        return rows, self._entries(names, pairs, written)

    def _entries(
        self, names: Sequence[Any], pairs: Sequence[tuple[Any, Any]], written: list[Any]
    ) -> dict[str, pa.Array]:
        """Write entries of maps: ``names`` are their keys in canonical form."""
        columns = {_name(self.keys, _MAP_KEYS): self.keys.write([key for key, _ in pairs])}
        if self.keys.type is None:
            columns[_MAP_ID] = id_column(names)
        return columns | self._columns([value for _, value in pairs], written)

    def _values(self, table: pa.Table) -> list[Any]:
        column, plain = self._column(table, self.values, _VALUES)
        return self.values.read(column, plain=plain)

    def _read_lists(
        self, table: pa.Table, slots: Sequence[Hashable], cells: Cells, written: list[Any]
    ) -> None:
        chunks, plain = self._column(table, self.values, _VALUES)
        column = chunks.combine_chunks()
        lengths = pc.list_value_length(column).to_pylist()
        values = iter(self.values.read(column.flatten(), plain=plain))
        for slot, length, at_us in zip(slots, lengths, written, strict=True):
            made, last_us = self.make(), at_us
            for place in range(length):
                last_us = at_us[place] if isinstance(at_us, list) else at_us
                if isinstance(made, ExpiringList):
                    made.put(next(values), last_us)
                else:
                    made.append(next(values))
            _put(cells, slot, made, last_us)

    def _read_maps(
        self, table: pa.Table, slots: Sequence[Hashable], cells: Cells, written: list[Any]
    ) -> None:
        column, plain = self._column(table, self.keys, _MAP_KEYS)
        keys = self.keys.read(column, plain=plain)
        rows = zip(slots, keys, self._values(table), written, strict=True)
        for slot, key, value, at_us in rows:
            made = cells.get(slot)
            if made is None:
                made = self.make()
            name = canonical(key)
            _put(made, name, (key, value) if type(name) is tuple else value, at_us)
            _put(cells, slot, made, at_us)

    def _column(self, table: pa.Table, kind: ValueType, names: tuple[str, str]) -> _Column:
        """Find the column of values or map keys; ``names`` are those of typed and of pickled ones.

        Where a state has no type, values that have one will do.
        Raises: RestoreRefused where the state is another one now.
        """
        plain, pickled = names
        listed = self.layout == "list"
        if kind.type is None and plain in table.column_names:
            column = table.column(plain)
            if not listed or pa.types.is_list(column.type):
                return column, True
        name = plain if kind.type is not None else pickled
        if name in table.column_names:
            column = table.column(name)
            expected = pa.list_(kind.arrow) if listed else kind.arrow
            if column.type == expected:
                return column, kind.type is not None
            if kind.type is not None and only_added(column.type, expected):
                # Values are made in Python anyhow: a field that a dict lacks becomes null there.
                return pa.chunked_array([column.to_pylist()], expected), True
        kept = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        raise RestoreRefused(
            f'state "{kind.state}" was kept as ({kept}), which is no {self.layout} of type '
            f"{kind.type if kind.type is not None else 'None (pickled)'}",
            hint="declare the state as it was, or give the new one another name; to a struct, "
            "fields that can be null may be added",
        )


def _pieces(cells: Cells) -> Iterator[Piece]:
    if isinstance(cells, dict):
        return iter([(list(cells), list(cells.values()), [])])
    return cells.pieces()


def _unwritten(found: dict[Any, Any]) -> list[tuple[Hashable, Any, int]]:
    return [(name, value, 0) for name, value in found.items()]


def _found(cells: Any, slots: list[Any]) -> tuple[list[Any], list[int | None]]:
    """Give the value of each slot, None where there is none, and when it was written."""
    if isinstance(cells, dict):
        return list(map(cells.get, slots)), []
    found = [cells.entry(slot) or (None, None) for slot in slots]
    return [value for _, value in found], [at_us for at_us, _ in found]


def _entry(cells: Any, slot: Hashable) -> tuple[int | None, Any] | None:
    """Give when a value was written, where that is known, and the value; None: it is gone."""
    if isinstance(cells, dict):
        return (None, cells[slot]) if slot in cells else None
    found: tuple[int | None, Any] | None = cells.entry(slot)
    return found


def _entry_of_map(cells: Cells, slot: Hashable, name: Hashable) -> tuple[int | None, Any] | None:
    if isinstance(cells, DiskMaps):
        return _entry(cells.entries, (slot, name))
    found = cells.get(slot)
    return None if found is None else _entry(found, name)


def _pair(name: Hashable, value: Any) -> tuple[Any, Any]:
    """Give the key and the value of an entry: odd keys stand beside their values."""
    return value if type(name) is tuple else (name, value)


def _put(cells: Any, slot: Hashable, value: Any, written_us: int) -> None:
    if isinstance(cells, dict):
        cells[slot] = value
    else:
        cells.put(slot, value, written_us)


def _name(kind: ValueType, names: tuple[str, str]) -> str:
    return names[kind.type is None]
