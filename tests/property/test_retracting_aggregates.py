"""Aggregates of a changelog are those of the table that its changes make, after every row."""

import math
import statistics
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound, result_type
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.changes import OPS, op_names
from raystream.flow.element import MAX_TIME
from raystream.operators.running_aggregate import RunningAggregateSpec

NAN, INF = float("nan"), math.inf
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
COLUMNS = pa.schema(
    [
        ("k", pa.string()),
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("d", pa.decimal128(12, 2)),
        ("s", pa.string()),
        ("l", pa.list_(pa.int8())),
        ("there", pa.bool_()),
    ]
)
WIRE = wire_schema(COLUMNS, timed=True, changes=True)
FLOATS = [None, NAN, INF, -INF, 0.1, 0.2, -0.3, 1e15, 7.0, 1e16 / 3]


class Joined(AggregateFunction):
    """Counts texts, and can take them back."""

    type = pa.string()

    def create(self):
        return Counter()

    def add(self, acc, row):
        acc[row["s"]] += 1
        return acc

    def retract(self, acc, row):
        acc[row["s"]] -= 1
        return acc

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return ",".join(sorted(str(text) for text in acc.elements()))


KINDS = {
    "rows": ("count", None),
    "count_f": ("count", "f"),
    "sum_i": ("sum", "i"),
    "sum_f": ("sum", "f"),
    "sum_d": ("sum", "d"),
    "mean_i": ("mean", "i"),
    "mean_f": ("mean", "f"),
    "mean_d": ("mean", "d"),
    "var_i": ("variance", "i"),
    "std_f": ("stddev", "f"),
    "min_f": ("min", "f"),
    "max_f": ("max", "f"),
    "min_s": ("min", "s"),
    "max_s": ("max", "s"),
    "max_d": ("max", "d"),
    "max_i": ("max", "i"),
    "kinds_s": ("count_distinct", "s"),
    "kinds_f": ("count_distinct", "f"),
    "half_i": ("quantile", "i"),
    "half_f": ("quantile", "f"),
    "all_l": ("collect", "l"),
    "min_by": ("min_by", "s"),
    "max_by": ("max_by", "l"),
    "first": ("first", "s"),
    "last": ("last", "f"),
}


def bound(name):
    kind, value = KINDS[name]
    by = "f" if kind.endswith("_by") else None
    of = None if value is None else COLUMNS.field(value).type
    output = result_type(Aggregate(kind, value), of)
    by_type = None if by is None else COLUMNS.field(by).type
    q = 0.5 if kind == "quantile" else None
    return Bound(name, kind, output, value, of, by=by, by_type=by_type, q=q)


OWN = Bound(
    "own", "function", pa.string(), function=Joined(), row_columns=("s",), condition="there"
)
BOUNDS = (*map(bound, KINDS), OWN)


SOME = st.lists(st.sampled_from(BOUNDS), min_size=1, max_size=6, unique_by=lambda one: one.name)


def output(emit, bounds):
    fields = [COLUMNS.field("k"), *(pa.field(one.name, one.output) for one in bounds)]
    return wire_schema(pa.schema(fields), timed=True, changes=emit == "changes")


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def key_of(value):
    return repr(value + 0.0) if isinstance(value, float) else repr(value)


def pick(rows, order):
    """The value of the first of the best rows, NaN behind all numbers."""
    rows = sorted(rows, key=lambda one: one["place"])
    return min(rows, key=lambda one: (order(one) != order(one), order(one)))


