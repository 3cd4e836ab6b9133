"""Event times that are odd or missing, windows and durations that make no sense."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from bad_input import KINDS, OVER, SECOND, VERBS, outcome, plain, stream

import raystream as rs

HERE = Path(__file__).name
NAN = float("nan")
UTC = dt.timezone.utc
ROWS = [{"k": "a", "v": 1.0}, {"k": "a", "v": 2.0}]
FIRST = dt.datetime(1, 1, 1)  # noqa: DTZ001  naive on purpose
LAST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
EVENT_TIME_VERBS = [
    *("tumbling", "sliding", "session", "cumulative"),
    *("apply", "best of a window", "first of a window"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", EVENT_TIME_VERBS)
def test_a_window_of_event_time_needs_a_strategy_before_anything_runs(verb, kind):
    with pytest.raises(rs.PlanError, match="needs event time") as error:
        VERBS[verb](stream(kind, ROWS).key_by("k"))
    assert "WatermarkStrategy" in error.value.hint


def test_an_aggregate_over_a_time_needs_event_time():
    with pytest.raises(rs.PlanError, match="needs event time") as error:
        OVER["over a time"](stream("columns", ROWS).key_by("k"))
    assert "WatermarkStrategy" in error.value.hint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "times",
    [
        [1, None],
        [1, NAN],
        [1, 1.5],
        [1, True],
        [1, "yesterday"],
        [1, pd.NaT],
        [1, np.datetime64("NaT", "us")],
    ],
    ids=str,
)
def test_from_items_refuses_what_is_no_point_in_time(times, kind):
    with pytest.raises(rs.PlanError, match=r"from_items\(\): .* is no point in time") as error:
        stream(kind, ROWS, times)
    assert "bad_input.py" in error.value.where


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [1 << 63, -(1 << 63), 1 << 70])
def test_from_items_refuses_times_that_64_bits_do_not_hold(time, kind):
    with pytest.raises(rs.PlanError, match="64 bits of microseconds"):
        stream(kind, ROWS, [1, time])


@pytest.mark.parametrize(
    ("times", "told"),
    [([1], "1 timestamps for 2 rows"), (5, "points in time, one a row"), ("ab", "one a row")],
)
def test_from_items_takes_one_time_a_row(times, told):
    with pytest.raises(rs.PlanError, match=told):
        stream("objects", ROWS, times)


@pytest.mark.parametrize("strategy", [rs.WatermarkStrategy("v"), rs.Punctuated("v", print)])
def test_from_items_takes_event_time_from_one_place(strategy):
    with pytest.raises(rs.PlanError, match="takes timestamps= or watermark=, not both") as error:
        rs.Job("odd").from_items(ROWS, timestamps=[1, 2], watermark=strategy)
    assert HERE in error.value.where
    assert "put the times there" in error.value.hint


DAY = dt.datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "time",
    [
        DAY,
        DAY.replace(tzinfo=None),
        DAY.astimezone(dt.timezone(dt.timedelta(hours=5))),
        DAY.date(),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01", "ns"),
        pd.Timestamp("2024-01-01"),
        rs.micros(DAY),
        np.int64(rs.micros(DAY)),
    ],
    ids=repr,
)
def test_every_form_of_a_point_in_time_is_the_same_microsecond(time, kind):
    given = VERBS["apply"](stream(kind, ROWS[:1], [time]).key_by("k"))
    assert given.collect() == [("a", rs.micros(DAY), rs.micros(DAY) + 10 * SECOND, 1)]


WHERE_ALL_RUN = {name: verb for name, verb in VERBS.items() if name not in EVENT_TIME_VERBS[:4]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_rows_of_the_year_1_are_rows_like_any(verb, kind):
    times = [FIRST, FIRST + dt.timedelta(seconds=1)]
    there = VERBS[verb](stream(kind, ROWS, times).key_by("k"))
    here = VERBS[verb](stream(kind, ROWS, [0, SECOND]).key_by("k"))
    if verb == "sliding" and kind == "columns":
        # The first of these windows begins before the year 1, which columns hold and dicts do not.
        assert "a timestamp lies outside the years 1 to 9999" in outcome(there.collect)
        assert there.to_arrow().drop_columns(["window_start", "window_end"]) == (
            here.to_arrow().drop_columns(["window_start", "window_end"])
        )
        return
    if verb == "apply":
        [(_, start, end, count)] = there.collect()
        assert (start, end, count) == (rs.micros(FIRST), rs.micros(FIRST) + 10 * SECOND, 2)
        return
    assert plain(there.collect()) == plain(here.collect())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", WHERE_ALL_RUN)
def test_rows_of_the_year_9999_are_rows_like_any(verb, kind):
    there = VERBS[verb](stream(kind, ROWS, [LAST - dt.timedelta(microseconds=1), LAST]).key_by("k"))
    here = VERBS[verb](stream(kind, ROWS, [8 * SECOND, 9 * SECOND]).key_by("k"))
    if verb == "apply":
        end = rs.micros(LAST) + 1
        assert there.collect() == [("a", end - 10 * SECOND, end, 2)]
        return
    assert plain(there.collect()) == plain(here.collect())


@pytest.mark.parametrize("verb", ["tumbling", "session"])
def test_a_window_that_ends_in_the_year_10000_is_told_by_collect_and_kept_in_columns(verb):
    given = VERBS[verb](stream("columns", ROWS, [LAST, LAST]).key_by("k"))
    said = outcome(lambda: given.collect())  # noqa: PLW0108  the line is to be ours
    assert 'column "window_end": a timestamp lies outside the years 1 to 9999' in said
    assert "hint: to_arrow()" in said
    assert HERE in said
    assert given.to_arrow()["n"].to_pylist() == [2]


COLUMNS = {
    "t": pa.schema({"k": pa.string(), "v": pa.float64(), "t": pa.int64()}),
    "double": pa.schema({"k": pa.string(), "v": pa.float64(), "t": pa.float64()}),
    "text": pa.schema({"k": pa.string(), "v": pa.float64(), "t": pa.string()}),
}


def read_by(kind, values, timestamp="t", type="t", **options):
    """Count in windows what has these event times, read by a strategy."""
    rows = [{"k": "a", "v": 1.0, "t": value} for value in values]
    schema = COLUMNS[type] if kind == "columns" else None
    strategy = rs.WatermarkStrategy(timestamp, **options)
    given = rs.Job("odd", runtime="local").from_items(rows, schema=schema, watermark=strategy)
    return given.key_by("k").window(rs.Tumbling("10s")).aggregate(n=rs.count()).collect()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([1, None], {}, 'row 1 of a batch of "source#1" has no event time: column "t" is null'),
        ([1], {"timestamp": lambda row: None}, "no event time: what its function gives is null"),
        ([1], {"timestamp": lambda row: NAN}, "not a point in time: nan, a float"),
        ([1], {"timestamp": lambda row: True}, "not a point in time: True, a bool"),
        ([1], {"timestamp": lambda row: "x"}, "not a point in time: 'x', a str"),
        ([1], {"timestamp": lambda row: 1 << 63}, "lies outside of what 64 bits"),
        ([1], {"timestamp": lambda row: row["zz"]}, "source#1 failed: KeyError: 'zz'"),
        ([1 << 60], {"unit": "s"}, "64 bits of microseconds"),
    ],
)
def test_a_strategy_that_finds_no_time_says_where_and_of_which_row(kind, values, options, told):
    said = outcome(lambda: read_by(kind, values, **options))
    assert told in said
    assert HERE in said


@pytest.mark.parametrize(
    ("values", "type", "columns", "objects"),
    [
        ([1e6, NAN], "double", 'column "t" is double', "not a point in time: 1000000.0, a float"),
        (["2024"], "text", 'column "t" is string', "not a point in time: '2024', a str"),
    ],
)
def test_floats_and_texts_are_no_event_times(values, type, columns, objects):
    assert columns in outcome(lambda: read_by("columns", values, type=type))
    assert objects in outcome(lambda: read_by("objects", values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [1 << 62, 1 << 63, dt.timedelta.max], ids=str)
def test_rows_may_be_late_by_longer_than_time_is(late, kind):
    assert plain(read_by(kind, [SECOND, 5], out_of_orderness=late)) == [("a", 2)]


# Windows and durations ---------------------------------------------------------------------------

NOTHING = ["0s", 0, -1, "-1s", dt.timedelta(0), dt.timedelta(-1)]
NO_DURATION = ["x", "", None, 1.5, True, NAN, [], "10"]
TOO_LONG = [1 << 62, 1 << 63, dt.timedelta.max]
LENGTHS = {
    "size": rs.Tumbling,
    "size of sliding": lambda d: rs.Sliding(d, "5s"),
    "slide": lambda d: rs.Sliding("10s", d),
    "gap": rs.Session,
    "size of cumulative": lambda d: rs.Cumulative(d, "5s"),
    "step": lambda d: rs.Cumulative("10s", d),
    "trigger": rs.triggers.ContinuousEventTime,
    "evictor": rs.evictors.Time,
    "ttl": lambda d: stream("columns", ROWS, [1, 2]).key_by("k").deduplicate(ttl=d),
    "over": lambda d: (
        stream("columns", ROWS, [1, 2]).key_by("k").aggregate(over=d, n=rs.count()).collect()
    ),
}


@pytest.mark.parametrize("length", NOTHING, ids=repr)
@pytest.mark.parametrize("what", LENGTHS)
def test_a_length_is_longer_than_nothing(what, length):
    told = "must be longer than nothing|takes a duration or a positive number"
    with pytest.raises(rs.PlanError, match=told):
        LENGTHS[what](length)


@pytest.mark.parametrize("length", NO_DURATION, ids=repr)
@pytest.mark.parametrize("what", [what for what in LENGTHS if what not in {"ttl", "over"}])
def test_a_length_is_a_duration(what, length):
    with pytest.raises(rs.RaystreamError, match="not a duration") as error:
        LENGTHS[what](length)
    assert '"10s"' in error.value.hint


@pytest.mark.parametrize("length", TOO_LONG[1:], ids=repr)
@pytest.mark.parametrize("what", [what for what in LENGTHS if what != "over"])
def test_a_length_is_shorter_than_time(what, length):
    with pytest.raises(rs.PlanError, match="is longer than 70,000 years"):
        LENGTHS[what](length)


def test_an_aggregate_over_longer_than_time_is_refused_and_over_many_rows_is_not():
    with pytest.raises(rs.PlanError, match="is longer than 70,000 years"):
        LENGTHS["over"](dt.timedelta.max)
    assert [row["n"] for row in LENGTHS["over"](1 << 63)] == [1, 2]


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None, "x", NAN], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        rs.TumblingCount,
        lambda n: rs.SlidingCount(n, 1),
        lambda n: rs.SlidingCount(3, n),
        rs.triggers.Count,
        rs.evictors.Count,
    ],
)
def test_a_number_of_rows_is_at_least_one(make, count):
    with pytest.raises(rs.PlanError, match="is an int of at least 1"):
        make(count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lateness", "told"), [("-1s", "at least 0"), ("x", "not a duration")])
def test_lateness_is_a_duration_of_at_least_nothing(lateness, told, kind):
    windowed = stream(kind, ROWS, [1, 2]).key_by("k").window(rs.Tumbling("10s"))
    with pytest.raises(rs.RaystreamError, match=told) as error:
        windowed.allowed_lateness(lateness)
    assert HERE in error.value.where
    for long in TOO_LONG:
        counted = windowed.allowed_lateness(long).aggregate(n=rs.count())
        assert plain(counted.collect()) == [("a", 2)]


@pytest.mark.parametrize("tz", ["Nowhere/X", "", "+05:00", 5, UTC], ids=repr)
def test_a_time_zone_has_a_name(tz):
    with pytest.raises(rs.PlanError, match=r"Tumbling\(tz=\) is no time zone") as error:
        rs.Tumbling("1d", tz=tz)
    assert "Europe/Berlin" in error.value.hint


@pytest.mark.parametrize("size", ["10s", "12h", "25h", "36h"])
def test_windows_of_a_time_zone_are_whole_days(size):
    with pytest.raises(rs.PlanError, match="gathers whole local days"):
        rs.Tumbling(size, tz="Europe/Berlin")


@pytest.mark.parametrize("kind", KINDS)
def test_local_days_at_both_ends_of_the_calendar_and_where_the_clock_is_moved(kind):
    moved = [dt.datetime(2024, 3, 31, hour, 30, tzinfo=UTC) for hour in (0, 21, 22)]
    times = [FIRST, *moved, dt.datetime(9999, 12, 30, 12, tzinfo=UTC)]
    rows = [{"k": "a", "v": float(n)} for n in range(5)]
    days = stream(kind, rows, times).key_by("k").window(rs.Tumbling("1d", tz="Europe/Berlin"))
    counted = [
        (row["n"], row["window_end"] - row["window_start"])
        for row in days.aggregate(n=rs.count()).collect()
    ]
    whole = dt.timedelta(days=1)
    assert counted == [(1, whole), (2, dt.timedelta(hours=23)), (1, whole), (1, whole)]


@pytest.mark.parametrize("window", ["10s", rs.Tumbling, None, 10], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_a_window(window, kind):
    with pytest.raises(rs.PlanError, match=r"window\(\) takes a window"):
        stream(kind, ROWS, [1, 2]).key_by("k").window(window)
