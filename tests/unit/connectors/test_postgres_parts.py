"""The parts of the PostgreSQL connectors that need no server."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.connectors.postgres import PostgresCdcSource, PostgresSink
from raystream.connectors.postgres_types import as_csv, from_text, has_nul, to_text, typed
from raystream.connectors.postgres_wal import (
    UNSENT,
    Begin,
    Change,
    Commit,
    KeepAlive,
    Relation,
    Truncate,
    lsn_of,
    lsn_text,
    read_message,
)

DSN = "host=nowhere.invalid"
SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])

values = st.one_of(st.none(), st.just(UNSENT), st.text())


def row(cells):
    parts = [struct.pack(">H", len(cells))]
    for cell in cells:
        if cell is None:
            parts.append(b"n")
        elif cell is UNSENT:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(cell.encode())) + cell.encode())
    return b"".join(parts)


def data(payload):
    return b"w" + bytes(24) + payload


@given(st.lists(values, max_size=5), st.lists(values, max_size=5), st.sampled_from("KO"))
def test_changes_are_read_as_they_were_written(old, new, part):
    table = struct.pack(">I", 7)
    assert read_message(data(b"I" + table + b"N" + row(new))) == Change(7, None, new)
    before = part.encode() + row(old)
    key_only = part == "K"
    update = data(b"U" + table + before + b"N" + row(new))
    assert read_message(update) == Change(7, old, new, key_only, update=True)
    assert read_message(data(b"D" + table + before)) == Change(7, old, None, key_only)


def test_other_messages_are_read():
    assert read_message(data(b"B" + struct.pack(">QqI", 5, 0, 1))) == Begin(5)
    assert read_message(data(b"C" + struct.pack(">BQQq", 0, 5, 9, 0))) == Commit(9)
    assert read_message(data(b"T" + struct.pack(">IB2I", 2, 0, 7, 8))) == Truncate((7, 8))
    assert read_message(b"k" + struct.pack(">QqB", 9, 0, 1)) == KeepAlive(9, answer=True)
    assert read_message(data(b"Y" + bytes(9))) is None
    columns = b"".join(b"\x01" + name + b"\0" + bytes(8) for name in (b"id", b"v"))
    relation = b"R" + struct.pack(">I", 7) + b"public\0t\0d" + struct.pack(">H", 2) + columns
    assert read_message(data(relation)) == Relation(7, "public", "t", ("id", "v"))
    with pytest.raises(rs.SourceError, match="unknown kind"):
        read_message(data(b"?"))


@given(st.integers(0, 2**64 - 1))
def test_places_in_the_log_are_read_as_they_are_written(lsn):
    assert lsn_of(lsn_text(lsn)) == lsn


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text())))))
def test_arrays_are_read_as_they_are_written(lists):
    column = pa.array(lists, pa.list_(pa.string()))
    assert from_text(to_text(column), column.type).to_pylist() == lists


@given(st.lists(st.one_of(st.none(), st.binary())), st.integers(0, 3))
def test_bytes_are_read_as_they_are_written(given, start):
    column = pa.array(given, pa.binary()).slice(start)
    assert from_text(to_text(column), pa.binary()).equals(column)


def test_null_and_empty_are_two_things_in_a_line():
    columns = [pa.array([None, "", 'a"b\n']), pa.array([1, None, 3])]
    assert as_csv(columns, ["a", "b"]) == b',1\n"",\n"a""b\n",3\n'


def test_a_nul_is_found_wherever_it_is():
    assert has_nul(pa.array(["a", "b\0"]))
    assert has_nul(pa.array([["a"], ["b\0"]]))
    assert not has_nul(pa.array(["a", None]))
    assert not has_nul(pa.array([b"\0"]))


def test_rows_that_do_not_fit_are_told_apart():
    schema = pa.schema([("n", pa.int16()), ("d", pa.date32())])
    texts = pa.RecordBatch.from_pydict(
        {"n": ["1", "99999", "3", None], "d": ["2020-01-01", "2020-01-02", "infinity", None]}
    )
    rows, failures = typed(texts, schema)
    assert [place for place, _ in failures] == [1, 2]
    assert rows.column("n").to_pylist() == [1, None]
    assert 'column "n"' in str(failures[0][1])


# What a stream and a sink make of each other --------------------------------------------------


def test_a_stream_of_changes_knows_its_key_and_names_no_column_in_vain():
    source = PostgresCdcSource(DSN, "t", schema=SCHEMA, key=["id"])
    assert rs.Job("x").source(source).changelog == ("id",)
    with pytest.raises(rs.PlanError, match="no k, of the key"):
        PostgresCdcSource(DSN, "t", schema=SCHEMA, key="k")


@pytest.mark.parametrize(
    ("changelog", "key", "chosen"),
    [
        (("id",), None, ("id",)),
        (("id",), "id", ("id",)),
        (("id", "v"), "id", ("id",)),
        (("id", "v"), None, None),  # the primary key of the table
        (None, "id", ("id",)),
    ],
)
def test_a_sink_takes_the_key_of_its_stream(changelog, key, chosen):
    assert PostgresSink(DSN, "t", key).bound(SCHEMA, changelog)._key == chosen


@pytest.mark.parametrize(
    ("sink", "schema", "problem"),
    [
        (PostgresSink(DSN, "t"), SCHEMA, "this stream has none"),
        (PostgresSink(DSN, "t", "k"), SCHEMA, "has no column k"),
        (PostgresSink(DSN, "t", "id"), None, "carries objects"),
        (
            PostgresSink(DSN, "t", mode="append"),
            pa.schema([("s", pa.struct([("a", pa.int8())]))]),
            "no column for s",
        ),
    ],
)
def test_a_stream_that_a_table_cannot_take_is_refused_before_the_job_starts(sink, schema, problem):
    with pytest.raises(rs.PlanError, match=problem):
        sink.bound(schema, None)
    rows = [dict.fromkeys(SCHEMA.names)]
    if schema is SCHEMA:
        job = rs.Job("x", runtime="local")
        job.from_items(rows, schema=SCHEMA).sink(sink)
        with pytest.raises(rs.PlanError, match=problem):
            job.run()


def test_modes_are_two():
    with pytest.raises(rs.PlanError, match="mode is"):
        PostgresSink(DSN, "t", mode="merge")
    with pytest.raises(rs.PlanError, match="finds none by a key"):
        PostgresSink(DSN, "t", "id", mode="append")
    append = PostgresSink(DSN, "t", mode="append")
    job = rs.Job("x")
    with pytest.raises(rs.PlanError, match="a changelog"):
        job.source(PostgresCdcSource(DSN, "t", schema=SCHEMA, key="id")).sink(append)
