import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Objects, wire_schema, with_times
from raystream.operators.explode import ExplodeSpec, explode_schema
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.with_schema import WithSchemaSpec

LISTS = pa.RecordBatch.from_pydict(
    {"n": [1, 2, 3, 4, 5], "w": [["a", "b"], [], None, ["c", None], ["d"]], "z": list("vwxyz")}
)


def run(spec, batch, limits=None):
    operator = spec.build()
    operator.open(OpenContext(operator="op#1", where="job.py:4", limits=limits or Limits()))
    return list(operator.on_batch(0, batch))


def exploded(record, times=None, limits=None):
    schema = explode_schema(record.schema, "w", "", "s")
    spec = ExplodeSpec("w", wire_schema(schema, timed=times is not None))
    batches = run(spec, with_times(record, times), limits)
    assert all(batch.record.schema == spec.output for batch in batches)
    return batches


@pytest.mark.parametrize("start", range(5))
def test_explode_does_what_polars_does(start):
    record = LISTS.slice(start)
    frame = pl.from_arrow(pa.Table.from_batches([record]))
    (batch,) = exploded(record)
    assert batch.record.to_pylist() == frame.explode("w").to_dicts()


def test_explode_repeats_event_time_and_cuts_long_lists():
    batches = exploded(LISTS, np.arange(5), Limits(batch_rows_max=2))
    assert [batch.num_rows for batch in batches] == [2, 2, 2]
    assert [t for batch in batches for t in batch.timestamps.tolist()] == [0, 0, 2, 3, 3, 4]


def test_explode_of_empty_lists_gives_nothing():
    assert exploded(LISTS.slice(1, 1)) == []


def test_explode_of_lists_of_fixed_size():
    kind = pa.list_(pa.int64(), 2)
    record = pa.RecordBatch.from_pydict({"w": pa.array([[1, 2], None, [3, 4]], kind)})
    (batch,) = exploded(record)
    assert batch.record.column(0).to_pylist() == [1, 2, None, 3, 4]


def test_explode_refuses_what_is_no_list():
    with pytest.raises(PlanError, match='"n" is int64'):
        explode_schema(LISTS.schema, "n", "", "s")
    with pytest.raises(PlanError, match='"q" not found in stream "s"'):
        explode_schema(LISTS.schema, "q", "", "s")


def test_key_by_a_function_gives_objects_with_keys():
    spec = KeyByFunctionSpec(Function(lambda row: row["n"] % 2), "key_by#1", "", columnar=True)
    (batch,) = run(spec, with_times(LISTS.select(["n"]), np.arange(5)))
    assert isinstance(batch, Objects)
    assert batch.keys == [1, 0, 1, 0, 1]
    assert batch.values[0] == {"n": 1}
    assert batch.timestamps.tolist() == [0, 1, 2, 3, 4]


def test_key_by_fields_gives_the_value_of_one_and_the_tuple_of_several():
    rows = Objects([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    assert run(KeyByFieldsSpec(("a",), "key_by#1", ""), rows)[0].keys == [1, 2]
    assert run(KeyByFieldsSpec(("a", "b"), "key_by#1", ""), rows)[0].keys == [(1, "x"), (2, "y")]


def test_a_row_without_the_key_field_is_named():
    with pytest.raises(UserFunctionError, match="KeyError: 'a'") as caught:
        run(KeyByFieldsSpec(("a",), "key_by#1", "job.py:1"), Objects([{"a": 1}, {"b": 2}]))
    assert caught.value.row == "{'b': 2}"


def test_with_schema_turns_dicts_into_columns_and_keeps_event_time():
    spec = WithSchemaSpec(wire_schema(pa.schema([("a", pa.int64())]), timed=True))
    (batch,) = run(spec, Objects([{"a": 1}], np.array([9])))
    assert batch.record.to_pylist() == [{"a": 1, "__ts": 9}]
    with pytest.raises(UserFunctionError, match='op#1: row 0 has no "a"'):
        run(spec, Objects([{"b": 1}], np.array([9])))
