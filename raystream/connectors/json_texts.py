"""Columns become JSON objects, one a row, without a Python object a row.

Arrow writes no JSON, but it joins strings: each column becomes text, and the texts are joined with
the names between them. What needs Python (nested values, texts with quotes or line breaks in them)
goes through it a column at a time.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.record_formats import Rows
from raystream.errors import SinkError
from raystream.operators.pyrows import to_rows

_SPECIAL = r'["\\\x00-\x1f]'
"""What cannot stand in a JSON string as it is."""

_SPACE, _QUOTE, _BACKSLASH = ord(" "), ord('"'), ord("\\")


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
    behind = "{"
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        framed = _framed(column)
        if framed.mark and framed.texts.null_count:  # a null has no marks around it
            framed = _Framed(framed.joined())
        parts += [behind + json.dumps(name, ensure_ascii=False) + ":" + framed.mark, framed.texts]
        behind = framed.end + ","
    return pc.binary_join_element_wise(*parts, behind[:-1] + "}", "").cast(pa.binary())


def json_values(column: pa.Array) -> pa.Array:
    """Write each value of a column as JSON; null as ``null``.

    Shapes: column [n] -> string [n].
    """
    return _framed(column).joined()


@dataclass(frozen=True, slots=True)
class _Framed:
    """Texts of values, and what stands around each: where nothing does, nulls are words already.

    Whoever joins texts anyway adds what stands around them to what stands between them.
    """

    texts: pa.Array
    mark: str = ""
    end: str = ""

    def joined(self) -> pa.Array:
        """Give the values as they are written."""
        if not self.mark:
            return self.texts
        whole = pc.binary_join_element_wise(self.mark, self.texts, self.end, "")
        return whole.fill_null("null")


def _framed(column: pa.Array) -> _Framed:
    types, kind = pa.types, column.type
    if types.is_integer(kind) or types.is_boolean(kind):
        return _Framed(column.cast(pa.string()).fill_null("null"))
    if types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(column), column, None)
        return _Framed(finite.cast(pa.string()).fill_null("null"))
    if types.is_string(kind):
        return _Framed(_escaped(column), '"', '"')
    if types.is_timestamp(kind):
        # Thirty times faster than the text of a time with a zone; the Z is put behind it.
        texts = column.cast(pa.timestamp(kind.unit)).cast(pa.string()).cast(pa.binary())
        texts = pc.binary_replace_slice(texts, 10, 11, b"T").view(pa.string())  # it is all ASCII
        return _Framed(texts, '"', '"' if kind.tz is None else 'Z"')
    if types.is_date(kind) or types.is_time(kind) or types.is_decimal(kind):
        return _Framed(column.cast(pa.string()), '"', '"')
    record = pa.RecordBatch.from_arrays([column], names=["v"])
    return _Framed(pa.array(_encoded([row["v"] for row in to_rows(record)]), pa.string()))


def _escaped(column: pa.Array) -> pa.Array:
    if not _may_be_special(column):
        return column
    special = pc.match_substring_regex(column, _SPECIAL)
    if not pc.any(special).as_py():
        return column
    found = column.filter(special)
    escaped = [_JSON.encode(text)[1:-1] for text in found.to_pylist()]
    return pc.replace_with_mask(column, special.fill_null(False), pa.array(escaped, pa.string()))


def _may_be_special(column: pa.Array) -> bool:
    """Look through the bytes of all texts at once, those behind nulls among them."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return False
    places = np.frombuffer(offsets, np.int32)
    text = np.frombuffer(data, np.uint8)[
        places[column.offset] : places[column.offset + len(column)]
    ]
    return bool(((text < _SPACE) | (text == _QUOTE) | (text == _BACKSLASH)).any())


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
