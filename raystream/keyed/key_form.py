"""How keys stand in snapshots: columns of their own types, or Python objects pickled."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa

from raystream.errors import RestoreRefused
from raystream.flow.hashing import UInt64s, hash_columns, hash_objects
from raystream.flow.key import canonical_keys, fixed_bits, plain_array, valid_rows
from raystream.flow.time import EPOCH
from raystream.keyed.key_bytes import key_bytes

TAKEN = frozenset(
    {"value", "pickled", "map_key", "pickled_key", "map_id", "written", "time", "domain"}
)
"""Names of columns beside those of keys; a key column of such a name has ``key_`` before it."""

_PICKLED, _ID = "__key", "__id"
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)


@dataclass(frozen=True, slots=True, eq=False)
class KeyForm:
    """Writes keys into the columns of a snapshot and reads them back."""

    fields: tuple[pa.Field, ...] | None

    @classmethod
    def columns(cls, fields: Sequence[pa.Field]) -> KeyForm:
        """Keys of a columnar stream: their columns. Several are one key that is a tuple."""
        assert fields, "a key has a column"
        named = tuple(
            pa.field(f"key_{field.name}" if field.name in TAKEN else field.name, field.type)
            for field in fields
        )
        return cls(named)

    @classmethod
    def objects(cls) -> KeyForm:
        """Keys that are Python objects: pickled."""
        return cls(None)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that tell keys apart: equal keys need not be the same when pickled."""
        return (_ID,) if self.fields is None else tuple(field.name for field in self.fields)

    def write(
        self, ids: Sequence[Any], keys: Sequence[Any] | None = None
    ) -> tuple[dict[str, pa.Array], UInt64s]:
        """Give the columns of keys and the hash of each.

        ``keys`` are what the user knows them as; without them, what ``ids`` stand for.
        Shapes: ids [n] -> columns [n], uint64 [n].
        """
        if self.fields is None:
            objects = list(map(plain_key, ids)) if keys is None else list(keys)
            column = pa.array(pickled(objects), pa.large_binary())
            return {_PICKLED: column, _ID: id_column(ids)}, hash_objects(objects)
        parts = [ids] if len(self.fields) == 1 else _parts(ids, len(self.fields))
        columns = {
            field.name: _column(part, field.type)
            for field, part in zip(self.fields, parts, strict=True)
        }
        return columns, hash_columns(list(columns.values()))

    def read(self, table: pa.Table) -> tuple[list[Hashable], list[Any]]:
        """Give the canonical form of each key, and what the user knows it as.

        Raises: RestoreRefused where the keys of the table are others.
        """
        wanted = [_PICKLED] if self.fields is None else [field.name for field in self.fields]
        if not set(wanted) <= set(table.column_names):
            raise RestoreRefused(
                f"state was kept by other keys: its columns are {', '.join(table.column_names)}, "
                f"the key is {' and '.join(wanted)}",
                hint="key the stream as it was, or give the operator another uid",
            )
        if self.fields is None:
            keys = [pickle.loads(raw) for raw in table.column(_PICKLED).to_pylist()]
            return list(canonical_keys(keys)), keys
        columns = [_array(table.column(field.name)) for field in self.fields]
        ids = [_ids(column) for column in columns]
        plain = [_keys(part, column.type) for part, column in zip(ids, columns, strict=True)]
        if len(columns) == 1:
            return ids[0], plain[0]
        tagged = [(tuple, *parts) for parts in zip(*ids, strict=True)]
        return list(tagged), list(zip(*plain, strict=True))


def plain_key(key_id: Any) -> Any:
    """Give a Python value of which ``key_id`` is the canonical form."""
    if type(key_id) is not tuple:
        return key_id
    kind: Any = key_id[0]
    if kind is tuple:
        return tuple(map(plain_key, key_id[1:]))
    value: Any = key_id[1]
    if kind is bool:
        return value
    if kind in (float, Decimal):
        return kind(value)
    try:
        return _moment(kind, value)
    except (OverflowError, ValueError):  # NumPy knows years that Python does not
        letter, unit = ("m8", "us") if kind is timedelta else ("M8", "us")
        return np.array(value, np.int64).view(f"{letter}[{'D' if kind is date else unit}]")[()]


def id_column(ids: Sequence[Any]) -> pa.Array:
    """Write canonical keys as bytes: equal ones alike.

    Shapes: ids [n] -> array [n].
    """
    return pa.array(list(map(key_bytes, ids)), pa.large_binary())


def pickled(values: Sequence[Any]) -> list[bytes]:
    """Pickle each value; those that pickle cannot (lambdas, classes of a script) by cloudpickle."""
    try:
        return [pickle.dumps(value, 5) for value in values]
    except (pickle.PicklingError, AttributeError, TypeError):
        return [cloudpickle.dumps(value, 5) for value in values]


def _moment(kind: Any, value: int) -> Any:
    if kind is datetime:
        return EPOCH + timedelta(microseconds=value)
    if kind is date:
        return date(1970, 1, 1) + timedelta(days=value)
    if kind is timedelta:
        return timedelta(microseconds=value)
    assert kind is time, f"no canonical form begins with {kind!r}"
    return (_NAIVE_EPOCH + timedelta(microseconds=value)).time()


def _parts(ids: Sequence[Any], count: int) -> list[list[Any]]:
    """Take keys of several columns apart, with or without the mark of a tuple before them."""
    marked = [key[1:] if key[0] is tuple else key for key in ids]
    return [[key[place] for key in marked] for place in range(count)]


def _column(ids: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Write one column of canonical keys in its own type."""
    types = pa.types
    if types.is_temporal(kind):
        days = types.is_date(kind)
        raw = pa.array([None if key is None else key[1] for key in ids], pa.int64())
        return _from_ticks(raw.cast(pa.int32()) if days else raw, kind)
    if types.is_decimal(kind):
        return pa.array([None if key is None else Decimal(key[1]) for key in ids], kind)
    if types.is_boolean(kind) or types.is_floating(kind):
        return pa.array([None if key is None else plain_key(key) for key in ids], kind)
    return pa.array(ids, kind)


def _from_ticks(raw: pa.Array, kind: pa.DataType) -> pa.Array:
    types = pa.types
    if types.is_timestamp(kind):
        return raw.cast(pa.timestamp("us", kind.tz)).cast(kind)
    if types.is_date(kind):
        return raw.cast(pa.date32()).cast(kind)
    if types.is_time(kind):
        return raw.cast(pa.time64("us")).cast(kind)
    return raw.cast(pa.duration("us")).cast(kind)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return plain_array(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))


def _ids(array: pa.Array) -> list[Any]:
    """Give the canonical form of each value of a column."""
    kind = array.type
    if not pa.types.is_temporal(kind):
        return list(canonical_keys(array.to_pylist()))
    mark = _mark(kind)
    ids: list[Any] = [(mark, ticks) for ticks in fixed_bits(array).tolist()]
    valid = valid_rows(array)
    if valid is not None:
        for row in np.flatnonzero(~valid).tolist():
            ids[row] = None
    return ids


def _mark(kind: pa.DataType) -> type:
    types = pa.types
    if types.is_timestamp(kind):
        return datetime
    if types.is_date(kind):
        return date
    return time if types.is_time(kind) else timedelta


def _keys(ids: list[Any], kind: pa.DataType) -> list[Any]:
    """Give keys as rows have them: zoned timestamps are aware, others are not."""
    keys = list(map(plain_key, ids))
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return [key.replace(tzinfo=None) if isinstance(key, datetime) else key for key in keys]
    return keys
