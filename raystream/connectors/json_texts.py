"""Columns become JSON objects, one a row, without a Python object a row.

Arrow writes no JSON, but it joins strings: each column becomes text, and the texts are joined with
the names between them. What needs Python (nested values, texts with quotes or line breaks in them)
goes through it a column at a time.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.record_formats import Rows
from raystream.errors import SinkError
from raystream.operators.pyrows import to_rows

_SPECIAL = r'["\\\x00-\x1f]'
"""What cannot stand in a JSON string as it is."""


def json_texts(rows: Rows) -> pa.Array:
    """Write each row as a JSON object; Python objects as whatever JSON they are.

    Shapes: rows [n] -> binary [n].
    Raises: SinkError for a value that has no form in JSON.
    """
    if isinstance(rows, list):
        return pa.array(_encoded(rows), pa.string()).cast(pa.binary())
    if not rows.num_columns:
        return pa.array([b"{}"] * rows.num_rows, pa.binary())
    parts: list[Any] = []
    for index, (name, column) in enumerate(zip(rows.schema.names, rows.columns, strict=True)):
        parts.append(("," if index else "{") + json.dumps(name, ensure_ascii=False) + ":")
        parts.append(_values(column))
    return pc.binary_join_element_wise(*parts, "}", "").cast(pa.binary())


def json_values(column: pa.Array) -> pa.Array:
    """Write each value of a column as JSON; null as ``null``.

    Shapes: column [n] -> string [n].
    """
    return _values(column)


def _values(column: pa.Array) -> pa.Array:
    types, kind = pa.types, column.type
    if types.is_integer(kind) or types.is_boolean(kind):
        return column.cast(pa.string()).fill_null("null")
    if types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(column), column, None)
        return finite.cast(pa.string()).fill_null("null")
    if types.is_string(kind):
        return _strings(column)
    if types.is_timestamp(kind):
        # Thirty times faster than the text of a time with a zone; the Z is put behind it.
        texts = column.cast(pa.timestamp(kind.unit)).cast(pa.string())
        texts = pc.utf8_replace_slice(texts, 10, 11, "T")
        return _quoted(texts, '"' if kind.tz is None else 'Z"')
    if types.is_date(kind) or types.is_time(kind) or types.is_decimal(kind):
        return _quoted(column.cast(pa.string()))
    record = pa.RecordBatch.from_arrays([column], names=["v"])
    return pa.array(_encoded([row["v"] for row in to_rows(record)]), pa.string())


def _strings(column: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(column, _SPECIAL)
    if pc.any(special).as_py():
        found = column.filter(special)
        escaped = [_JSON.encode(text)[1:-1] for text in found.to_pylist()]
        mask = special.fill_null(False)
        column = pc.replace_with_mask(column, mask, pa.array(escaped, pa.string()))
    return _quoted(column)


def _quoted(texts: pa.Array, end: str = '"') -> pa.Array:
    return pc.binary_join_element_wise('"', texts, end, "").fill_null("null")


def _encoded(values: list[Any]) -> list[str]:
    # A loop over values: they are Python objects.
    encode: Callable[[Any], str] = _JSON.encode
    try:
        return list(map(encode, values))
    except (TypeError, ValueError, RecursionError) as error:
        raise SinkError(f"a row cannot be written as JSON: {error}") from error


def _in_json(value: object) -> object:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} {value!r:.80} has no form in JSON")


class _Finite(json.JSONEncoder):
    """JSON has no word for infinity: refused here, null where a column of floats holds it."""


_JSON = _Finite(ensure_ascii=False, separators=(",", ":"), default=_in_json, allow_nan=False)
