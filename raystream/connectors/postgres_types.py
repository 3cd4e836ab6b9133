"""Values of PostgreSQL as columns, and columns as PostgreSQL takes them; both ways as text.

The server's text forms go through Arrow's own parsers, a column at a time: faster from Python than
the binary forms, which would have to be read value by value.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.postgres_server import quoted
from raystream.errors import PlanError, SourceError

_SCALE = 18
"""Digits behind the point of a ``numeric`` that does not say how many it has."""

_PLAIN = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    **dict.fromkeys(
        ("text", "varchar", "bpchar", "name", "citext", "json", "jsonb", "uuid", "xml"), pa.string()
    ),
    **dict.fromkeys(("inet", "cidr", "macaddr"), pa.string()),
}

_BOOLS = pa.array(["t", "f"])

_ARRAY_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)')


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or of a query: its name, its type there, and the one it has here."""

    name: str
    type_name: str
    type: pa.DataType

    @property
    def is_text(self) -> bool:
        """Whether its values compare as texts, byte by byte."""
        return self.type == pa.string() and self.type_name != "uuid"


def columns_of(
    connection: Any, relation: str, what: str, schema: pa.Schema | None = None
) -> list[Column]:
    """Give the columns of what stands behind FROM; with ``schema``, those and as it says.

    Raises: PlanError naming the column that is not there, or has a type that nothing stands for.
    """
    described = connection.execute(f"SELECT * FROM {relation} LIMIT 0").description
    oids = list({column.type_code for column in described})
    kinds = {
        oid: rest
        for oid, *rest in connection.execute(
            "SELECT t.oid, t.typname, t.typtype, t.typcategory, e.typname, e.typtype "
            "FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = ANY(%s)",
            [oids],
        )
    }
    there = {column.name: column for column in described}
    if schema is None:
        return [
            Column(name, kinds[one.type_code][0], _type_of(one, kinds[one.type_code], what))
            for name, one in there.items()
        ]
    missing = [name for name in schema.names if name not in there]
    if missing:
        raise PlanError(
            f"{what} has no column {', '.join(missing)}; it has {', '.join(there)}",
            hint="schema= names columns of the table",
        )
    return [Column(f.name, kinds[there[f.name].type_code][0], f.type) for f in schema]


def types_of(connection: Any, relation: str, what: str, key: Sequence[str]) -> list[Column]:
    """Give some columns with the types that the table itself gives them."""
    names = ", ".join(map(quoted, key))
    return columns_of(connection, f"(SELECT {names} FROM {relation}) AS keys", what)


def _type_of(column: Any, catalog: Sequence[Any], what: str) -> pa.DataType:
    name, sort, category, item, item_sort = catalog
    if category == "A" and item is not None:
        kind = _plain(item, item_sort, None, None)
        found = None if kind is None else pa.list_(kind)
    else:
        found = _plain(name, sort, column.precision, column.scale)
    if found is None:
        raise PlanError(
            f'{what}: column "{column.name}" is of type {name}, which no column type stands for',
            hint=f'give schema= with another: ("{column.name}", pa.string()) reads its text; '
            "or leave the column out",
        )
    return found


def _plain(
    name: str, sort: str | None, digits: int | None, scale: int | None
) -> pa.DataType | None:
    if sort == "e":
        return pa.string()
    if name != "numeric":
        return _PLAIN.get(name)
    if digits is None:
        return pa.decimal128(38, _SCALE)
    return pa.decimal128(digits, scale or 0) if digits <= 38 and (scale or 0) >= 0 else None


# What is read --------------------------------------------------------------------------------


def typed(
    texts: pa.RecordBatch, schema: pa.Schema
) -> tuple[pa.RecordBatch, list[tuple[int, SourceError]]]:
    """Turn the server's texts into columns; rows that hold what they cannot are told apart.

    Shapes: texts [n], its first columns those of schema -> rows [m], (place, error) [n - m].
    """
    arrays: list[pa.Array | None] = []
    failures: dict[int, SourceError] = {}
    for place, field in enumerate(schema):
        column = texts.column(place)
        try:
            arrays.append(from_text(column, field.type))
        except (pa.ArrowException, ValueError):
            arrays.append(None)
            alone = _failures(column, field)
            assert alone, f"{field} cannot be read whole, and each of its values can"
            for row, error in alone:
                failures.setdefault(row, error)
    if not failures:
        return pa.RecordBatch.from_arrays(arrays, schema=schema), []
    kept = pa.array(np.delete(np.arange(texts.num_rows), list(failures)))
    good = [from_text(texts.column(n).take(kept), f.type) for n, f in enumerate(schema)]
    return pa.RecordBatch.from_arrays(good, schema=schema), sorted(failures.items())


