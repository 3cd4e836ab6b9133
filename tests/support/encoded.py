"""Formats of messages for tests, each with columns, good rows and how they are written."""

from __future__ import annotations

import datetime as dt
import json
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pytest

from raystream.connectors.avro_records import Avro
from raystream.connectors.kafka_formats import format_of
from raystream.connectors.protobuf_records import Protobuf

SCHEMA = pa.schema(
    {"n": pa.int64(), "text": pa.string(), "x": pa.float64(), "at": pa.timestamp("us", "UTC")}
)
AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "n", "type": ["null", "long"], "default": None},
        {"name": "text", "type": ["null", "string"], "default": None},
        {"name": "x", "type": ["null", "double"], "default": None},
        {
            "name": "at",
            "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
            "default": None,
        },
    ],
}
UTC = dt.timezone.utc
ROWS = [
    {"n": 1, "text": "a", "x": 0.5, "at": dt.datetime(2020, 1, 1, tzinfo=UTC)},
    {"n": None, "text": None, "x": None, "at": None},
    {
        "n": -(2**63),
        "text": 'ü"\\\n,\x00\x1f€',
        "x": 1e-300,
        "at": dt.datetime(1969, 1, 1, tzinfo=UTC),
    },
    {
        "n": 2**63 - 1,
        "text": "",
        "x": -1e300,
        "at": dt.datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    },
]


def message_class():
    """Make a Protobuf message: {n: int64, text: string, inner: {tags: [string]}, kind, counts}."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="rows.proto", package="t", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="First")
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="tags", number=1, type=types.TYPE_STRING, label=types.LABEL_REPEATED)
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="NONE", number=0)
    kind.value.add(name="SOME", number=1)
    row = file.message_type.add(name="Row")
    one = types.LABEL_OPTIONAL
    row.field.add(name="n", number=1, type=types.TYPE_INT64, label=one)
    row.field.add(name="text", number=2, type=types.TYPE_STRING, label=one)
    row.field.add(name="inner", number=3, type=types.TYPE_MESSAGE, type_name=".t.Inner", label=one)
    row.field.add(name="kind", number=4, type=types.TYPE_ENUM, type_name=".t.Kind", label=one)
    entry = row.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=types.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=types.TYPE_INT32, label=one)
    row.field.add(
        name="counts",
        number=5,
        type=types.TYPE_MESSAGE,
        type_name=".t.Row.CountsEntry",
        label=types.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Row"))


def avro(**more):
    pytest.importorskip("fastavro")
    return Avro(AVRO, **more)


FORMATS = {
    "json": lambda: format_of("json"),
    "csv": lambda: format_of("csv"),
    "arrow": lambda: format_of("arrow"),
    "avro": avro,
}


def protobuf(**more):
    return Protobuf(message_class(), **more)


@contextmanager
def registry(schemas):
    """Serve {number: (type, schema)} as a schema registry; what is asked is noted."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            number = int(self.path.rpartition("/")[2])
            if number in schemas:
                kind, schema = schemas[number]
                self._answer(200, {"schemaType": kind, "schema": schema})
            else:
                self._answer(404, {"error_code": 40403})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers.get("Authorization")))
            schemas[7] = (body.get("schemaType", "AVRO"), body["schema"])
            self._answer(200, {"id": 7})

        def _answer(self, code, body):
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def wire(number, payload):
    return b"\x00" + struct.pack(">I", number) + payload
