"""Visits, gathered by the job and by sorting each user's clicks."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow.dataset as ds
import pytest
from goldens import ROOT, load, program

import raystream as rs
from raystream.graph.planner import physical_plan
from raystream.runtime import local

JOB = load("jobs/sessions_to_lake.py")
GAP = 1_800_000_000


def clicks(count: int) -> list[dict]:
    return [JOB.click(number) for number in range(count)]


def visits(rows: list[dict]) -> Counter:
    """Gather clicks of which none came too late."""
    found: Counter = Counter()
    by_user: dict[str, list[dict]] = {}
    for row in rows:
        by_user.setdefault(row["user"], []).append(row)
    for user, some in by_user.items():
        some.sort(key=lambda row: row["time"])
        start = 0
        for place in range(1, len(some) + 1):
            if place == len(some) or some[place]["time"] - some[place - 1]["time"] > GAP:
                inside = some[start:place]
                found[user, inside[0]["time"], inside[-1]["time"] + GAP, len(inside)] += 1
                start = place
    return found


def gathered(rows: list[dict], parallelism: int, seed: int, disorder: str):
    job = rs.Job("visits", parallelism=parallelism, config={"batch_rows_max": 64})
    watermark = rs.WatermarkStrategy("time", out_of_orderness=disorder)
    given = job.from_items(rows, schema=JOB.CLICK, watermark=watermark)
    out, late = rs.MemorySink(), rs.MemorySink()
    stream = JOB.sessions(given)
    stream.sink(out)
    stream.side_output("late").sink(late)
    local.run(physical_plan(job._draft.plan()), rng=random.Random(seed))
    return out.rows, late.rows


@pytest.mark.parametrize("parallelism", [1, 2])
def test_visits_are_those_of_sorted_clicks_where_nothing_is_late(parallelism):
    rows = clicks(1_500)
    out, late = gathered(rows, parallelism, parallelism, "7h")
    assert not late
    got = Counter(
        (r["user"], rs.micros(r["window_start"]), rs.micros(r["window_end"]), r["pages"])
        for r in out
    )
    assert got == visits(rows)
    assert all(len(row["path"]) == row["pages"] for row in out)


def test_every_click_is_in_a_visit_or_too_late():
    rows = clicks(1_500)
    out, late = gathered(rows, 1, 3, "1m")
    assert late
    newest: dict = {}
    for row in out:  # a later firing of a visit has all its clicks again
        newest[row["user"], row["window_start"]] = row
    assert all(JOB.CLICK.names == list(row) for row in late)
    assert sum(row["pages"] for row in newest.values()) + len(late) >= len(rows)


@pytest.mark.slow
def test_the_script_writes_a_folder_a_day_and_the_late_clicks(tmp_path):
    out = tmp_path / "visits"
    program(
        "-m", "raystream.ops.cli", "run", ROOT / "jobs/sessions_to_lake.py", "--runtime", "local",
        "--", out, "--clicks", "6000",
    )  # fmt: skip
    table = ds.dataset(str(out), partitioning="hive").to_table()
    late = ds.dataset(f"{out}-late").to_table()
    assert {"user", "pages", "path", "landing", "leaving", "day"} <= set(table.column_names)
    assert late.column_names == JOB.CLICK.names
    assert len(set(table["day"].to_pylist())) >= 2
    assert late.num_rows > 0
