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
    "n": lambda: rs.count(),
    "vs": lambda: rs.collect(rs.col("v") * 2),
    "first": lambda: rs.first("v"),
    "last": lambda: rs.last("v"),
    "mean": lambda: rs.mean("v").where(rs.col("v") > 5),
}


def outcome(window, choose=lambda windows: windows):
    strategy = rs.WatermarkStrategy("t", out_of_orderness="20m")
    stream = rs.Job("windows", config={"batch_rows_max": 7}).from_items(
        rows(), schema=SCHEMA, watermark=strategy
    )
    windows = choose(stream.key_by("k").window(window))
    made = windows.aggregate(**{name: make() for name, make in AGGREGATES.items()})
    found = sorted(map(shown, made.collect()))
    plan = made.explain()
    late = sorted(map(shown, made.side_output("late").collect())) if "late" in str(choose) else []
    return found, late, plan


def shown(row):
    return repr(sorted(row.items()))