def aggregate(name, rows, *, gone=False):
    """Aggregate the rows of a key's table from scratch; ``place`` is the number of arrival."""
    if name == "own":
        if gone:
            return None
        return ",".join(sorted(str(row["s"]) for row in rows if row["there"]))
    kind, column = KINDS[name]
    if column is None:
        return len(rows)
    rows = [row for row in rows if row[column] is not None]
    values = [row[column] for row in rows]
    if kind == "count":
        return len(values)
    if kind == "count_distinct":
        return len(set(map(key_of, values)))
    if kind.endswith("_by"):
        rows = [row for row in rows if row["f"] is not None]
        sign = -1 if kind == "max_by" else 1
        return pick(rows, lambda row: sign * row["f"])[column] if rows else None
    if not values:
        return None
    if kind in ("first", "last"):
        return pick(rows, lambda row: -row["ts"] if kind == "last" else row["ts"])[column]
    if kind == "collect":
        return values
    if kind in ("min", "max"):
        numbers = [value for value in values if not is_nan(value)]
        return (min if kind == "min" else max)(numbers) if numbers else values[0]
    if kind == "quantile":
        numbers = sorted(float(value) for value in values if not is_nan(value))
        if not numbers:
            return None
        low, high = numbers[(len(numbers) - 1) // 2], numbers[len(numbers) // 2]
        return low if low == high else low + (high - low) / 2
    floats = list(map(float, values))
    if kind in ("variance", "stddev"):
        if len(floats) < 2:
            return None
        exact = statistics.variance(floats) if all(map(math.isfinite, floats)) else NAN
        return exact if kind == "variance" else math.sqrt(exact)
    total = sum(values) if column != "f" else added(floats)
    return total if kind == "sum" else float(total) / len(values)


def added(floats):
    return math.fsum(floats) if not {INF, -INF} <= set(floats) else NAN


def close(got, wanted):
    if isinstance(got, float) and isinstance(wanted, float):
        return (is_nan(got) and is_nan(wanted)) or math.isclose(
            got, wanted, rel_tol=1e-9, abs_tol=1e-9
        )
    return got == wanted


def alike(a, b):
    return all(key_of(a[name]) == key_of(b[name]) for name in COLUMNS.names)


VALUES = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-3, 3) | st.integers(-(2**40), 2**40),
        "f": st.sampled_from(FLOATS),
        "d": st.none() | st.integers(-(10**6), 10**6).map(lambda n: Decimal(n) / 100),
        "s": st.sampled_from([None, "", "a", "b", "ß"]),
        "l": st.sampled_from([None, [], [1], [None, 2]]),
        "there": st.booleans(),
    }
)


@st.composite
def stories(draw):
    """Changes of a table with few keys, and where batches are cut."""
    table, rows = [], []

    def say(op, row):
        rows.append({**row, "op": op, "ts": draw(st.integers(-9, 9))})

    for _ in range(draw(st.integers(0, 14))):
        what = draw(st.sampled_from(["add", "add", "add", "update", "delete", "clear"]))
        if what == "add" or not table:
            row = {"k": draw(st.sampled_from(["a", "a", "b", None])), **draw(VALUES)}
            table.append(row)
            say(draw(st.sampled_from(["+I", "+U"])), row)
        elif what == "clear":
            key = draw(st.sampled_from(table))["k"]
            for row in [row for row in table if row["k"] == key]:
                say("-D", row)
            table = [row for row in table if row["k"] != key]
        else:
            row = table.pop(draw(st.integers(0, len(table) - 1)))
            say("-U" if what == "update" else "-D", row)
            if what == "update":
                table.append({**row, **draw(VALUES)})
                say("+U", table[-1])
    return rows, draw(st.lists(st.integers(1, 5), min_size=len(rows), max_size=len(rows)))


def batches(rows, sizes):
    start = 0
    for size in sizes:
        part = rows[start : start + size]
        start += size
        if part:
            columns = [
                *(
                    pa.array([row[name] for row in part], COLUMNS.field(name).type)
                    for name in COLUMNS.names
                ),
                pa.array([OPS.index(row["op"]) for row in part], pa.int8()),
                pa.array([row["ts"] for row in part], pa.int64()),
            ]
            yield Columns(pa.RecordBatch.from_arrays(columns, schema=WIRE))


def model(rows, emit, bounds, *, before=False):
    """What comes out, row by row, from scratch: (op, key, values, event time)."""
    tables, out = {}, []
    for place, row in enumerate(rows):
        table = tables.setdefault(row["k"], [])
        old, had = values(table, bounds), bool(table)
        if row["op"] in ("+I", "+U"):
            table.append({**row, "place": place})
        else:
            table.remove(next(one for one in table if alike(one, row)))
        new = values(table, bounds)
        if emit == "row":
            out.append((None, row["k"], new, row["ts"]))
        elif not table:
            out.append(("-D", row["k"], old, row["ts"]))
        else:
            if had and before:
                out.append(("-U", row["k"], old, row["ts"]))
            out.append(("+U" if had else "+I", row["k"], new, row["ts"]))
    return out


def values(table, bounds):
    return {one.name: aggregate(one.name, table, gone=not table) for one in bounds}


def opened(emit, bounds, *, before=False):
    wire = output(emit, bounds)
    spec = RunningAggregateSpec(("k",), bounds, emit, wire, before, signed=True)
    operator = spec.build()
    operator.open(OpenContext("it", "job.py:1", limits=Limits(batch_rows_max=5)))
    return operator


