"""Window aggregates against a model that looks at every row and every window, one by one."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from aggregate_models import (
    AGGREGATES,
    EVENTS,
    LIMITS,
    STAMP,
    TEXT,
    fire,
    model_value,
    record_of,
)
from hypothesis import given
from hypothesis import strategies as st

from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.operators.window_aggregate import WindowAggregateSpec


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


WINDOWS = st.one_of(
    st.builds(Tumbling, st.integers(1, 30), st.integers(-40, 40)),
    st.builds(Sliding, st.integers(1, 30), st.integers(1, 30), st.integers(-40, 40)),
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
