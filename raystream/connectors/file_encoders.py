"""How rows become bytes of a file, for each format that is written."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from raystream.errors import SinkError
from raystream.operators.pyrows import to_rows

Rows: TypeAlias = pa.RecordBatch | list[Any]

_GROUP_ROWS = 131_072
_GROUP_BYTES = 16 * 1024 * 1024
"""Rows are kept until they make a row group of one of these sizes: small ones read slowly."""


class Encoder(Protocol):
    """Writes the rows of one file to a stream of bytes that somebody else opens and closes."""

    def write(self, rows: Rows) -> None:
        """Add rows."""

    def flush(self) -> None:
        """Let go of rows that are kept."""

    def finish(self) -> None:
        """Write what ends the file."""

    def discard(self) -> None:
        """Forget rows that are kept, and end the file, which nobody will read."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of rows that are not written yet."""


def encoder(format: str, rows: Rows, out: BinaryIO) -> Encoder:
    """Start a file whose first rows these are.

    Raises: SinkError if the format cannot hold such rows.
    """
    if isinstance(rows, list) and format not in {"csv", "json", "text"}:
        raise SinkError(
            f"{format} files take columns; this stream holds Python objects",
            hint="put .with_schema(schema) before the sink, or write json",
        )
    if format in {"json", "text"}:
        return _Lines(out, _json_lines if format == "json" else _text_lines)
    if isinstance(rows, list):
        return _CsvObjects(rows, out)
    return _CsvColumns(rows.schema, out) if format == "csv" else _Groups(format, rows.schema, out)


class _Groups:
    """Parquet and Arrow: rows are kept until they make a group worth writing."""

    def __init__(self, format: str, schema: pa.Schema, out: BinaryIO) -> None:
        if format == "parquet":
            self._writer = pq.ParquetWriter(out, schema)
        else:
            self._writer = pa.ipc.new_file(out, schema)
        self._kept: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    def write(self, rows: Rows) -> None:
        assert isinstance(rows, pa.RecordBatch), "an object stream was refused"
        self._kept.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._kept:
            return
        group = pa.concat_batches(self._kept)
        self._kept, self._rows, self._bytes = [], 0, 0
        self._writer.write_batch(group)

    def finish(self) -> None:
        self.flush()
        self._writer.close()

    def discard(self) -> None:
        self._kept = []
        self._writer.close()


class _CsvColumns:
    """CSV with a header line; texts are quoted, so that null and "" differ."""

    kept_bytes = 0

    def __init__(self, schema: pa.Schema, out: BinaryIO) -> None:
        for field in schema:
            if field.type.num_fields:
                raise SinkError(
                    f'csv cannot hold column "{field.name}", a {field.type}',
                    hint="drop it, explode it, or write json or parquet",
                )
        self._writer = pa.csv.CSVWriter(out, schema)

    def write(self, rows: Rows) -> None:
        self._writer.write_batch(rows)

    def flush(self) -> None:
        """Nothing is kept."""

    def finish(self) -> None:
        self._writer.close()

    def discard(self) -> None:
        self._writer.close()


class _CsvObjects:
    """CSV of dicts: the keys of the first row are the columns."""

    kept_bytes = 0

    def __init__(self, rows: list[Any], out: BinaryIO) -> None:
        self._out = out
        self._text = io.StringIO()
        names = list(_dict(rows[0]))
        self._writer = csv.DictWriter(self._text, names, lineterminator="\n")
        self._writer.writeheader()

    def write(self, rows: Rows) -> None:
        # A loop over rows: they are Python objects.
        try:
            self._writer.writerows(map(_dict, rows))
        except ValueError as error:
            raise SinkError(
                f"a row has other keys than the first one: {error}",
                hint="csv files have the columns of their first row; .with_schema() checks them",
            ) from error
        self.flush()

    def flush(self) -> None:
        self._out.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()

    def finish(self) -> None:
        self.flush()

    def discard(self) -> None:
        """Nothing is kept."""


class _Lines:
    """Formats of one line a row."""

    kept_bytes = 0

    def __init__(self, out: BinaryIO, lines: Callable[[Rows], bytes]) -> None:
        self._out = out
        self._lines = lines

    def write(self, rows: Rows) -> None:
        self._out.write(self._lines(rows))

    def flush(self) -> None:
        """Nothing is kept."""

    def finish(self) -> None:
        """Nothing ends the file."""

    def discard(self) -> None:
        """Nothing is kept."""


def _json_lines(rows: Rows) -> bytes:
    values = to_rows(_speakable(rows)) if isinstance(rows, pa.RecordBatch) else rows
    # A loop over rows: Arrow writes no JSON.
    try:
        lines = list(map(_JSON.encode, values))
    except (TypeError, ValueError) as error:
        raise SinkError(f"a row cannot be written as JSON: {error}") from error
    return ("\n".join(lines) + "\n").encode()


def _speakable(record: pa.RecordBatch) -> pa.RecordBatch:
    """Turn columns that JSON has no word for into text, a column at a time."""
    arrays = [_as_json(column) for column in record.columns]
    return pa.RecordBatch.from_arrays(arrays, names=record.schema.names)


def _as_json(column: pa.Array) -> pa.Array:
    types, kind = pa.types, column.type
    if types.is_timestamp(kind):
        utc = column if kind.tz is None else column.cast(pa.timestamp(kind.unit, "UTC"))
        return pc.utf8_replace_slice(utc.cast(pa.string()), 10, 11, "T")
    if types.is_date(kind) or types.is_time(kind) or types.is_decimal(kind):
        return column.cast(pa.string())
    if types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, None)
    return column


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


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_in_json)


def _text_lines(rows: Rows) -> bytes:
    if isinstance(rows, list):
        if not all(isinstance(row, str) for row in rows):
            raise SinkError("text files take strings", hint="map the rows to str, or write json")
        return "".join([f"{row}\n" for row in rows]).encode()
    if rows.num_columns != 1 or not pa.types.is_string(rows.schema.field(0).type):
        raise SinkError(
            f"text files take one string column; this stream has {rows.schema.names}",
            hint="select one, or write csv or json",
        )
    lines = rows.column(0).fill_null("").to_pylist()
    return ("\n".join(lines) + "\n").encode()


def _dict(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise SinkError(
            f"csv files take dicts; a row is {type(row).__name__} {row!r:.80}",
            hint="map the rows to dicts, or write json",
        )
    return row
