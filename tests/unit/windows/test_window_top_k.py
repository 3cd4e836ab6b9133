"""Top-k of windows, case by case."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.errors import PlanError, UserError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.operators.window_top_k import WindowTopKSpec

INPUT = pa.schema([("auction", pa.int64()), ("price", pa.int64()), EVENT_TIME_FIELD])
MAX = 2**63 - 1


def opened(window, k=1, by=(("price", True),), *, keys=(), ties=False, rank=None, names=None):
    names = names or ["auction", "price"]
    fields = [INPUT.field(name) for name in names]
    ranks = [pa.field(rank, pa.int64())] if rank else []
    output = pa.schema([*fields, *ranks, EVENT_TIME_FIELD])
    operator = WindowTopKSpec(keys, window, k, by, ties, rank, output).build()
    ctx = OpenContext(operator="best", limits=Limits())
    operator.open(ctx)
    return operator, ctx


def push(operator, *rows):
    arrays = [pa.array(column, pa.int64()) for column in zip(*rows, strict=True)]
    record = pa.RecordBatch.from_arrays(arrays, schema=INPUT)
    assert not any(out.num_rows for out in operator.on_batch(0, Columns(record)))


def fire(operator, watermark=MAX):
    return [
        tuple(row.values())
        for batch in operator.on_watermark(watermark)
        for row in batch.record.to_pylist()
    ]


def test_ties_are_all_kept_where_they_are_asked_for():
    operator, _ = opened(Tumbling(10), ties=True, rank="rank")
    push(operator, (1, 7, 0), (2, 9, 1), (3, 9, 2))
    push(operator, (4, 9, 3), (5, 8, 4), (6, 1, 11))
    assert fire(operator, 9) == [(2, 9, 1, 9), (3, 9, 1, 9), (4, 9, 1, 9)]
    assert fire(operator) == [(6, 1, 1, 19)]


def test_without_ties_the_row_that_came_first_is_better():
    operator, _ = opened(Tumbling(10), k=2, rank="rank")
    push(operator, (1, 9, 3), (2, 9, 1))
    push(operator, (3, 9, 0))
    assert fire(operator) == [(1, 9, 1, 9), (2, 9, 2, 9)]


def test_ranks_of_ties_leave_gaps():
    operator, _ = opened(Tumbling(10), k=3, ties=True, rank="place")
    push(operator, (1, 9, 0), (2, 9, 0), (3, 8, 0), (4, 8, 0), (5, 7, 0))
    assert [row[2] for row in fire(operator)] == [1, 1, 3, 3]


def test_rows_without_a_value_come_last():
    operator, _ = opened(Tumbling(10), k=2)
    push(operator, (1, None, 0), (2, -(2**63), 0), (3, None, 0))
    assert fire(operator) == [(2, -(2**63), 9), (1, None, 9)]


def test_sliding_windows_share_what_they_hold():
    operator, _ = opened(Sliding(10, 5), keys=("auction",))
    push(operator, (1, 5, 3), (1, 9, 7), (1, 6, 12), (2, 1, 7))
    best = [(auction, price, end) for auction, price, end in fire(operator)]
    assert [row for row in best if row[0] == 1] == [(1, 5, 4), (1, 9, 9), (1, 9, 14), (1, 6, 19)]
    assert [row for row in best if row[0] == 2] == [(2, 1, 9), (2, 1, 14)]


def test_columns_that_are_only_compared_do_not_go_out():
    operator, _ = opened(Tumbling(10), names=["auction"])
    push(operator, (1, 5, 3), (2, 9, 7))
    assert fire(operator) == [(2, 9)]


def test_what_is_held_is_bounded_by_k_however_many_rows_come():
    operator, _ = opened(Tumbling("1h"), k=3, keys=("auction",))
    rng = np.random.default_rng(1)
    for _ in range(20):
        push(
            operator,
            *zip(rng.integers(0, 4, 500), rng.integers(0, 99, 500), range(500), strict=True),
        )
        assert operator._state.row_count <= 8 * 3 * 4
    assert len(fire(operator)) == 12


def test_late_rows_are_counted_and_left_out():
    operator, ctx = opened(Tumbling(10))
    assert fire(operator, 9) == []
    push(operator, (1, 5, 3), (2, 4, 12))
    assert ctx.metrics.counter("late_rows").value == 1
    assert fire(operator) == [(2, 4, 19)]


def test_wrong_use_is_refused():
    with pytest.raises(PlanError, match="k=0"):
        opened(Tumbling(10), k=0)
    with pytest.raises(PlanError, match="column to go by"):
        opened(Tumbling(10), by=())
    operator, _ = opened(Tumbling(10))
    with pytest.raises(UserError, match="watermark strategy"):
        push(operator, (1, 5, -(2**63)))


def test_the_spec_prints_itself():
    operator, _ = opened(Tumbling("10s"), k=3, keys=("auction",), ties=True)
    assert operator._spec.describe() == "tumbling 10s by auction: 3 by price desc, with ties"
