"""Windows in whole jobs: programs as users write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest

import raystream as rs

COL = rs.col
UTC = timezone.utc
CLICKS = pa.schema({"user": pa.string(), "url": pa.string(), "at": pa.timestamp("us", "UTC")})


def second(number: float) -> datetime:
    return datetime.fromtimestamp(number, UTC)


class OneByOne(rs.Source):
    """Gives one row a poll, so that a watermark comes behind each."""

    def __init__(self, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
        self.rows, self.schema = rows, schema

    def splits(self) -> list[rs.Split]:
        return [rs.Split("only")]

    def open(self, split: rs.Split, position: Any) -> Any:
        return Polled(self.rows)


class Polled:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._left = list(rows)

    def poll(self, max_rows: int) -> Any:
        return [self._left.pop(0)] if self._left else rs.END

    def position(self) -> int:
        return len(self._left)


def source(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> rs.Stream:
    strategy = rs.WatermarkStrategy("at")
    return rs.Job("programs").source(OneByOne(rows, schema), watermark=strategy)


def means(readings: rs.Stream) -> rs.Stream:
    return (
        readings.key_by("sensor")
        .window(rs.Tumbling("1m"))
        .allowed_lateness("5m")
        .late_to("late")
        .aggregate(mean=rs.mean("value"))
    )


def test_a_late_row_fires_its_window_again_and_a_later_one_goes_aside():
    readings = pa.schema([("sensor", pa.string()), ("value", pa.float64()), ("at", pa.int64())])
    rows = [
        {"sensor": "x", "value": value, "at": at * 1_000_000}
        for at, value in [(1, 1.0), (61, 0.0), (2, 9.0), (500, 2.0), (3, 5.0)]
    ]
    for schema in (readings, None):
        made = means(source(rows, schema))
        fired = [(row["window_start"], row["mean"]) for row in made.collect()]
        assert fired == [
            (second(0), 1.0),
            (second(0), 5.0),
            (second(60), 0.0),
            (second(480), 2.0),
        ]
        late = means(source(rows, schema)).side_output("late")
        assert late.collect() == [rows[-1]]
        assert late.schema == schema


def test_both_outputs_of_one_window_can_be_read_in_one_job():
    rows = [{"sensor": "x", "value": 1.0, "at": at} for at in (0, 400_000_000, 1)]
    job = rs.Job("two")
    made = means(job.source(OneByOne(rows), watermark=rs.WatermarkStrategy("at")))
    results, late = rs.MemorySink(), rs.MemorySink()
    made.sink(results)
    made.side_output("late").sink(late)
    done = job.run(runtime="local")
    assert [row["mean"] for row in results.rows] == [1.0, 1.0]
    assert late.rows == [rows[2]]
    assert done.status == "finished"


def test_sessions_of_clicks():
    at = datetime(2024, 5, 1, 23, 50, tzinfo=UTC)
    clicks = [
        {"user": user, "url": url, "at": at + timedelta(minutes=minute)}
        for user, url, minute in [
            ("ann", "/", 0),
            ("bob", "/b", 1),
            ("ann", "/c", 20),
            ("ann", "/d", 51),
            ("ann", "/a", 10),
        ]
    ]
    made = (
        source(clicks, CLICKS)
        .key_by("user")
        .window(rs.Session("30m"))
        .allowed_lateness("1h")
        .late_to("late")
        .aggregate(
            pages=rs.count(),
            path=rs.collect("url"),
            landing=rs.first("url"),
            leaving=rs.last("url"),
        )
        .with_columns(day=COL("window_start").dt.to_string("%Y-%m-%d"))
    )
    ann = {"user": "ann", "day": "2024-05-01", "window_start": at}
    end = at + timedelta(minutes=50)
    first = {**ann, "window_end": end, "pages": 2, "path": ["/", "/c"], "landing": "/"}
    again = {**ann, "window_end": end, "pages": 3, "path": ["/", "/c", "/a"], "landing": "/"}
    bob = at + timedelta(minutes=1)
    later = at + timedelta(minutes=51)
    rows = sorted(made.collect(), key=lambda row: (row["user"], row["window_start"], row["pages"]))
    assert rows == [
        {**first, "leaving": "/c"},
        {**again, "leaving": "/c"},
        {
            "user": "ann",
            "day": "2024-05-02",
            "window_start": later,
            "pages": 1,
            "window_end": later + timedelta(minutes=30),
            "path": ["/d"],
            "landing": "/d",
            "leaving": "/d",
        },
        {
            "user": "bob",
            "day": "2024-05-01",
            "window_start": bob,
            "pages": 1,
            "window_end": bob + timedelta(minutes=30),
            "path": ["/b"],
            "landing": "/b",
            "leaving": "/b",
        },
    ]


def test_flights_of_local_days():
    flights = pa.schema(
        [
            ("carrier", pa.string()),
            ("flight", pa.int64()),
            ("dep_delay", pa.float64()),
            ("at", pa.timestamp("us", "UTC")),
        ]
    )
    flown = [
        (1, 20.0, datetime(2013, 3, 10, 5, tzinfo=UTC)),
        (2, None, datetime(2013, 3, 10, 6, tzinfo=UTC)),
        (3, 10.0, datetime(2013, 3, 11, 3, 59, tzinfo=UTC)),
        (4, -1.0, datetime(2013, 3, 11, 4, tzinfo=UTC)),
    ]
    rows = [
        {"carrier": "UA", "flight": flight, "dep_delay": delay, "at": at}
        for flight, delay, at in flown
    ]
    made = (
        source(rows, flights)
        .filter(~COL("dep_delay").is_null())
        .key_by("carrier")
        .window(rs.Tumbling("1d", tz="America/New_York"))
        .aggregate(
            flights=rs.count(),
            late=rs.count().where(COL("dep_delay") > 15),
            mean=rs.mean("dep_delay"),
            p95=rs.quantile("dep_delay", 0.95),
            worst=rs.max_by("flight", "dep_delay"),
        )
        .with_columns(late_share=COL("late") / COL("flights"))
    )
    first, second_day = made.collect()
    begin = datetime(2013, 3, 10, 5, tzinfo=UTC)  # 23 hours: clocks were put forward
    assert first == {
        "carrier": "UA",
        "window_start": begin,
        "window_end": begin + timedelta(hours=23),
        "flights": 2,
        "late": 1,
        "mean": 15.0,
        "p95": 19.5,
        "worst": 1,
        "late_share": 0.5,
    }
    assert second_day["window_end"] - second_day["window_start"] == timedelta(hours=24)


def test_nexmark_six_eleven_and_twelve():
    bids = rs.Job("nexmark").source(
        rs.NexmarkSource(500, rate=100, seed=1, kind="bid"),
        watermark=rs.WatermarkStrategy("dateTime", out_of_orderness="4s"),
    )
    table = bids.to_arrow().to_pylist()
    last = bids.key_by("auction").window(rs.SlidingCount(10, 1)).aggregate(avg=rs.mean("price"))
    wanted, seen = [], {}
    for row in table:
        prices = seen.setdefault(row["auction"], [])
        prices.append(row["price"])
        wanted.append((row["auction"], sum(prices[-10:]) / len(prices[-10:])))
    assert [(row["auction"], row["avg"]) for row in last.collect()] == wanted

    sessions = bids.key_by("bidder").window(rs.Session("2s")).aggregate(bid_count=rs.count())
    counted: list[tuple[Any, ...]] = []
    for bidder in {row["bidder"] for row in table}:
        times = sorted(row["dateTime"] for row in table if row["bidder"] == bidder)
        start = previous = times[0]
        count = 0
        for time in [*times, None]:
            if time is None or time - previous > timedelta(seconds=2):
                counted.append((bidder, start, previous + timedelta(seconds=2), count))
                start, count = time, 0
            previous, count = time, count + 1
    rows = sessions.collect()
    assert sorted(tuple(row.values()) for row in rows) == sorted(counted)

    machine = bids.key_by("bidder").window(rs.Tumbling("10s", time="processing"))
    assert machine.aggregate(bid_count=rs.count()).collect() == [], "pending at the end"


@pytest.mark.parametrize("window", [rs.Global(), rs.TumblingCount(2)], ids=str)
def test_rows_without_event_time_are_counted_though_no_column_is_read(window):
    rows = [{"at": 1, "v": 2}, {"at": 2, "v": 3}]
    schema = pa.schema({"at": pa.int64(), "v": pa.int64()})
    given = rs.Job("t").from_items(rows, schema=schema)
    assert given.window_all(window).aggregate(n=rs.count()).collect() == [{"n": 2}]
