"""Values become rows and rows values; one that is broken takes no neighbour with it."""

from __future__ import annotations

import json
import math

import encoded
import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors.json_texts import json_texts
from raystream.connectors.kafka_formats import format_of
from raystream.connectors.record_formats import decoded

SCHEMA = pa.schema({"n": pa.int64(), "text": pa.string()})


def read(values, format="json", schema=SCHEMA):
    """Give the rows, and {place: reason} of what is broken."""
    kind = format_of(format)
    columns = kind.columns(schema)
    nothing = [] if columns is None else pa.RecordBatch.from_pylist([], columns)
    found = decoded(values, kind.decoder(columns), nothing)
    rows = found.rows if isinstance(found.rows, list) else found.rows.to_pylist()
    assert len(found.places) == len(rows)
    return rows, {place: error.message for place, error in found.broken}


@pytest.mark.parametrize("name", encoded.FORMATS)
def test_what_is_written_is_read_back(name):
    kind = encoded.FORMATS[name]()
    values = kind.encoder()(pa.RecordBatch.from_pylist(encoded.ROWS, encoded.SCHEMA)).to_pylist()
    rows, broken = read(values, kind, encoded.SCHEMA)
    assert broken == {}
    assert rows == encoded.ROWS


GARBAGE = {
    "truncated": b'{"n": 1, "text',
    "no UTF-8": b'{"n": 1, "text": "\xff\xfe"}',
    "a wrong type": b'{"n": "one"}',
    "too large a number": b'{"n": 99999999999999999999}',
    "a fraction": b'{"n": 1.5}',
    "no object": b"[1]",
    "null": b"null",
    "a number": b"7",
    "empty": b"",
    "space": b"  \n ",
    "two objects": b'{"n": 1}{"n": 2}',
    "two lines of objects": b'{"n": 1}\n{"n": 2}',
    "an object and half of one": b'{"n": 1}{"n":',
    "a line break in a text": b'{"text": "a\nb"}',
    "the end of another": b"}",
    "the same key twice": b'{"n": 1, "n": 2}',
    "deep": b'{"z": ' + b"[" * 100_000 + b"}",
    "a zero byte": b'{"n": 1}\x00',
    "a tombstone": None,
}


@pytest.mark.parametrize("bad", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_json_is_told_and_its_neighbours_arrive(bad):
    good = [json.dumps({"n": n, "text": str(n)}).encode() for n in range(20)]
    rows, broken = read([*good[:7], bad, *good[7:13], bad, *good[13:]])
    assert [row["n"] for row in rows] == list(range(20))
    assert list(broken) == [7, 14]
    assert all(broken.values())


def test_garbage_that_completes_its_neighbour_is_two_broken_values():
    rows, broken = read([b'{"n": 1}', b'{"n":', b' 2, "text": "x"}', b'{"n": 3}{"n": 4}', b""])
    assert [row["n"] for row in rows] == [1]
    assert list(broken) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (b"{}", {"n": None, "text": None}),
        (b'{"text": "a", "more": {"x": [1]}, "n": 3}', {"n": 3, "text": "a"}),
        (b'{"n": null}', {"n": None, "text": None}),
        (b' {\n "n": 5\n}\n', {"n": 5, "text": None}),
        (b'{"text": "a\\nb}{"}', {"n": None, "text": "a\nb}{"}),
        (b'{"n": 1, "text": "%s"}' % (b"y" * 10_000_000), {"n": 1, "text": "y" * 10_000_000}),
    ],
)
def test_missing_and_added_fields_and_odd_shapes_are_no_garbage(value, row):
    rows, broken = read([b'{"n": 0}', value, b'{"n": 0}'])
    assert broken == {}
    assert rows[1] == row


def test_objects_take_any_json():
    rows, broken = read([b"1", b'{"a": NaN}', b"[", b"\xff", None, b"[" * 100_000], schema=None)
    assert rows[0] == 1
    assert math.isnan(rows[1]["a"])
    assert list(broken) == [2, 3, 4, 5]


