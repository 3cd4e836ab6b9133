"""Columns as the texts that stores without types keep, and back."""

from __future__ import annotations

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
        if not kind.num_fields and not types.is_binary(kind):
            return given.cast(kind)
        if kind.num_fields:
            parts = ("{" + f'"{_PLAIN}":', given.fill_null("null"), "}", "")
        else:
            parts = ("{" + f'"{_PLAIN}":"', given.fill_null(""), '"}', "")
        columns = pa.schema([(_PLAIN, kind)])
        values = pc.binary_join_element_wise(*parts).cast(pa.binary())
        rows = JsonRecords().decoder(columns)(values.to_pylist()).rows
        assert isinstance(rows, pa.RecordBatch), "it was asked for columns"
        return rows.column(0)
    except (pa.ArrowException, SourceError) as error:
        raise SourceError(f'field "{name}" holds no {kind}: {error}') from error


_PLAIN = "v"
