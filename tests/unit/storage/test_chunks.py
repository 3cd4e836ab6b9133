"""Tables come back from a chunk as they went in, or not at all."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import itertools

import numpy as np
import pyarrow as pa
import pytest

from raystream.errors import CorruptSnapshot
from raystream.storage import chunks
from raystream.storage.chunks import decoded, encoded, laid_out

CHUNK = "chunks/0-w-0-0.arrow"

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.timezone.utc)

TABLES = {
    "times": pa.table(
        {
            "us": pa.array([NOW, None], pa.timestamp("us", "UTC")),
            "ns": pa.array([1, 2], pa.timestamp("ns")),
            "d": pa.array([1, None], pa.duration("ms")),
            "day": pa.array([1, 2], pa.date32()),
        }
    ),
    "decimals": pa.table({"x": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(38, 2))}),
    "nested": pa.table({"x": [[{"a": 1, "b": ["x"]}], None], "m": [{"k": 1.5}, {"k": None}]}),
    "binary": pa.table({"x": [b"\x00\xff", None], "y": pa.array([b"ab", b"cd"], pa.binary(2))}),
    "texts": pa.table({"x": ["ä", None, ""], "l": pa.array(["a", "b", "c"], pa.large_string())}),
    "dictionary": pa.table({"x": pa.array(["a", "b", "a"]).dictionary_encode()}),
    "nulls": pa.table({"x": pa.nulls(3)}),
    "not null": pa.table(
        [pa.array([1], pa.int32())], pa.schema([pa.field("g", pa.int32(), nullable=False)])
    ),
    "metadata": pa.table(
        [[1]], pa.schema([pa.field("x", pa.int64(), metadata={"a": "b"})], metadata={"c": "d"})
    ),
    "no rows": pa.table({"x": pa.array([], pa.int64()), "y": pa.array([], pa.string())}),
    "no columns": pa.table({"x": [1, 2, 3]}).select([]),
    "nothing": pa.table({}),
    "a slice": pa.table({"x": list(range(100)), "y": [str(i) for i in range(100)]}).slice(40, 7),
    "pieces": pa.concat_tables([pa.table({"x": [1, 2]}), pa.table({"x": [3]})]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_as_it_was(name):
    table = TABLES[name]
    data, (part,) = laid_out(CHUNK, [encoded(table)])
    found = decoded(data, part, "here")
    assert found.schema.equals(table.schema, check_metadata=True)
    assert found.num_rows == table.num_rows == part.rows
    assert found.equals(table)


def test_tables_of_one_chunk_lie_one_after_another():
    data, parts = laid_out(CHUNK, [encoded(table) for table in TABLES.values()])
    assert parts[0].offset == 0
    for part, behind in itertools.pairwise(parts):
        assert part.offset + part.length == behind.offset
    assert parts[-1].offset + parts[-1].length == len(data)
    for part, table in zip(parts, TABLES.values(), strict=True):
        assert part.chunk == CHUNK
        found = decoded(data[part.offset : part.offset + part.length], part, "here")
        assert found.equals(table)


def test_equal_tables_have_equal_checksums():
    one = encoded(pa.table({"x": np.arange(1000)}))
    other = encoded(pa.table({"x": np.arange(2000)}).slice(0, 1000))
    assert one.sha256 == other.sha256


def test_what_repeats_is_small():
    assert encoded(pa.table({"x": np.zeros(100_000)})).data.size < 20_000


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "width"), [(200_000, 1), (30, 1_000_000)])
def test_a_large_table_is_written_in_pieces_of_bounded_size(rows, width):
    if width == 1:
        table = pa.table({"x": np.arange(rows)})
    else:
        table = pa.table({"x": pa.array([b"x" * width] * rows)})
    part = encoded(table)
    batches = list(pa.ipc.open_stream(part.data))
    assert sum(batch.num_rows for batch in batches) == rows
    assert max(batch.num_rows for batch in batches) <= chunks.BATCH_ROWS_MAX
    assert max(batch.nbytes for batch in batches) <= chunks.BATCH_BYTES_TARGET


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data + b"\x00",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    ],
)
def test_bytes_that_are_not_those_that_were_written_are_refused(damage):
    data, (part,) = laid_out(CHUNK, [encoded(TABLES["texts"])])
    with pytest.raises(CorruptSnapshot) as caught:
        decoded(damage(data), part, "s3://bucket/job/chunks/0-w-0-0.arrow")
    assert CHUNK in str(caught.value)
    assert "s3://bucket/job" in str(caught.value)
    assert "--from" in str(caught.value)


def test_verified_bytes_that_hold_no_such_table_are_refused():
    noise = chunks.Encoded(pa.py_buffer(b"noise"), encoded_sha(b"noise"), 1)
    data, (part,) = laid_out(CHUNK, [noise])
    with pytest.raises(CorruptSnapshot, match="no table"):
        decoded(data, part, "here")
    whole = encoded(TABLES["texts"])
    data, (part,) = laid_out(CHUNK, [chunks.Encoded(whole.data, whole.sha256, 99)])
    with pytest.raises(CorruptSnapshot, match="not of 99"):
        decoded(data, part, "here")


def encoded_sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
