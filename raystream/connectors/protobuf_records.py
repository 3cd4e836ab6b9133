"""Values in Protobuf, with the number of their schema in a registry before them, or bare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raystream.connectors.record_formats import Decode, Encode, Rows, each_decoded
from raystream.connectors.schema_registry import Known, Registry, unwrapped, wrapped
from raystream.errors import PlanError, SinkError, SourceError
from raystream.flow.normal import normal_schema
from raystream.operators.guard import attempt
from raystream.operators.pyrows import to_rows

_DEPTH_MAX = 32
"""Messages in messages: a type that holds itself has no end, and is no column."""


@dataclass(frozen=True)
class Protobuf:
    """Protobuf messages of one type, ``message``: a class that ``protoc`` made.

    Columns are its fields: messages are structs, repeated fields lists, enumerations the names of
    their values. A field that is not there is null where the type can tell (``optional``, messages,
    ``oneof``), else its default. With a ``registry`` each value begins with the number of its
    schema, which must be registered, and with the place of the message in its file. What is written
    begins with ``schema_id``.
    """

    message: Any
    registry: Registry | None = None
    schema_id: int | None = None

    name = "protobuf"

    def __post_init__(self) -> None:
        if getattr(self.message, "DESCRIPTOR", None) is None:
            raise PlanError(
                f"Protobuf(): message is a class that protoc made, got {self.message!r:.60}"
            )

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        whole = pa.schema(list(_struct(self.message.DESCRIPTOR, 0)))
        return normal_schema(whole if schema is None else schema)

    def decoder(self, columns: pa.Schema | None) -> Decode:
        wanted = _index_path(self.message.DESCRIPTOR)

        def made(number: int, found: dict[str, Any]) -> bool:
            kind = found.get("schemaType", "AVRO")
            if kind != "PROTOBUF":
                raise SourceError(f"schema {number} is {kind}, not Protobuf")
            return True

        known = None if self.registry is None else Known(self.registry, made)

        def read_one(value: bytes) -> Any:
            if known is not None:
                number, value = unwrapped(value)
                known.of(number)
                path, value = _path_of(value)
                if path != wanted:
                    raise SourceError(
                        f"the message is number {path} of its file; "
                        f"{self.message.DESCRIPTOR.full_name} is number {wanted}"
                    )
            return _row(self.message.FromString(value))

        return lambda values: each_decoded(values, read_one, columns, "Protobuf")

    def encoder(self) -> Encode:
        head = b""
        if self.registry is not None:
            if self.schema_id is None:
                raise PlanError("Protobuf() of a sink with a registry needs schema_id=")
            head = wrapped(self.schema_id) + _packed(_index_path(self.message.DESCRIPTOR))

        def encode(rows: Rows) -> pa.Array:
            # A loop over rows: Protobuf has no columns.
            values = to_rows(rows) if isinstance(rows, pa.RecordBatch) else rows
            made = attempt(
                lambda: [head + _made(self.message, row).SerializeToString() for row in values]
            )
            if isinstance(made, Exception):
                name = self.message.DESCRIPTOR.full_name
                raise SinkError(f"a row is no {name}: {made!r:.200}") from made
            return pa.array(made, pa.binary())

        return encode


_PLAIN = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
    "enum": pa.string(),
}


def _struct(descriptor: Any, depth: int) -> pa.DataType:
    if depth > _DEPTH_MAX:
        raise PlanError(
            f"{descriptor.full_name} holds itself: it has no columns",
            hint="schema= of the source with the columns that are wanted leaves it out",
        )
    return pa.struct([(field.name, _type(field, depth)) for field in descriptor.fields])


def _type(field: Any, depth: int) -> pa.DataType:
    if _is_map(field):
        key, value = field.message_type.fields
        return pa.map_(_type(key, depth), _type(value, depth))
    one = _single(field, depth)
    return pa.list_(one) if field.is_repeated else one


def _single(field: Any, depth: int) -> pa.DataType:
    if field.message_type is not None:
        return _struct(field.message_type, depth + 1)
    if field.cpp_type == field.CPPTYPE_STRING:
        return pa.binary() if field.type == field.TYPE_BYTES else pa.string()
    names = {
        field.CPPTYPE_INT32: "int32",
        field.CPPTYPE_INT64: "int64",
        field.CPPTYPE_UINT32: "uint32",
        field.CPPTYPE_UINT64: "uint64",
        field.CPPTYPE_DOUBLE: "double",
        field.CPPTYPE_FLOAT: "float",
        field.CPPTYPE_BOOL: "bool",
        field.CPPTYPE_ENUM: "enum",
    }
    return _PLAIN[names[field.cpp_type]]


def _is_map(field: Any) -> bool:
    kind = field.message_type
    return bool(field.is_repeated and kind is not None and kind.GetOptions().map_entry)


def _row(message: Any) -> dict[str, Any]:
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Any, field: Any) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if _is_map(field):
        kind = field.message_type.fields_by_name["value"]
        return [(key, _plain(one, kind)) for key, one in value.items()]
    return [_plain(one, field) for one in value] if field.is_repeated else _plain(value, field)


def _plain(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return _row(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else known.name
    return value


def _made(kind: Any, row: Any) -> Any:
    """Make a message of a dict; null is a field that is not set."""
    return kind(**{name: _given(value) for name, value in row.items() if value is not None})


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) for one in value):
            return {key: _given(one) for key, one in value}
        return [_given(one) for one in value]
    return value


def _index_path(descriptor: Any) -> tuple[int, ...]:
    """Give the place of a message type in its file: indices from the outside in."""
    outer = descriptor.containing_type
    if outer is None:
        return (list(descriptor.file.message_types_by_name).index(descriptor.name),)
    return (*_index_path(outer), list(outer.nested_types_by_name).index(descriptor.name))


def _path_of(value: bytes) -> tuple[tuple[int, ...], bytes]:
    """Read the place of a message, and give what follows it; a lone 0 stands for the first."""
    count, at = _zigzag(value, 0)
    if count == 0:
        return (0,), value[at:]
    if not 0 < count <= _DEPTH_MAX:
        raise SourceError(f"the value says that its message lies {count} deep")
    path = []
    for _ in range(count):
        index, at = _zigzag(value, at)
        path.append(index)
    return tuple(path), value[at:]


def _packed(path: tuple[int, ...]) -> bytes:
    if path == (0,):
        return b"\x00"
    return b"".join(_varint(number << 1) for number in (len(path), *path))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(value):
            break
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise SourceError("the value does not say which message of its schema it is")
