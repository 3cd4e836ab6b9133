"""Sessions against a model that merges windows row by row, in order of arrival."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from aggregate_models import (
    AGGREGATES,
    EVENTS,
    INPUT,
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
from raystream.contracts.window_unaligned import Session
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.element import MAX_TIME, Side
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.keyed.snapshot import share
from raystream.operators.session_aggregate import SessionAggregateSpec

MERGED = tuple(aggregate for aggregate in AGGREGATES if aggregate.kind != "function")


def run_model(events, gap, keyed):
    """Rows and watermarks in; sessions (first, last, key, rows) in firing order, and late rows."""
    open_sessions, output, late, watermark, arrived = {}, [], [], None, 0
    for event in events:
        if isinstance(event, int):
            watermark = event if watermark is None else max(watermark, event)
            due = []
            for key, sessions in open_sessions.items():
                over = [one for one in sessions if one[1] + gap - 1 <= watermark]
                open_sessions[key] = [one for one in sessions if one not in over]
                due += [(first, last, key, rows) for first, last, rows in over]
            output.append(due)
            continue
        for row in event:
            key, ts, arrived = row["k"] if keyed else None, row["ts"], arrived + 1
            first, last, rows = ts, ts, [(arrived, row)]
            apart = []
            for one in open_sessions.get(key, []):
                if one[0] <= ts + gap and ts <= one[1] + gap:
                    first, last = min(first, one[0]), max(last, one[1])
                    rows = one[2] + rows
                else:
                    apart.append(one)
            if watermark is not None and last + gap - 1 <= watermark:
                late.append(row)
            else:
                open_sessions[key] = [*apart, (first, last, sorted(rows, key=lambda r: r[0]))]
    return output, late


def spec_of(gap, keyed):
    output = pa.schema(
        [
            *([pa.field("k", TEXT)] if keyed else []),
            pa.field("window_start", STAMP),
            pa.field("window_end", STAMP),
            *(pa.field(aggregate.name, aggregate.output) for aggregate in MERGED),
            EVENT_TIME_FIELD,
        ]
    )
    return SessionAggregateSpec(("k",) if keyed else (), Session(gap), MERGED, output, "late")


def run_operator(events, gap, keyed, limits, chance):
    stops, reborn = chance
    spec = spec_of(gap, keyed)
    ctx = OpenContext(limits=limits)
    operator = spec.build()
    operator.open(ctx)
    firings, late = [], []
    for event in events:
        if isinstance(event, int):
            firings.append([])
            for batch in fire(operator, event, stops):
                assert batch.record.schema.equals(spec.output)
                assert 0 < batch.num_rows <= limits.batch_rows_max
                firings[-1] += batch.record.to_pylist()
        else:
            for out in operator.on_batch(0, Columns(record_of(event))):
                assert isinstance(out, Side)
                assert out.tag == "late"
                assert out.batch.record.schema.equals(INPUT)
                late += out.batch.record.to_pylist()
        if next(reborn, False):
            kept = operator.snapshot()
            operator = spec.build()
            operator.open(ctx)
            operator.restore(share([kept], 0, 1, ctx.max_parallelism))
    assert operator._state.row_count == 0, "everything has fired"
    assert operator._state.nbytes == 0
    assert ctx.metrics.counter("late_rows").value == len(late)
    return firings, late


def check(events, gap, keyed, limits, chance):
    stops, reborn = chance
    events = [*events, MAX_TIME]
    stop = iter(stops)
    endless = (next(stop, -1) for _ in iter(int, 1))
    firings, late = run_operator(events, gap, keyed, limits, (endless, iter(reborn)))
    expected, expected_late = run_model(events, gap, keyed)

    assert late == record_of(expected_late).to_pylist()
    assert len(firings) == len(expected)
    for rows, wanted in zip(firings, expected, strict=True):
        assert [row["__ts"] for row in rows] == sorted(row["__ts"] for row in rows)
        assert len(rows) == len(wanted)
        found = {(row["__ts"], row.get("k")): row for row in rows}
        for first, last, key, numbered in wanted:
            row = found[min(last + gap, MAX_TIME) - 1, key]
            assert (row["window_start"] - EPOCH) // MICROSECOND == first
            assert (row["window_end"] - EPOCH) // MICROSECOND == last + gap
            inside = [one for _, one in numbered]
            for aggregate in MERGED:
                value = model_value(aggregate, inside)
                if isinstance(value, float | Decimal):
                    assert row[aggregate.name] == pytest.approx(float(value), rel=1e-9, abs=1e-9)
                else:
                    assert row[aggregate.name] == value, aggregate.name


@given(
    EVENTS,
    st.integers(1, 40),
    LIMITS,
    st.booleans(),
    st.tuples(st.lists(st.integers(1, 3), max_size=30), st.lists(st.booleans(), max_size=30)),
)
def test_sessions_equal_the_model_however_rows_are_cut_and_firings_interrupted(
    events, gap, limits, keyed, chance
):
    check(events, gap, keyed, limits, chance)
