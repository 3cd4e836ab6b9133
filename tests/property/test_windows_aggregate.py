"""Window aggregates against a model that looks at every row and every window, one by one."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.operators.window_aggregate import WindowAggregateSpec

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
STAMP = pa.timestamp("us", "UTC")
INPUT = pa.schema([("k", TEXT), ("v", INT), ("f", FLOAT), ("s", TEXT), EVENT_TIME_FIELD])


class Joined(AggregateFunction):
    type = TEXT

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(row["v"])
        return acc

    def merge(self, a, b):
        a.extend(b)
        return a

    def result(self, acc):
        return ",".join(map(str, acc))


def bound(kind, value=None, value_type=None, output=None, **more):
    return Bound(f"{kind}_{value}", kind, output or value_type, value, value_type, **more)


AGGREGATES = (
    bound("count", output=INT),
    bound("count", "v", INT, INT),
    bound("sum", "v", INT),
    bound("sum", "f", FLOAT),
    bound("mean", "v", INT, FLOAT),
    bound("min", "s", TEXT),
    bound("max", "f", FLOAT),
    bound("variance", "v", INT, FLOAT),
    bound("stddev", "f", FLOAT, FLOAT),
    bound("first", "v", INT),
    bound("last", "s", TEXT),
    bound("min_by", "v", INT, by="f", by_type=FLOAT),
    bound("max_by", "v", INT, by="s", by_type=TEXT),
    bound("count_distinct", "v", INT, INT),
    bound("approx_count_distinct", "s", TEXT, INT),
    bound("quantile", "v", INT, FLOAT, q=0.3),
    bound("collect", "v", INT, pa.list_(INT)),
    Bound("own", "function", TEXT, function=Joined(), row_columns=("v",)),
)


def variance(values):
    return None if len(values) < 2 else statistics.variance([Decimal(v) for v in values])


def model_value(aggregate, rows):
    """One aggregate over rows in order of arrival, as its documentation says."""
    kind, name = aggregate.kind, aggregate.value
    if kind == "function":
        return ",".join(str(row["v"]) for row in rows)
    if kind == "count" and name is None:
        return len(rows)
    rows = [row for row in rows if row[name] is not None]
    values = [row[name] for row in rows]
    if kind == "count":
        return len(values)
    if kind in ("count_distinct", "approx_count_distinct"):
        return len(set(values))
    if aggregate.by:
        rows = [row for row in rows if row[aggregate.by] is not None]
    if not rows:
        return None
    pick = {
        "first": lambda: min(rows, key=lambda row: row["ts"])[name],
        "last": lambda: max(rows, key=lambda row: row["ts"])[name],
        "min_by": lambda: min(rows, key=lambda row: row[aggregate.by])[name],
        "max_by": lambda: max(rows, key=lambda row: row[aggregate.by])[name],
        "sum": lambda: sum(values),
        "mean": lambda: sum(values) / len(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "collect": lambda: values,
        "variance": lambda: variance(values),
        "stddev": lambda: None if len(values) < 2 else math.sqrt(variance(values)),
        "quantile": lambda: model_quantile(sorted(values), aggregate.q),
    }
    return pick[kind]()


def model_quantile(values, q):
    place = q * (len(values) - 1)
    low = int(place)
    if low == place:
        return values[low]
    return values[low] + (values[low + 1] - values[low]) * (place - low)


def model_windows(ts, window):
    """Every start that holds a time, found by trying all of them."""
    size, slide, offset = window.size_us, window.slide_us, window.offset_us
    least = (ts - size - abs(offset)) // slide * slide - slide
    starts = range(least + offset % slide, ts + 1, slide)
    return [start for start in starts if start <= ts < start + size]


def run_model(events, window, keyed):
    """Rows and watermarks in, rows out: every window a list."""
    open_windows, output, late, watermark = {}, [], 0, None
    for event in events:
        if isinstance(event, int):
            watermark = event if watermark is None else max(watermark, event)
            due = sorted(start for start in open_windows if start + window.size_us - 1 <= watermark)
            for start in due:
                for key, rows in open_windows.pop(start).items():
                    values = [model_value(aggregate, rows) for aggregate in AGGREGATES]
                    output.append((start, key if keyed else None, values))
            continue
        for row in event:
            starts = model_windows(row["ts"], window)
            wanted = [
                start
                for start in starts
                if watermark is None or start + window.size_us - 1 > watermark
            ]
            late += bool(starts) and not wanted
            for start in wanted:
                keys = open_windows.setdefault(start, {})
                keys.setdefault(row["k"] if keyed else None, []).append(row)
    return output, late


def run_operator(events, window, keyed, limits, stops):
    output = pa.schema(
        [
            *([pa.field("k", TEXT)] if keyed else []),
            pa.field("window_start", STAMP),
            pa.field("window_end", STAMP),
            *(pa.field(aggregate.name, aggregate.output) for aggregate in AGGREGATES),
            EVENT_TIME_FIELD,
        ]
    )
    keys = ("k",) if keyed else ()
    operator = WindowAggregateSpec(keys, window, AGGREGATES, output).build()
    ctx = OpenContext(limits=limits)
    operator.open(ctx)
    rows = []
    for event in events:
        if isinstance(event, int):
            batches = fire(operator, event, stops)
        else:
            batches = list(operator.on_batch(0, Columns(record_of(event))))
        for batch in batches:
            assert batch.record.schema.equals(output)
            assert 0 < batch.num_rows <= limits.batch_rows_max
            rows += batch.record.to_pylist()
    assert operator._state.row_count == 0, "everything has fired"
    for part in operator._measures.parts:
        assert not getattr(part, "held_count", 0), "every accumulator was let go"
    assert operator._state.nbytes == 0
    return rows, ctx.metrics.counter("late_rows").value


def fire(operator, watermark, stops):
    """Fire, and now and then close the generator after a few batches and begin again."""
    batches = []
    while True:
        stop = next(stops)
        firing = operator.on_watermark(watermark)
        for batch in firing:
            batches.append(batch)
            stop -= 1
            if stop == 0:
                firing.close()
                break
        else:
            return batches


def record_of(rows):
    columns = {name: [row[name] for row in rows] for name in ("k", "v", "f", "s")}
    arrays = [pa.array(columns[field.name], field.type) for field in list(INPUT)[:-1]]
    return pa.RecordBatch.from_arrays(
        [*arrays, pa.array([row["ts"] for row in rows])], schema=INPUT
    )


ROW = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", "c", None]),
        "v": st.none() | st.integers(-20, 20),
        "f": st.none() | st.sampled_from([-1.5, 0.0, 2.25, 1e6]),
        "s": st.none() | st.sampled_from(["", "x", "yy"]),
        "ts": st.integers(-60, 60),
    }
)
EVENTS = st.lists(st.lists(ROW, min_size=1, max_size=12) | st.integers(-70, 90), max_size=25)
WINDOWS = st.one_of(
    st.builds(Tumbling, st.integers(1, 30), st.integers(-40, 40)),
    st.builds(Sliding, st.integers(1, 30), st.integers(1, 30), st.integers(-40, 40)),
)
LIMITS = st.builds(
    Limits,
    batch_rows_max=st.integers(1, 5),
    firing_rows_max=st.integers(1, 20),
    pane_copies_max=st.sampled_from([1, 3, 64]),
)


@given(EVENTS, WINDOWS, LIMITS, st.booleans(), st.lists(st.integers(1, 3), max_size=30))
def test_windows_equal_the_model_however_rows_are_cut_and_firings_interrupted(
    events, window, limits, keyed, stops
):
    events = [*events, 2**63 - 1]
    stop = iter(stops)
    endless = (next(stop, -1) for _ in iter(int, 1))
    rows, late = run_operator(events, window, keyed, limits, endless)
    expected, expected_late = run_model(events, window, keyed)

    assert late == expected_late
    last_of_firing = None
    seen = {}
    for row in rows:
        start = (row["window_start"] - EPOCH) // MICROSECOND
        end = (row["window_end"] - EPOCH) // MICROSECOND
        assert end == start + window.size_us
        assert row["__ts"] == end - 1
        seen[start, row.get("k")] = row
        assert last_of_firing is None or start >= last_of_firing
        last_of_firing = start
    assert len(seen) == len(rows) == len(expected)
    for start, key, values in expected:
        row = seen[start, key]
        for aggregate, value in zip(AGGREGATES, values, strict=True):
            got = row[aggregate.name]
            if aggregate.kind == "function" and window.grid.copies > limits.pane_copies_max:
                # So many overlapping windows share panes, and accumulators cannot tell arrivals.
                assert sorted(got) == sorted(value)
            elif isinstance(value, float | Decimal):
                assert got == pytest.approx(float(value), rel=1e-9, abs=1e-9), aggregate.name
            else:
                assert got == value, aggregate.name
