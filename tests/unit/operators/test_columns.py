import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pytest

from raystream.contracts.context import OpenContext
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Columns, wire_schema, with_times
from raystream.operators.columns import (
    ColumnsSpec,
    Drop,
    Filter,
    Rename,
    Select,
    WithColumns,
    fuse,
    output_schema,
    required_columns,
)
from raystream.operators.expressions import event_time

col, lit = nw.col, nw.lit
BIDS = pa.RecordBatch.from_pydict(
    {"auction": [1, 2, 3, 4], "price": [10, None, 30, 40], "channel": ["a", "b", None, "d"]}
)
TIMES = np.array([100, 200, 300, 400])


def spec_of(*steps, schema=BIDS.schema, timed=True):
    for step in steps:
        schema = output_schema(schema, timed, step, "job.py:5", "bids")
    return ColumnsSpec("verb", steps, wire_schema(schema, timed=timed))


def run(*steps, record=BIDS, times=TIMES):
    spec = spec_of(*steps, schema=record.schema, timed=times is not None)
    operator = spec.build()
    operator.open(OpenContext(operator="select#1", where="job.py:5"))
    batches = list(operator.on_batch(0, with_times(record, times)))
    for batch in batches:
        assert batch.record.schema.equals(spec.output, check_metadata=True)
    return [row for batch in batches for row in batch.record.to_pylist()]


def test_filter_keeps_rows_that_are_true_and_drops_null():
    rows = run(Filter(col("price") > 10))
    assert [(row["auction"], row["__ts"]) for row in rows] == [(3, 300), (4, 400)]


def test_a_filter_that_drops_everything_gives_no_batch():
    operator = spec_of(Filter(col("price") > 1000)).build()
    operator.open(OpenContext())
    assert list(operator.on_batch(0, with_times(BIDS, TIMES))) == []


def test_select_computes_renames_and_orders_and_event_time_rides_along():
    rows = run(Select((("n", col("price") + 1), ("auction", None), ("t", event_time()))))
    assert list(rows[0]) == ["n", "auction", "t", "__ts"]
    assert [row["n"] for row in rows] == [11, None, 31, 41]
    assert [row["__ts"] for row in rows] == [100, 200, 300, 400]


def test_select_may_swap_columns():
    rows = run(Select((("auction", col("price")), ("price", col("auction")))), times=None)
    assert rows[0] == {"auction": 10, "price": 1}


@pytest.mark.parametrize("times", [TIMES, None], ids=["timed", "without time"])
def test_literals_alone_give_as_many_rows_as_came(times):
    rows = run(Select((("five", lit(5)), ("word", lit("x")))), times=times)
    assert [(row["five"], row["word"]) for row in rows] == [(5, "x")] * 4


def test_literals_behind_a_filter_keep_the_number_of_rows():
    rows = run(Filter(col("price") > 10), Select((("five", lit(5)),)), times=None)
    assert rows == [{"five": 5}] * 2


def test_with_columns_replaces_in_place_and_all_see_the_input():
    rows = run(WithColumns((("price", col("price") * 2), ("old", col("price")))))
    assert list(rows[0]) == ["auction", "price", "channel", "old", "__ts"]
    assert (rows[0]["price"], rows[0]["old"]) == (20, 10)


def test_drop_and_rename_keep_the_rest():
    rows = run(Drop(("channel",)), Rename((("auction", "price"), ("price", "auction"))))
    assert rows[0] == {"price": 1, "auction": 10, "__ts": 100}


def test_an_empty_batch_gives_nothing():
    operator = spec_of(Select((("five", lit(5)),))).build()
    operator.open(OpenContext())
    assert list(operator.on_batch(0, with_times(BIDS.slice(0, 0), TIMES[:0]))) == []


def test_steps_that_follow_each_other_become_one_operator():
    first = spec_of(Filter(col("price") > 10))
    second = spec_of(Select((("n", col("price") + 1),)))
    both = fuse(first, second)
    operator = both.build()
    operator.open(OpenContext())
    (batch,) = operator.on_batch(0, with_times(BIDS, TIMES))
    assert batch.record.to_pylist() == [{"n": 31, "__ts": 300}, {"n": 41, "__ts": 400}]
    assert both.describe() == "price > 10 \u2192 select n=price + 1"
    assert both.verb == "verb"


def test_a_schema_that_says_not_null_keeps_saying_so():
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.int64())])
    step = Select((("a", None), ("c", col("a") + 1)))
    behind = output_schema(schema, False, step, "", "s")
    assert behind == pa.schema([pa.field("a", pa.int64(), nullable=False), ("c", pa.int64())])


def test_pushdown_asks_for_what_is_read_and_no_more():
    steps = (
        WithColumns((("x", col("auction") + 1), ("dead", col("channel")))),
        Filter(col("price") > 10),
        Rename((("x", "y"),)),
        Select((("y", None),)),
    )
    assert required_columns(steps, BIDS.schema, True, None) == {"auction", "price"}
    every = set(BIDS.schema.names)
    assert required_columns(steps[:1], BIDS.schema, True, None) == every
    assert required_columns(steps[:1], BIDS.schema, True, {"price"}) == {"price"}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Select((("prcie", None),)), 'Did you mean "price"'),
        (Drop(("chanel",)), 'Did you mean "channel"'),
        (Rename((("actoin", "a"),)), 'Did you mean "auction"'),
        (Rename((("auction", "price"),)), '"price" comes twice'),
        (WithColumns((("__ts", col("price")),)), "hidden event time"),
        (Rename((("price", "__ts"),)), "hidden event time"),
        (Drop(("auction", "price", "channel")), "no column is left"),
        (Filter(col("price") + 1), "boolean expression; price + 1 is int64"),
        (Filter(col("price") > col("price").mean()), "not row-wise"),
    ],
    ids=str,
)
def test_a_step_that_cannot_be_is_refused_while_the_job_is_built(step, message):
    with pytest.raises(PlanError) as caught:
        output_schema(BIDS.schema, True, step, "job.py:5", "bids")
    assert message in str(caught.value)
    assert "job.py:5" in str(caught.value)


def test_an_expression_that_fails_on_a_row_names_itself_and_the_row():
    record = pa.RecordBatch.from_pydict({"a": [1, 2, 2**53 + 1, 4], "b": [1, 2, 3, 4]})
    step = WithColumns((("fine", col("b") + 1), ("half", col("a") * 0.5)), where="job.py:8")
    with pytest.raises(UserFunctionError) as caught:
        run(step, record=record)
    error = caught.value
    assert error.operator == "select#1"
    assert error.where == "job.py:8"
    assert '"half" = a * 0.5 failed' in error.message
    assert error.row == "{'a': 9007199254740993, 'b': 3}"
    assert "2**53" in error.hint
    assert error.user_traceback == ""


def test_a_batch_of_another_shape_is_prepared_anew():
    operator = spec_of(Select((("auction", None),))).build()
    operator.open(OpenContext())
    narrow = BIDS.select(["auction"])
    for record in (BIDS, narrow, BIDS):
        (batch,) = operator.on_batch(0, with_times(record, TIMES))
        assert isinstance(batch, Columns)
        assert batch.record.schema.names == ["auction", "__ts"]
