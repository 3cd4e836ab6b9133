"""What joins by event time refuse where the job is written."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

import raystream as rs
from raystream.testing import At, Source

LEFT = pa.schema([("k", pa.string()), ("a", pa.int64())])
RIGHT = pa.schema([("k", pa.string()), ("b", pa.int64())])


def sides(timed=(True, True)):
    job = rs.Job("wrong")
    streams = []
    for name, schema, has_time in zip(("orders", "rates"), (LEFT, RIGHT), timed, strict=True):
        row = dict.fromkeys(schema.names)
        items = [At(1, row)] if has_time else [row]
        streams.append(job.source(Source(items, schema=schema), name=name))
    return streams


def refused(write, *words, timed=(True, True)):
    with pytest.raises(rs.PlanError) as caught:
        write(*sides(timed))
    told = str(caught.value)
    assert all(word in told for word in words), told
    assert "test_window_joins.py" in told


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (rs.Tumbling("1h", time="processing"), ("event time", 'time="processing"', "ttl=")),
        (rs.Sliding("1h", "1m", time="processing"), ("event time", "ttl=")),
        (rs.Session("1m", time="processing"), ("event time", "ttl=")),
        (rs.Session(lambda row: "1m"), ("one gap", 'rs.Session("5m")')),
        (rs.TumblingCount(3), ("event time", "counts", "rs.Tumbling")),
        (rs.SlidingCount(3, 1), ("event time", "counts", "rs.Tumbling")),
        (rs.Global(), ("rs.Global()", 'ttl="forever"')),
        ("1h", ("takes a window", "'1h'", "rs.Tumbling")),
        (rs.Tumbling, ("takes a window", "rs.Tumbling")),
    ],
)
def test_windows_that_no_join_takes(window, words):
    refused(lambda left, right: left.join(right, on="k", window=window), *words)


@pytest.mark.parametrize(
    ("timed", "name"), [((False, True), '"orders"'), ((True, False), '"rates"')]
)
@pytest.mark.parametrize("verb", ["join", "as_of_join"])
def test_a_stream_without_event_time_is_named(timed, name, verb):
    ways = {"window": rs.Tumbling("1h")} if verb == "join" else {}
    refused(
        lambda left, right: getattr(left, verb)(right, on="k", **ways),
        f"{verb}(",
        name,
        "watermark=",
        timed=timed,
    )


@pytest.mark.parametrize(
    ("tolerance", "words"),
    [
        (-1, ("tolerance", "negative")),
        ("-1h", ("tolerance", "negative", "-1h")),
        (timedelta(seconds=-1), ("tolerance", "negative")),
        ("soon", ("tolerance", "soon")),
        (1.5, ("tolerance", "1.5")),
        (True, ("tolerance", "True")),
        (datetime(2024, 1, 1), ("tolerance", "takes a duration")),  # noqa: DTZ001  it is none
        (2**62, ("tolerance", "70,000 years")),
    ],
)
def test_a_tolerance_is_a_duration(tolerance, words):
    refused(lambda left, right: left.as_of_join(right, on="k", tolerance=tolerance), *words)


@pytest.mark.parametrize("tolerance", [0, "1h", timedelta(hours=1), None])
def test_a_tolerance_may_be_any_duration(tolerance):
    left, right = sides()
    assert left.as_of_join(right, on="k", tolerance=tolerance).schema.names == ["k", "a", "b"]


@pytest.mark.parametrize("how", ["right", "full", "semi", "anti", "outer", None])
def test_as_of_joins_are_left_or_inner(how):
    refused(
        lambda left, right: left.as_of_join(right, on="k", how=how),
        "as_of_join()",
        "left, inner",
    )


def test_an_as_of_join_takes_no_table():
    refused(lambda left, right: left.as_of_join(pa.table({"k": ["a"]}), on="k"), "takes a stream")


def test_the_plan_says_how_rows_meet():
    left, right = sides()
    window = left.join(right, on="k", how="left", window=rs.Session("5m"))
    newest = left.as_of_join(right, on="k", tolerance="1h")
    assert window._tip.node.spec.describe() == "left on k in session 5m"
    assert newest._tip.node.spec.describe() == "left on k, the newest up to 1h before"
