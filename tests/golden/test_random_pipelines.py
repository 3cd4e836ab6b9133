"""Pipelines drawn from a seed give the rows that Polars gives, however they are run.

The seed also decides what happens next whenever several things could. ``-k seed-17`` runs one.
"""

from __future__ import annotations

import random

import pytest
from pipelines import Pipeline
from same_rows import ordered, same

from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

SEEDS = 100


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
