import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from raystream.errors import UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, with_times
from raystream.operators.pyrows import to_columns, to_rows

UTC = dt.timezone.utc
SCHEMA = pa.schema([("a", pa.int64()), pa.field("b", pa.string(), nullable=False)])


def columns(rows, schema=SCHEMA, times=None):
    return to_columns(rows, schema, times, operator="map#1", where="job.py:3").record


def test_the_hidden_event_time_is_no_part_of_a_row():
    record = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert to_rows(with_times(record, np.array([5, 6])).record) == [{"a": 1}, {"a": 2}]


def test_zoned_timestamps_are_aware_utc_and_naive_ones_stay_naive():
    kind = pa.timestamp("us", "America/New_York")
    record = pa.RecordBatch.from_pydict(
        {"z": pa.array([0, None], kind), "n": pa.array([-1, None], pa.timestamp("us"))}
    )
    rows = to_rows(record)
    assert rows[0]["z"] == dt.datetime(1970, 1, 1, tzinfo=UTC)
    assert rows[0]["z"].tzinfo is UTC
    assert rows[0]["n"] == dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
    assert rows[1] == {"z": None, "n": None}


def test_a_timestamp_that_python_does_not_have_names_its_column():
    record = pa.RecordBatch.from_pydict({"a": [1], "t": pa.array([2**62], pa.timestamp("us"))})
    with pytest.raises(UserFunctionError, match=r'column "t": .* years 1 to 9999'):
        to_rows(record)


def test_names_that_are_no_python_names_are_keys_all_the_same():
    record = pa.RecordBatch.from_pydict({'a "b"\n{c}': [1], "class": [2], "": [3]})
    assert to_rows(record) == [{'a "b"\n{c}': 1, "class": 2, "": 3}]


def test_rows_without_columns_keep_their_number():
    record = pa.RecordBatch.from_pydict({"a": [1, 2]}).select([])
    assert to_rows(record) == [{}, {}]


def test_event_times_stand_beside_the_columns():
    record = columns([{"a": 1, "b": "x"}], SCHEMA.append(EVENT_TIME_FIELD), np.array([7]))
    assert record.schema.equals(SCHEMA.append(EVENT_TIME_FIELD))
    assert record.to_pylist() == [{"a": 1, "b": "x", "__ts": 7}]


def test_the_order_of_keys_does_not_matter():
    assert columns([{"b": "x", "a": None}]).to_pylist() == [{"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"a": 1}, 'row 1 has no "b"'),
        ({"a": 1, "b": "x", "c": 2}, "row 1 has 'c', which is no column"),
        ((1, "x"), "row 1 is a tuple, not a dict"),
        (None, "row 1 is a NoneType, not a dict"),
        ({"a": "one", "b": "x"}, "\"a\" of row 1 is 'one', a str, which does not fit int64"),
        ({"a": 1.5, "b": "x"}, '"a" of row 1 is 1.5, a float, which does not fit int64'),
        ({"a": 2**63, "b": "x"}, "does not fit int64"),
        ({"a": 1, "b": 5}, '"b" of row 1 is 5, an int, which does not fit string'),
        ({"a": 1, "b": None}, '"b" of row 1 is None; the column is declared not null'),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_column(bad, message):
    with pytest.raises(UserFunctionError) as caught:
        columns([{"a": 1, "b": "x"}, bad])
    assert message in str(caught.value)
    assert "map#1" in str(caught.value)
    assert "job.py:3" in str(caught.value)
    assert caught.value.row == repr(bad)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ([1, 1.5], pa.list_(pa.int64())),
        ({"n": 1.5}, pa.struct({"n": pa.int64()})),
        ([{"n": np.float64(1.5)}], pa.list_(pa.struct({"n": pa.int64()}))),
        ((None, 0.5), pa.large_list(pa.duration("us"))),
    ],
)
def test_a_fraction_inside_a_nested_value_is_not_cut(bad, kind):
    with pytest.raises(UserFunctionError, match='"a" of row 1 is .* which does not fit'):
        columns([{"a": None}, {"a": bad}], pa.schema({"a": kind}))


def test_whole_floats_inside_a_nested_value_fit_integers():
    kind = pa.list_(pa.struct({"n": pa.int64(), "f": pa.float64()}))
    rows = [{"a": [{"n": 2.0, "f": 1.5}, None]}, {"a": None}]
    assert columns(rows, pa.schema({"a": kind})).to_pylist() == rows


POINT = pa.struct({"x": pa.int64()})


@pytest.mark.parametrize(
    ("bad", "kind", "path"),
    [
        ({"x": 1, "y": 2}, POINT, "a"),
        ({"y": 2}, POINT, "a"),
        ({"b": {"x": 1, "y": 2}}, pa.struct({"c": POINT, "b": POINT}), "a.b"),
        ([{"x": 1}, None, {"x": 1, "y": 2}], pa.list_(POINT), "a"),
        (({"x": 1}, {"y": 2}), pa.list_(POINT, 2), "a"),
        ([{"b": [[{"y": 2}]]}], pa.list_(pa.struct({"b": pa.list_(pa.list_(POINT))})), "a.b"),
        ([("k", {"x": 1, "y": 2})], pa.map_(pa.string(), POINT), "a"),
    ],
)
def test_a_key_that_is_no_field_of_a_struct_is_named_with_its_place(bad, kind, path):
    with pytest.raises(UserFunctionError) as caught:
        columns([{"a": None}, {"a": bad}], pa.schema({"a": kind}))
    assert f"\"{path}\" of row 1 has 'y', which is no field" in str(caught.value)
    assert caught.value.hint == "the fields are x"
    assert caught.value.row == repr({"a": bad})
    assert caught.value.where == "job.py:3"


def test_a_field_that_a_struct_has_not_is_null():
    kind = pa.list_(pa.struct({"x": pa.int64(), "p": POINT}))
    rows = [{"a": [{"x": 1}, {"p": {}}, {}, None]}, {"a": []}, {"a": None}]
    full = [{"x": 1, "p": None}, {"x": None, "p": {"x": None}}, {"x": None, "p": None}, None]
    assert columns(rows, pa.schema({"a": kind})).to_pylist() == [{"a": full}, *rows[1:]]


def test_maps_have_keys_of_their_own():
    kind = pa.map_(pa.string(), POINT)
    rows = [{"a": [("k", {"x": 1}), ("l", None)]}, {"a": []}, {"a": None}]
    assert columns(rows, pa.schema({"a": kind})).to_pylist() == rows


def test_a_whole_float_and_a_numpy_number_fit_an_integer():
    rows = [{"a": 2.0, "b": "x"}, {"a": np.int32(3), "b": "y"}]
    assert columns(rows).column("a").to_pylist() == [2, 3]
