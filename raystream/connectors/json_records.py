"""Values that are JSON objects, or lines of CSV: parsed and written a batch at a time.

All values of a batch are joined by line breaks and parsed as one text. That is right only where
each value makes exactly one row, which is looked at before and counted behind (json_objects.py).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from raystream.connectors.file_formats import asked_types
from raystream.connectors.json_objects import are_objects, parsed
from raystream.connectors.json_texts import json_texts
from raystream.connectors.record_formats import Decode, Decoded, Encode, Rows
from raystream.errors import PlanError, SinkError, SourceError
from raystream.flow.normal import normal_record, normal_schema


@dataclass(frozen=True, slots=True)
class JsonRecords:
    """One JSON object a value; a missing key is null, an unknown one is ignored."""

    name = "json"

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        return None if schema is None else normal_schema(schema)

    def decoder(self, columns: pa.Schema | None) -> Decode:
        if columns is None:
            return _json_objects
        asked = asked_types(columns)
        return lambda values: Decoded(_json_columns(values, asked, columns))

    def encoder(self) -> Encode:
        return json_texts


@dataclass(frozen=True, slots=True)
class CsvRecords:
    """One row of comma-separated values a value, without a header, in the order of the schema.

    What is empty is null; a text that is empty is written ``""``.
    """

    name = "csv"

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        if schema is None:
            raise PlanError("csv values have no names: schema= gives them, in order")
        return normal_schema(schema)

    def decoder(self, columns: pa.Schema | None) -> Decode:
        assert columns is not None, "csv has columns"
        return lambda values: Decoded(_csv_columns(values, columns))

    def encoder(self) -> Encode:
        return _csv_texts


def _json_objects(values: Sequence[bytes]) -> Decoded:
    # A loop over values: each becomes a Python object.
    try:
        return Decoded([json.loads(value) for value in values])
    except (ValueError, RecursionError) as error:
        raise SourceError(f"the value is no JSON: {error}") from error


def _json_columns(values: Sequence[bytes], asked: pa.Schema, columns: pa.Schema) -> pa.RecordBatch:
    """Parse values that are one object each."""
    if not values:
        return pa.RecordBatch.from_pylist([], columns)
    text = b"\n".join(values)
    if not _are_objects(text, values):
        # What is no object, or has space around it, which takes a copy to see.
        values = [value.strip() for value in values]
        text = b"\n".join(values)
        if not _are_objects(text, values):
            raise SourceError("the value is no JSON object")
    try:
        return normal_record(parsed(text, asked, len(values)), columns)
    except pa.ArrowException as error:
        raise SourceError(f"the value does not fit the schema: {error}") from error


def _are_objects(text: bytes, values: Sequence[bytes]) -> bool:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    ends = np.cumsum(lengths + 1) - 1
    return are_objects(text, ends - lengths, ends)


def _csv_columns(values: Sequence[bytes], columns: pa.Schema) -> pa.RecordBatch:
    """Parse values that are one row each.

    Where no value has a line break none makes two rows; then as many rows as values means one each.
    A parser takes a text whose quote is never closed: here it is one that was cut off.
    """
    if not values:
        return pa.RecordBatch.from_pylist([], columns)
    # Loops over values, in C: looking at each is a small part of parsing it.
    values = [value.removesuffix(b"\n").removesuffix(b"\r") for value in values]
    if not all(values):
        raise SourceError("the value is empty: it is no row of CSV")
    text = b"\n".join(values)
    if b'"' in text and any(value.count(b'"') % 2 for value in values):
        raise SourceError("the value has a quote that is not closed")
    if len(values) > 1 and (text.count(b"\n") >= len(values) or b"\r" in text):
        raise SourceError("the value holds more than one line")
    read = pa.csv.ReadOptions(
        use_threads=False, column_names=columns.names, block_size=len(text) + 1
    )
    parse = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    convert = pa.csv.ConvertOptions(
        column_types=columns,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        table = pa.csv.read_csv(pa.BufferReader(text), read, parse, convert)
        if table.num_rows != len(values):
            raise SourceError("the value holds more than one row of CSV")
        arrays = [column.combine_chunks() for column in table.columns]
        return normal_record(pa.RecordBatch.from_arrays(arrays, schema=table.schema), columns)
    except pa.ArrowException as error:
        raise SourceError(f"the value does not fit the schema: {error}") from error


def _csv_texts(rows: Rows) -> pa.Array:
    """Write each row as CSV; texts are quoted, so that null and "" differ."""
    if isinstance(rows, list):
        raise SinkError(
            "csv values take columns; this stream holds Python objects",
            hint="put .with_schema(schema) before the sink, or write json",
        )
    arrays = [_plain(column, rows.schema.names[i]) for i, column in enumerate(rows.columns)]
    if not arrays:
        return pa.array([b""] * rows.num_rows, pa.binary())
    return pc.binary_join_element_wise(*arrays, ",").cast(pa.binary())


def _plain(column: pa.Array, name: str) -> pa.Array:
    kind = column.type
    if kind.num_fields or pa.types.is_binary(kind):
        raise SinkError(f'csv cannot hold column "{name}", a {kind}', hint="write json")
    if not pa.types.is_string(kind):
        return _csv_words(column).fill_null("")
    doubled = pc.replace_substring(column, '"', '""')
    return pc.binary_join_element_wise('"', doubled, '"', "").fill_null("")


def _csv_words(column: pa.Array) -> pa.Array:
    """Write numbers and times as the CSV writer of files does."""
    one = pa.RecordBatch.from_arrays([column], names=["c"])
    out = io.BytesIO()
    options: Any = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    pa.csv.write_csv(one, out, options)
    lines = pc.split_pattern(pa.array([out.getvalue().decode()]), "\n").flatten()
    return lines.slice(0, len(column))
