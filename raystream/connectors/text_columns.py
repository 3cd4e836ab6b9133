"""Columns as the texts that stores without types keep, and back."""

from __future__ import annotations

from base64 import b64decode

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.json_records import JsonRecords
from raystream.connectors.json_texts import json_values
from raystream.errors import SourceError


def texts(column: pa.Array) -> pa.Array:
    """Write each value as people would: text as it is, times as ISO 8601, bytes as base64.

    What has parts is written as JSON; null stays null. Shapes: column [n] -> string [n].
    """
    if pa.types.is_string(column.type):
        return column
    written = json_values(column)
    if not column.type.num_fields:
        written = pc.utf8_trim(written, '"')
    return pc.if_else(column.is_valid(), written, pa.scalar(None, pa.string()))


def from_texts(given: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """Read what ``texts`` has written.

    Shapes: string [n] -> kind [n]. Raises: SourceError where one of them is no such value.
    """
    types = pa.types
    try:
        if types.is_string(kind):
            return given
        if not (kind.num_fields or types.is_binary(kind)):
            return given.cast(kind)
        if types.is_binary(kind):
            # A loop over values: Arrow knows no base64.
            held = [
                None if one is None else b64decode(one, validate=True) for one in given.to_pylist()
            ]
            return pa.array(held, kind)
        parts = ("{" + f'"{_PLAIN}":', given.fill_null("null"), "}", "")
        columns = pa.schema([(_PLAIN, kind)])
        values = pc.binary_join_element_wise(*parts).cast(pa.binary())
        rows = JsonRecords().decoder(columns)(values.to_pylist()).rows
        assert isinstance(rows, pa.RecordBatch), "it was asked for columns"
        return rows.column(0)
    except (pa.ArrowException, ValueError, SourceError) as error:
        raise SourceError(f'field "{name}" holds no {kind}: {error}') from error


_PLAIN = "v"
