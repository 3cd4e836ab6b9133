"""Rows out of columns are those of to_pylist, and columns out of rows are those they came from."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.operators.pyrows import to_columns, to_rows

MOMENT_US = st.integers(-(10**15), 4 * 10**15)
SCALARS = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=5)),
    (pa.binary(), st.binary(max_size=5)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.decimal128(12, 3), st.integers(-(10**11), 10**11).map(lambda n: Decimal(n).scaleb(-3))),
    (pa.date32(), st.dates()),
    (pa.time64("us"), st.times()),
    (pa.duration("us"), st.integers(-(10**15), 10**15).map(lambda n: dt.timedelta(microseconds=n))),
    (pa.timestamp("us"), MOMENT_US),
    (pa.timestamp("ms"), MOMENT_US.map(lambda us: us // 1_000)),
    (pa.timestamp("us", "UTC"), MOMENT_US),
    (pa.timestamp("us", "+05:30"), MOMENT_US),
    (pa.null(), st.none()),
]


def nested(scalar):
    kind, values = scalar
    optional = st.none() | values
    return st.sampled_from(
        [
            (kind, values),
            (pa.list_(kind), st.lists(optional, max_size=3)),
            (
                pa.struct([("x", kind), ("y", pa.int64())]),
                st.fixed_dictionaries({"x": optional, "y": st.just(1)}),
            ),
            (pa.list_(pa.struct([("x", kind)])), st.lists(st.fixed_dictionaries({"x": optional}))),
        ]
    )


@st.composite
def records(draw):
    count = draw(st.integers(0, 8))
    arrays = {}
    for index in range(draw(st.integers(1, 4))):
        kind, values = draw(st.sampled_from(SCALARS).flatmap(nested))
        optional = draw(st.sampled_from([values, st.none() | values]))
        rows = draw(st.lists(optional, min_size=count, max_size=count))
        arrays[f"c{index}"] = pa.array(rows, kind)
    record = pa.RecordBatch.from_pydict(arrays)
    start = draw(st.integers(0, count))
    return record.slice(start)


@given(records())
@settings(max_examples=150, deadline=None)
def test_rows_are_those_of_to_pylist(record):
    assert to_rows(record) == record.to_pylist()


@given(records())
@settings(max_examples=150, deadline=None)
def test_columns_of_rows_are_the_columns_they_came_from(record):
    back = to_columns(to_rows(record), record.schema, None, operator="map").record
    assert back.schema.equals(record.schema)
    assert back.to_pylist() == record.to_pylist()
