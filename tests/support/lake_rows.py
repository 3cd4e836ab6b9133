"""Rows for the tables of a lake: of every type, and numbered ones that are counted."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal

import pyarrow as pa

ROW = pa.schema({"n": pa.int64(), "kind": pa.string()})

KINDS = pa.schema(
    {
        "i8": pa.int8(),
        "i64": pa.int64(),
        "u32": pa.uint32(),
        "f64": pa.float64(),
        "s": pa.string(),
        "raw": pa.binary(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "clock": pa.time64("us"),
        "at": pa.timestamp("us", "UTC"),
        "local": pa.timestamp("us"),
        "price": pa.decimal128(12, 2),
        "list": pa.list_(pa.int64()),
        "struct": pa.struct({"a": pa.int64(), "b": pa.string()}),
    }
)
FULL = {
    "i8": -8,
    "i64": 2**62,
    "u32": 2**32 - 1,
    "f64": 1.5,
    "s": "ä" * 50,
    "raw": b"\x00\xff",
    "flag": True,
    "day": dt.date(2020, 2, 29),
    "clock": dt.time(23, 59, 59, 999999),
    "at": dt.datetime(2020, 1, 1, 12, 0, 0, 123456, dt.timezone.utc),
    "local": dt.datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001  it has no zone
    "price": Decimal("12.30"),
    "list": [1, None, 3],
    "struct": {"a": 1, "b": None},
}


def rows_of(count, start=0):
    return [{"n": n, "kind": "odd" if n % 2 else "even"} for n in range(start, start + count)]


def once(rows):
    """Assert that rows 0, 1, 2 … are there, each once; give how many."""
    seen = Counter(row["n"] for row in rows)
    assert all(count == 1 for count in seen.values()), seen.most_common(3)
    assert sorted(seen) == list(range(len(seen)))
    return len(seen)


def taken(reader, count, at_a_time=2):
    """Poll until so many rows came."""
    rows = []
    while len(rows) < count:
        polled = reader.poll(min(at_a_time, count - len(rows)))
        assert isinstance(polled, pa.RecordBatch), (polled, rows)
        rows += polled.to_pylist()
    return rows
