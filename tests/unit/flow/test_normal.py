from datetime import datetime, timezone

import pyarrow as pa
import pytest

from raystream.errors import PlanError
from raystream.flow.normal import normal_array, normal_record, normal_schema, normal_type

UTC = "UTC"
PLAIN = [
    (pa.dictionary(pa.int32(), pa.large_string()), pa.string()),
    (pa.large_binary(), pa.binary()),
    (pa.string_view(), pa.string()),
    (pa.run_end_encoded(pa.int32(), pa.int64()), pa.int64()),
    (pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "Europe/Berlin")),
    (pa.timestamp("s"), pa.timestamp("us")),
    (pa.large_list(pa.large_string()), pa.list_(pa.string())),
    (pa.list_(pa.int8(), 3), pa.list_(pa.int8(), 3)),
    (pa.map_(pa.large_string(), pa.int8()), pa.map_(pa.string(), pa.int8())),
    (pa.decimal32(5, 2), pa.decimal128(5, 2)),
    (pa.uuid(), pa.binary(16)),
]


@pytest.mark.parametrize(("kind", "plain"), PLAIN, ids=str)
def test_each_type_has_one_plain_form(kind, plain):
    assert normal_type(kind) == plain
    assert normal_type(plain) == plain


def test_a_schema_loses_its_metadata_and_keeps_names_and_nullability():
    field = pa.field("a", pa.large_string(), nullable=False, metadata={"k": "v"})
    plain = normal_schema(pa.schema([field], metadata={"x": "y"}))
    assert plain.equals(
        pa.schema([pa.field("a", pa.string(), nullable=False)]), check_metadata=True
    )


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(PlanError, match='"a" comes twice'):
        normal_schema(pa.schema([("a", pa.int64()), ("a", pa.string())]))


def test_nanoseconds_are_floored_also_before_1970():
    array = pa.array([1_999, -1, None, -1_001], pa.timestamp("ns", UTC))
    plain = normal_array(array, pa.timestamp("us", UTC))
    assert plain.cast(pa.int64()).to_pylist() == [1, -1, None, -2]


def test_nested_columns_are_brought_to_plain_types_also_in_a_slice():
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    times = pa.array([1_500, None, -1], pa.timestamp("ns", UTC))
    structs = pa.StructArray.from_arrays(
        [words, times], names=["w", "t"], mask=pa.array([False, False, True])
    )
    offsets = pa.array([0, 1, 1, 3], pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, structs, mask=pa.array([False, True, False]))
    record = pa.RecordBatch.from_arrays([lists], names=["l"])
    schema = normal_schema(record.schema)
    moment = datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc)
    whole = [[{"w": "a", "t": moment}], None, [{"w": "b", "t": None}, None]]
    assert normal_record(record, schema).column(0).to_pylist() == whole
    assert normal_record(record.slice(1), schema).column(0).to_pylist() == whole[1:]


def test_a_record_that_is_normal_already_is_not_copied():
    record = pa.RecordBatch.from_pydict({"a": [1]})
    assert normal_record(record, record.schema) is record
