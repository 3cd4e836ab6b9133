"""Windows that columns gather give the rows that the general operator gives, one row at a time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

import raystream as rs
from raystream.api import windowed

START = datetime(2024, 3, 30, 12, tzinfo=timezone.utc)
SCHEMA = pa.schema(
    {"k": pa.string(), "v": pa.int64(), "t": pa.timestamp("us", "UTC"), "x": pa.float64()}
)


def rows(count=120, seed=4):
    """Rows of two days, half of them in order, some far behind."""
    rng = random.Random(seed)
    hours = 0.0
    made = []
    for number in range(count):
        hours += rng.choice([0, 0, 0.1, 1.5])
        back = rng.choice([0, 0, 0.05, 1, 2, 6])
        time = START + timedelta(hours=hours - back)
        made.append({"k": rng.choice(["a", "b", None]), "v": number, "t": time, "x": 0.5})
    return made


AGGREGATES = {
    "n": rs.count,
    "vs": lambda: rs.collect(rs.col("v") * 2),
    "first": lambda: rs.first("v"),
    "last": lambda: rs.last("v"),
    "mean": lambda: rs.mean("v").where(rs.col("v") > 5),
}


def outcome(window, choose=None):
    """Give the rows that come out, the late ones, and the word of the operator."""
    strategy = rs.WatermarkStrategy("t", out_of_orderness="20m")
    job = rs.Job("windows", config={"batch_rows_max": 7})
    windows = job.from_items(rows(), schema=SCHEMA, watermark=strategy).key_by("k").window(window)
    windows = choose(windows) if choose else windows
    made = windows.aggregate(**{name: make() for name, make in AGGREGATES.items()})
    spec = made._tip.node.spec
    found, late = rs.MemorySink(), rs.MemorySink()
    made.sink(found)
    if windows._choices.late_tag:
        made.side_output("late").sink(late)
    job.run(runtime="local")
    return sorted(map(shown, found.rows)), sorted(map(shown, late.rows)), type(spec).__name__


def shown(row):
    return repr(sorted(row.items()))


WINDOWS = {
    "session": (rs.Session("1h"), None),
    "session, late": (rs.Session("30m"), lambda w: w.late_to("late")),
    "cumulative": (rs.Cumulative("6h", "1h", offset="-20m"), None),
    "tumbling, late": (
        rs.Tumbling("2h", offset="5m"),
        lambda w: w.allowed_lateness("90m").late_to("late"),
    ),
    "sliding, late": (
        rs.Sliding("2h", "30m"),
        lambda w: w.allowed_lateness("1h").late_to("late"),
    ),
    "cumulative, late": (
        rs.Cumulative("6h", "2h"),
        lambda w: w.allowed_lateness("3h").late_to("late"),
    ),
    "tumbling": (rs.Tumbling("1h"), lambda w: w.allowed_lateness("8h")),
    "local days": (rs.Tumbling("1d", tz="Europe/Berlin"), None),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_columns_give_what_rows_give(name, monkeypatch):
    columns = outcome(*WINDOWS[name])
    monkeypatch.setattr(windowed, "takes_columns", lambda *_: False)
    by_row = outcome(*WINDOWS[name])
    assert columns[:2] == by_row[:2]
    assert by_row[2] == "WindowRowsSpec"
    assert columns[2] in ("WindowAggregateSpec", "SessionAggregateSpec")
    assert bool(columns[1]) == ("late" in name)


def best(window):
    strategy = rs.WatermarkStrategy("t", out_of_orderness="20m")
    job = rs.Job("windows", config={"batch_rows_max": 7})
    stream = job.from_items(rows(), schema=SCHEMA, watermark=strategy)
    made = stream.key_by("k").window(window).top_k(2, by="v", rank="place")
    return sorted(map(shown, made.collect())), type(made._tip.node.spec).__name__


def test_the_best_rows_of_local_days_are_those_of_rows(monkeypatch):
    columns = best(rs.Tumbling("1d", tz="Europe/Berlin"))
    monkeypatch.setattr(windowed, "takes_columns", lambda *_: False)
    by_row = best(rs.Tumbling("1d", tz="Europe/Berlin"))
    assert columns[0] == by_row[0] != []
    assert (columns[1], by_row[1]) == ("WindowTopKSpec", "WindowRowsSpec")
