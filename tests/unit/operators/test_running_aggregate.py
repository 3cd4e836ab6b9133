"""The running aggregate over columns: order, keys, event times, ends, errors."""

import statistics
from decimal import Decimal

import pyarrow as pa
import pytest

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.flow.element import MAX_TIME
from raystream.operators.operator import Spec
from raystream.operators.running_aggregate import RunningAggregateSpec

WORD = (("k", pa.string()),)
COUNT = Bound("n", "count", pa.int64())


def bound(kind, type, output=None, name="x", **more):
    return Bound(name, kind, output or type, value="v", value_type=type, **more)


def spec_of(aggregates, emit="row", keys=WORD, *, timed=True):
    fields = [*keys, *((one.name, one.output) for one in aggregates)]
    hidden = [EVENT_TIME_FIELD] if timed else []
    schema = pa.schema([*fields, *hidden])
    return RunningAggregateSpec(tuple(name for name, _ in keys), tuple(aggregates), emit, schema)


def batch(times=None, **columns):
    arrays = {name: v if isinstance(v, pa.Array) else pa.array(v) for name, v in columns.items()}
    record = pa.record_batch(arrays)
    if times is None:
        return Columns(record)
    schema = record.schema.append(EVENT_TIME_FIELD)
    arrays = [*record.columns, pa.array(times, pa.int64())]
    return Columns(pa.RecordBatch.from_arrays(arrays, schema=schema))


def opened(spec, rows_max=1_000):
    operator = spec.build()
    operator.open(OpenContext(operator="aggregate#1", where="job.py:3", limits=Limits(rows_max)))
    return operator


def rows_of(batches):
    return [tuple(row.values()) for one in batches for row in one.record.to_pylist()]


def test_each_row_gives_the_value_after_it_in_input_order():
    operator = opened(spec_of([COUNT]))
    assert isinstance(spec_of([COUNT]), Spec)
    out = rows_of(operator.on_batch(0, batch([5, 3, 9], k=["b", "a", "b"])))
    assert out == [("b", 1, 5), ("a", 1, 3), ("b", 2, 9)]
    assert rows_of(operator.on_batch(0, batch([1], k=["b"]))) == [("b", 3, 1)]


def test_a_batch_gives_each_touched_key_once_at_its_latest_time():
    operator = opened(spec_of([COUNT], "batch"))
    out = rows_of(operator.on_batch(0, batch([5, 3, 2], k=["b", "a", "b"])))
    assert out == [("b", 2, 5), ("a", 1, 3)]
    assert rows_of(operator.on_batch(0, batch([1], k=["b"]))) == [("b", 3, 1)]


def test_the_end_gives_each_key_once_in_slices_and_holds_watermarks_till_then():
    operator = opened(spec_of([COUNT], "final"), rows_max=2)
    assert not list(operator.on_batch(0, batch([5, 3, 9, 1], k=["b", "a", "b", "c"])))
    assert not list(operator.on_watermark(100))
    assert operator.output_watermark(100) is None
    firing = operator.on_watermark(MAX_TIME)
    assert rows_of([next(firing)]) == [("b", 2, 9), ("a", 1, 3)]
    firing.close()
    assert rows_of(operator.on_watermark(MAX_TIME)) == [("c", 1, 1)]
    assert operator.output_watermark(MAX_TIME) == MAX_TIME
    assert not list(operator.on_end())


def test_a_stream_without_event_time_gives_none():
    for emit in ("row", "batch", "final"):
        operator = opened(spec_of([COUNT], emit, timed=False))
        out = [*operator.on_batch(0, batch(k=["a", "a"])), *operator.on_end()]
        assert out[-1].record.schema.names == ["k", "n"]
        assert rows_of(out)[-1] == ("a", 2)


def test_several_key_columns_and_several_aggregates_stand_side_by_side():
    total = bound("sum", pa.int64(), name="total")
    keys = (("k", pa.string()), ("day", pa.int32()))
    operator = opened(spec_of([COUNT, total], "row", keys))
    rows = batch(
        [0, 0, 0],
        k=["a", "a", None],
        day=pa.array([1, 2, None], pa.int32()),
        v=[10, 20, 30],
    )
    first = rows_of(operator.on_batch(0, rows))
    assert first == [("a", 1, 1, 10, 0), ("a", 2, 1, 20, 0), (None, None, 1, 30, 0)]
    second = rows_of(operator.on_batch(0, rows))
    assert second == [("a", 1, 2, 20, 0), ("a", 2, 2, 40, 0), (None, None, 2, 60, 0)]


def test_empty_batches_pass_in_silence():
    operator = opened(spec_of([COUNT]))
    assert not list(operator.on_batch(0, batch([], k=pa.array([], pa.string()))))


