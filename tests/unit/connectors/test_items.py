"""Rows that are already in the script."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

from raystream.connectors.items import ItemsSource
from raystream.contracts.source import END
from raystream.errors import PlanError


def polled(source, max_rows=100):
    (split,) = source.splits()
    reader = source.open(split, None)
    batches = []
    while (batch := reader.poll(max_rows)) is not END:
        batches.append(batch)
    return batches


def test_any_iterable_is_read_once_as_objects():
    source = ItemsSource(i * i for i in range(5))
    assert source.schema is None
    assert [b.rows for b in polled(source, 2)] == [[0, 1], [4, 9], [16]]
    assert [b.rows for b in polled(source)] == [[0, 1, 4, 9, 16]]
    assert polled(ItemsSource([])) == []


def test_dicts_with_a_schema_and_tables_are_columns():
    schema = pa.schema([("a", pa.int32()), ("b", pa.string())])
    dicts = ItemsSource([{"b": "x", "a": 1}, {"a": None, "b": None}], schema)
    assert dicts.schema == schema
    assert polled(dicts)[0].to_pylist() == [{"a": 1, "b": "x"}, {"a": None, "b": None}]
    table = pa.table({"b": pa.chunked_array([["x"], ["y"]]).dictionary_encode(), "a": [1, 2]})
    assert ItemsSource(table).schema == pa.schema([("b", pa.string()), ("a", pa.int64())])
    assert polled(ItemsSource(table, schema))[0].to_pylist() == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert polled(ItemsSource(table.slice(0, 0))) == []


def test_timestamps_travel_with_their_rows():
    moment = datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    source = ItemsSource(["a", "b", "c"], timestamps=[5, moment, -1])
    assert source.timed
    assert [b.timestamps.tolist() for b in polled(source, 2)] == [[5, 1_000_000], [-1]]
    array = np.array(["1970-01-01T00:00:01"], dtype="M8[s]")
    assert polled(ItemsSource(["a"], timestamps=array))[0].timestamps.tolist() == [1_000_000]
    assert not ItemsSource(["a"]).timed


def test_rows_and_timestamps_that_do_not_fit_are_refused():
    schema = pa.schema([("a", pa.int32())])
    with pytest.raises(PlanError, match="2 timestamps for 1 rows"):
        ItemsSource(["a"], timestamps=[1, 2])
    with pytest.raises(PlanError, match="\"a\" of row 1 is 'x'"):
        ItemsSource([{"a": 1}, {"a": "x"}], schema)
    with pytest.raises(PlanError, match='no column "a"'):
        ItemsSource(pa.table({"b": [1]}), schema)
    with pytest.raises(PlanError, match="does not fit the schema"):
        ItemsSource(pa.table({"a": ["x"]}), schema)
