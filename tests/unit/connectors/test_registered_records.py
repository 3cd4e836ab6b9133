"""Avro and Protobuf: values that begin with the number of a schema, and bare ones."""

from __future__ import annotations

import io
import json

import encoded
import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors.avro_records import Avro
from raystream.connectors.kafka import Registry
from raystream.connectors.protobuf_records import Protobuf
from raystream.connectors.record_formats import decoded


def found_in(values, kind, schema=None):
    columns = kind.columns(schema)
    nothing = [] if columns is None else pa.RecordBatch.from_pylist([], columns)
    found = decoded(values, kind.decoder(columns), nothing)
    rows = found.rows if isinstance(found.rows, list) else found.rows.to_pylist()
    return rows, {place: error.message for place, error in found.broken}


def avro_bytes(schema, row):
    import fastavro

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


OLDER = {"type": "record", "name": "Row", "fields": [{"name": "n", "type": "long"}]}


def test_avro_reads_what_older_schemas_wrote_and_tells_what_is_broken():
    new = encoded.avro()
    row = encoded.ROWS[0]
    with encoded.registry({1: ("AVRO", json.dumps(OLDER)), 3: ("JSON", "{}")}) as (url, asked):
        registry = Registry(url, user="u", password=lambda: "s3cret")
        kind = encoded.avro(registry=registry, subject="t-value")
        (value,) = kind.encoder()(pa.RecordBatch.from_pylist([row], encoded.SCHEMA)).to_pylist()
        values = [
            value,
            encoded.wire(1, avro_bytes(OLDER, {"n": 5})),
            encoded.wire(99, b"\x00"),
            encoded.wire(3, b"\x00"),
            b"\x00\x00",
            b"",
            b"\x01" + value[1:],
            value[:-1],
            value + b"\x00",
            None,
            value,
        ]
        rows, broken = found_in(values, kind)
        assert rows == [row, {"n": 5, "text": None, "x": None, "at": None}, row]
        assert list(broken) == list(range(2, 10))
        assert "has no /schemas/ids/99" in broken[2]
        assert "s3cret" not in repr(kind)
        assert "s3cret" not in str(broken)
        assert len(asked) == len({path for path, _ in asked}) == 5, "each number is asked once"
        assert all(login.startswith("Basic ") for _, login in asked)
    assert new.columns(None) == encoded.SCHEMA


def test_a_registry_that_does_not_answer_is_no_fault_of_a_message():
    kind = encoded.avro(registry=Registry("http://127.0.0.1:1"))
    with pytest.raises(ConnectionError, match="does not answer"):
        found_in([encoded.wire(1, b"")], kind)


def test_avro_without_its_schema_is_read_as_it_was_written():
    pytest.importorskip("fastavro")
    with encoded.registry({1: ("AVRO", json.dumps(OLDER))}) as (url, _):
        kind = Avro(registry=Registry(url))
        value = encoded.wire(1, avro_bytes(OLDER, {"n": 5}))
        assert found_in([value], kind) == ([{"n": 5}], {})
        narrow = pa.schema({"n": pa.int8()})
        rows, broken = found_in(
            [value, encoded.wire(1, avro_bytes(OLDER, {"n": 300}))], kind, narrow
        )
        assert rows == [{"n": 5}]
        assert list(broken) == [1]


def test_rows_that_are_not_of_the_avro_schema_are_refused():
    with pytest.raises(rs.SinkError, match="does not fit the Avro schema"):
        encoded.avro().encoder()([{"n": "text"}])


@pytest.mark.parametrize(
    "build",
    [
        Avro,
        lambda: Avro("{"),
        lambda: Avro('"string"').columns(None),
        lambda: Avro(
            {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["int", "string"]}]}
        ).columns(None),
        lambda: Protobuf(int),
        lambda: Registry("ftp://x"),
        lambda: Registry("http://user:s3cret@x"),
    ],
)
def test_what_cannot_be_read_is_refused_when_the_job_is_built(build):
    with pytest.raises(rs.PlanError) as refused:
        build()
    assert "s3cret" not in str(refused.value)


def test_protobuf_fields_become_columns():
    kind = encoded.protobuf()
    row = kind.message
    first = row(n=1, text="a", inner={"tags": ["x", "y"]}, kind=1, counts={"k": 3})
    values = [first.SerializeToString(), b"", b"\xff\xff", None, row(kind=9).SerializeToString()]
    rows, broken = found_in(values, kind)
    assert rows == [
        {"n": 1, "text": "a", "inner": {"tags": ["x", "y"]}, "kind": "SOME", "counts": [("k", 3)]},
        {"n": 0, "text": "", "inner": None, "kind": "NONE", "counts": []},
        {"n": 0, "text": "", "inner": None, "kind": "9", "counts": []},
    ]
    assert list(broken) == [2, 3]
    back = kind.encoder()(pa.RecordBatch.from_pylist(rows[:2], kind.columns(None))).to_pylist()
    assert found_in(back, kind)[0] == rows[:2]


def test_protobuf_in_a_registry_says_which_message_it_is():
    with encoded.registry({4: ("PROTOBUF", "…"), 5: ("AVRO", "{}")}) as (url, _):
        kind = encoded.protobuf(registry=Registry(url), schema_id=4)
        rows = [{"n": 3, "text": "t", "inner": None, "kind": "NONE", "counts": []}]
        (value,) = kind.encoder()(rows).to_pylist()
        assert value[:7] == b"\x00\x00\x00\x00\x04\x02\x04", "one index: the third message"
        bare = value[7:]
        values = [
            value,
            encoded.wire(4, b"\x00" + bare),  # of the first message in the file
            encoded.wire(5, b"\x02\x04" + bare),
            encoded.wire(6, b"\x02\x04" + bare),
            encoded.wire(4, b"\xff\xff\xff\xff\xff\xff"),
            encoded.wire(4, b""),
        ]
        found, broken = found_in(values, kind)
        assert found == rows
        assert list(broken) == [1, 2, 3, 4, 5]
    with pytest.raises(rs.SinkError, match=r"no t\.Row"):
        encoded.protobuf().encoder()([{"nothing": 1}])
