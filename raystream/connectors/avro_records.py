"""Values in Avro, with the number of their schema in a registry before them, or bare."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.connectors.record_formats import Decode, Encode, Rows, each_decoded
from raystream.connectors.schema_registry import Known, Registry, unwrapped, wrapped
from raystream.errors import ConfigError, PlanError, SinkError, SourceError
from raystream.flow.normal import normal_schema
from raystream.operators.pyrows import to_rows

Schema: TypeAlias = str | dict[str, Any]


@dataclass(frozen=True)
class Avro:
    """Avro records.

    ``schema`` is Avro's, as JSON text or what it parses to: rows are read as it says whatever they
    were written with (fields that were added get their default), and written with it. With a
    ``registry`` each value begins with the number of the schema that it was written with; without
    one all were written with ``schema``. ``subject`` is where what is written is registered.
    """

    schema: Schema | None = None
    registry: Registry | None = None
    subject: str | None = None

    name = "avro"

    def __post_init__(self) -> None:
        if self.schema is None and self.registry is None:
            raise PlanError("Avro() needs a schema, or a registry that knows it")
        if isinstance(self.schema, str):
            try:
                json.loads(self.schema)
            except ValueError as error:
                raise PlanError(f"Avro(): the schema is no JSON: {error}") from error

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        if schema is not None:
            return normal_schema(schema)
        return None if self.schema is None else _columns(_parsed(self.schema))

    def decoder(self, columns: pa.Schema | None) -> Decode:
        library = _library()
        reader = None if self.schema is None else library.parse_schema(_parsed(self.schema))

        def made(number: int, found: dict[str, Any]) -> Any:
            if found.get("schemaType", "AVRO") != "AVRO":
                raise SourceError(f"schema {number} is {found['schemaType']}, not Avro")
            return library.parse_schema(json.loads(found["schema"]))

        known = None if self.registry is None else Known(self.registry, made)

        def read_one(value: bytes) -> Any:
            writer = reader
            if known is not None:
                number, value = unwrapped(value)
                writer = known.of(number)
            stream = io.BytesIO(value)
            row = library.schemaless_reader(stream, writer, reader)
            if stream.tell() != len(value):
                raise SourceError(f"{len(value) - stream.tell()} bytes follow the Avro value")
            return row

        return lambda values: each_decoded(values, read_one, columns, "Avro")

    def encoder(self) -> Encode:
        if self.schema is None:
            raise PlanError("Avro() of a sink needs the schema to write with")
        library = _library()
        schema = library.parse_schema(_parsed(self.schema))
        head = b""
        if self.registry is not None:
            if self.subject is None:
                raise PlanError('Avro() of a sink with a registry needs subject="…-value"')
            text = json.dumps(_parsed(self.schema))
            head = wrapped(self.registry.register(self.subject, text, "AVRO"))

        def encode(rows: Rows) -> pa.Array:
            # A loop over rows: Avro has no columns.
            out = []
            for row in to_rows(rows) if isinstance(rows, pa.RecordBatch) else rows:
                stream = io.BytesIO()
                stream.write(head)
                try:
                    library.schemaless_writer(stream, schema, row, strict_allow_default=True)
                except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
                    raise SinkError(f"a row does not fit the Avro schema: {error}") from error
                out.append(stream.getvalue())
            return pa.array(out, pa.binary())

        return encode


_PLAIN = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "null": pa.null(),
}

_LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("us", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
    "uuid": pa.string(),
}


def _columns(schema: Any) -> pa.Schema:
    """Give the columns of an Avro record.

    Raises: PlanError for a schema that is no record, or a type that no column has.
    """
    kind = _arrow_type(schema, {})
    if not pa.types.is_struct(kind):
        raise PlanError("rows are Avro records; the schema is of another kind")
    return normal_schema(pa.schema(list(kind)))


def _arrow_type(schema: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(schema, list):
        return _of_union(schema, named)
    if isinstance(schema, str):
        found = _PLAIN.get(schema) or named.get(schema.rpartition(".")[2])
        if found is None:
            raise PlanError(f"Avro(): there is no type {schema!r:.60}")
        return found
    kind, logical = schema.get("type"), schema.get("logicalType")
    if logical == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    found = _of_complex(kind, schema, named)
    if "name" in schema:
        named[schema["name"].rpartition(".")[2]] = found
    return found


def _of_complex(kind: Any, schema: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    match kind:
        case "record":
            fields = schema["fields"]
            return pa.struct([(one["name"], _arrow_type(one["type"], named)) for one in fields])
        case "array":
            return pa.list_(_arrow_type(schema["items"], named))
        case "map":
            return pa.map_(pa.string(), _arrow_type(schema["values"], named))
        case "fixed":
            return pa.binary(schema["size"])
        case _:
            return _arrow_type(kind, named)


def _of_union(schema: list[Any], named: dict[str, pa.DataType]) -> pa.DataType:
    kinds = [one for one in schema if one != "null"]
    if len(kinds) != 1:
        raise PlanError(
            "an Avro union of several types is no column",
            hint="schema= of the source with the columns that are wanted leaves it out",
        )
    return _arrow_type(kinds[0], named)


def _parsed(schema: Schema) -> Any:
    return json.loads(schema) if isinstance(schema, str) else schema


def _library() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise ConfigError(
            "Avro needs the package fastavro", hint="pip install 'raystream[avro]'"
        ) from error
    return fastavro
