"""Jobs of tables drawn from a seed end in the tables that a model gives, however they are run.

The seed also decides in which order all happens that may happen in any, and whether the job crashes
on the way. ``RANDOM_TABLES=2000`` runs more of them, ``-k seed-17`` one.
"""

from __future__ import annotations

import os
import random

import pytest
from pipelines import Flow
from table_jobs import Balance, TableJob, balanced, is_changelog
from test_random_pipelines import ordered, same

import raystream as rs
from raystream.connectors.memory import TableSink
from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

SEEDS = int(os.environ.get("RANDOM_TABLES", "60"))


def compare(what: str, got: list, flow: Flow) -> None:
    """Compare rows, in any order, with those that there should be."""
    wanted = flow.rows.select(flow.columns).to_dicts()
    ours, theirs = ordered(got), ordered(wanted)
    assert len(ours) == len(theirs), f"{what}: {len(ours)} rows should be {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        assert all(map(same, one, other)), f"{what}: {one} should be {other}"


def check(job: TableJob, seed: int) -> None:
    rng = random.Random(f"{seed} check")
    print(*job.log, sep="\n")  # seen where it fails
    last, some = job.flows[-1], rng.choice(job.flows)
    if is_changelog(last) and rng.random() < 0.4:
        told = rs.testing.run(last.stream.process(Balance()), seed=seed).rows
        compare("balance", balanced(told), last)
    else:
        crashes = rng.choice([0, 0, 1, 2])
        print(f"crashes {crashes}")
        got = rs.testing.run(last.stream, seed=seed, crashes=crashes).rows
        compare("simulated", got, last)
    sinks = [(flow, sink_of(flow)) for flow in (last, some)]
    for flow, sink in sinks:
        flow.stream.sink(sink)
    rules = tuple(rule for rule in RULES if rng.random() < 0.5)
    print("rules", "+".join(rules) or "none")
    local.run(physical_plan(job.job._draft.plan(), rules), rng=rng, timeout_s=60)
    for flow, sink in sinks:
        compare(f"sink of {job.flows.index(flow)}", sink.rows, flow)


def sink_of(flow: Flow) -> rs.MemorySink:
    return TableSink(flow.stream.changelog) if is_changelog(flow) else rs.MemorySink()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS), ids="seed-{}".format)
def test_a_random_job_of_tables_ends_in_the_tables_of_the_model(seed):
    check(TableJob(seed), seed)
