import numpy as np
import pyarrow as pa
import pytest

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.errors import UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, Objects, with_times
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec

RECORD = pa.RecordBatch.from_pydict({"a": [1, 2, 3]})
TIMES = np.array([10, 20, 30])
WIRE = pa.schema([("a", pa.int64()), EVENT_TIME_FIELD])
HERE = ("fn#1", "job.py:2")


def opened(spec, limits=None):
    operator = spec.build()
    operator.open(OpenContext(limits=limits or Limits()))
    return operator


def rows_and_times(batches):
    rows, times = [], []
    for batch in batches:
        values = batch.visible.to_pylist() if isinstance(batch, Columns) else batch.values
        rows += values
        times += [] if batch.timestamps is None else batch.timestamps.tolist()
    return rows, times


def test_map_over_columns_gives_dicts_and_makes_objects():
    (batch,) = opened(MapSpec(Function(lambda row: row["a"] * 2), None, *HERE)).on_batch(
        0, with_times(RECORD, TIMES)
    )
    assert isinstance(batch, Objects)
    assert rows_and_times([batch]) == ([2, 4, 6], [10, 20, 30])


def test_map_with_a_schema_makes_columns_on_the_wire():
    (batch,) = opened(MapSpec(Function(lambda row: {"a": row["a"] + 1}), WIRE, *HERE)).on_batch(
        0, with_times(RECORD, TIMES)
    )
    assert batch.record.schema == WIRE
    assert rows_and_times([batch]) == ([{"a": 2}, {"a": 3}, {"a": 4}], [10, 20, 30])


def test_none_out_of_map_is_a_row():
    (batch,) = opened(MapSpec(Function(lambda row: None), None, *HERE)).on_batch(
        0, Objects([1, 2], np.array([5, 6]))
    )
    assert rows_and_times([batch]) == ([None, None], [5, 6])


def test_a_class_is_made_once_a_subtask_and_closed():
    class Count:
        made = 0

        def __init__(self, start):
            type(self).made += 1
            self.n = start

        def __call__(self, row):
            self.n += 1
            return self.n

        def close(self):
            type(self).made = -1

    operator = opened(MapSpec(Function(Count, {"start": 5}), None, *HERE))
    first = rows_and_times(operator.on_batch(0, Objects(["x", "y"])))[0]
    second = rows_and_times(operator.on_batch(0, Objects(["z"])))[0]
    assert (first, second, Count.made) == ([6, 7], [8], 1)
    operator.close()
    operator.close()
    assert Count.made == -1


def test_rows_of_flat_map_carry_the_event_time_of_the_row_in_hand():
    spec = FlatMapSpec(Function(lambda row: [row["a"]] * row["a"]), None, *HERE)
    batches = opened(spec).on_batch(0, with_times(RECORD, TIMES))
    assert rows_and_times(batches) == ([1, 2, 2, 3, 3, 3], [10, 20, 20, 30, 30, 30])


def test_flat_map_with_a_schema_makes_columns():
    def repeat(row):
        for _ in range(row):
            yield {"a": row}

    spec = FlatMapSpec(Function(repeat), WIRE, *HERE)
    batches = list(opened(spec).on_batch(0, Objects([2, 0, 1], TIMES)))
    assert batches[0].record.schema == WIRE
    assert rows_and_times(batches) == ([{"a": 2}, {"a": 2}, {"a": 1}], [10, 10, 30])


def test_a_hundred_thousand_rows_of_one_leave_in_bounded_batches_as_they_are_pulled():
    pulled = 0

    def many(row):
        nonlocal pulled
        for number in range(100_000):
            pulled += 1
            yield number

    operator = opened(FlatMapSpec(Function(many), None, *HERE), Limits(row_batch_rows_max=1_000))
    batches = operator.on_batch(0, Objects(["one"], np.array([7])))
    sizes = [next(batches).num_rows for _ in range(3)]
    assert (sizes, pulled) == ([1_000] * 3, 3_000)
    rest = list(batches)
    assert len(rest) == 97
    assert rest[-1].values[-1] == 99_999
    assert set(rest[-1].timestamps.tolist()) == {7}


def test_a_list_longer_than_a_batch_is_cut_too():
    spec = FlatMapSpec(Function(lambda row: list(range(row))), None, *HERE)
    operator = opened(spec, Limits(row_batch_rows_max=4))
    batches = list(operator.on_batch(0, Objects([2, 9])))
    assert [batch.num_rows for batch in batches] == [4, 4, 3]
    assert rows_and_times(batches)[0] == [0, 1, *range(9)]


def test_filter_keeps_the_kind_the_columns_and_the_times():
    spec = FilterFunctionSpec(Function(lambda row: row["a"] != 2), *HERE)
    (batch,) = opened(spec).on_batch(0, with_times(RECORD, TIMES))
    assert batch.record.to_pylist() == [{"a": 1, "__ts": 10}, {"a": 3, "__ts": 30}]


def test_filter_keeps_keys_of_objects():
    spec = FilterFunctionSpec(Function(lambda row: row > 1), *HERE)
    (batch,) = opened(spec).on_batch(0, Objects([1, 2], TIMES[:2], ["k", "l"]))
    assert (batch.values, batch.keys, batch.timestamps.tolist()) == ([2], ["l"], [20])


@pytest.mark.parametrize(("keep", "count"), [(True, 1), (None, 0)])
def test_filter_of_all_or_nothing(keep, count):
    spec = FilterFunctionSpec(Function(lambda row: keep), *HERE)
    assert len(list(opened(spec).on_batch(0, Objects([1, 2])))) == count


@pytest.mark.parametrize("spec", [MapSpec, FlatMapSpec])
def test_a_function_that_raises_names_operator_row_and_line(spec):
    operator = opened(spec(Function(lambda row: 1 // row["a"]), None, *HERE))
    record = pa.RecordBatch.from_pydict({"a": [0]})
    with pytest.raises(UserFunctionError) as caught:
        list(operator.on_batch(0, with_times(record, np.array([1]))))
    assert caught.value.operator == "fn#1"
    assert caught.value.row == "{'a': 0}"
    assert caught.value.where == "job.py:2"
    assert "ZeroDivisionError" in caught.value.user_traceback


def test_an_empty_batch_gives_nothing():
    for spec in (
        MapSpec(Function(str), None, *HERE),
        FlatMapSpec(Function(list), None, *HERE),
        FilterFunctionSpec(Function(bool), *HERE),
    ):
        assert list(opened(spec).on_batch(0, Objects([]))) == []


def test_specs_print_their_function():
    assert MapSpec(Function(str.split), None, *HERE).describe() == "split"
