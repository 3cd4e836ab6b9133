"""Rows made up as they are asked for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raystream.clock import ManualClock
from raystream.connectors.generator import DataGenSource
from raystream.contracts.source import END
from raystream.errors import PlanError, UserFunctionError

SCHEMA = pa.schema([("k", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("s", pa.string())])
BASE_US = 1_704_067_200_000_000


def read(source, max_rows=32_768):
    rows = []
    for split in source.splits():
        reader = source.open(split, None)
        while (polled := reader.poll(max_rows)) is not END:
            rows += polled if isinstance(polled, list) else polled.to_pylist()
    return rows


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float16(), pa.float32()),
        *(pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.binary()),
        *(pa.decimal128(10, 2), pa.decimal128(5, 5), pa.date32(), pa.date64()),
        *(pa.time32("s"), pa.time64("us"), pa.duration("us"), pa.timestamp("ns")),
        *(pa.timestamp("s", "Europe/Berlin"), pa.list_(pa.struct([("a", pa.int8())]))),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_columns_of_many_types_are_full_of_different_values(kind):
    source = DataGenSource(pa.schema([("c", kind)]), rows=200)
    reader = source.open(source.splits()[0], None)
    batch = reader.poll(200)
    batch.validate(full=True)
    assert batch.schema == source.schema
    assert batch.column(0).null_count == 0
    different = {str(value) for value in batch.column(0).to_pylist()}
    assert len(different) >= (2 if kind == pa.bool_() else 75)


def test_a_type_without_random_values_is_refused_at_once():
    with pytest.raises(PlanError, match="no random map"):
        DataGenSource(pa.schema([("m", pa.map_(pa.string(), pa.int64()))]))


def test_rows_are_dealt_to_splits_in_blocks_and_none_is_lost():
    source = DataGenSource(lambda i: i, rows=200_001)
    splits = source.splits()
    assert len(splits) == 3
    assert source.open(splits[1], None).poll(2) == [4_096, 4_097]
    assert source.open(splits[1], 4_096).poll(1) == [4 * 4_096]
    assert sorted(read(source)) == list(range(200_001))


def test_times_advance_by_a_millisecond_a_row_and_splits_know_where_they_begin():
    source = DataGenSource(SCHEMA, rows=140_000)
    for number, split in enumerate(source.splits()):
        first = source.open(split, None).poll(1).column("at").cast(pa.int64())[0].as_py()
        assert split.earliest == {"at": first}
        assert first == BASE_US + number * 4_096 * 1_000


def test_a_column_is_the_same_whatever_is_read_beside_it():
    narrow = DataGenSource(SCHEMA, rows=100).project(["s"])
    assert narrow.schema.names == ["s"]
    assert [r["s"] for r in read(narrow)] == [r["s"] for r in read(DataGenSource(SCHEMA, rows=100))]


def test_without_rows_it_never_ends():
    source = DataGenSource(lambda i: i)
    assert not source.bounded
    assert len(source.open(source.splits()[-1], 10**9).poll(7)) == 7
    assert DataGenSource(lambda i: i, rows=0).bounded
    assert read(DataGenSource(lambda i: i, rows=0)) == []


def test_rows_are_held_back_until_they_are_due():
    clock = ManualClock()
    source = DataGenSource(lambda i: i, rows=30, rows_per_second=20_000, clock=clock)
    (split,) = source.splits()
    reader = source.open(split, 5)
    assert reader.poll(100) is None
    clock.advance(49)
    assert reader.poll(100) is None
    clock.advance(1)
    assert reader.poll(100) == [5]
    clock.advance(500)
    assert reader.poll(4) == [6, 7, 8, 9]
    assert reader.poll(100) == list(range(10, 16))
    assert reader.poll(100) is None
    clock.advance(10_000_000)
    assert reader.poll(100) == list(range(16, 30))
    assert reader.poll(100) is END


def test_what_is_due_and_not_read_is_the_backlog():
    clock = ManualClock()
    source = DataGenSource(lambda i: i, rows=30, rows_per_second=20_000, clock=clock)
    reader = source.open(source.splits()[0], None)
    assert (reader.poll(100), reader.backlog()) == (None, 0)
    clock.advance(500)
    assert reader.backlog() == 10
    assert len(reader.poll(4)) == 4
    assert reader.backlog() == 6
    clock.advance(10_000_000)
    assert reader.backlog() == 26
    endless = DataGenSource(SCHEMA)
    assert endless.open(endless.splits()[0], None).backlog() is None


def test_a_high_rate_is_shared_by_splits():
    clock = ManualClock()
    source = DataGenSource(SCHEMA, rows_per_second=1_000_000, clock=clock)
    splits = source.splits()
    readers = [source.open(split, None) for split in splits]
    assert all(reader.poll(10) is None for reader in readers)
    clock.advance(10_000)
    assert sum(reader.poll(100_000).num_rows for reader in readers) == 10_000


def test_a_function_that_raises_is_told_with_its_row():
    source = DataGenSource(lambda i: 1 // (i - 3), rows=5)
    with pytest.raises(UserFunctionError, match="ZeroDivisionError") as failed:
        read(source)
    assert failed.value.row == "3"


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"rows_per_second": 0}])
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        DataGenSource(SCHEMA, **wrong)
    with pytest.raises(PlanError, match="takes a schema or a function"):
        DataGenSource(7)