def test_csv_knows_where_a_value_ends():
    values = [
        b'1,"a"',
        b"2,b\n3,c",
        b'4,"d',
        b'e",5',
        b'6,"f\ng"',
        b"\r\n",
        b"x,y",
        b"7",
        b"8,h,i",
        None,
        b'9,"j""k"',
        b"10,\xff",
        b"11,l\r\n",
    ]
    rows, broken = read(values, "csv")
    assert rows == [
        {"n": 1, "text": "a"},
        {"n": 6, "text": "f\ng"},
        {"n": 9, "text": 'j"k'},
        {"n": 11, "text": "l"},
    ]
    assert list(broken) == [1, 2, 3, 5, 6, 7, 8, 9, 11]


def test_plain_values_are_bytes_or_text():
    assert read([b"\xff", b"", None], "raw", None) == (
        [{"value": b"\xff"}, {"value": b""}],
        {2: "the message has no value: a tombstone"},
    )
    rows, broken = read(["ü".encode(), b"\xff", b"a"], "text", None)
    assert rows == [{"value": "ü"}, {"value": "a"}]
    assert list(broken) == [1]


def test_an_arrow_value_holds_many_rows_or_none():
    def stream(table):
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write(table)
        return out.getvalue().to_pybytes()

    full = pa.table({"text": ["a", "b"], "n": [1, 2], "more": [0, 0]})
    other = pa.table({"text": ["a"]})
    values = [stream(full), b"garbage", stream(full.slice(0, 0)), stream(other), stream(full)]
    values.append(values[0][:-200])
    kind = format_of("arrow")
    found = decoded(values, kind.decoder(SCHEMA), pa.RecordBatch.from_pylist([], SCHEMA))
    assert found.rows.to_pylist() == [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}] * 2
    assert found.places.tolist() == [0, 0, 4, 4]
    assert [place for place, _ in found.broken] == [1, 3, 5]


def test_columns_become_the_json_that_python_writes():
    schema = pa.schema(
        {
            "b": pa.bool_(),
            "x": pa.float64(),
            'q"': pa.list_(pa.int8()),
            "s": pa.struct({"t": pa.timestamp("us", "UTC")}),
            "raw": pa.binary(),
            "at": pa.timestamp("us", "UTC"),
            "day": pa.date32(),
            "d": pa.decimal128(5, 2),
        }
    )
    rows = [
        dict.fromkeys(schema.names),
        {
            "b": True,
            "x": 0.1,
            'q"': [1, None],
            "s": {"t": 0},
            "raw": b"hi",
            "at": 1,
            "day": 0,
            "d": "1.50",
        },
    ]
    rows[1]["d"] = __import__("decimal").Decimal("1.50")
    texts = json_texts(pa.RecordBatch.from_pylist(rows, schema)).to_pylist()
    assert json.loads(texts[0]) == dict.fromkeys(schema.names)
    assert json.loads(texts[1]) == {
        "b": True,
        "x": 0.1,
        'q"': [1, None],
        "s": {"t": "1970-01-01T00:00:00+00:00"},
        "raw": "aGk=",
        "at": "1970-01-01T00:00:00.000001Z",
        "day": "1970-01-01",
        "d": "1.50",
    }
    floats = pa.RecordBatch.from_pydict({"x": [math.inf, math.nan, -0.0, 1e300, 5e-324]})
    assert [json.loads(text)["x"] for text in json_texts(floats).to_pylist()] == [
        None,
        None,
        -0.0,
        1e300,
        5e-324,
    ]


@pytest.mark.parametrize("odd", ['"', "\\", "\n", "\x00", "\x1f"])
def test_texts_of_a_slice_are_escaped_where_they_must_be(odd):
    texts = ["plain", f"a{odd}", "\x7fü", None, odd, "plain"]
    rows = pa.RecordBatch.from_pydict({"t": pa.array(texts, pa.string())})
    for start in range(len(texts)):
        for count in range(len(texts) - start):
            written = json_texts(rows.slice(start, count)).to_pylist()
            assert [json.loads(one)["t"] for one in written] == texts[start : start + count]


def test_objects_that_json_cannot_say_are_refused():
    with pytest.raises(rs.SinkError, match="cannot be written as JSON"):
        json_texts([{"a": object()}])
    assert json_texts([1, None, {"a": "ü"}]).to_pylist() == [b"1", b"null", '{"a":"ü"}'.encode()]
