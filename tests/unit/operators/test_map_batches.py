import datetime as dt
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import raystream as rs
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Objects, wire_schema, with_times
from raystream.operators.map_batches import MapBatchesSpec, check_batch_format

UTC = dt.timezone.utc
RECORD = pa.RecordBatch.from_pydict(
    {
        "a": [1, 2, None],
        "s": ["x", None, "z"],
        "t": pa.array([0, 1_500_000, None], pa.timestamp("us", "UTC")),
        "ok": [True, False, None],
    }
)
TIMES = np.array([10, 20, 30])


def run(function, *, schema=RECORD.schema, times=TIMES, record=RECORD, limits=None, **options):
    output = wire_schema(schema, timed=times is not None)
    spec = MapBatchesSpec(Function(function), output, "map_batches#1", "job.py:6", **options)
    operator = spec.build()
    operator.open(OpenContext(limits=limits or Limits()))
    batches = list(operator.on_batch(0, with_times(record, times)))
    for batch in batches:
        assert batch.record.schema.equals(output, check_metadata=True)
    return batches


@pytest.mark.parametrize(
    ("batch_format", "kind"),
    [
        ("arrow", pa.RecordBatch),
        ("pandas", pd.DataFrame),
        ("numpy", dict),
        ("polars", pl.DataFrame),
    ],
)
def test_what_goes_through_unchanged_comes_out_unchanged(batch_format, kind):
    def same(batch):
        assert isinstance(batch, kind)
        return batch

    (batch,) = run(same, batch_format=batch_format)
    assert batch.visible.to_pylist() == RECORD.to_pylist()
    assert batch.timestamps.tolist() == TIMES.tolist()


def test_arrow_functions_may_add_columns_and_return_a_table():
    schema = RECORD.schema.append(pa.field("n", pa.int32()))

    def add(batch):
        longer = batch.append_column("n", pc.count_substring(batch["s"], "x"))
        return pa.Table.from_batches([longer, longer]).slice(0, 3)

    (batch,) = run(add, schema=schema)
    assert batch.record.column("n").to_pylist() == [1, None, 0]


def test_large_and_dictionary_columns_come_out_plain():
    def encode(batch):
        return pa.RecordBatch.from_pydict(
            {
                "s": batch["s"].dictionary_encode(),
                "t": batch["t"].cast(pa.timestamp("ns", "UTC")),
                "a": batch["a"],
                "ok": batch["ok"],
            }
        )

    (batch,) = run(encode)
    assert batch.visible.equals(RECORD)


def test_numpy_functions_may_write_into_what_they_get_and_return_lists():
    schema = pa.schema([("a", pa.int64()), ("v", pa.list_(pa.float32()))])

    def vectors(batch):
        batch["a"] += 1
        return {"a": batch["a"], "v": np.ones((len(batch["a"]), 2), dtype=np.float32)}

    record = pa.RecordBatch.from_pydict({"a": [1, 2]})
    (batch,) = run(vectors, schema=schema, record=record, times=TIMES[:2], batch_format="numpy")
    assert batch.visible.to_pylist() == [{"a": 2, "v": [1, 1]}, {"a": 3, "v": [1, 1]}]


def test_pandas_times_of_any_zone_stay_the_same_moments():
    def shift(frame):
        frame["t"] = frame["t"].dt.tz_convert("Asia/Tokyo") + pd.Timedelta("1s")
        return frame

    (batch,) = run(shift, batch_format="pandas")
    assert batch.record.column("t")[0].as_py() == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_batch_size_is_a_maximum():
    sizes = []

    def note(batch):
        sizes.append(batch.num_rows)
        return batch

    assert len(run(note, batch_size=2)) == 2
    assert sizes == [2, 1]


def test_rows_may_change_in_number_without_event_time():
    (batch,) = run(lambda batch: batch.slice(0, 1), times=None)
    assert batch.num_rows == 1
    assert run(lambda batch: batch.slice(0, 0), times=None) == []


def test_rows_that_change_in_number_must_name_their_event_time():
    with pytest.raises(UserFunctionError, match="returned 2 rows for 3") as caught:
        run(lambda batch: batch.slice(0, 2))
    assert 'timestamp="column"' in caught.value.hint
    (batch,) = run(lambda batch: batch.slice(0, 2), timestamp="t")
    assert batch.timestamps.tolist() == [0, 1_500_000]
    with pytest.raises(UserFunctionError, match='nulls in "t"'):
        run(lambda batch: batch, timestamp="t")


