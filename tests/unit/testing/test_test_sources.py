"""A test source: what may be written, and that it comes out as it was written, on any runtime."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone

import pyarrow as pa
import pytest

import raystream as rs
from raystream.contracts.source import END, Later
from raystream.flow.element import MAX_TIME, Status
from raystream.flow.element import Watermark as FlowWatermark

T = rs.testing
SCHEMA = pa.schema({"k": pa.string(), "n": pa.int64()})
ROWS = [{"k": "a", "n": 1}, {"k": "b", "n": 2}, {"k": "a", "n": 3}]


def stream(source, **settings):
    return rs.Job("test").source(source, **settings)


def test_words_compare_by_value_whatever_form_their_time_had():
    moment = datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    assert T.At(moment, {"n": 1}) == T.At(1_000_000, {"n": 1})
    assert T.At(1, "x") != T.At(1, "y")
    assert T.Watermark(moment) == T.Watermark(rs.micros("1s"))
    assert T.Watermark(1) != T.Watermark(2)
    assert T.Advance("1s") == T.Advance(1_000_000)
    assert (T.Idle(), T.Active(), T.Open()) == (T.Idle(), T.Active(), T.Open())
    assert T.Idle() != T.Active()
    assert repr(T.At(9, "row")) == "At(ts=9, row='row')"


@pytest.mark.parametrize("word", [lambda: T.At("soon", 1), lambda: T.Watermark(2**63)])
def test_what_is_no_point_in_time_is_refused(word):
    with pytest.raises(rs.ConfigError):
        word()


def test_time_does_not_go_back():
    with pytest.raises(rs.ConfigError, match="does not go back"):
        T.Advance("-1s")


def test_rows_without_time_make_an_untimed_stream_of_objects():
    source = T.Source([1, "x", None])
    assert (source.schema, source.timed, source.bounded) == (None, False, True)
    assert stream(source).collect() == [1, "x", None]


def test_dicts_with_a_schema_make_columns():
    made = stream(T.Source(ROWS, schema=SCHEMA))
    assert made.schema == SCHEMA
    assert made.filter(rs.col("n") > 1).collect() == ROWS[1:]


def test_several_splits_are_read_at_any_parallelism():
    source = T.Source(splits=[[1, 2], [], [3], [4, 5, 6]])
    for parallelism in (1, 2, 5):
        job = rs.Job("test", parallelism=parallelism)
        assert sorted(job.source(source).collect()) == [1, 2, 3, 4, 5, 6]


def test_a_source_travels():
    source = pickle.loads(pickle.dumps(T.Source([T.At(1, "x"), T.Watermark(3)])))
    assert (source.timed, stream(source).collect()) == (True, ["x"])


def test_a_reader_goes_on_where_another_has_stopped():
    source = T.Source([1, 2, T.Watermark(7), T.Idle(), 3, T.Open()])
    (split,) = source.splits()
    reader = source.open(split, None)
    said, more = [], True
    while more:
        given = reader.poll(1)
        said.append(getattr(given, "rows", given))
        more = not isinstance(given, Later)
        reader = source.open(split, reader.position())
    assert said == [[1], [2], FlowWatermark(7), Status(idle=True), [3], Later(MAX_TIME)]


def test_a_split_without_open_ends():
    source = T.Source([])
    assert source.open(source.splits()[0], None).poll(10) is END


def test_time_really_passes_where_no_run_simulates_it():
    assert stream(T.Source([1, T.Advance("5ms"), 2])).collect() == [1, 2]


def test_an_open_source_has_no_end():
    with pytest.raises(rs.PlanError, match="no end"):
        stream(T.Source([1, T.Open()])).collect()
    assert stream(T.Source([1, 2, T.Open()])).collect(limit=2) == [1, 2]


def test_a_watermark_strategy_reads_the_times_and_watermarks_add_to_its_own():
    rows = [{"k": "a", "n": 5}, T.Watermark(30), {"k": "b", "n": 20}, T.Watermark(10), T.Open()]
    strategy = rs.WatermarkStrategy("n", out_of_orderness=2)
    run = T.run(stream(T.Source(rows, schema=SCHEMA), watermark=strategy))
    assert run.events == [
        T.At(5, {"k": "a", "n": 5}),
        T.Watermark(2),
        T.Watermark(30),
        T.At(20, {"k": "b", "n": 20}),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (T.Source, "items or splits"),
        (lambda: T.Source([1], splits=[[1]]), "items or splits"),
        (lambda: T.Source("text"), "iterable of rows"),
        (lambda: T.Source(splits=[1]), "iterable of rows"),
        (lambda: T.Source([T.Open(), 1]), "last item"),
        (lambda: T.Source([T.At(1, "x"), "y"]), "have a time and others have none"),
        (lambda: T.Source(splits=[[T.At(1, "x")], ["y"]]), "have a time and others have none"),
        (lambda: T.Source([{"k": "a"}], schema=SCHEMA), "n"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(make, message):
    with pytest.raises(rs.PlanError, match=message) as caught:
        make()
    assert "test_test_sources.py" in caught.value.where
