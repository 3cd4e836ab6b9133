"""Running aggregates that announce what they replace, and those that take rows back."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from conformance_lineage import Lineages, same_rows

from raystream.config import Limits
from raystream.contracts.aggregate import AggregateFunction, Bound
from raystream.contracts.context import OpenContext
from raystream.errors import PlanError, RestoreRefused, UserFunctionError
from raystream.flow.batch import Columns, wire_schema, with_ops
from raystream.flow.changes import OPS, op_names
from raystream.flow.element import MAX_TIME
from raystream.operators.running_aggregate import RunningAggregateSpec

INT, TEXT = pa.int64(), pa.string()
ROWS = Bound("n", "count", pa.int64())


def of(kind, output, type=INT):
    return Bound("x", kind, output, value="v", value_type=type)


SUM = of("sum", pa.int64())
TOP = of("max", pa.int64())


def opened(*bounds, emit="changes", before=False, signed=True, key=TEXT):
    schema = pa.schema([("k", key), *((one.name, one.output) for one in bounds)])
    output = wire_schema(schema, timed=False, changes=emit == "changes")
    operator = RunningAggregateSpec(("k",), bounds, emit, output, before, signed).build()
    operator.open(OpenContext("it", "job.py:1", limits=Limits(batch_rows_max=1_000)))
    return operator


def feed(operator, *rows, type=INT):
    """Give rows of (op or None, key, value); tell what comes out as (op, key, values …)."""
    ops, keys, values = zip(*rows, strict=True)
    batch = Columns(pa.record_batch({"k": keys, "v": pa.array(values, type)}))
    if ops[0] is not None:
        batch = with_ops(batch, np.array([OPS.index(op) for op in ops], np.int8))
    return list(told(operator.on_batch(0, batch)))


def told(batches):
    for batch in batches:
        ops = [None] * batch.num_rows if batch.ops is None else op_names(batch.ops)
        for op, row in zip(ops, batch.visible.to_pylist(), strict=True):
            yield (op, *row.values())


def test_plain_rows_give_upserts_by_key():
    operator = opened(ROWS, signed=False)
    got = feed(operator, (None, "a", 0), (None, "b", 0), (None, "a", 0))
    assert got == [("+I", "a", 1), ("+I", "b", 1), ("+U", "a", 2)]


def test_with_before_the_old_row_stands_directly_before_the_new_one():
    operator = opened(ROWS, SUM, signed=False, before=True)
    assert feed(operator, (None, "a", 5)) == [("+I", "a", 1, 5)]
    assert feed(operator, (None, "b", 1), (None, "a", 2), (None, "b", 1), (None, "a", 3)) == [
        ("+I", "b", 1, 1),
        ("-U", "a", 1, 5),
        ("+U", "a", 2, 7),
        ("-U", "b", 1, 1),
        ("+U", "b", 2, 2),
        ("-U", "a", 2, 7),
        ("+U", "a", 3, 10),
    ]


def test_old_and_new_row_go_in_one_batch_however_small_batches_are():
    operator = opened(ROWS, signed=False, before=True)
    operator._ctx = OpenContext("it", "job.py:1", limits=Limits(batch_rows_max=2))
    rows = pa.record_batch({"k": ["a", "a", "b", "b"], "v": [0, 0, 0, 0]})
    out = [op_names(batch.ops) for batch in operator.on_batch(0, Columns(rows))]
    assert out == [["+I"], ["-U", "+U"], ["+I"], ["-U", "+U"]]


def test_a_count_goes_up_and_down_and_is_gone_at_none():
    operator = opened(ROWS)
    got = feed(operator, ("+I", "a", 0), ("+I", "b", 0), ("+I", "a", 0))
    assert got == [("+I", "a", 1), ("+I", "b", 1), ("+U", "a", 2)]
    assert feed(operator, ("-D", "a", 0)) == [("+U", "a", 1)]
    assert feed(operator, ("-D", "a", 0), ("+I", "a", 0)) == [("-D", "a", 1), ("+I", "a", 1)]


def test_sums_follow_updates_of_the_table():
    operator = opened(SUM, before=True)
    assert feed(operator, ("+I", "a", 5), ("+I", "a", 7)) == [
        ("+I", "a", 5),
        ("-U", "a", 5),
        ("+U", "a", 12),
    ]
    assert feed(operator, ("-U", "a", 5), ("+U", "a", 9)) == [
        ("-U", "a", 12),
        ("+U", "a", 7),
        ("-U", "a", 7),
        ("+U", "a", 16),
    ]


def test_the_next_best_value_comes_when_the_best_is_taken_back():
    operator = opened(TOP)
    feed(operator, ("+I", "a", 9), ("+I", "a", 7), ("+I", "a", 9), ("+I", "a", 3))
    got = feed(operator, ("-D", "a", 9), ("-D", "a", 9), ("-D", "a", 3), ("+I", "a", 8))
    assert [value for _, _, value in got] == [9, 7, 7, 8]


@pytest.mark.parametrize("kind", ["sum", "mean", "variance"])
def test_nothing_is_left_of_large_floats_that_were_taken_back(kind):
    operator = opened(of(kind, pa.float64(), pa.float64()), emit="batch")
    type = pa.float64()
    feed(operator, ("+I", "a", 0.25), ("+I", "a", 0.75), type=type)
    for _ in range(20):
        feed(operator, ("+I", "a", 1e16), ("+I", "a", 1 / 3), type=type)
        ((_, _, got),) = feed(operator, ("-D", "a", 1e16), ("-D", "a", 1 / 3), type=type)
    assert got == pytest.approx({"sum": 1.0, "mean": 0.5, "variance": 0.125}[kind], rel=1e-12)


def test_what_is_no_number_can_be_taken_back():
    operator = opened(of("sum", pa.float64(), pa.float64()))
    inf, nan = float("inf"), float("nan")
    rows = [("+I", "a", 1.5), ("+I", "a", inf), ("+I", "a", -inf), ("+I", "a", nan)]
    rows += [("-D", "a", -inf), ("-D", "a", nan), ("-D", "a", inf)]
    got = [value for *_, value in feed(operator, *rows, type=pa.float64())]
    assert got[:2] == [1.5, inf]
    assert np.isnan(got[2:5]).all()
    assert got[5:] == [inf, 1.5]


def test_times_keep_their_nanoseconds():
    kind = pa.timestamp("ns")
    operator = opened(of("min", kind, kind))
    rows = pa.array([5, 3], pa.int64()).view(kind)
    batch = Columns(pa.record_batch({"k": ["a", "a"], "v": rows}))
    (out,) = operator.on_batch(0, with_ops(batch, np.zeros(2, np.int8)))
    assert out.record.column("x").view(pa.int64()).to_pylist() == [5, 3]


def test_a_sum_that_leaves_its_type_fails():
    operator = opened(SUM)
    feed(operator, ("+I", "a", 2**63 - 1), ("-D", "a", 2**63 - 1), ("+I", "a", -1))
    feed(operator, ("+I", "a", 2**63 - 1))
    with pytest.raises(UserFunctionError, match="overflows"):
        feed(operator, ("+I", "a", 2))


class Failing(AggregateFunction):
    type = pa.int64()

    def create(self):
        return 0

    def add(self, acc, row):
        return acc + 1

    def retract(self, acc, row):
        raise ValueError("no")

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return acc


def test_an_own_aggregate_that_fails_at_taking_back_tells_the_row():
    bound = Bound("x", "function", pa.int64(), function=Failing(), row_columns=("v",))
    operator = opened(bound)
    with pytest.raises(UserFunctionError, match="no") as caught:
        feed(operator, ("+I", "a", 41), ("-D", "a", 42), ("+I", "a", 43))
    assert "42" in str(caught.value)


def test_an_approximate_count_is_refused():
    with pytest.raises(PlanError, match="approx_count_distinct"):
        opened(of("approx_count_distinct", pa.int64()))
    opened(of("approx_count_distinct", pa.int64()), signed=False)


@pytest.mark.parametrize("signed", [True, False])
def test_what_was_kept_of_plain_rows_is_not_taken_for_that_of_a_changelog(signed):
    kept = opened(SUM, signed=signed).snapshot()
    with pytest.raises(RestoreRefused, match="uid"):
        opened(SUM, signed=not signed).restore(kept)


def test_keys_that_are_gone_are_not_kept_and_a_delta_says_so():
    operator, lineages = opened(ROWS, TOP, emit="final"), Lineages()
    feed(operator, *(("+I", f"k{i}", i) for i in range(20)))
    lineages.take(operator.changes())
    feed(operator, ("-D", "k3", 3), ("+I", "k4", 9))
    kept = operator.changes()
    assert kept[0].delta
    assert kept[0].table.num_rows == 2
    lineages.take(kept)
    same_rows(lineages.snapshot(), operator.snapshot())
    assert "k3" not in operator.snapshot()[0].table.column("k").to_pylist()
    again = opened(ROWS, TOP, emit="final")
    again.restore(operator.snapshot())
    rows = {key: rest for _, key, *rest in told(again.on_watermark(MAX_TIME))}
    assert len(rows) == 19
    assert rows["k4"] == [2, 9]


def test_memory_of_keys_and_values_that_are_gone_is_used_again():
    kinds = replace(TOP, name="kinds", kind="count_distinct")
    operator = opened(ROWS, TOP, kinds, emit="batch", key=pa.int64())
    feed(operator, ("+I", -1, 5))
    for start in range(0, 30_000, 3_000):
        keys = list(range(start, start + 3_000))
        for op in ("+I", "-D"):
            feed(operator, *((op, key, key) for key in keys), ("+I", -1, start))
    assert operator._index.count < 20_000
    assert feed(operator, ("+I", -1, 6)) == [(None, -1, 22, 27_000, 12)]
    assert operator.snapshot()[0].table.num_rows == 1
