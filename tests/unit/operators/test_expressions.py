import datetime as dt
from decimal import Decimal

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pytest

from raystream.errors import PlanError
from raystream.flow.batch import NO_TIME, with_times
from raystream.operators.expression_tree import text
from raystream.operators.expressions import (
    Evaluator,
    columns_used,
    event_time,
    infer_types,
    output_name,
    to_expr,
)

col, lit, when = nw.col, nw.lit, nw.when
UTC = pa.timestamp("us", "UTC")
BIDS = pa.schema(
    {
        "auction": pa.int64(),
        "small": pa.int32(),
        "big": pa.uint64(),
        "price": pa.int64(),
        "rate": pa.float64(),
        "channel": pa.string(),
        "url": pa.string(),
        "total": pa.decimal128(10, 2),
        "tags": pa.list_(pa.string()),
        "dateTime": UTC,
        "local": pa.timestamp("us"),
        "day": pa.date32(),
        "ok": pa.bool_(),
        "place": pa.struct([("x", pa.int64())]),
    }
)
GROUP = r"^(?:.*?&)?channel_id=([^&]*).*$"


def typed(expr, timed=True):
    return infer_types(BIDS, timed, {"x": expr}, "job.py:9", "bids")["x"]


VALID = [
    (col("price") * 2 + 1, pa.int64()),
    (col("price") * Decimal("0.908"), pa.decimal128(23, 3)),
    (col("auction") % 123 == 0, pa.bool_()),
    (col("price") * 0.5, pa.float64()),
    (col("price") // 0, pa.int64()),
    (col("big") + col("auction"), pa.int64()),
    (col("total") * 2, pa.decimal128(30, 2)),
    (col("rate").cast(nw.Int64), pa.int64()),
    (col("channel").cast(nw.Int64), pa.int64()),
    (col("channel").cast(nw.Categorical), pa.string()),
    (col("auction").cast(nw.Int8), pa.int8()),
    (col("channel").str.to_lowercase().str.split(" "), pa.list_(pa.string())),
    (col("channel").str.to_date("%Y-%m-%d"), pa.date32()),
    (col("channel").str.to_datetime("%Y-%m-%d %H:%M:%S"), pa.timestamp("us")),
    (col("tags").list.get(9), pa.string()),
    (col("dateTime").dt.to_string("%H:%M"), pa.string()),
    (col("dateTime") - dt.timedelta(hours=1), UTC),
    (col("local").dt.replace_time_zone("Europe/Berlin"), pa.timestamp("us", "Europe/Berlin")),
    (event_time().dt.truncate("10s"), UTC),
    (lit(5), pa.int64()),
    (lit(None), pa.null()),
    (lit([1, 2]), pa.list_(pa.int64())),
    (when(col("ok")).then(lit("a")).otherwise(col("url")), pa.string()),
    (col("place").struct.field("x"), pa.int64()),
    (nw.concat_str("channel", "url"), pa.string()),
    (nw.coalesce("price", lit(0)), pa.int64()),
    (col("auction").map_batches(lambda s: s + 1), pa.int64()),
    (
        col("channel").replace_strict(
            ["apple"],
            ["0"],
            default=when(col("url").str.contains(GROUP)).then(
                col("url").str.replace_all(GROUP, r"\1")
            ),
        ),
        pa.string(),
    ),
]


@pytest.mark.parametrize(("expr", "kind"), VALID, ids=[text(expr) for expr, _ in VALID])
def test_a_row_wise_expression_passes_and_its_type_is_known(expr, kind):
    assert typed(expr) == kind


OVER_ROWS = [
    col("price").shift(1),
    col("price").cum_sum(),
    col("price").diff(),
    col("price").mean(),
    col("price").sum() + col("price"),
    col("price").sum().over("auction"),
    col("price") > col("price").mean() * 10**9,
    col("price").rank("min"),
    col("price").is_unique(),
    col("price").is_first_distinct(),
    col("price").drop_nulls(),
    col("price").unique(),
    col("price").fill_null(strategy="forward"),
    col("price").rolling_mean(2),
    col("price").n_unique(),
    nw.len(),
    when(col("ok")).then(col("price").max()),
    nw.sum_horizontal("price", col("auction").min()),
    col("price").map_batches(lambda s: s - s.mean()),
    col("price").map_batches(lambda s: s.head(2)),
]


@pytest.mark.parametrize("expr", OVER_ROWS, ids=text)
def test_an_expression_over_several_rows_is_refused_with_the_users_line(expr):
    with pytest.raises(PlanError, match="is not row-wise") as caught:
        typed(expr)
    assert caught.value.where == "job.py:9"


# A comparison that is false for every ordinary value gives itself away in its text only.
PROBES_TELL = [expr for expr in OVER_ROWS if "1000000000" not in text(expr)]


@pytest.mark.parametrize("expr", PROBES_TELL, ids=text)
def test_the_probes_alone_would_refuse_it_too(expr, monkeypatch):
    monkeypatch.setattr(
        "raystream.operators.expressions.expression_tree.not_row_wise", lambda _: None
    )
    with pytest.raises(PlanError, match="is not row-wise"):
        typed(expr)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (col("channel") + 1, '"channel" is string'),
        (col("price").dt.year(), "int64"),
        (col("dateTime") > col("local"), "Cannot compare"),
        (col("channel").is_in([1]), "string vs int64"),
        (col("channel").str.contains("("), "Invalid regular expression"),
        (nw.all(), "several columns"),
        (col("price", "rate"), "several columns"),
    ],
    ids=str,
)
def test_types_that_do_not_go_together_are_refused(expr, message):
    with pytest.raises(PlanError) as caught:
        typed(expr)
    assert message in str(caught.value)


