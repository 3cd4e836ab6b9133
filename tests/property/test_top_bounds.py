"""Bounds of a top-k: what they leave out changes no result, and they do leave rows out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.top_bounds import TopBounds
from raystream.keyed.top_rows import TopRows

VALUES = {
    pa.int64(): st.none() | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1]),
    pa.uint8(): st.none() | st.integers(0, 3),
    pa.uint64(): st.none() | st.sampled_from([0, 1, 2**64 - 1]),
    pa.timestamp("us", "UTC"): st.none() | st.integers(-3, 3),
    pa.date32(): st.none() | st.integers(-3, 3),
    pa.float64(): st.none()
    | st.sampled_from([-1.0, -0.0, 0.0, 0.5, float("nan"), float("inf"), float("-inf")]),
    pa.float32(): st.none() | st.sampled_from([-1.0, 2.0, float("nan")]),
    pa.string(): st.none() | st.sampled_from(["a", "b"]),
    pa.bool_(): st.none() | st.booleans(),
}
BUCKETS = st.integers(-2, 2) | st.sampled_from([70, 10**6])


@st.composite
def streams(draw):
    """Batches of (first column, second column, bucket, number), and the type of the first."""
    kind = draw(st.sampled_from(list(VALUES)))
    row = st.tuples(VALUES[kind], st.integers(0, 2), BUCKETS)
    batches = draw(st.lists(st.lists(row, min_size=1, max_size=12), min_size=1, max_size=8))
    schema = pa.schema([("a", kind), ("b", pa.int64()), ("n", pa.int64())])
    made, number = [], 0
    for rows in batches:
        a, b, buckets = zip(*rows, strict=True)
        arrays = [pa.array(a, kind), pa.array(b, pa.int64())]
        arrays.append(pa.array(range(number, number + len(rows)), pa.int64()))
        number += len(rows)
        made.append((pa.RecordBatch.from_arrays(arrays, schema=schema), np.array(buckets)))
    return schema, made


@given(streams(), st.integers(1, 3), st.tuples(*[st.booleans()] * 4))
def test_what_is_left_out_is_not_among_the_best(stream, k, how):
    (schema, batches), (down, second, ties, single) = stream, how
    by = [("a", down), *([("b", not down)] if second else [])]
    held = schema.append(pa.field("__bucket", pa.int64()))
    top = TopRows((), k, by, ties=ties, schema=held)
    bounds = TopBounds(k, by[0])
    plain, bounded = [], []
    for rows, buckets in batches:
        chosen = int(buckets[0]) if single else buckets
        plain.append(top.best(rows, chosen))
        hopeful, their = bounds.hopeful(rows, chosen)
        if hopeful.num_rows:
            bounded.append(top.best(hopeful, their))
    assert repr(top.merge(bounded).to_pylist()) == repr(top.merge(plain).to_pylist())


def batch(*values):
    return pa.record_batch({"a": pa.array(values), "n": pa.array(range(len(values)))})


def numbers(rows):
    return rows.column("n").to_pylist()


@pytest.mark.parametrize("buckets", [5, np.array([5, 5, 5, 5])])
def test_rows_that_are_worse_than_the_best_so_far_are_left_out(buckets):
    bounds = TopBounds(1, ("a", True))
    rows, their = bounds.hopeful(batch(3, 9, 9, 1), buckets)
    assert numbers(rows) == [1, 2]
    assert np.all(their == 5)
    assert numbers(bounds.hopeful(batch(8, 10, 9, 9), buckets)[0]) == [1]
    assert numbers(bounds.hopeful(batch(8, 10, 9, 10), buckets)[0]) == [1, 3]
    assert numbers(bounds.hopeful(batch(8, 7, 9, 0), buckets)[0]) == []


def test_the_best_of_several_batches_set_the_bound_together():
    bounds = TopBounds(3, ("a", False))
    for value in (5, 1, 3):
        assert numbers(bounds.hopeful(batch(value), 0)[0]) == [0]
    assert numbers(bounds.hopeful(batch(6, 5, 2, 4), 0)[0]) == [2]
    assert numbers(bounds.hopeful(batch(4, 3), 0)[0]) == [1]


def test_buckets_have_bounds_of_their_own_until_they_are_forgotten():
    bounds = TopBounds(1, ("a", True))
    bounds.hopeful(batch(9, 5), np.array([0, 1]))
    assert numbers(bounds.hopeful(batch(7, 7, 4), np.array([0, 1, 1]))[0]) == [1]
    bounds.forget(0)
    assert numbers(bounds.hopeful(batch(1, 6, 1), np.array([0, 1, 2]))[0]) == [0, 2]


def test_nulls_and_nan_bound_nothing():
    bounds = TopBounds(1, ("a", True))
    nan = float("nan")
    assert numbers(bounds.hopeful(batch(None, nan), 0)[0]) == [0, 1]
    assert numbers(bounds.hopeful(batch(1.0, nan, None, 0.5), 0)[0]) == [0, 1, 2]
    assert numbers(bounds.hopeful(batch(0.5, 2.0), 0)[0]) == [1]