def _failures(column: pa.Array, field: pa.Field) -> list[tuple[int, SourceError]]:
    failed = []
    # A loop over rows, because one of them failed, and Arrow does not say which.
    for place in range(len(column)):
        try:
            from_text(column.slice(place, 1), field.type)
        except (pa.ArrowException, ValueError):  # noqa: PERF203  one by one
            error = SourceError(
                f'column "{field.name}" is {field.type}, which cannot hold '
                f"{column[place].as_py()!r:.80}",
                hint="schema= can give the column another type: pa.string() holds everything",
            )
            failed.append((place, error))
    return failed


def from_text(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Read a column of the server's texts as values of a type.

    Shapes: texts [n] -> array [n].
    Raises: pa.ArrowException, ValueError where a text is none of them.
    """
    types = pa.types
    if types.is_string(kind):
        return texts
    if types.is_boolean(kind) and pc.all(pc.is_in(texts.drop_null(), _BOOLS), min_count=0).as_py():
        return pc.equal(texts, "t")
    if types.is_binary(kind):
        return _bytes(texts)
    if types.is_time(kind):
        day = pc.binary_join_element_wise("1970-01-01 ", texts, "")
        return day.cast(pa.timestamp("us")).cast(kind)
    if types.is_list(kind):
        # A loop over rows: an array's text has quotes and escapes that no column function reads.
        items = [None if text is None else _items(text) for text in texts.to_pylist()]
        lists = pa.array(items, pa.list_(pa.string()))
        values = from_text(lists.values, kind.value_type)
        mask = lists.is_null() if lists.null_count else None
        return pa.ListArray.from_arrays(lists.offsets, values, type=kind, mask=mask)
    return texts.cast(kind)


def _bytes(texts: pa.Array) -> pa.Array:
    starts = pc.starts_with(texts, "\\x")
    if not pc.all(starts, skip_nulls=True, min_count=0).as_py():
        raise ValueError("bytes are given in hex")
    hexes = pc.utf8_slice_codeunits(texts, 2)
    lengths = pc.binary_length(hexes).fill_null(0).to_numpy(zero_copy_only=False) // 2
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    held = pa.py_buffer(bytes.fromhex("".join(hexes.drop_null().to_pylist())))
    mask = None
    if texts.null_count:
        mask = pa.array(texts.is_valid()).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), len(texts), [mask, pa.py_buffer(offsets), held])


def _items(text: str) -> list[str | None]:
    if not text.startswith("{") or "{" in re.sub(r'"(?:[^"\\]|\\.)*"', "", text[1:]):
        raise ValueError("arrays of one dimension, counted from one, become lists")
    found: list[str | None] = []
    for match in _ARRAY_ITEM.finditer(text, 1, len(text) - 1):
        if match[1] is not None:
            found.append(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL))
        else:
            found.append(None if match[2] == "NULL" else match[2])
    return found


# What is written -----------------------------------------------------------------------------


def takes(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be written."""
    types = pa.types
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        return takes(kind.value_type) and not kind.value_type.num_fields
    return not (kind.num_fields or types.is_duration(kind) or types.is_interval(kind))


def as_csv(columns: Sequence[pa.Array], names: Sequence[str]) -> bytes:
    """Give columns in the form that COPY … (FORMAT csv) reads.

    Shapes: columns of [n] -> n lines.
    """
    import pyarrow.csv as pcsv

    record = pa.RecordBatch.from_arrays([to_text(one) for one in columns], names=list(names))
    out = io.BytesIO()
    pcsv.write_csv(record, out, pcsv.WriteOptions(include_header=False))
    return out.getvalue()


def to_text(column: pa.Array) -> pa.Array:
    """Give a column so that Arrow's CSV is what the server reads; most are as they stand."""
    kind, types = column.type, pa.types
    if types.is_binary(kind) or types.is_fixed_size_binary(kind):
        # A loop over rows: neither Arrow nor NumPy writes hex.
        written = [None if v is None else "\\x" + v.hex() for v in column.to_pylist()]
        return pa.array(written, pa.string())
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        # A loop over rows: an array's text has quotes and escapes that no column function writes.
        item = to_text(column.flatten())
        texts = iter(_written(item).to_pylist())
        counts = pc.list_value_length(column).to_pylist()
        arrays = [None if n is None else _array([next(texts) for _ in range(n)]) for n in counts]
        return pa.array(arrays, pa.string())
    if types.is_null(kind) or types.is_float16(kind):
        return column.cast(pa.string() if types.is_null(kind) else pa.float32())
    if types.is_timestamp(kind) and kind.tz is not None:
        return column.cast(pa.timestamp("us", "UTC"))
    return column


def _written(items: pa.Array) -> pa.Array:
    return items if items.type == pa.string() else items.cast(pa.string())


def _array(items: list[str | None]) -> str:
    return "{" + ",".join("NULL" if one is None else _item(one) for one in items) + "}"


def _item(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def has_nul(column: pa.Array) -> bool:
    """Tell whether a text holds the character that PostgreSQL has no place for."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return has_nul(column.flatten())
    if kind != pa.string():
        return False
    return bool(pc.any(pc.match_substring(column, "\x00")).as_py())
