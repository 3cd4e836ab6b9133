"""Windows over Python rows: the same rules, dicts out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts import aggregate as rs
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.errors import PlanError, UserError, UserFunctionError
from raystream.flow.batch import Objects
from raystream.flow.time import EPOCH
from raystream.operators.object_window import ObjectWindowSpec

MIN, MAX = -(2**63), 2**63 - 1


def opened(window, aggregates, key_names=("key",), **limits):
    operator = ObjectWindowSpec(window, aggregates, key_names, "words", "job.py:3").build()
    ctx = OpenContext(operator="words", where="job.py:3", limits=Limits(**limits))
    operator.open(ctx)
    return operator, ctx.metrics.counter("late_rows")


def push(operator, *rows):
    """Rows are (key, value, time)."""
    keys, values, times = (list(column) for column in zip(*rows, strict=True))
    batch = Objects([{"v": value} for value in values], np.array(times, np.int64), keys)
    assert not list(operator.on_batch(0, batch))


def fire(operator, watermark):
    return [
        (*row.values(), int(time))
        for batch in operator.on_watermark(watermark)
        for row, time in zip(batch.values, batch.timestamps, strict=True)
    ]


def at(us):
    return EPOCH + timedelta(microseconds=us)


def test_a_dict_has_the_key_the_window_and_the_aggregates():
    operator, late = opened(Tumbling(10), (("n", rs.count()), ("total", rs.sum("v"))))
    push(operator, ("a", 1, 0), ("b", 5, 3), ("a", 2, 9), ("a", 7, 10))
    assert list(operator.on_watermark(8)) == []
    (batch,) = operator.on_watermark(9)
    assert batch.values == [
        {"key": "a", "window_start": at(0), "window_end": at(10), "n": 2, "total": 3},
        {"key": "b", "window_start": at(0), "window_end": at(10), "n": 1, "total": 5},
    ]
    assert batch.timestamps.tolist() == [9, 9]
    push(operator, ("a", 1, 4))
    assert late.value == 1


def test_parts_of_a_tuple_get_their_names_and_no_key_needs_none():
    operator, _ = opened(Tumbling(10), (("n", rs.count()),), ("user", "item"))
    push(operator, (("u", 1), 0, 0))
    (batch,) = operator.on_watermark(MAX)
    assert list(batch.values[0]) == ["user", "item", "window_start", "window_end", "n"]
    operator, _ = opened(Tumbling(10), (("n", rs.count()),), ())
    list(operator.on_batch(0, Objects([{}, {}], np.array([1, 2]))))
    assert [row["n"] for batch in operator.on_watermark(MAX) for row in batch.values] == [2]


def test_true_is_not_one_and_nan_is_one_key():
    operator, _ = opened(Tumbling(10), (("n", rs.count()),))
    nan = float("nan")
    push(operator, (True, 0, 0), (1, 0, 0), (1.0, 0, 0), (nan, 0, 0), (-nan, 0, 0))
    assert sorted(row[3] for row in fire(operator, MAX)) == [1, 1, 1, 2]


def test_sliding_windows_take_a_row_each_and_partly_late_rows_only_the_open_ones():
    operator, late = opened(Sliding(10, 5), (("n", rs.count()),))
    list(operator.on_watermark(12))
    push(operator, ("k", 0, 8))
    assert fire(operator, MAX) == [("k", at(5), at(15), 1, 14)]
    assert late.value == 0


def test_a_firing_is_cut_into_batches_and_can_be_taken_up_again():
    operator, _ = opened(Tumbling(10), (("n", rs.count()),), row_batch_rows_max=3)
    push(operator, *((key, 0, time) for time in (0, 10, 20) for key in "abcd"))
    firing = operator.on_watermark(19)
    first = next(firing)
    firing.close()
    rest = list(operator.on_watermark(19))
    assert [len(batch.values) for batch in (first, *rest)] == [3, 3, 2]
    keys = [row["key"] for batch in (first, *rest) for row in batch.values]
    assert keys == list("abcdabcd")
    assert len(fire(operator, MAX)) == 4


def test_windows_beyond_pythons_datetimes_saturate():
    operator, _ = opened(Tumbling(10), (("n", rs.count()),))
    push(operator, ("a", 0, MIN + 1), ("a", 0, MAX))
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, timezone.utc)
    assert [row[1] for row in fire(operator, MAX)] == [first, last]


def test_a_row_without_event_time_names_the_missing_strategy():
    operator, _ = opened(Tumbling(10), (("n", rs.count()),))
    with pytest.raises(UserError, match="watermark strategy"):
        list(operator.on_batch(0, Objects([1], None, ["a"])))
    with pytest.raises(UserError, match="watermark strategy"):
        push(operator, ("a", 1, MIN))


def test_a_row_that_cannot_be_aggregated_is_named():
    operator, _ = opened(Tumbling(10), (("total", rs.sum("v")),))
    with pytest.raises(UserFunctionError, match="'v': 'text'"):
        push(operator, ("a", 1, 0), ("a", "text", 0))


def test_an_expression_needs_columns():
    import narwhals.stable.v2 as nw

    with pytest.raises(PlanError, match="expression"):
        opened(Tumbling(10), (("total", rs.sum(nw.col("v"))),))


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(-20, 20)), min_size=1
        )
        | st.integers(-25, 30),
        max_size=12,
    ),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(-6, 6),
)
def test_windows_equal_a_search_of_all_starts(events, size, slide, offset):
    operator, late = opened(
        Sliding(size, slide, offset), (("vs", rs.collect("v")),), row_batch_rows_max=2
    )
    windows, watermark, expected_late = {}, -(10**6), 0
    for event in [*events, MAX]:
        if isinstance(event, int):
            watermark = max(watermark, event)
            due = sorted((w for w in windows if w[0] + size - 1 <= watermark), key=lambda w: w[0])
            expected = [(key, start, windows.pop((start, key))) for start, key in due]
            got = [(row[0], row[1], row[3]) for row in fire(operator, event)]
            assert sorted(got) == sorted((key, at(start), vs) for key, start, vs in expected)
            assert [row[1] for row in got] == sorted(row[1] for row in got)
            continue
        push(operator, *event)
        for key, value, time in event:
            starts = [s for s in range(time - size + 1, time + 1) if (s - offset) % slide == 0]
            wanted = [start for start in starts if start + size - 1 > watermark]
            expected_late += bool(starts) and not wanted
            for start in wanted:
                windows.setdefault((start, key), []).append(value)
    assert late.value == expected_late
