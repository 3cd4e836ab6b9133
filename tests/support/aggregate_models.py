"""Aggregates over rows of every type, in plain Python, and rows to aggregate."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal

import pyarrow as pa
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.flow.batch import EVENT_TIME_FIELD

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
STAMP = pa.timestamp("us", "UTC")
INPUT = pa.schema([("k", TEXT), ("v", INT), ("f", FLOAT), ("s", TEXT), EVENT_TIME_FIELD])


class Joined(AggregateFunction):
    type = TEXT

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(row["v"])
        return acc

    def merge(self, a, b):
        a.extend(b)
        return a

    def result(self, acc):
        return ",".join(map(str, acc))


def bound(kind, value=None, value_type=None, output=None, **more):
    return Bound(f"{kind}_{value}", kind, output or value_type, value, value_type, **more)


AGGREGATES = (
    bound("count", output=INT),
    bound("count", "v", INT, INT),
    bound("sum", "v", INT),
    bound("sum", "f", FLOAT),
    bound("mean", "v", INT, FLOAT),
    bound("min", "s", TEXT),
    bound("max", "f", FLOAT),
    bound("variance", "v", INT, FLOAT),
    bound("stddev", "f", FLOAT, FLOAT),
    bound("first", "v", INT),
    bound("last", "s", TEXT),
    bound("min_by", "v", INT, by="f", by_type=FLOAT),
    bound("max_by", "v", INT, by="s", by_type=TEXT),
    bound("count_distinct", "v", INT, INT),
    bound("approx_count_distinct", "s", TEXT, INT),
    bound("quantile", "v", INT, FLOAT, q=0.3),
    bound("collect", "v", INT, pa.list_(INT)),
    Bound("own", "function", TEXT, function=Joined(), row_columns=("v",)),
)


def variance(values):
    return None if len(values) < 2 else statistics.variance([Decimal(v) for v in values])


def model_value(aggregate, rows):
    """One aggregate over rows in order of arrival, as its documentation says."""
    kind, name = aggregate.kind, aggregate.value
    if kind == "function":
        return ",".join(str(row["v"]) for row in rows)
    if kind == "count" and name is None:
        return len(rows)
    rows = [row for row in rows if row[name] is not None]
    values = [row[name] for row in rows]
    if kind == "count":
        return len(values)
    if kind in ("count_distinct", "approx_count_distinct"):
        return len(set(values))
    if aggregate.by:
        rows = [row for row in rows if row[aggregate.by] is not None]
    if not rows:
        return None
    pick = {
        "first": lambda: min(rows, key=lambda row: row["ts"])[name],
        "last": lambda: max(rows, key=lambda row: row["ts"])[name],
        "min_by": lambda: min(rows, key=lambda row: row[aggregate.by])[name],
        "max_by": lambda: max(rows, key=lambda row: row[aggregate.by])[name],
        "sum": lambda: sum(values),
        "mean": lambda: sum(values) / len(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "collect": lambda: values,
        "variance": lambda: variance(values),
        "stddev": lambda: None if len(values) < 2 else math.sqrt(variance(values)),
        "quantile": lambda: model_quantile(sorted(values), aggregate.q),
    }
    return pick[kind]()


def model_quantile(values, q):
    place = q * (len(values) - 1)
    low = int(place)
    if low == place:
        return values[low]
    return values[low] + (values[low + 1] - values[low]) * (place - low)


def fire(operator, watermark, stops):
    """Fire, and now and then close the generator after a few batches and begin again."""
    batches = []
    while True:
        stop = next(stops)
        firing = operator.on_watermark(watermark)
        for batch in firing:
            batches.append(batch)
            stop -= 1
            if stop == 0:
                firing.close()
                break
        else:
            return batches


def record_of(rows):
    columns = {name: [row[name] for row in rows] for name in ("k", "v", "f", "s")}
    arrays = [pa.array(columns[field.name], field.type) for field in list(INPUT)[:-1]]
    return pa.RecordBatch.from_arrays(
        [*arrays, pa.array([row["ts"] for row in rows])], schema=INPUT
    )


ROW = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", "c", None]),
        "v": st.none() | st.integers(-20, 20),
        "f": st.none() | st.sampled_from([-1.5, 0.0, 2.25, 1e6]),
        "s": st.none() | st.sampled_from(["", "x", "yy"]),
        "ts": st.integers(-60, 60),
    }
)
EVENTS = st.lists(st.lists(ROW, min_size=1, max_size=12) | st.integers(-70, 90), max_size=25)
LIMITS = st.builds(
    Limits,
    batch_rows_max=st.integers(1, 5),
    firing_rows_max=st.integers(1, 20),
    pane_copies_max=st.sampled_from([1, 3, 64]),
)
