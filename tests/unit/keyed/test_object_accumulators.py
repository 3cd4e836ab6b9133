"""Aggregates over Python rows: merging, columns of all kinds, and the rules of null and NaN."""

import math
import random
from decimal import Decimal

import numpy as np
import pytest

from raystream.contracts import aggregate as rs
from raystream.contracts.aggregate import Aggregate
from raystream.errors import PlanError
from raystream.keyed.distinct_sketch import DistinctSketch
from raystream.keyed.object_accumulators import object_accumulator

NAN = float("nan")
KINDS = [
    rs.count(),
    rs.count("v"),
    rs.sum("v"),
    rs.mean("v"),
    rs.min("v"),
    rs.max("v"),
    rs.stddev("v"),
    rs.variance("v"),
    rs.first("v"),
    rs.last("v"),
    rs.min_by("v", "by"),
    rs.max_by("v", "by"),
    rs.count_distinct("v"),
    rs.approx_count_distinct("v"),
    rs.quantile("v", 0.3),
    rs.collect("v"),
    rs.sum("v").where(lambda row: row["by"] > 1),
]


def add_all(rule, rows, arrivals):
    acc = rule.create()
    for row, arrival in zip(rows, arrivals, strict=True):
        acc = rule.add(acc, row, row["ts"], arrival)
    return acc


@pytest.mark.parametrize("aggregate", KINDS, ids=lambda aggregate: aggregate.kind)
def test_merged_parts_equal_the_whole_however_arrivals_interleave(aggregate):
    rng = random.Random(3)
    rule = object_accumulator("x", aggregate)
    for _ in range(50):
        rows = [
            {
                "v": rng.choice([None, 1, 2, 3, 7]),
                "by": rng.choice([1, 2]),
                "ts": rng.choice([0, 1]),
            }
            for _ in range(rng.randrange(8))
        ]
        side = [rng.random() < 0.5 for _ in rows]
        parts = [
            add_all(
                rule,
                [row for row, here in zip(rows, side, strict=True) if here is which],
                [place for place, here in enumerate(side) if here is which],
            )
            for which in (True, False)
        ]
        whole = rule.result(add_all(rule, rows, range(len(rows))))
        merged = rule.result(rule.merge(*parts))
        assert merged == (pytest.approx(whole) if isinstance(whole, float) else whole)


def result_of(aggregate, rows):
    rule = object_accumulator("x", aggregate)
    acc = rule.create()
    for arrival, row in enumerate(rows):
        acc = rule.add(acc, row, None, arrival)
    return rule.result(acc)


def test_a_column_is_a_field_a_function_or_a_literal():
    rows = [{"v": 2}, {"v": 3}]
    assert result_of(rs.sum("v"), rows) == 5
    assert result_of(rs.sum(lambda row: row["v"] * 10), rows) == 50
    assert result_of(rs.sum(4), rows) == 8


def test_an_expression_is_refused_where_rows_are_objects():
    import narwhals.stable.v2 as nw

    for aggregate in (rs.sum(nw.col("v")), rs.max_by("v", nw.col("v"))):
        with pytest.raises(PlanError, match=r'the aggregate "total" = .* has a column expression'):
            object_accumulator("total", aggregate)
    with pytest.raises(PlanError, match="with_schema"):
        object_accumulator("total", rs.count().where(nw.col("v") > 1))


@pytest.mark.parametrize("kind", ["sum", "mean", "min", "first", "quantile", "collect", "variance"])
def test_nothing_left_gives_none(kind):
    assert result_of(Aggregate(kind, "v", q=0.5), [{"v": None}]) is None


def test_nan_loses_against_every_number():
    rows = [{"v": v} for v in (NAN, 2.0, NAN, 1.0)]
    assert result_of(rs.min("v"), rows) == 1.0
    assert result_of(rs.max("v"), rows) == 2.0
    assert math.isnan(result_of(rs.max("v"), rows[:1]))
    assert math.isnan(result_of(rs.sum("v"), rows))


def test_numpy_numbers_add_up_without_wrapping():
    rows = [{"v": np.int64(2**62)}] * 3
    assert result_of(rs.sum("v"), rows) == 3 * 2**62
    assert type(result_of(rs.sum("v"), rows)) is int


def test_decimals_keep_their_digits_in_sums_and_are_floats_in_means():
    rows = [{"v": Decimal("0.1")}, {"v": Decimal("0.2")}]
    assert result_of(rs.sum("v"), rows) == Decimal("0.3")
    assert result_of(rs.mean("v"), rows) == pytest.approx(0.15)


def test_ties_go_to_the_row_that_came_first():
    rows = [{"v": n, "by": 5} for n in range(3)]
    assert result_of(rs.max_by("v", "by"), rows) == 0
    assert result_of(rs.min_by("v", "by"), rows) == 0
    rule = object_accumulator("x", rs.last("v"))
    acc = add_all(rule, [{"v": 1, "ts": 4}, {"v": 2, "ts": 4}, {"v": 3, "ts": 1}], range(3))
    assert rule.result(acc) == 1


@pytest.mark.parametrize("count", [0, 100, 5_000, 60_000])
def test_the_sketch_is_within_three_percent(count):
    sketch, other = DistinctSketch(), DistinctSketch()
    for n in range(count):
        (sketch if n % 3 else other).add(f"value-{n}")
        if n % 5 == 0:
            other.add(f"value-{n}")
    sketch.update(other)
    assert sketch.estimate() == pytest.approx(count, rel=0.03)