@pytest.mark.parametrize(
    ("type", "output", "values"),
    [
        (pa.int64(), pa.int64(), [2**62, 2**62]),
        (pa.int64(), pa.int64(), [-(2**63), -1, 1]),
        (pa.uint64(), pa.uint64(), [2**63, 2**63]),
        (pa.decimal128(38, 0), pa.decimal128(38, 0), [Decimal(6 * 10**37)] * 2),
        (pa.decimal128(38, 0), pa.decimal128(38, 0), [Decimal(-(10**38) + 1), Decimal(-1)]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_sum_that_leaves_its_type_fails_and_names_itself(type, output, values, apart):
    total = bound("sum", type, output, name="total")
    operator = opened(spec_of([COUNT, total], timed=False))
    # Other keys in the same batch do not hide it.
    columns = batch(k=["a", "b"] * len(values), v=pa.array([v for v in values for _ in "ab"], type))
    parts = [columns.slice(i, 1) for i in range(columns.num_rows)] if apart else [columns]
    with pytest.raises(UserFunctionError) as error:
        rows_of(out for part in parts for out in operator.on_batch(0, part))
    assert 'aggregate#1 failed: the aggregate "total" = sum("v") overflows' in str(error.value)
    assert "job.py:3" in str(error.value)


def test_a_sum_up_to_the_ends_of_its_type_is_exact():
    for type, values, wanted in (
        (pa.int64(), [2**63 - 1, -(2**63), -1, 2**62], [2**63 - 1, -1, -2, 2**62 - 2]),
        (pa.uint64(), [2**63, 2**63 - 1, 0, 0], [2**63, 2**64 - 1, 2**64 - 1, 2**64 - 1]),
    ):
        operator = opened(spec_of([bound("sum", type)], timed=False))
        out = rows_of(operator.on_batch(0, batch(k=["a"] * 4, v=pa.array(values, type))))
        assert [value for _, value in out] == wanted


def test_a_decimal_sum_near_38_digits_is_exact():
    type = pa.decimal128(38, 0)
    operator = opened(spec_of([bound("sum", type)], timed=False))
    values = [Decimal(10**38 - 2), Decimal(1), Decimal(-(10**38) + 1), Decimal(-5)]
    out = rows_of(operator.on_batch(0, batch(k=["a"] * 4, v=pa.array(values, type))))
    assert [value for _, value in out] == [10**38 - 2, 10**38 - 1, 0, -5]


def test_a_long_hot_key_beside_short_ones_sums_floats_in_order():
    values = [0.1 * n for n in range(500)]
    keys = ["hot" if n % 5 else f"cold{n % 40}" for n in range(500)]
    operator = opened(spec_of([bound("sum", pa.float64())], timed=False))
    out = rows_of(operator.on_batch(0, batch(k=keys, v=values)))
    totals = {}
    for key, value, (_, got) in zip(keys, values, out, strict=True):
        totals[key] = totals[key] + value if key in totals else value
        assert got == totals[key]


def test_the_variance_of_large_values_does_not_cancel():
    operator = opened(spec_of([bound("variance", pa.float64())], timed=False))
    values = [1e9 + n % 3 for n in range(300)]
    for start in range(0, 300, 70):
        part = batch(k=["a"] * len(values[start : start + 70]), v=values[start : start + 70])
        out = rows_of(operator.on_batch(0, part))
    assert out[-1][1] == pytest.approx(statistics.variance(values), rel=1e-12)


def test_a_mean_of_large_integers_is_exact():
    operator = opened(spec_of([bound("mean", pa.int64(), pa.float64())], timed=False))
    out = rows_of(operator.on_batch(0, batch(k=["a"] * 3, v=[2**62, -(2**62), 3])))
    assert out[-1] == ("a", 1.0)


def test_a_column_that_cannot_be_aggregated_is_refused_when_the_job_is_built():
    nested = pa.list_(pa.int8())
    with pytest.raises(PlanError, match="no order"):
        spec_of([bound("min", nested)])
    with pytest.raises(PlanError, match="cannot be of type"):
        spec_of([bound("count_distinct", nested, pa.int64())])
    with pytest.raises(PlanError, match="a key cannot be of type"):
        spec_of([COUNT], keys=(("k", nested),))


class Failing(AggregateFunction):
    type = pa.int64()

    def create(self):
        return 0

    def add(self, acc, row):
        return acc + 1 // row["v"]

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return acc


class Lying(Failing):
    def add(self, acc, row):
        return "text"


def test_a_failing_aggregate_function_names_the_operator_and_the_row():
    own = Bound("x", "function", pa.int64(), function=Failing(), row_columns=("v",))
    operator = opened(spec_of([own], timed=False))
    with pytest.raises(UserFunctionError) as error:
        list(operator.on_batch(0, batch(k=["a", "a"], v=[1, 0])))
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert error.value.row == "{'v': 0}"
    assert "in add" in error.value.user_traceback


def test_a_result_that_does_not_fit_its_type_is_refused():
    own = Bound("x", "function", pa.int64(), function=Lying(), row_columns=("v",))
    operator = opened(spec_of([own], "batch", timed=False))
    with pytest.raises(UserFunctionError, match=r'"x" gave a value that does not fit int64'):
        list(operator.on_batch(0, batch(k=["a"], v=[1])))


def test_the_plan_tells_keys_and_aggregates():
    spec = spec_of([COUNT, bound("max_by", pa.int64(), by="t", by_type=pa.int64())], "final")
    assert spec.verb == "aggregate"
    assert spec.describe() == "by k: n=count(), x=max_by(v, t)  emit=final"
