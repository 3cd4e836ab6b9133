"""Stolen cards, found by the job and by a loop over the charges in order of time."""

from __future__ import annotations

import ast
import random

import pytest
from goldens import ROOT, load, program

import raystream as rs
from raystream.graph.planner import physical_plan
from raystream.runtime import local

JOB = load("jobs/fraud_alerts.py")
MINUTE = 60_000_000


def charges(count: int) -> list[dict]:
    return [JOB.charge(number) for number in range(count)]


def in_order_of_time(rows: list[dict]) -> list[tuple[int, float]]:
    """What the rule says of charges that come in order."""
    alerts, small = [], {}
    for row in rows:
        until = small.pop(row["card"], None)
        if row["amount"] > 500 and until is not None and row["time"] <= until:
            alerts.append((row["card"], row["amount"]))
        if row["amount"] < 1:
            small[row["card"]] = row["time"] + MINUTE
    return sorted(alerts)


def found(rows: list[dict], parallelism: int, seed: int, **config: int) -> list[tuple[int, float]]:
    job = rs.Job("fraud", parallelism=parallelism, config=config)
    given = job.from_items(
        rows, schema=JOB.CHARGE, watermark=rs.WatermarkStrategy("time", out_of_orderness="5s")
    )
    sink = rs.MemorySink()
    JOB.fraud(given).sink(sink)
    local.run(physical_plan(job._draft.plan()), rng=random.Random(seed))
    return sorted((row["card"], row["amount"]) for row in sink.rows)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("batch_rows", [1, 7, 4_096])
def test_alerts_are_those_of_the_rule(parallelism, batch_rows):
    rows = sorted(charges(600), key=lambda row: row["time"])
    wanted = in_order_of_time(rows)
    assert len(wanted) > 5
    assert found(rows, parallelism, batch_rows, batch_rows_max=batch_rows) == wanted


@pytest.mark.slow
def test_the_script_prints_the_alerts_of_charges_as_they_arrive():
    said = program(
        "-m", "raystream.ops.cli", "run", ROOT / "jobs/fraud_alerts.py", "--runtime", "local",
        "--", "--charges", "1000",
    )  # fmt: skip
    rows = [ast.literal_eval(line.removeprefix("look at> ")) for line in said.splitlines()]
    # Rows are looked at as they arrive, a little out of order: the rule over that order.
    assert sorted((row["card"], row["amount"]) for row in rows) == in_order_of_time(charges(1_000))