def shown(batch):
    ops = [None] * batch.num_rows if batch.ops is None else op_names(batch.ops)
    rows = batch.visible.to_pylist()
    for op, row, time in zip(ops, rows, batch.timestamps.tolist(), strict=True):
        yield op, row.pop("k"), row, time


def check(got, wanted):
    assert [(op, key, time) for op, key, _, time in got] == [
        (op, key, time) for op, key, _, time in wanted
    ]
    for (_, _, mine, _), (_, _, theirs, _) in zip(got, wanted, strict=True):
        wrong = {n: (mine[n], theirs[n]) for n in theirs if not close(mine[n], theirs[n])}
        assert not wrong


def drive(operator, rows, sizes, reborn=None):
    out = []
    for number, batch in enumerate(batches(rows, sizes)):
        for one in operator.on_batch(0, batch):
            assert one.num_rows <= 5 or one.ops is None
            out += shown(one)
        if reborn is not None and number % 2:
            kept = operator.snapshot()
            operator = reborn()
            operator.restore(kept)
    return operator, out


@given(stories(), SOME.map(tuple), st.booleans(), st.booleans())
def test_each_change_gives_what_the_table_gives_by_then(story, bounds, before, reborn):
    rows, sizes = story
    again = (lambda: opened("changes", bounds, before=before)) if reborn else None
    _, got = drive(opened("changes", bounds, before=before), rows, sizes, again)
    check(got, model(rows, "changes", bounds, before=before))


@given(stories(), SOME.map(tuple))
def test_with_emit_row_a_key_without_rows_counts_nothing(story, bounds):
    rows, sizes = story
    _, got = drive(opened("row", bounds), rows, sizes)
    check(got, model(rows, "row", bounds))


@given(stories(), SOME.map(tuple))
def test_at_the_end_keys_without_rows_are_forgotten(story, bounds):
    rows, sizes = story
    operator, _ = drive(opened("final", bounds), rows, sizes, lambda: opened("final", bounds))
    got = {key: row for one in operator.on_watermark(MAX_TIME) for _, key, row, _ in shown(one)}
    last = {}
    for op, key, row, _ in model(rows, "changes", bounds):
        last[key] = None if op == "-D" else row
    wanted = {key: row for key, row in last.items() if row is not None}
    assert got.keys() == wanted.keys()
    for key, row in wanted.items():
        assert all(close(got[key][name], row[name]) for name in row)


@given(stories(), SOME.map(tuple))
def test_with_emit_batch_each_key_that_was_touched_is_given_as_it_is(story, bounds):
    rows, sizes = story
    operator = opened("batch", bounds)
    after = iter(model(rows, "row", bounds))
    for batch in batches(rows, sizes):
        (out,) = operator.on_batch(0, batch)
        newest = {}
        for _ in range(batch.num_rows):
            _, key, row, _ = next(after)
            newest[key] = row
        got = {key: row for _, key, row, _ in shown(out)}
        assert got.keys() == newest.keys()
        for key, row in newest.items():
            assert all(close(got[key][name], row[name]) for name in row)


BLANK = dict.fromkeys(COLUMNS.names) | {"ts": 0, "there": True}


@given(stories(), SOME.map(tuple), st.lists(st.booleans(), min_size=20, max_size=20))
def test_what_was_never_there_is_not_taken_back_and_counted(story, bounds, garbage):
    rows, _ = story
    more, wanted = [], 0
    for row, odd in zip(rows, garbage, strict=False):
        if odd:
            more.append({**BLANK, "k": "never", "op": "-D"})
            wanted += 1
        more.append(row)
    operator = opened("changes", bounds)
    _, got = drive(operator, more, [4] * len(more))
    check(got, model(rows, "changes", bounds))
    assert operator._ctx.metrics.counter("ignored_retractions").value == wanted


@given(stories(), SOME.map(tuple), st.data())
def test_taking_back_other_rows_than_came_fails_nothing(story, bounds, data):
    rows, sizes = story
    ops = data.draw(st.lists(st.sampled_from(OPS), min_size=len(rows), max_size=len(rows)))
    odd = [{**row, "op": op} for row, op in zip(rows, ops, strict=True)]
    _, got = drive(
        opened("changes", bounds, before=True),
        odd,
        sizes,
        lambda: opened("changes", bounds, before=True),
    )
    keys = set()
    for op, key, _, _ in got:
        assert (key in keys) == (op != "+I")
        (keys.discard if op == "-D" else keys.add)(key)
