"""Values that are bytes, text, or Arrow streams of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from raystream.connectors.record_formats import Decode, Decoded, Encode, Rows
from raystream.errors import PlanError, SinkError, SourceError
from raystream.flow.normal import normal_record, normal_schema

_ARROW_ROWS_MAX = 1_048_576
"""Rows that one value may say it holds: what compresses well must not fill the memory."""


@dataclass(frozen=True, slots=True)
class PlainRecords:
    """One column that is the value: ``"raw"`` bytes, or ``"text"``, which is UTF-8."""

    name: str = "raw"

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        kind = pa.binary() if self.name == "raw" else pa.string()
        if schema is None:
            return pa.schema([("value", kind)])
        if len(schema) != 1 or schema.field(0).type != kind:
            raise PlanError(
                f"{self.name} values are one {kind} column; schema= says {schema.names}",
                hint=f'leave schema= out: the column is "value": {kind}',
            )
        return normal_schema(schema)

    def decoder(self, columns: pa.Schema | None) -> Decode:
        assert columns is not None, "plain values are a column"

        def decode(values: Sequence[bytes]) -> Decoded:
            column = pa.array(values, pa.binary())
            try:
                arrays = [column.cast(columns.field(0).type)]
            except pa.ArrowException as error:
                raise SourceError(f"the value is no UTF-8: {error}") from error
            return Decoded(pa.RecordBatch.from_arrays(arrays, schema=columns))

        return decode

    def encoder(self) -> Encode:
        return self._encoded

    def _encoded(self, rows: Rows) -> pa.Array:
        word = "bytes" if self.name == "raw" else "str"
        if isinstance(rows, list):
            kind: type = bytes if self.name == "raw" else str
            if not all(isinstance(row, kind) for row in rows):
                raise SinkError(f"{self.name} values are {word}", hint=f"map the rows to {word}")
            return pa.array(rows, pa.binary() if self.name == "raw" else pa.string()).cast(
                pa.binary()
            )
        kinds = (pa.types.is_binary, pa.types.is_string)
        if rows.num_columns != 1 or not any(is_kind(rows.column(0).type) for is_kind in kinds):
            raise SinkError(
                f"{self.name} values are one column of {word}; this stream has {rows.schema.names}",
                hint="select one, or write json",
            )
        return rows.column(0).cast(pa.binary())


@dataclass(frozen=True, slots=True)
class ArrowRecords:
    """An Arrow IPC stream a value: its schema, and any number of rows."""

    name = "arrow"

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        if schema is None:
            raise PlanError("arrow values need schema=: each brings its own, which must agree")
        return normal_schema(schema)

    def decoder(self, columns: pa.Schema | None) -> Decode:
        assert columns is not None, "arrow has columns"

        def decode(values: Sequence[bytes]) -> Decoded:
            # A loop over values: each is a stream of its own, mostly of many rows.
            batches = [_arrow_rows(value, columns) for value in values]
            counts = [batch.num_rows for batch in batches]
            places = np.repeat(np.arange(len(values)), counts)
            nothing = pa.RecordBatch.from_pylist([], columns)
            return Decoded(pa.concat_batches([nothing, *batches]), places)

        return decode

    def encoder(self) -> Encode:
        return _arrow_values


def _arrow_rows(value: bytes, columns: pa.Schema) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.BufferReader(value)) as reader:
            missing = [name for name in columns.names if name not in reader.schema.names]
            if missing:
                raise SourceError(f'the value has no column "{missing[0]}"')
            rows = 0
            batches = []
            for batch in reader:
                rows += batch.num_rows
                if rows > _ARROW_ROWS_MAX:
                    raise SourceError(f"the value holds more than {_ARROW_ROWS_MAX} rows")
                batch.validate(full=True)
                batches.append(normal_record(batch.select(columns.names), columns))
        return pa.concat_batches([pa.RecordBatch.from_pylist([], columns), *batches])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise SourceError(f"the value is no Arrow stream of these columns: {error}") from error


def _arrow_values(rows: Rows) -> pa.Array:
    """Write the rows as one stream each: consumers may expect one message a row."""
    if isinstance(rows, list):
        raise SinkError(
            "arrow values take columns; this stream holds Python objects",
            hint="put .with_schema(schema) before the sink, or write json",
        )
    values = []
    for place in range(rows.num_rows):
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, rows.schema) as writer:
            writer.write_batch(rows.slice(place, 1))
        values.append(out.getvalue().to_pybytes())
    return pa.array(values, pa.binary())
