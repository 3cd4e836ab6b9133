"""Running aggregates over columns and over objects equal a model that starts from scratch."""

import math
import statistics
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound, result_type
from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, Objects
from raystream.flow.element import MAX_TIME
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.running_aggregate import RunningAggregateSpec

NAN = float("nan")
UTC = timezone.utc
NAIVE = datetime(2020, 1, 1)  # noqa: DTZ001  naive ones are UTC
SMALL_FLOATS = st.integers(-1000, 1000).map(lambda n: n / 8)
FLOATS = st.one_of(SMALL_FLOATS, st.sampled_from([NAN, -0.0, 0.0, math.inf, -math.inf, 1e300]))
TYPES = {
    "int64": (pa.int64(), st.integers(-(2**40), 2**40) | st.integers(-3, 3)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint64": (pa.uint64(), st.integers(0, 2**50) | st.integers(0, 3)),
    "float64": (pa.float64(), FLOATS),
    "float32": (pa.float32(), SMALL_FLOATS | st.just(NAN)),
    "bool": (pa.bool_(), st.booleans()),
    "decimal": (
        pa.decimal128(20, 2),
        st.integers(-(10**17), 10**17).map(lambda n: Decimal(n) / 100),
    ),
    "string": (pa.string(), st.text(max_size=3)),
    "binary": (pa.binary(), st.binary(max_size=2)),
    "timestamp": (
        pa.timestamp("us", "UTC"),
        st.integers(-(10**12), 10**12).map(lambda n: datetime.fromtimestamp(n // 10**6, UTC)),
    ),
    "nanoseconds": (
        pa.timestamp("ns"),
        st.integers(0, 10**6).map(lambda n: NAIVE + timedelta(microseconds=n)),
    ),
    "date": (pa.date32(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "time": (pa.time64("us"), st.times(time(0), time(23))),
    "duration": (pa.duration("ms"), st.integers(-99, 99).map(lambda n: timedelta(milliseconds=n))),
    "list": (pa.list_(pa.int32()), st.lists(st.integers(0, 3), max_size=2)),
    "struct": (pa.struct({"a": pa.int8()}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
}
NUMBERS = ("int64", "int8", "uint64", "float64", "float32", "bool", "decimal")
NESTED = ("list", "struct")
ORDERED = tuple(name for name in TYPES if name not in NESTED)
CASES = [
    *[(kind, name) for kind in ("first", "min_by") for name in TYPES],
    *[("collect", name) for name in ("int64", "string", "nanoseconds", "list", "struct")],
    *[("last", name) for name in ("int64", "decimal", "struct")],
    *[("count", name) for name in ("int64", "string", "list")],
    *[(kind, name) for kind in ("max", "count_distinct") for name in ORDERED],
    *[("min", name) for name in ("uint64", "float64", "string", "decimal")],
    *[(kind, name) for kind in ("sum", "mean", "quantile") for name in NUMBERS],
    *[(kind, name) for kind in ("variance", "stddev") for name in ("int8", "bool", "float32")],
    *[("max_by", name) for name in ("int64", "string")],
    ("approx_count_distinct", "string"),
    ("function", "int64"),
    ("count_rows", "int64"),
]


class Joined(AggregateFunction):
    """Order-sensitive, with accumulators that are changed in place."""

    type = pa.string()

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(row["v"])
        return acc

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return ",".join(map(str, acc)) or None


def same_value(value):
    """What count_distinct tells apart, written down apart from the code under test."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    return value


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def pick(rows, by, *, greatest):
    """The first of the best rows, numbers before NaN."""
    numbers = [row for row in rows if not is_nan(by(row))] or rows[:1]
    if not numbers:
        return None
    best = max(map(by, numbers)) if greatest else min(map(by, numbers))
    return next(row["v"] for row in numbers if is_nan(best) or by(row) == best)


def expected(kind, rows, q, *, timed):
    """The aggregate over all rows of a key so far, from scratch."""
    if kind == "count_rows":
        return len(rows)
    rows = [row for row in rows if row["v"] is not None]
    values = [row["v"] for row in rows]
    if kind == "function":
        return ",".join(map(str, values)) or None
    if kind in ("min_by", "max_by"):
        rows = [row for row in rows if row["by"] is not None]
        return pick(rows, lambda row: row["by"], greatest=kind == "max_by")
    if kind in ("count", "count_distinct", "approx_count_distinct"):
        return len(values) if kind == "count" else len(set(map(same_value, values)))
    if not values:
        return None
    if kind == "collect":
        return values
    if kind in ("first", "last"):
        order = (lambda row: row["ts"]) if timed else (lambda row: row["arrival"])
        return pick(rows, order, greatest=kind == "last")
    if kind in ("min", "max"):
        return pick(rows, lambda row: row["v"], greatest=kind == "max")
    if kind == "quantile":
        return quantile(sorted(float(value) for value in values if not is_nan(value)), q)
    if kind in ("sum", "mean"):
        if kind == "mean" and isinstance(values[0], Decimal):
            values = list(map(float, values))
        total = values[0] + 0
        for value in values[1:]:
            total += value
        return total if kind == "sum" else float(total / len(values))
    if len(values) < 2:
        return None
    exact = statistics.variance(list(map(float, values))) if not any(map(is_nan, values)) else NAN
    return exact if kind == "variance" else math.sqrt(exact)


def quantile(values, q):
    if not values:
        return None
    low = math.floor(q * (len(values) - 1))
    high = min(low + 1, len(values) - 1)
    if values[low] == values[high] or q * (len(values) - 1) == low:
        return values[low]
    return values[low] + (values[high] - values[low]) * (q * (len(values) - 1) - low)


def equal(got, wanted, *, exact):
    if isinstance(wanted, float) and isinstance(got, float):
        if math.isnan(wanted) or math.isnan(got):
            return math.isnan(wanted) and math.isnan(got)
        return got == wanted if exact else math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(got) == len(wanted) and all(
            equal(a, b, exact=exact) for a, b in zip(got, wanted, strict=True)
        )
    return got == wanted


def model(kind, rows, splits, emit, q, *, timed):
    """Rows out as (key, value, event time), recomputed from scratch each time."""
    out, seen, start = [], {}, 0
    for size in splits:
        touched = {}
        for row in rows[start : start + size]:
            seen.setdefault(row["k"], []).append(row)
            touched[row["k"]] = max(touched.get(row["k"], row["ts"]), row["ts"])
            if emit == "row":
                out.append((row["k"], expected(kind, seen[row["k"]], q, timed=timed), row["ts"]))
        start += size
        if emit == "batch":
            out += [(k, expected(kind, seen[k], q, timed=timed), ts) for k, ts in touched.items()]
    if emit == "final":
        out += [
            (key, expected(kind, of, q, timed=timed), max(row["ts"] for row in of))
            for key, of in seen.items()
        ]
    return out


@st.composite
def streams(draw, values, by):
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "k": st.sampled_from(["a", "b", "c", None]),
                    "v": st.none() | values,
                    "by": st.none() | by,
                    "ts": st.integers(-5, 5),
                }
            ),
            max_size=25,
        )
    )
    splits, left = [], len(rows)
    while left:
        splits.append(draw(st.integers(1, left)))
        left -= splits[-1]
    return rows, splits


def drive(operator, batches):
    operator.open(OpenContext(limits=Limits(batch_rows_max=7)))
    out = [batch for one in batches for batch in operator.on_batch(0, one)]
    out += operator.on_watermark(MAX_TIME)
    out += operator.on_end()
    assert all(batch.num_rows > 0 for batch in out)
    return out


def run_columns(kind, types, rows, splits, emit, *, q, timed):
    type, by_type = types
    bare = "count" if kind == "count_rows" else kind
    function = Joined() if kind == "function" else None
    output = result_type(Aggregate(bare, "v", function=function), type)
    bound = Bound(
        "out",
        bare,
        output,
        value=None if kind in ("count_rows", "function") else "v",
        value_type=type,
        by="by" if kind.endswith("_by") else None,
        by_type=by_type if kind.endswith("_by") else None,
        q=q,
        function=function,
        row_columns=("v",) if function else (),
        condition="there" if function else None,
    )
    hidden = [EVENT_TIME_FIELD] if timed else []
    schema = pa.schema(
        [("k", pa.string()), ("v", type), ("by", by_type), ("there", pa.bool_()), *hidden]
    )
    spec = RunningAggregateSpec(
        ("k",), (bound,), emit, pa.schema([("k", pa.string()), ("out", output), *hidden])
    )
    table = pa.table(
        [
            pa.array([row["k"] for row in rows], pa.string()),
            pa.array([row["v"] for row in rows], type),
            pa.array([row["by"] for row in rows], by_type),
            pa.array([row["v"] is not None for row in rows], pa.bool_()),
            *([pa.array([row["ts"] for row in rows], pa.int64())] if timed else []),
        ],
        schema=schema,
    ).combine_chunks()
    record = (table.to_batches() or [pa.RecordBatch.from_pylist([], schema)])[0]
    batches, start = [], 0
    for size in splits:
        batches.append(Columns(record.slice(start, size)))
        start += size
    out = drive(spec.build(), batches)
    assert all(batch.record.schema == spec.output for batch in out)
    return [
        (row["k"], row["out"], row.get("__ts")) for batch in out for row in batch.record.to_pylist()
    ]


def run_objects(kind, rows, splits, emit, q, *, timed):
    bare = "count" if kind == "count_rows" else kind
    column = None if kind in ("count_rows", "function") else (lambda row: row["v"])
    function = Joined() if kind == "function" else None
    condition = (lambda row: row["v"] is not None) if kind == "function" else None
    by = "by" if kind.endswith("_by") else None
    aggregate = Aggregate(bare, column, by, q, function, condition)
    spec = ObjectAggregateSpec((("out", aggregate),), emit, ("key",), "aggregate", "test.py:1")
    batches, start = [], 0
    for size in splits:
        part = rows[start : start + size]
        times = pa.array([row["ts"] for row in part], pa.int64()).to_numpy() if timed else None
        batches.append(Objects(part, times, [row["k"] for row in part]))
        start += size
    out = drive(spec.build(), batches)
    return [
        (row["key"], row["out"], time)
        for batch in out
        for row, time in zip(
            batch.values,
            [None] * batch.num_rows if batch.timestamps is None else batch.timestamps.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize(("kind", "name"), CASES)
@settings(max_examples=20)  # for each of a hundred cases
@given(data=st.data())
def test_columns_and_objects_give_what_a_model_gives_from_scratch(kind, name, data):
    type, values = TYPES[name]
    by_type, bys = TYPES[data.draw(st.sampled_from(ORDERED), "by type")]
    rows, splits = data.draw(streams(values, bys))
    # What the columns hold is what the object path and the model see.
    for column, of in (("v", type), ("by", by_type)):
        for row, value in zip(
            rows, pa.array([r[column] for r in rows], of).to_pylist(), strict=True
        ):
            row[column] = value
    for arrival, row in enumerate(rows):
        row["arrival"] = arrival
    emit = data.draw(st.sampled_from(["row", "batch", "final"]), "emit")
    timed = data.draw(st.booleans(), "timed")
    q = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0]), "q") if kind == "quantile" else None
    wanted = model(kind, rows, splits, emit, q, timed=timed)
    columns = run_columns(kind, (type, by_type), rows, splits, emit, q=q, timed=timed)
    objects = run_objects(kind, rows, splits, emit, q, timed=timed)
    exact = kind not in ("mean", "variance", "stddev", "quantile")
    for got in (columns, objects):
        assert len(got) == len(wanted)
        for (key, value, ts), (wanted_key, wanted_value, wanted_ts) in zip(
            got, wanted, strict=True
        ):
            assert key == wanted_key
            assert ts == (wanted_ts if timed else None)
            assert equal(value, wanted_value, exact=exact)
