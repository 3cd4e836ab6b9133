"""Window aggregates, case by case: when they fire, what is late, what they refuse."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.errors import PlanError, UserError, UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, NO_TIME, Columns
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.operators.window_aggregate import WindowAggregateSpec

INT, TEXT, STAMP = pa.int64(), pa.string(), pa.timestamp("us", "UTC")
MIN, MAX = -(2**63), 2**63 - 1
COUNT = Bound("n", "count", INT)


class Windows:
    """An operator, rows pushed as (key, value, time), results as (key, start, values..., time)."""

    def __init__(self, window, *aggregates, keyed=True, value=INT, key=TEXT, **limits):
        keys = [pa.field("k", key)] if keyed else []
        self.output = pa.schema(
            [
                *keys,
                pa.field("window_start", STAMP),
                pa.field("window_end", STAMP),
                *(pa.field(bound.name, bound.output) for bound in aggregates),
                EVENT_TIME_FIELD,
            ]
        )
        self.input = pa.schema([("k", key), ("v", value), EVENT_TIME_FIELD])
        names = ("k",) if keyed else ()
        self.spec = WindowAggregateSpec(names, window, aggregates, self.output)
        self.operator = self.spec.build()
        self.ctx = OpenContext(operator="bids", where="job.py:7", limits=Limits(**limits))
        self.operator.open(self.ctx)

    def push(self, *rows):
        keys, values, times = zip(*rows, strict=True)
        arrays = [
            pa.array(keys, self.input.field(0).type),
            pa.array(values, self.input.field(1).type),
            pa.array(np.array(times, np.int64)),
        ]
        record = pa.RecordBatch.from_arrays(arrays, schema=self.input)
        assert not any(out.num_rows for out in self.operator.on_batch(0, Columns(record)))

    def fire(self, watermark):
        out = []
        for batch in self.operator.on_watermark(watermark):
            assert batch.record.schema.equals(self.output)
            columns = batch.record.columns
            start = len(columns) - 3 - len(self.spec.aggregates)
            columns[start] = columns[start].cast(INT)
            del columns[start + 1]
            out += zip(*(column.to_pylist() for column in columns), strict=True)
        return out

    @property
    def late(self):
        return self.ctx.metrics.counter("late_rows").value


def test_c1_a_window_fires_when_its_last_instant_has_passed():
    windows = Windows(Tumbling(10), COUNT)
    windows.push(("a", 1, 0), ("a", 1, 9))
    assert windows.fire(8) == []
    assert windows.fire(9) == [("a", 0, 2, 9)]
    assert windows.operator.output_watermark(9) == 9


def test_c12_negative_times_and_offsets_go_towards_minus_infinity():
    windows = Windows(Tumbling(10), COUNT)
    windows.push(("a", 1, -1))
    assert windows.fire(MAX) == [("a", -10, 1, -1)]
    windows = Windows(Tumbling(10, 5), COUNT)
    windows.push(("a", 1, 4), ("a", 1, 14))
    assert windows.fire(MAX) == [("a", -5, 1, 4), ("a", 5, 1, 14)]


def test_c13_sliding_windows_overlap_or_leave_gaps():
    windows = Windows(Sliding(10, 3), COUNT)
    windows.push(("a", 1, 12))
    assert [row[1] for row in windows.fire(MAX)] == [3, 6, 9, 12]
    windows = Windows(Sliding(5, 10), COUNT)
    windows.push(("a", 1, 7))
    assert windows.fire(MAX) == []
    assert windows.late == 0


@pytest.mark.parametrize("time", [NO_TIME, None])
def test_c14_a_row_without_event_time_is_an_error_that_names_the_strategy(time):
    windows = Windows(Tumbling(10), COUNT)
    if time is not None:
        with pytest.raises(UserError, match="watermark strategy"):
            windows.push(("a", 1, 3), ("a", 1, time))
        return
    record = pa.record_batch({"k": ["a"], "v": [1]})
    with pytest.raises(UserError, match=r"no event time\n  at job.py:7"):
        list(windows.operator.on_batch(0, Columns(record)))


def test_c15_a_row_is_late_when_all_its_windows_have_fired():
    windows = Windows(Tumbling(10), COUNT)
    windows.fire(8)
    windows.push(("x", 1, 3))
    assert windows.fire(9) == [("x", 0, 1, 9)]
    windows.push(("y", 1, 5), ("y", 1, 12))
    assert windows.late == 1
    assert windows.fire(MAX) == [("y", 10, 1, 19)]


def test_c17_a_row_that_is_partly_late_counts_in_the_open_windows_only():
    windows = Windows(Sliding(10, 5), COUNT)
    windows.fire(12)
    windows.push(("k", 1, 8))
    assert windows.fire(MAX) == [("k", 5, 1, 14)]
    assert windows.late == 0


def test_after_the_last_watermark_every_row_is_late():
    windows = Windows(Tumbling(10), COUNT)
    windows.fire(MAX)
    windows.push(("a", 1, 0), ("a", 1, MAX))
    assert windows.late == 2
    assert windows.fire(MAX) == []


def test_windows_at_both_ends_of_time_saturate():
    windows = Windows(Tumbling(10, 5), COUNT)
    windows.push(("a", 1, MIN + 1), ("a", 1, MAX))
    assert windows.fire(MAX) == [
        ("a", MIN, 1, MIN + 1 - (MIN + 1 - 5) % 10 + 9),
        ("a", MAX - (MAX - 5) % 10, 1, MAX - 1),
    ]


def test_one_watermark_fires_thousands_of_windows_in_bounded_steps():
    windows = Windows(Tumbling(10), COUNT, batch_rows_max=100, firing_rows_max=150)
    windows.push(*(("a", 1, 10 * i) for i in range(3000)))
    sizes, held = [], []
    for batch in windows.operator.on_watermark(MAX):
        sizes.append(batch.num_rows)
        held.append(windows.operator._state.row_count)
    assert sum(sizes) == 3000
    assert max(sizes) == 100
    # At most one step beyond what was yielded has left the table.
    assert all(3000 - sum(sizes[: i + 1]) - left <= 150 for i, left in enumerate(held))


def test_what_was_yielded_is_gone_and_the_rest_stays():
    windows = Windows(Tumbling(10), COUNT, batch_rows_max=1)
    windows.push(("a", 1, 0), ("b", 1, 0), ("a", 1, 10), ("a", 1, 20))
    firing = windows.operator.on_watermark(19)
    first = next(firing).record.to_pylist()
    firing.close()
    rest = windows.fire(19)
    assert len(first) == 1
    assert {first[0]["k"], rest[0][0]} == {"a", "b"}
    assert rest[1:] == [("a", 10, 1, 19)]
    assert windows.fire(19) == []
    assert windows.fire(29) == [("a", 20, 1, 29)]


def test_all_rows_are_gathered_where_there_is_no_key():
    windows = Windows(Tumbling(10), COUNT, Bound("s", "sum", INT, "v", INT), keyed=False)
    windows.push(("a", 1, 0), ("b", 2, 9), ("b", 4, 10))
    assert windows.fire(MAX) == [(0, 2, 3, 9), (10, 1, 4, 19)]


def test_null_is_a_key_and_floats_have_one_zero_and_one_nan():
    windows = Windows(Tumbling(10), COUNT)
    windows.push((None, 1, 0), ("", 1, 0), (None, 1, 1))
    assert sorted(windows.fire(MAX), key=str) == [("", 0, 1, 9), (None, 0, 2, 9)]
    windows = Windows(Tumbling(10), COUNT, key=pa.float64())
    windows.push((0.0, 1, 0), (-0.0, 1, 0), (float("nan"), 1, 0), (-float("nan"), 1, 0))
    assert sorted(row[2] for row in windows.fire(MAX)) == [2, 2]


def test_nothing_left_gives_null_and_counts_give_zero():
    kinds = "sum mean min max variance stddev first last quantile collect".split()  # noqa: SIM905
    counts = "count count_distinct approx_count_distinct".split()  # noqa: SIM905
    floats = {"mean", "variance", "stddev", "quantile"}
    bounds = [
        Bound(kind, kind, pa.float64() if kind in floats else INT, "v", INT, q=0.5)
        for kind in kinds[:-1]
    ]
    bounds.append(Bound("collect", "collect", pa.list_(INT), "v", INT))
    bounds += [Bound(kind, kind, INT, "v", INT) for kind in counts]
    windows = Windows(Tumbling(10), *bounds)
    windows.push(("a", None, 0))
    assert windows.fire(MAX) == [("a", 0, *[None] * 10, 0, 0, 0, 9)]


@pytest.mark.parametrize(
    ("type", "total", "values"),
    [
        (INT, INT, [2**63 - 1, 1]),
        (INT, INT, [-(2**63), -1]),
        (pa.uint64(), pa.uint64(), [2**64 - 1, 1]),
        (pa.decimal128(38, 0), pa.decimal128(38, 0), [10**38 - 1, 1]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_sum_that_overflows_is_an_error(type, total, values, together):
    windows = Windows(Tumbling(10), Bound("s", "sum", total, "v", type), value=type)
    rows = [("a", Decimal(value) if value > 2**64 else value, 0) for value in values]
    with pytest.raises(UserError, match=r"sum\(v\) overflows"):
        push_and_fire(windows, [rows] if together else [[row] for row in rows])


def push_and_fire(windows, batches):
    for batch in batches:
        windows.push(*batch)
    windows.fire(MAX)


def test_sums_beyond_the_cheap_bound_are_exact():
    windows = Windows(Tumbling(10), Bound("s", "sum", INT, "v", INT))
    windows.push(("a", 2**62, 0), ("a", 2**62 - 1, 0), ("a", 0, 0), ("b", -(2**63), 0))
    assert sorted(windows.fire(MAX)) == [("a", 0, 2**63 - 1, 9), ("b", 0, -(2**63), 9)]
    type = pa.decimal128(38, 2)
    windows = Windows(Tumbling(10), Bound("s", "sum", type, "v", type), value=type)
    windows.push(("a", Decimal("9" * 36 + ".99"), 0))
    windows.push(("a", Decimal("-0.01"), 0))
    assert windows.fire(MAX) == [("a", 0, Decimal("9" * 36 + ".98"), 9)]


def test_variance_of_large_near_numbers_does_not_cancel():
    real = pa.float64()
    windows = Windows(Tumbling(10), Bound("x", "variance", real, "v", real), value=real)
    for value in (1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16):
        windows.push(("a", value, 0))
    assert windows.fire(MAX) == [("a", 0, pytest.approx(30.0, rel=1e-12), 9)]


def test_ties_go_to_the_row_that_came_first_also_across_panes():
    by_value = Bound("b", "max_by", TEXT, "k", TEXT, by="v", by_type=INT)
    windows = Windows(
        Sliding(10, 5), by_value, Bound("c", "collect", pa.list_(TEXT), "k", TEXT), keyed=False
    )
    windows.push(("first", 7, 8), ("second", 7, 2))
    windows.push(("third", 7, 1))
    assert windows.fire(9)[-1] == (0, "first", ["first", "second", "third"], 9)


def test_values_of_every_compared_type_keep_their_type():
    moment = dt.datetime(2024, 5, 1, tzinfo=dt.timezone.utc)
    for type, low, high in [
        (STAMP, moment, moment + dt.timedelta(days=1)),
        (pa.duration("us"), dt.timedelta(1), dt.timedelta(2)),
        (pa.time64("us"), dt.time(1), dt.time(2)),
        (pa.bool_(), False, True),
        (pa.decimal128(5, 1), Decimal("1.5"), Decimal("10.5")),
        (pa.float16(), np.float16(0.5), np.float16(1.5)),
        (pa.large_string(), "a", "b"),
    ]:
        bounds = [Bound(kind, kind, type, "v", type) for kind in ("min", "max", "first", "last")]
        windows = Windows(Tumbling(10), *bounds, value=type)
        windows.push(("a", high, 0), ("a", None, 0), ("a", low, 1))
        assert windows.fire(MAX) == [("a", 0, low, high, high, low, 9)]


@pytest.mark.parametrize("kind", ["min", "max", "count_distinct", "approx_count_distinct"])
def test_values_that_have_no_order_are_refused_when_the_job_is_built(kind):
    nested = pa.list_(INT)
    with pytest.raises(PlanError, match=f'"x": {kind}'):
        Windows(Tumbling(10), Bound("x", kind, nested, "v", nested), value=nested)


class Broken(AggregateFunction):
    type = INT

    def __init__(self, method):
        self.method = method

    def create(self):
        return []

    def add(self, acc, row):
        if self.method == "add" and row["v"] == 2:
            raise ValueError("two")
        return [*acc, row["v"]]

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return "text" if self.method == "result" else len(acc)


def test_an_aggregate_of_the_user_that_fails_tells_row_and_place():
    bound = Bound("x", "function", INT, function=Broken("add"), row_columns=("v",))
    with pytest.raises(UserFunctionError, match="'v': 2") as caught:
        Windows(Tumbling(10), bound).push(("a", 1, 0), ("a", 2, 0))
    assert isinstance(caught.value.__cause__, ValueError)
    bound = Bound("x", "function", INT, function=Broken("result"), row_columns=("v",))
    windows = Windows(Tumbling(10), bound)
    windows.push(("a", 1, 0))
    with pytest.raises(UserFunctionError, match='result of "x" does not fit int64'):
        windows.fire(MAX)


def test_a_condition_chooses_the_rows_of_an_aggregate_of_the_user():
    bound = Bound("x", "function", INT, function=Broken(""), row_columns=("v",), condition="v")
    windows = Windows(Sliding(10, 5), bound, value=pa.bool_())
    windows.push(("a", True, 5), ("a", None, 5), ("a", False, 6), ("a", True, 7))
    assert windows.fire(MAX) == [("a", 0, 2, 9), ("a", 5, 2, 14)]


def test_keys_that_hardly_repeat_are_aggregated_the_same_way():
    rng = np.random.default_rng(3)
    windows = Windows(Tumbling(1000), COUNT, Bound("m", "max", INT, "v", INT), key=INT)
    expected: dict[tuple[int, int], list[int]] = {}
    for _ in range(30):
        keys, values = rng.integers(0, 4000, 400), rng.integers(0, 99, 400)
        times = rng.integers(0, 3000, 400)
        windows.push(*zip(keys.tolist(), values.tolist(), times.tolist(), strict=True))
        for key, value, time in zip(keys.tolist(), values.tolist(), times.tolist(), strict=True):
            expected.setdefault((key, time // 1000 * 1000), []).append(value)
    assert windows.operator._state._table.next_page() is not None, "all batches were merged"
    got = {(key, start): (n, most) for key, start, n, most, _ in windows.fire(MAX)}
    assert got == {window: (len(some), max(some)) for window, some in expected.items()}


def test_state_holds_no_view_of_a_batch():
    windows = Windows(Tumbling(10), COUNT, Bound("l", "last", TEXT, "k", TEXT))
    wide = pa.RecordBatch.from_arrays(
        [pa.array(["x" * 1000] * 4000), pa.array([1] * 4000), pa.array([0] * 4000)],
        schema=windows.input,
    )
    list(windows.operator.on_batch(0, Columns(wide.slice(7, 3))))
    assert windows.operator._state.nbytes < 5000


def test_the_spec_prints_itself():
    spec = Windows(Sliding("10s", "2s"), COUNT, Bound("m", "max", INT, "v", INT)).spec
    assert spec.verb == "window_aggregate"
    assert spec.describe() == "sliding 10s every 2s by k: n=count(), m=max(v)"


def test_window_bounds_are_aware_datetimes():
    windows = Windows(Tumbling("1s"), COUNT)
    windows.push(("a", 1, 1_500_000))
    (batch,) = windows.operator.on_watermark(MAX)
    row = batch.record.to_pylist()[0]
    assert (row["window_start"] - EPOCH) // MICROSECOND == 1_000_000
    assert row["window_end"].utcoffset() == dt.timedelta(0)
