"""What the tables of a lake can hold of a stream, and whether the two fit each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import SinkError
from raystream.flow.normal import normal_schema

Held: TypeAlias = Callable[[pa.DataType], pa.DataType | None]
"""Gives the type in which a format holds the values of another; None: it cannot."""

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
}
"""What tables have no type for, and the one that holds all its values."""


def held_type(kind: pa.DataType, held: Held | None = None) -> pa.DataType | None:
    """Give the plain type that holds all values of ``kind``; ``held`` says it of what is inside."""
    types = pa.types
    inside = held or held_type
    if kind in _WIDER:
        return _WIDER[kind]
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        item = inside(kind.value_type)
        return None if item is None else pa.list_(item)
    if types.is_struct(kind):
        fields = [(field.name, inside(field.type)) for field in kind]
        return None if any(one is None for _, one in fields) else pa.struct(fields)
    if types.is_map(kind):
        key, item = inside(kind.key_type), inside(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if types.is_time(kind):
        return pa.time64("us")
    plain = (
        types.is_signed_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_binary(kind)
        or types.is_date32(kind)
        or types.is_decimal128(kind)
    )
    return kind if plain else None


def held_columns(schema: pa.Schema, held: Held, tables: str) -> pa.Schema:
    """Give the columns in which a table holds a stream.

    Raises: SinkError naming a column of a type that these tables have not.
    """
    fields = []
    for field in normal_schema(schema):
        kind = held(field.type)
        if kind is None:
            raise SinkError(
                f'column "{field.name}" is {field.type}, which {tables} do not have',
                hint="cast it, for example to an integer, a decimal or a text",
            )
        fields.append(pa.field(field.name, kind, field.nullable))
    return pa.schema(fields)


def check_columns(given: pa.Schema, table: pa.Schema, held: Held, name: str) -> None:
    """Compare the columns of a stream, as they are held, with those of a table.

    Raises: SinkError naming the first that does not fit.
    """
    for field in given:
        index = table.get_field_index(field.name)
        if index < 0:
            raise SinkError(
                f'{name} has no column "{field.name}"; it has {", ".join(table.names)}',
                hint="add it to the table, or drop it from the stream",
            )
        if held(table.field(index).type) != field.type:
            raise SinkError(
                f'column "{field.name}" of {name} is {table.field(index).type}, and the stream has '
                f"{field.type}",
                hint="cast it before the sink",
            )
    for field in table:
        if not field.nullable and field.name not in given.names:
            raise SinkError(
                f'column "{field.name}" of {name} takes no null, and the stream has no such column'
            )


def as_held(rows: pa.RecordBatch, columns: pa.Schema, name: str) -> pa.RecordBatch:
    """Bring rows to the types in which a table holds them; columns go by position.

    Raises: SinkError for a value that has no place there.
    """
    pairs = zip(rows.columns, columns, strict=True)
    try:
        arrays = [column.cast(field.type) for column, field in pairs]
    except pa.ArrowException as error:
        raise SinkError(f"rows do not fit into {name}: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def check_nulls(rows: pa.RecordBatch, table: pa.Schema, name: str) -> None:
    """Refuse nulls where a table takes none.

    Raises: SinkError naming the column.
    """
    for field in table:
        if not field.nullable and rows.column(field.name).null_count:
            row = pc.index(rows.column(field.name).is_null(), True).as_py()
            raise SinkError(
                f'column "{field.name}" of {name} takes no null; row {row} of a batch has one',
                hint="filter such rows, or fill them",
            )
