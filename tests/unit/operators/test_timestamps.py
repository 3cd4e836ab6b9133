"""Event times, odd ones too: a defined result or one clear error."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import raystream as rs
from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import Punctuated, WatermarkStrategy
from raystream.errors import ConfigError, SourceError, UserFunctionError
from raystream.flow.batch import NO_TIME, Columns, Objects
from raystream.flow.element import MAX_TIME
from raystream.operators.timestamps import TimestampReader, instant, lower_bound

YEAR_1_US = -62_135_596_800_000_000
YEAR_9999_US = 253_402_300_799_999_999
NOON_US = 1_704_110_400_000_000  # 2024-01-01 12:00 UTC
UTC = timezone.utc


def read(rows: pa.Array | list[Any], timestamp: Any = "t", unit: str = "us") -> list[int]:
    """Read event times of a column, or of objects."""
    reader = TimestampReader(WatermarkStrategy(timestamp, unit=unit), "it", "job.py:3")
    reader.open(OpenContext(operator="it"))
    batch = Objects(rows) if isinstance(rows, list) else Columns(pa.record_batch({"t": rows}))
    _, times = reader.read(batch, Rejects())
    assert times.dtype == np.int64
    return times.tolist()


# Columns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "value", "time_us"),
    [
        ("s", 3, 3_000_000),
        ("s", -3, -3_000_000),
        ("ms", 1_704_110_400_000, NOON_US),
        ("us", NOON_US, NOON_US),
        ("ns", 1_999, 1),
        ("ns", -1, -1),
        ("ns", -1_000, -1),
        ("ns", -1_001, -2),
        ("s", YEAR_1_US // 10**6, YEAR_1_US),
        ("ms", YEAR_9999_US // 1000, YEAR_9999_US - 999),
        ("us", YEAR_9999_US, YEAR_9999_US),
        ("us", MAX_TIME, MAX_TIME),
        ("us", NO_TIME + 1, NO_TIME + 1),
        ("ns", MAX_TIME, MAX_TIME // 1000),
    ],
)
def test_integers_are_read_in_their_unit_by_floor_from_columns_and_objects(unit, value, time_us):
    assert read(pa.array([value], pa.int64()), unit=unit) == [time_us]
    assert read([{"t": value}], unit=unit) == [time_us]
    assert read([value], lambda row: row, unit) == [time_us]
    assert read([np.int64(value)], lambda row: row, unit) == [time_us]
    assert instant(value, unit) == time_us


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint8(), pa.uint32(), pa.uint64()])
def test_integers_of_every_width(kind):
    assert read(pa.array([7, 100], kind), unit="ms") == [7_000, 100_000]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
def test_timestamps_bring_their_own_unit_and_a_zone_changes_nothing(unit, zone):
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    array = pa.array([NOON_US // 10**6 * per_second, -per_second], pa.int64())
    times = array.cast(pa.timestamp(unit, zone))
    # ``unit`` of the strategy is that of integers only.
    assert read(times, unit="ms") == [NOON_US, -1_000_000]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_are_midnight_utc(kind):
    days = [date(2024, 1, 1), date(1, 1, 1), date(9999, 12, 31), date(1969, 12, 31)]
    at = [NOON_US - 12 * 3_600 * 10**6, YEAR_1_US, YEAR_9999_US - 86_399_999_999, -86_400 * 10**6]
    assert read(pa.array(days, kind)) == at
    assert read([{"t": day} for day in days]) == at


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_year_1_and_year_9999(unit):
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    array = pa.array([first, last], pa.timestamp(unit, "UTC"))
    assert read(array) == [YEAR_1_US, YEAR_9999_US - 999_999]
    assert read([first, last], lambda row: row) == [YEAR_1_US, YEAR_9999_US - 999_999]
    # Local midnight of year 1 east of Greenwich is before the first datetime of UTC.
    east = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    assert read([east], lambda row: row) == [YEAR_1_US - 14 * 3_600 * 10**6]


@pytest.mark.parametrize(
    ("array", "unit", "told"),
    [
        (pa.array([MAX_TIME], pa.int64()), "s", "64 bits of microseconds"),
        (pa.array([-(2**62)], pa.int64()), "ms", "64 bits of microseconds"),
        (pa.array([2**64 - 1], pa.uint64()), "us", "64 bits of microseconds"),
        (pa.array([2**60], pa.int64()).cast(pa.timestamp("s")), "us", "64 bits of microseconds"),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), "us", "64 bits of microseconds"),
        (pa.array([NO_TIME], pa.int64()), "us", "stands for no time at all"),
        (pa.array([1, None], pa.int64()), "us", 'row 1 of a batch of "it" has no event time'),
        (pa.array([1, None], pa.timestamp("ns")), "us", 'row 1 of a batch of "it"'),
        (pa.array([None], pa.date32()), "us", 'row 0 of a batch of "it"'),
    ],
)
def test_a_column_without_a_time_for_each_row_is_one_clear_error(array, unit, told):
    with pytest.raises(SourceError, match=told) as failure:
        read(array, unit=unit)
    assert failure.value.where == "job.py:3"
    assert "'t'" in failure.value.message or '"t"' in failure.value.message
    assert failure.value.hint


def test_nulls_of_nanoseconds_do_not_disturb_their_neighbours():
    with pytest.raises(SourceError, match="row 2 of a batch"):
        read(pa.array([1_500, -1, None], pa.int64()), unit="ns")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (rs.lit(5), "1 values for 3 rows"),
        (rs.col("t").max(), "1 values for 3 rows"),
        (rs.when(rs.col("t") > 1).then(rs.col("t")), "row 0 of a batch"),
    ],
)
def test_an_expression_that_gives_no_time_for_each_row_is_one_clear_error(expression, told):
    with pytest.raises(SourceError, match=told):
        read(pa.array([1, 2, 3]), expression)


def test_an_expression_may_compute_the_time():
    assert read(pa.array([1, 2]), rs.col("t") * 60, "s") == [60_000_000, 120_000_000]


@pytest.mark.parametrize(
    "array",
    [pa.array([1.5]), pa.array([float("nan")]), pa.array(["2024-01-01"]), pa.array([True])],
)
def test_floats_texts_and_bools_are_no_times_and_are_refused_where_the_job_is_built(array):
    table = pa.table({"t": array})
    for strategy in (rs.WatermarkStrategy("t"), rs.Punctuated("t", lambda row: None)):
        with pytest.raises(rs.PlanError, match="event time is read from"):
            rs.Job("t").from_items(table, watermark=strategy)
        with pytest.raises(rs.PlanError, match="event time is read from"):
            rs.Job("t").from_items(table).assign_timestamps(strategy)


# Objects -----------------------------------------------------------------------------------------


def test_datetimes_are_utc_unless_they_say_otherwise():
    berlin = ZoneInfo("Europe/Berlin")
    rows = [
        datetime(2024, 1, 1, 12),  # noqa: DTZ001  what users write
        datetime(2024, 1, 1, 12, tzinfo=UTC),
        datetime(2024, 1, 1, 13, tzinfo=berlin),
        pd.Timestamp("2024-01-01 12:00:00.000000999"),
    ]
    assert read(rows, lambda row: row) == [NOON_US] * 4
    # The hour that comes twice in autumn is two hours.
    twice = [datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1)]
    first, second = read(twice, lambda row: row)
    assert second - first == 3_600 * 10**6


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.5, "not a point in time: 1.5, a float"),
        (float("nan"), "not a point in time: nan"),
        ("10s", "not a point in time: '10s', a str"),
        ("2024-01-01", "not a point in time"),
        (True, "not a point in time: True, a bool"),
        (timedelta(seconds=1), "not a point in time"),
        (pd.NaT, "not a point in time: NaT"),
        (np.datetime64("2024-01-01"), "not a point in time"),
        (2**63, "64 bits of microseconds"),
        (NO_TIME, "64 bits of microseconds"),
    ],
)
def test_an_object_without_a_point_in_time_names_its_row(value, told):
    rows = [{"t": 1}, {"t": value}]
    for timestamp in ("t", lambda row: row["t"]):
        with pytest.raises(UserFunctionError, match=told) as failure:
            read(rows, timestamp)
        assert failure.value.operator == "it"
        assert failure.value.where == "job.py:3"
        assert failure.value.row == repr(rows[1])
    with pytest.raises(ConfigError, match=told):
        instant(value, "us")


def test_a_row_whose_time_is_none_is_told_by_its_number():
    with pytest.raises(SourceError, match='row 1 of a batch of "it" has no event time'):
        read([{"t": 1}, {"t": None}])
    with pytest.raises(UserFunctionError, match="KeyError: 't'"):
        read([{"t": 1}, {"u": 1}])


# The whole way -----------------------------------------------------------------------------------


def hourly(time_us: int) -> rs.Stream:
    table = pa.table({"t": pa.array([time_us], pa.timestamp("us", "UTC"))})
    stream = rs.Job("ends").from_items(table, watermark=rs.WatermarkStrategy("t"))
    return stream.window_all(rs.Tumbling("1h")).aggregate(n=rs.count())


@pytest.mark.parametrize("time_us", [YEAR_1_US, YEAR_9999_US - 3_600_000_000])
def test_windows_at_the_ends_of_the_calendar(time_us):
    (row,) = hourly(time_us).collect()
    hours = time_us // 3_600_000_000
    assert row["window_start"] == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    assert row["n"] == 1


def test_a_window_that_ends_behind_the_calendar_is_a_column_but_no_datetime():
    with pytest.raises(UserFunctionError, match='"window_end": a timestamp lies outside'):
        hourly(YEAR_9999_US).collect()
    kept = hourly(YEAR_9999_US).select(end=rs.col("window_end").dt.timestamp("us"))
    assert kept.collect() == [{"end": YEAR_9999_US + 1}]


def test_a_null_in_a_job_fails_it_and_says_what_to_do():
    table = pa.table({"t": pa.array([1, None])})
    stream = rs.Job("nulls").from_items(table, watermark=rs.WatermarkStrategy("t"))
    with pytest.raises(
        rs.JobFailed, match='has no event time: column "t" is null there'
    ) as failure:
        stream.collect()
    assert "assign_timestamps() behind the filter" in str(failure.value)
    kept = rs.Job("nulls").from_items(table).filter(~rs.col("t").is_null())
    timed = kept.assign_timestamps(rs.WatermarkStrategy("t"))
    assert len(timed.window_all(rs.Tumbling(10)).aggregate(n=rs.count()).collect()) == 1


# Lower bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "unit", "earliest", "bound_us"),
    [
        (pa.int64(), "us", 50, 46),
        (pa.int64(), "s", 50, 49_999_996),
        (pa.int64(), "s", -50, -50_000_004),
        (pa.int64(), "ns", 50_000, 46),
        # Of a timestamp the source gives microseconds, whatever the unit of integers.
        (pa.timestamp("ns"), "s", 50, 46),
        (pa.date32(), "ms", 50, 46),
    ],
)
def test_what_is_known_of_a_split_is_read_in_the_unit_of_its_column(kind, unit, earliest, bound_us):
    schema = pa.schema([("t", kind)])
    strategy = WatermarkStrategy("t", out_of_orderness=3, unit=unit)
    assert lower_bound(strategy, {"t": earliest}, schema) == bound_us
    assert lower_bound(strategy, {"u": earliest}, schema) is None
    assert lower_bound(WatermarkStrategy(int), {"t": earliest}, schema) is None
    marked = Punctuated("t", int, unit=unit)
    assert lower_bound(marked, {"t": earliest}, schema) == bound_us + 3
