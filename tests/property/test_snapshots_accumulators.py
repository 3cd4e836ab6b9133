"""Keys and accumulators that others take up, in other slots, go on as if nothing had happened."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound, result_type
from raystream.errors import UserFunctionError
from raystream.keyed.accumulators import RunningAggregate
from raystream.keyed.groups import Grouper, Rows
from raystream.keyed.key_index import KeyIndex
from raystream.operators.pyrows import to_rows

FLOATS = st.sampled_from([math.nan, -0.0, 0.1, 0.2, 0.3, -7.25, math.inf, 1e300])
TYPES = {
    "int64": (pa.int64(), st.integers(-(2**40), 2**40)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint64": (pa.uint64(), st.integers(2**60, 2**60 + 9)),
    "float64": (pa.float64(), FLOATS),
    "float32": (pa.float32(), FLOATS.filter(lambda value: value != 1e300)),
    "bool": (pa.bool_(), st.booleans()),
    "decimal": (pa.decimal128(20, 2), st.integers(-(10**17), 10**17).map(lambda n: Decimal(n) / 4)),
    "string": (pa.string(), st.text(max_size=3)),
    "binary": (pa.binary(), st.binary(max_size=2)),
    "stamp": (pa.timestamp("ns", "UTC"), st.integers(0, 9).map(lambda n: n * 1_001)),
    "duration": (pa.duration("ms"), st.integers(-9, 9).map(lambda n: timedelta(milliseconds=n))),
    "list": (pa.list_(pa.timestamp("ns")), st.lists(st.integers(0, 3), max_size=2)),
    "null": (pa.null(), st.none()),
}
NUMBERS = ("int64", "int8", "uint64", "float64", "float32", "bool", "decimal")
FLAT = tuple(name for name in TYPES if name != "list")
CASES = [
    *[(kind, name) for kind in ("first", "max_by", "collect") for name in TYPES],
    *[(kind, name) for kind in ("min", "count_distinct") for name in FLAT],
    *[("approx_count_distinct", name) for name in ("int64", "string")],
    *[(kind, name) for kind in ("sum", "mean", "quantile") for name in NUMBERS],
    *[(kind, name) for kind in ("variance", "stddev") for name in ("int8", "float64")],
    ("count", "string"),
    ("function", "int64"),
]


class Joined(AggregateFunction):
    """Accumulators that are changed in place."""

    type = pa.string()

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(row["v"])
        return acc

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return ",".join(map(str, acc))


def through_a_file(columns, names=None):
    """Write columns and read them: what is kept is no more than what Arrow says of it."""
    named = names or [str(place) for place in range(len(columns))]
    record = pa.RecordBatch.from_arrays(columns, named)
    record.validate(full=True)
    return pa.ipc.read_record_batch(record.serialize(), record.schema).columns


def bind(kind, type, by_type):
    function = Joined() if kind == "function" else None
    output = result_type(Aggregate(kind, "v", function=function), type)
    by = ("by", by_type) if kind == "max_by" else (None, None)
    q = 0.3 if kind == "quantile" else None
    value = None if function else "v"
    return Bound("out", kind, output, value, type, *by, q, function, ("v",) if function else ())


class Folding:
    """One aggregate, as the operator drives it."""

    def __init__(self, bound, arrived=0):
        self.aggregate = RunningAggregate(bound, to_rows)
        self._grouper, self._arrived = Grouper(), arrived

    def scan(self, record, slots, *, count):
        rows = Rows(record, None, self._arrived)
        self._arrived += record.num_rows
        return self.aggregate.scan(self._grouper.group(slots, count), rows, count)


SLOTS = 5


@pytest.mark.parametrize(("kind", "name"), CASES)
@settings(max_examples=15)  # for each of some eighty cases
@given(data=st.data())
def test_accumulators_go_on_in_other_slots(kind, name, data):
    type, values = TYPES[name]
    by_type, bys = TYPES[data.draw(st.sampled_from(FLAT), "by type")]
    rows = st.tuples(st.integers(0, SLOTS - 1), st.none() | values, st.none() | bys)
    before, after = (
        data.draw(st.lists(rows, min_size=1, max_size=12), label) for label in ("before", "after")
    )
    moved = np.array(data.draw(st.permutations(range(SLOTS)), "slots"))
    bound = bind(kind, type, by_type)

    def batch(some):
        columns = [
            pa.array([row[1] for row in some], type),
            pa.array([r[2] for r in some], by_type),
        ]
        record = pa.RecordBatch.from_arrays(columns, ["v", "by"])
        return record, np.array([row[0] for row in some])

    one = Folding(bound)
    one.scan(*batch(before), count=SLOTS)
    slots = np.arange(SLOTS)
    state = one.aggregate.state(slots, SLOTS)
    as_kept = [column.to_string() for column in state]
    kept = through_a_file(state)

    other = Folding(bound, arrived=len(before))
    other.aggregate.restore(moved, kept, SLOTS)
    again = other.aggregate.state(moved, SLOTS)
    assert [column.to_string() for column in again] == as_kept, "to restore is the identity"
    assert [column.type for column in again] == [column.type for column in state]

    record, those = batch(after)
    wanted = one.scan(record, those, count=SLOTS)
    got = other.scan(record, moved[those], count=SLOTS)
    assert got.to_string() == wanted.to_string()
    results = one.aggregate.result(slots), other.aggregate.result(moved)
    assert results[1].to_string() == results[0].to_string()
    assert [column.to_string() for column in state] == as_kept, "what was kept does not change"


def test_some_slots_are_kept_and_others_not():
    for kind in ("count_distinct", "collect", "sum", "first"):
        bound = bind(kind, pa.int64(), pa.int64())
        one = Folding(bound)
        record = pa.RecordBatch.from_arrays([pa.array([5, 6, 5, 7])] * 2, ["v", "by"])
        one.scan(record, np.array([0, 1, 2, 2]), count=3)
        other = RunningAggregate(bound, to_rows)
        other.restore(np.array([1, 0]), one.aggregate.state(np.array([2, 0]), 3), 2)
        assert other.result(np.array([1, 0])).equals(one.aggregate.result(np.array([2, 0])))


def test_a_sketch_of_many_values_goes_on_as_registers():
    bound = bind("approx_count_distinct", pa.int64(), pa.int64())
    record = pa.RecordBatch.from_arrays([pa.array(range(2_000))] * 2, ["v", "by"])
    one, other = Folding(bound), Folding(bound)
    one.scan(record.slice(0, 1_000), np.zeros(1_000, np.int64), count=1)
    other.aggregate.restore(np.array([0]), one.aggregate.state(np.array([0]), 1), 1)
    for folding in (one, other):
        folding.scan(record.slice(900), np.zeros(1_100, np.int64), count=1)
    got = other.aggregate.result(np.array([0]))
    assert got.equals(one.aggregate.result(np.array([0])))
    assert abs(got[0].as_py() - 2_000) < 60


class Locked(Joined):
    def create(self):
        return (nothing for nothing in ())

    def add(self, acc, row):
        return acc


def test_an_accumulator_that_cannot_be_pickled_is_named():
    bound = Bound("out", "function", pa.string(), function=Locked(), row_columns=("v",))
    one = Folding(bound)
    one.scan(pa.RecordBatch.from_arrays([pa.array([1])], ["v"]), np.array([0]), count=1)
    with pytest.raises(UserFunctionError, match="an accumulator cannot be kept"):
        one.aggregate.state(np.array([0]), 1)


@given(data=st.data())
def test_an_index_of_the_keys_of_another_tells_the_same_keys_apart(data):
    names = data.draw(st.lists(st.sampled_from(FLAT), min_size=1, max_size=3), "types")
    rows = st.tuples(*(st.none() | TYPES[name][1] for name in names))
    before, after = (data.draw(st.lists(rows, max_size=15), label) for label in ("before", "after"))
    types = [TYPES[name][0] for name in names]

    def columns(some):
        parts = list(zip(*some, strict=True)) or [()] * len(types)
        return [pa.array(list(part), type) for part, type in zip(parts, types, strict=True)]

    one, other = KeyIndex(types), KeyIndex(types)
    one.lookup(columns(before))
    order = np.array(data.draw(st.permutations(range(one.count)), "order"), np.int64)
    slots, first_new = other.lookup(through_a_file(one.keys(order)))
    assert (sorted(slots.tolist()), first_new) == (list(range(one.count)), 0)
    moved = np.empty(one.count, np.int64)
    moved[order] = slots
    known = one.count
    found, again = one.lookup(columns(after))[0], other.lookup(columns(after))[0]
    assert other.count == one.count
    old = found < known
    assert (again[old] == moved[found[old]]).all()
    assert (again[~old] >= known).all()
