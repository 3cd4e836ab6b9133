"""Pipelines drawn from a seed give the rows that Polars gives, however they are run.

The seed also decides what happens next whenever several things could. ``-k seed-17`` runs one.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from pipelines import Pipeline

from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

SEEDS = 100


def ordered(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows as tuples in an order of their own; lists, which come in any order, sorted."""

    def value(one: Any) -> Any:
        return tuple(sorted(one)) if isinstance(one, list) else one

    def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
        # Floats last: rows that differ in nothing but a rounding error keep their order.
        plain = sorted(row, key=lambda one: isinstance(one, float))
        return tuple((one is None, type(one).__name__, one) for one in plain)

    return sorted((tuple(value(one) for one in row.values()) for row in rows), key=key)


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return type(one) is type(other) and one == other


def check(pipeline: Pipeline, rules: tuple[str, ...], rng: random.Random | None) -> None:
    before = len(pipeline.sink)
    plan = pipeline.job._draft.plan()
    print(*pipeline.log, f"rules {'+'.join(rules) or 'none'}", sep="\n")  # seen where it fails
    local.run(physical_plan(plan, rules), rng=rng, timeout_s=60)
    ours = ordered(pipeline.sink.rows[before:])
    expected = ordered(pipeline.rows.to_dicts())
    assert len(ours) == len(expected)
    for got, wanted in zip(ours, expected, strict=True):
        assert all(map(same, got, wanted)), f"{got} should be {wanted}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS), ids="seed-{}".format)
def test_a_random_pipeline_gives_the_rows_of_polars(seed):
    pipeline = Pipeline(seed)
    check(pipeline, RULES, random.Random(seed))
    some = tuple(rule for rule in RULES if random.Random(f"{seed} {rule}").random() < 0.5)
    check(pipeline, some, None)
