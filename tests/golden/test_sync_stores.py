"""Stores that follow the orders of a shop: as what a dict of orders and one of customers say."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest
from goldens import ROOT, load, program
from lives import completed, local, restarts, steps

import raystream as rs
from raystream.graph.planner import physical_plan
from raystream.runtime import local as local_runtime

JOB = load("jobs/sync_stores.py")


def by_hand(told: list[Any]) -> dict[int, Any]:
    """Keep both tables in dicts, and look each order's customer up at the end."""
    tables: dict[str, dict[int, Any]] = {"orders": {}, "customers": {}}
    for table, op, row in told:
        if op == "-D":
            del tables[table][row["id"]]
        else:
            tables[table][row["id"]] = row
    nobody = {"name": None, "city": None}
    customers = {id: {**row} for id, row in tables["customers"].items()}
    for row in customers.values():
        del row["id"]
    return {
        id: {**row, **customers.get(row["customer"], nobody)}
        for id, row in tables["orders"].items()
    }


def shop(count: int, parallelism: int, **settings: Any) -> tuple[rs.Job, list[Any], dict[str, Any]]:
    told = list(JOB.changes(count, parallelism))
    job = rs.Job("sync", parallelism=parallelism, config={"batch_rows_max": 16}, **settings)
    stores = {name: JOB.Store() for name in ("table", "cache")}
    JOB.sync(JOB.made_up(job, told), stores)
    return job, told, stores


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "seed"), [(1, 1), (2, 2), (2, 3), (3, 4), (3, 5)])
def test_stores_are_the_orders_beside_their_customers(parallelism, seed):
    job, told, stores = shop(700, parallelism)
    expected = by_hand(told)
    moved = {(row["id"], row["customer"]) for table, _, row in told if "customer" in row}
    assert len(moved) > len({id for id, _ in moved}), "orders change hands"
    assert any(row["name"] is None for row in expected.values())
    local_runtime.run(physical_plan(job._draft.plan()), rng=random.Random(seed))
    assert stores["table"].table == expected
    assert stores["cache"].table == expected


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_crash_and_another_life_end_in_the_same_table(parallelism):
    folder = f"sync-{uuid.uuid4().hex}"

    def build():
        return shop(
            700,
            parallelism,
            checkpoint=rs.Checkpointing(f"memory://{folder}", every="100ms"),
            restart=rs.Restart.fixed(3, "0s"),
        )

    job, told, stores = build()
    made = local(job)
    steps(made, lambda: completed(made) >= 1 and len(stores["table"].table) > 20)
    made.close()  # without a word: what it had not kept is lost, what it had written is not
    again, _, after = build()
    after["table"].table, after["cache"].table = stores["table"].table, stores["cache"].table
    made = local(again, "latest")
    steps(made, lambda: made.over)
    made.result()
    made.close()
    assert restarts(made) == 0
    assert after["table"].table == by_hand(told)
    assert after["cache"].table == by_hand(told)


@pytest.mark.parametrize("crashes", [0, 2])
def test_the_kit_sees_the_same_table(crashes):
    job, told, _ = shop(150, 2)
    run = rs.testing.run(job, seed=7, crashes=crashes)
    rows = {row["id"]: row for row in run.sink("cache")}
    assert rows == by_hand(told)


@pytest.mark.slow
def test_the_script_shows_the_table():
    said = program(
        "-m", "raystream.ops.cli", "run", ROOT / "jobs/sync_stores.py", "--runtime", "local",
        "--", "--changes", "800",
    )  # fmt: skip
    expected = by_hand(list(JOB.changes(800, 1)))
    assert f"{len(expected)} orders with their customers" in said
    assert said.count("is equal") == 2