def test_what_a_function_makes_of_little_leaves_in_bounded_batches():
    def many(batch):
        return pa.Table.from_batches([batch] * 10)

    batches = run(many, times=None, limits=Limits(batch_rows_max=8))
    assert [batch.num_rows for batch in batches] == [8, 8, 8, 6]


def test_dicts_may_be_returned_too():
    schema = pa.schema([("n", pa.int64())])
    (batch,) = run(lambda batch: [{"n": i} for i in range(batch.num_rows)], schema=schema)
    assert batch.visible.to_pylist() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_objects_go_through_as_a_list():
    spec = MapBatchesSpec(Function(lambda rows: rows[::-1]), None, "map_batches#1", "")
    operator = spec.build()
    operator.open(OpenContext())
    (batch,) = operator.on_batch(0, Objects([1, 2], TIMES[:2]))
    assert (batch.values, batch.timestamps.tolist()) == ([2, 1], [10, 20])  # noqa: PD011  no pandas here


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda batch: batch.select(["a", "t"]), 'without "s", "ok"'),
        (lambda batch: batch.append_column("b", batch["a"]), 'with "b", which the schema has not'),
        (lambda batch: batch.set_column(0, "a", batch["s"]), '"a" as string where .* int64'),
        (lambda batch: None, "returned a NoneType"),
        (lambda batch: {**batch.to_pydict(), "a": [1]}, "different lengths"),
        (lambda batch: {**batch.to_pydict(), "a": ["x", "y", "z"]}, '"a" in a way'),
        (lambda batch: 1 // 0, "ZeroDivisionError"),
    ],
    ids=range(7),
)
def test_a_batch_that_differs_is_refused_naming_the_columns(function, message):
    with pytest.raises(UserFunctionError, match=message) as caught:
        run(function)
    assert "map_batches#1" in str(caught.value)
    assert caught.value.where == "job.py:6"


def test_formats_and_sizes_are_checked_while_the_job_is_built():
    with pytest.raises(PlanError, match='no batch_format "spark"'):
        check_batch_format("spark", None, "job.py:1")
    with pytest.raises(PlanError, match="1 or more, got 0"):
        check_batch_format("arrow", 0, "job.py:1")
    check_batch_format("polars", 5, "job.py:1")


def collected(function: Any, *, timed: bool = False, **options: Any) -> list[Any]:
    table = pa.table({"a": [1, 2, 3]})
    watermark = rs.WatermarkStrategy("a") if timed else None
    stream = rs.Job("batches").from_items(table, watermark=watermark)
    return [row["a"] for row in stream.map_batches(function, **options).collect()]


def one_by_one(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for place in range(batch.num_rows):
        yield batch.slice(place, 1)


@pytest.mark.parametrize("timed", [False, True])
def test_batches_may_be_yielded_or_returned_in_a_list(timed: bool):
    assert collected(one_by_one, timed=timed) == [1, 2, 3]
    assert collected(lambda batch: list(one_by_one(batch)), timed=timed) == [1, 2, 3]


@pytest.mark.parametrize(
    ("part", "told"), [(slice(0, 2), "2 rows for 3"), (slice(0, 4), "3 rows for 0")]
)
def test_what_is_yielded_has_a_row_for_each_event_time(part: slice, told: str):
    def some(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        parts = [*one_by_one(batch), batch]
        yield from parts[part]

    with pytest.raises(rs.JobFailed, match=f"{told}, which leaves their event time open"):
        collected(some, timed=True)


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize(
    "function",
    [
        lambda batch: batch.slice(0, 0),
        lambda batch: [],
        lambda batch: iter([]),
        lambda batch: iter([batch.slice(0, 0), batch.slice(0, 0)]),
    ],
    ids=["returned", "rows", "yields nothing", "yields no rows"],
)
def test_a_batch_of_which_nothing_is_left_leaves_no_event_time_open(function: Any, policy: str):
    given = rs.Job("batches").from_items(pa.table({"a": [1, 2, 3]}), timestamps=[1, 2, 3])
    stream = given.map_batches(function, batch_size=2).on_error(policy)
    assert stream.collect() == []


def test_batches_that_are_dropped_whole_leave_the_others_their_event_times():
    given = rs.Job("batches").from_items([1, 2, 3], timestamps=[10, 20, 30])
    odd = given.map_batches(lambda rows: [row for row in rows if row % 2], batch_size=1)
    run = rs.testing.run(odd)
    assert [event for event in run.events if isinstance(event, rs.testing.At)] == [
        rs.testing.At(10, 1),
        rs.testing.At(30, 3),
    ]