def test_an_unknown_column_names_what_there_is_and_what_may_have_been_meant():
    with pytest.raises(PlanError) as caught:
        typed(col("prcie") + 1)
    assert caught.value.message == (
        'column "prcie" not found in stream "bids". Available: auction, small, big, price, rate, '
        "channel, url, total, tags, dateTime, local, day, ok, place. "
        'Did you mean "price"?'
    )


def test_event_time_of_a_stream_without_it_names_the_way_out():
    with pytest.raises(PlanError, match='stream "bids" has no event time') as caught:
        typed(event_time(), timed=False)
    assert "watermark strategy" in caught.value.hint


@pytest.mark.parametrize(
    ("expr", "used"),
    [
        (col("price") * 2, {"price"}),
        (when(col("ok")).then(lit([1])).otherwise(lit([2])), {"ok"}),
        (nw.coalesce("price", "small"), {"price", "small"}),
        (event_time(), {"__ts"}),
        (lit(1), set()),
        (col("tags").list.get(9), {"tags"}),
        (nw.max_horizontal(nw.all()), set(BIDS.names)),
    ],
    ids=["one", "when", "names", "event time", "literal", "list", "all"],
)
def test_the_columns_that_an_expression_reads_are_known(expr, used):
    assert columns_used(expr, BIDS, timed=True) == used


def test_literals_alone_give_one_value_a_row():
    record = pa.RecordBatch.from_pydict({"a": [1, 2, 3]})
    values = Evaluator({"x": lit(5), "y": lit("z")}).evaluate(record)
    assert [array.to_pylist() for array in values] == [[5, 5, 5], ["z", "z", "z"]]


def test_event_time_is_a_timestamp_and_null_where_a_row_has_none():
    record = with_times(pa.RecordBatch.from_pydict({"a": [1, 2]}), np.array([5, NO_TIME])).record
    (times,) = Evaluator({"t": event_time()}).evaluate(record)
    assert times.type == UTC
    assert times.to_pylist() == [dt.datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=dt.timezone.utc), None]


def test_all_columns_are_those_that_users_see():
    record = with_times(pa.RecordBatch.from_pydict({"a": [1], "b": [2]}), np.array([10])).record
    (total,) = Evaluator({"t": nw.sum_horizontal(nw.all())}).evaluate(record)
    assert total.to_pylist() == [3]


def test_a_name_is_a_column_and_other_values_are_literals():
    assert text(to_expr("price")) == "price"
    assert text(to_expr(5)) == "5"
    assert text(to_expr(col("a") + 1)) == "a + 1"


def test_an_expression_without_a_keyword_has_one_name():
    assert output_name(col("price") * 2, BIDS, True, "", "bids") == "price"
    assert output_name((col("price") * 2).alias("double"), BIDS, True, "", "bids") == "double"
    with pytest.raises(PlanError, match="several columns"):
        output_name(nw.all(), BIDS, True, "", "bids")
    with pytest.raises(PlanError, match='"prcie"'):
        output_name(col("prcie"), BIDS, True, "", "bids")


@pytest.mark.parametrize(
    ("expr", "written"),
    [
        ((col("a") + 1) * 2 - col("b"), "(a + 1) * 2 - b"),
        (1 - (col("a") - col("b")), "1 - (a - b)"),
        ((col("a") > 1) & ~(col("b") == "x"), "(a > 1) & ~(b == 'x')"),
        (when(col("a") > 1).then(lit("x")).otherwise("b"), "when(a > 1).then('x').otherwise(b)"),
        (event_time().dt.truncate("10s"), "event_time().dt.truncate('10s')"),
        (-col("a b"), "-col('a b')"),
        (col("a").is_in([1, 2]), "a.is_in([1, 2])"),
    ],
    ids=str,
)
def test_an_expression_prints_as_it_was_written(expr, written):
    assert text(expr) == written
