"""Partials may come from any cut of the rows and be merged in any order: the results stay."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.contracts.aggregate import Bound
from raystream.flow.batch import EVENT_TIME_FIELD
from raystream.keyed.measures import Measures

INT, FLOAT = pa.int64(), pa.float64()
TYPES = [
    (pa.int64(), st.integers(-5, 5)),
    (pa.uint8(), st.integers(0, 5)),
    (pa.float64(), st.sampled_from([-0.0, 0.0, 1.5, float("nan"), float("inf"), -2.0])),
    (pa.float32(), st.sampled_from([0.5, -0.25, float("nan")])),
    (pa.decimal128(6, 2), st.decimals(-9, 9, places=2)),
    (pa.bool_(), st.booleans()),
]
COMPARED = [
    *TYPES,
    (pa.string(), st.sampled_from(["", "a", "b", "ab"])),
    (pa.binary(), st.sampled_from([b"", b"a"])),
    (pa.timestamp("us", "UTC"), st.integers(-3, 3)),
    (pa.date32(), st.integers(-3, 3)),
    (pa.duration("us"), st.integers(-3, 3)),
    (pa.null(), st.none()),
]


def aggregates_of(type, *, numeric):
    def bound(kind, output=type, **more):
        return Bound(kind, kind, output, "v", type, **more)

    always = (
        bound("count", INT),
        bound("min"),
        bound("max"),
        bound("first"),
        bound("last"),
        bound("min_by", by="v", by_type=type),
        bound("max_by", by="w", by_type=INT),
        bound("approx_count_distinct", INT),
    )
    if not numeric:
        return always
    if pa.types.is_decimal(type):
        total = pa.decimal128(38, type.scale)
    elif pa.types.is_floating(type):
        total = FLOAT
    else:
        total = pa.uint64() if pa.types.is_unsigned_integer(type) else INT
    kinds = ("mean", "variance", "stddev")
    return (*always, bound("sum", total), *(bound(kind, FLOAT) for kind in kinds))


KEPT = ("count_distinct", "collect", "quantile")


def record_of(rows, type):
    keys, values, others, times = zip(*rows, strict=True)
    column = pa.array(values, pa.int64()) if pa.types.is_temporal(type) else pa.array(values, type)
    if pa.types.is_date32(type):
        column = column.cast(pa.int32())
    schema = pa.schema([("k", INT), ("v", type), ("w", INT), EVENT_TIME_FIELD])
    arrays = [pa.array(keys, INT), column.cast(type), pa.array(others, INT), pa.array(times)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def by_key(measures, partials):
    results = [column.to_pylist() for column in measures.results(partials)]
    keys = zip(partials.column(0).to_pylist(), partials.column(1).to_pylist(), strict=True)
    return dict(zip(keys, zip(*results, strict=True), strict=True))


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-9, abs=1e-12, nan_ok=True)
    return a == b


@st.composite
def cases(draw):
    numeric = draw(st.booleans())
    type, values = draw(st.sampled_from(TYPES if numeric else COMPARED))
    row = st.tuples(
        st.integers(0, 2), st.none() | values, st.none() | st.integers(0, 3), st.integers(-20, 20)
    )
    rows = draw(st.lists(row, min_size=1, max_size=30))
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=6))
    lifted = draw(st.lists(st.booleans(), min_size=8, max_size=8))
    return type, numeric, rows, sorted({0, *cuts, len(rows)}), lifted, draw(st.integers(0, 6))


@given(cases())
def test_cut_lifted_and_merged_partials_equal_one_grouping_of_all_rows(case):
    type, numeric, rows, cuts, lifted, early = case
    measures = Measures([pa.field("k", INT)], aggregates_of(type, numeric=numeric))
    assert measures.liftable
    record = record_of(rows, type)
    panes = record.column(3).to_numpy() // 10
    whole = measures.fold(record, panes)
    pieces = []
    for start, end, lift in zip(cuts, cuts[1:], lifted, strict=False):
        make = measures.lift if lift else measures.fold
        pieces.append(make(record.slice(start, end - start), panes[start:end]))
    early = min(early, len(pieces))
    if early > 1:
        pieces = [measures.merge(pieces[:early]), *pieces[early:]]
    merged = measures.merge(pieces)
    assert merged.schema.equals(whole.schema)
    assert np.all(np.diff(merged.column(1).to_numpy()) >= 0)
    got, expected = by_key(measures, merged), by_key(measures, whole)
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        for part, a, b in zip(measures.schema.names, got[key], values, strict=False):
            assert same(a, b), part


@given(cases())
def test_kept_values_survive_every_cut(case):
    type, numeric, rows, cuts, _, early = case
    output = {"count_distinct": INT, "collect": pa.list_(type), "quantile": FLOAT}
    kinds = KEPT if numeric else KEPT[:2]
    bounds = [Bound(kind, kind, output[kind], "v", type, q=0.4) for kind in kinds]
    measures = Measures([pa.field("k", INT)], bounds)
    record = record_of(rows, type)
    pieces = [measures.fold(record.slice(start, end - start), 7) for start, end in pairwise(cuts)]
    early = min(early, len(pieces))
    if early > 1:
        pieces = [measures.merge(pieces[:early]), *pieces[early:]]
    merged = by_key(measures, measures.merge(pieces))
    for (key, bucket), values in merged.items():
        assert bucket == 7
        mine = [row for row in record.to_pylist() if row["k"] == key and row["v"] is not None]
        texts = {str(row["v"]).replace("-0.0", "0.0") for row in mine}
        assert values[0] == len(texts)
        assert (values[1] is None) == (not mine)
        assert all(map(same, values[1] or [], [row["v"] for row in mine]))
        assert len(values[1] or []) == len(mine)
        if numeric:
            numbers = [float(row["v"]) for row in mine]
            finite = [number for number in numbers if not math.isnan(number)]
            if not any(map(math.isinf, finite)):
                expected = pytest.approx(np.quantile(finite, 0.4)) if finite else None
                assert values[2] == expected
