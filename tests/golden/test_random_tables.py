"""Jobs of tables drawn from a seed end in the tables that a model gives, however they are run.

The seed also decides in which order all happens that may happen in any, and whether the job crashes
on the way. ``RANDOM_TABLES=2000`` runs more of them, ``-k seed-17`` one.
"""

from __future__ import annotations

import os
import random

import pytest
from pipelines import Flow
from same_rows import ordered, same
from table_ends import Balance, Upserts, balanced
from table_jobs import TableJob, is_changelog

import raystream as rs
from raystream.connectors.memory import TableSink
from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

WAYS = ("balance", "simulated", "crashed", "rules")
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
    last = job.flows[-1]
    way = rng.choice(WAYS if is_changelog(last) else WAYS[1:])
    print(way)
    if way == "balance":
        told = rs.testing.run(last.stream.process(Balance()), seed=seed).rows
        compare(way, balanced(told), last)
    elif way == "rules":
        under_rules(job, rng)
    else:
        crashes = 0 if way == "simulated" else rng.randint(1, 2)
        compare(way, rs.testing.run(last.stream, seed=seed, crashes=crashes).rows, last)


def under_rules(job: TableJob, rng: random.Random) -> None:
    """Run two streams of a job at once, of which one may make the other."""
    flows = [job.flows[-1], rng.choice(job.flows)]
    sinks = [sink_of(flow) for flow in flows]
    ends = [flow.stream.sink(sink) for flow, sink in zip(flows, sinks, strict=True)]
    rules = tuple(rule for rule in RULES if rng.random() < 0.5)
    print("rules", "+".join(rules) or "none")
    plan = physical_plan(job.job._draft.plan([end._tip.node for end in ends]), rules)
    local.run(plan, rng=rng, timeout_s=60)
    for flow, sink in zip(flows, sinks, strict=True):
        compare(f"sink of {job.flows.index(flow)}", sink.rows, flow)


def sink_of(flow: Flow) -> rs.MemorySink:
    if (key := flow.stream.changelog) is None:
        return rs.MemorySink()
    return TableSink(key) if set(key) == set(flow.columns) else Upserts(key)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS), ids="seed-{}".format)
def test_a_random_job_of_tables_ends_in_the_tables_of_the_model(seed):
    check(TableJob(seed), seed)
