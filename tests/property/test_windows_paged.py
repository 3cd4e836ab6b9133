"""Adding partials where their keys stand gives what merging them gives, whatever the keys are."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.contracts.aggregate import Bound
from raystream.errors import UserError
from raystream.flow.batch import EVENT_TIME_FIELD
from raystream.keyed import paged_table
from raystream.keyed.measures import Measures
from raystream.keyed.paged_table import PagedTable

INT, FLOAT = pa.int64(), pa.float64()
KEYS = [
    (pa.int64(), st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)])),
    (pa.uint64(), st.sampled_from([0, 2**64 - 1, 2**63])),
    (pa.float64(), st.sampled_from([0.0, -0.0, math.nan, -math.nan, math.inf, 1.5])),
    (pa.float32(), st.sampled_from([0.0, -0.0, math.nan, -2.5])),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.sampled_from(["", "a", "ä"])),
    (pa.binary(), st.sampled_from([b"", b"\0", b"a"])),
    (pa.timestamp("us", "UTC"), st.sampled_from([-1, 0, 2**40])),
    (pa.timestamp("s"), st.sampled_from([-1, 0, 2**30])),
    (pa.duration("ms"), st.sampled_from([-1, 0])),
]
VALUES = [
    (pa.int64(), INT, st.integers(-5, 5)),
    (pa.int8(), INT, st.integers(-128, 127)),
    (pa.uint64(), pa.uint64(), st.integers(0, 9)),
    (pa.float64(), FLOAT, st.sampled_from([-0.0, 1.5, math.nan, math.inf, -2.0])),
    (pa.float32(), FLOAT, st.sampled_from([0.5, -0.25, math.nan])),
    (pa.timestamp("us", "UTC"), None, st.integers(-3, 3)),
    (pa.duration("us"), None, st.integers(-3, 3)),
]


def measures_of(key_types, type, total):
    def bound(kind, output):
        return Bound(kind, kind, output, "v", type)

    kinds = [bound("count", INT), bound("min", type), bound("max", type)]
    if total is not None:
        kinds += [bound("sum", total), bound("mean", FLOAT)]
    fields = [pa.field(f"k{i}", some) for i, some in enumerate(key_types)]
    return Measures(fields, [Bound("n", "count", INT), *kinds])


def table_of(measures):
    return PagedTable(measures.merge, measures.key_names, measures.schema, measures.reductions)


@st.composite
def cases(draw):
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))
    type, total, values = draw(st.sampled_from(VALUES))
    far = st.sampled_from([-(2**50), -1, 0, 2**20, 2**33])
    bucket = draw(st.sampled_from([st.integers(-1, 0), st.integers(-40, 40), far]))
    row = st.tuples(*(st.none() | some for _, some in keys), st.none() | values, bucket)
    batches = draw(st.lists(st.lists(row, min_size=1, max_size=12), min_size=1, max_size=5))
    paged = draw(st.lists(st.booleans(), min_size=len(batches), max_size=len(batches)))
    return [some for some, _ in keys], type, total, batches, paged


def record_of(rows, key_types, type):
    columns = list(zip(*rows, strict=True))
    names = [*(f"k{i}" for i in range(len(key_types))), "v"]
    types = [*key_types, type]
    arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=False)]
    times = pa.array(np.zeros(len(rows), np.int64))
    fields = [pa.field(name, t) for name, t in zip(names, types, strict=True)]
    schema = pa.schema([*fields, EVENT_TIME_FIELD])
    return pa.RecordBatch.from_arrays([*arrays, times], schema=schema), np.array(columns[-1])


def plain(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def told(measures, partials):
    """Give the results by key and bucket; a key that comes twice fails."""
    places = [map(plain, c.to_pylist()) for c in partials.columns[: len(measures.key_names) + 1]]
    results = [map(plain, c.to_pylist()) for c in measures.results(partials)]
    pairs = list(zip(zip(*places, strict=True), zip(*results, strict=True), strict=True))
    assert len(dict(pairs)) == len(pairs), "a key comes twice in a bucket"
    return dict(pairs)


def opened(table, stop):
    while (page := table.next_page()) is not None and page < stop:
        while not table.open_page():
            pass


@pytest.mark.slow
@given(cases(), st.booleans())
def test_pages_give_what_merging_gives(case, forgets):
    with pytest.MonkeyPatch.context() as patch:
        # A new index of keys for each new page, so that pages of several indexes are open.
        patch.setattr(paged_table, "_INDEX_KEYS_MIN", 0 if forgets else 65_536)
        patch.setattr(paged_table, "_INDEX_WASTE", 0 if forgets else 3)
        compare(*case)


def compare(key_types, type, total, batches, paged):
    measures = measures_of(key_types, type, total)
    table, pieces = table_of(measures), []
    assert table.pages_able
    for rows, page in zip(batches, paged, strict=True):
        record, buckets = record_of(rows, key_types, type)
        pieces.append(measures.fold(record, buckets))
        if page:
            table.add_up(measures.lift(record, buckets))
        else:
            table.add(pieces[-1])
        for _ in table.settle():
            pass
    expected = told(measures, measures.merge(pieces))
    assert told(measures, measures.merge(list(table.held()))) == expected
    assert table.first_bucket() == min(bucket for *_, bucket in expected)
    # Bucket by bucket, as windows fire.
    got = {}
    while (bucket := table.first_bucket()) is not None:
        opened(table, bucket + 1)
        views = table.between(bucket, bucket + 1)
        assert table.row_counts(bucket + 1)[0].tolist() == [bucket]
        got |= told(measures, measures.merge(views))
        table.drop_below(bucket + 1)
    assert got == expected
    assert table.row_count == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_that_overflows_raises_and_one_that_comes_back_does_not(sign):
    measures = measures_of([INT], INT, INT)
    half = sign * 2**62

    def fed(*values):
        table = table_of(measures)
        for value in values:
            record, buckets = record_of([(1, value, 0), (1, None, 0)], [INT], INT)
            table.add_up(measures.lift(record, buckets))
        opened(table, 1)
        return told(measures, measures.merge(table.between(0, 1)))

    ((_, (n, count, *_, total, _)),) = fed(half, -half, half, -half, half).items()
    assert (n, count, total) == (10, 5, half)
    with pytest.raises(UserError, match="overflows int64"):
        fed(half, half, half)


def test_keys_that_are_equal_to_the_microsecond_only_are_not_paged():
    for type in (pa.timestamp("ns"), pa.decimal128(5, 2), pa.time64("ns")):
        assert not table_of(measures_of([type], INT, INT)).pages_able
    assert not table_of(measures_of([], INT, INT)).pages_able, "there is nothing to look up"


def test_a_page_changes_its_form_as_its_codes_grow_dense_and_sparse_and_dense_again():
    """Few keys come in each bucket; then thousands in some; then those in each as well."""
    measures = measures_of([INT], INT, INT)
    table, pieces, forms = table_of(measures), [], []
    for keys, stop in [(3, 64), (3, 64), (4_000, 4), (4_000, 64), (3, 64)]:
        rows = [(key, key + bucket, bucket) for key in range(keys) for bucket in range(stop)]
        record, buckets = record_of([*rows, (0, None, 0), (0, 1, 63)], [INT], INT)
        pieces.append(measures.fold(record, buckets))
        table.add_up(measures.lift(record, buckets))
        forms.append([page._hashed is None for _, page in sorted(table._pages.items())])
    first, last = ("".join("dh"[not form[page]] for form in forms) for page in (0, -1))
    assert (first, last) == ("ddddd", "ddhdd")
    expected = told(measures, measures.merge(pieces))
    assert told(measures, measures.merge(list(table.held()))) == expected
    assert table.row_count == len(expected) == 4_000 * 64


def test_a_table_grows_in_steps_as_it_grows_at_once(monkeypatch):
    from raystream.keyed import code_table

    monkeypatch.setattr(code_table, "_CELLS_STEPWISE", 1)
    monkeypatch.setattr(code_table, "_CLAIMED_MAX", 100)
    rng = np.random.default_rng(5)
    one, other, steps = code_table.CodeTable(2), code_table.CodeTable(2), 0
    for _ in range(40):
        codes = [rng.integers(0, 2000, 200), rng.integers(0, 2, 200)]
        assert one.lookup(codes).tolist() == other.lookup(codes).tolist()
        steps += sum(1 for _ in one.grow())
    assert steps > 10, "it has never grown in steps"
    assert one.count == other.count
