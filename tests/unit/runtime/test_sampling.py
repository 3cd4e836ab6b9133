"""Rows are shown as JSON has them, whatever they are made of, and never too much of them."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from subtasks import rows

from raystream.flow.batch import Columns, Objects, with_ops, with_times
from raystream.runtime import sampling
from raystream.runtime.sampling import plain, records, shown


class Odd:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "is_shown"),
    [
        (None, None),
        (True, True),
        (2**53, "9007199254740992"),
        (-(2**53) + 1, -(2**53) + 1),
        (float("nan"), "nan"),
        (Decimal("1.20"), "1.20"),
        (b"ab", {"base64": "YWI="}),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), "2026-01-02T00:00:00+00:00"),
        ("x" * 501, "x" * 500 + "…"),
        ("\ud800", "?"),
        ({1: (2, [3])}, {"1": [2, [3]]}),
        ([[[[[[[1]]]]]]], [[[[[["[1]"]]]]]]),
        (Odd(), "Odd that cannot be shown: RuntimeError"),
        ({Odd(): 1}, {"Odd that cannot be shown: RuntimeError": 1}),
        ({1}, "{1}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_plainly(value, is_shown):
    assert plain(value) == is_shown


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text() | st.binary() | st.complex_numbers(),
        lambda one: st.lists(one) | st.dictionaries(st.text() | st.integers(), one),
        max_leaves=10,
    )
)
def test_whatever_a_row_is_it_is_json(value):
    said = json.dumps(plain(value), allow_nan=False)
    assert json.loads(said) == plain(value)


def test_rows_of_columns_have_their_event_time_and_their_kind():
    batch = with_ops(Columns(pa.record_batch({"n": [1, 2]})), np.array([0, 3], np.int8))
    assert [row["op"] for row in shown([batch])] == ["+I", "-D"]
    assert shown([rows(5, 1)]) == [
        {"value": {"n": 5, "text": "5555"}, "timestamp_us": 5, "op": None}
    ]
    timed = with_times(pa.record_batch({}).slice(0, 0), np.array([], np.int64))
    assert shown([timed]) == []


def test_objects_are_shown_as_they_are():
    batch = Objects(["a", {"b": 1}], np.array([1, 2]))
    assert [row["value"] for row in shown([batch])] == ["a", {"b": 1}]
    assert shown([Objects([1])])[0]["timestamp_us"] is None


def test_a_sample_is_bounded(monkeypatch):
    monkeypatch.setattr(sampling, "_BYTES_MAX", 1_000)
    assert 0 < len(shown([Objects(["x" * 100] * 50)])) < 10


def test_a_row_that_changes_meanwhile_is_not_shown():
    class Changing(dict):
        def items(self):
            raise RuntimeError("dictionary changed size during iteration")

    assert shown([Objects([Changing(a=1)])])[0]["value"] == "changed while it was shown"


def test_times_beyond_the_calendar_are_text():
    table = pa.table({"at": pa.array([2**62], pa.timestamp("us")), "n": [1]})
    ((row),) = records(table)
    assert isinstance(row["at"], str)
    assert row["n"] == 1
