"""Two phases give what one gives: the same rows, and the same number of late ones."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_partial import WindowPartialSpec, partial_schema

INT, FLOAT = pa.int64(), pa.float64()
STAMP = pa.timestamp("us", "UTC")
INPUT = pa.schema([("k", pa.string()), ("v", INT), EVENT_TIME_FIELD])
AGGREGATES = (
    Bound("n", "count", INT),
    Bound("sum", "sum", INT, "v", INT),
    Bound("mean", "mean", FLOAT, "v", INT),
    Bound("first", "first", INT, "v", INT),
    Bound("best", "max_by", INT, "i", INT, by="v", by_type=INT),
    Bound("spread", "stddev", FLOAT, "v", INT),
)
ROW = st.tuples(st.sampled_from("abc"), st.none() | st.integers(-3, 3), st.integers(-30, 30))
EVENTS = st.lists(st.lists(ROW, min_size=1, max_size=9) | st.integers(-40, 50), max_size=20)
WINDOWS = st.one_of(
    st.builds(Tumbling, st.integers(1, 20), st.integers(-9, 9)),
    st.builds(Sliding, st.integers(1, 20), st.integers(1, 20), st.integers(-9, 9)),
)


def record_of(rows, number):
    keys, values, times = zip(*rows, strict=True)
    schema = pa.schema([*list(INPUT)[:-1], ("i", INT), EVENT_TIME_FIELD])
    numbers = range(number, number + len(rows))
    columns = (keys, values, numbers, times)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def opened(spec):
    operator, ctx = spec.build(), OpenContext(limits=Limits(pane_copies_max=4))
    operator.open(ctx)
    return operator, ctx.metrics.counter("late_rows")


@given(EVENTS, WINDOWS, st.booleans())
def test_two_phases_equal_one(events, window, keyed):
    keys = ("k",) if keyed else ()
    fields = [INPUT.field(key) for key in keys]
    results = [pa.field(bound.name, bound.output) for bound in AGGREGATES]
    stamps = [pa.field("window_start", STAMP), pa.field("window_end", STAMP)]
    output = pa.schema([*fields, *stamps, *results, EVENT_TIME_FIELD])
    one, late_one = opened(WindowAggregateSpec(keys, window, AGGREGATES, output))
    partials = partial_schema(fields, window, AGGREGATES)
    first, _ = opened(WindowPartialSpec(keys, window, AGGREGATES, partials))
    two, late_two = opened(WindowAggregateSpec(keys, window, AGGREGATES, output, True))
    number = 0
    for event in [*events, 2**63 - 1]:
        if isinstance(event, int):
            straight, apart = ([b.record for b in op.on_watermark(event)] for op in (one, two))
            rows = [sorted_rows(records, output) for records in (straight, apart)]
            assert len(rows[0]) == len(rows[1])
            for a, b in zip(*rows, strict=True):
                assert a == {k: pytest.approx(v) if type(v) is float else v for k, v in b.items()}
            continue
        batch = Columns(record_of(event, number))
        number += len(event)
        assert not list(one.on_batch(0, batch))
        for partial in first.on_batch(0, batch):
            assert partial.record.schema.equals(partials)
            assert partial.timestamps.max() <= max(batch.timestamps)
            assert not list(two.on_batch(0, partial))
    assert late_one.value == late_two.value


def sorted_rows(records, schema):
    rows = pa.Table.from_batches(records, schema).to_pylist()
    return sorted(rows, key=lambda row: (row["window_start"], row.get("k") or ""))
