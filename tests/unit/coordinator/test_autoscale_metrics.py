"""What a job decides of its own size is told as metrics: how often, and what each chain wants."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from queueing import Model, Stage
from watched import Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.metrics import by_operator, samples
from raystream.coordinator.report import JobReport
from raystream.flow.control import JobStatus, OperatorStatus
from raystream.graph.rescaling import Replan
from raystream.runtime.local_job import LocalJob

ROWS = pa.schema([("k", pa.int64())])


def counting(**settings: Any) -> Replan:
    job = rs.Job("sized", checkpoint="memory://sized", autoscale=rs.Autoscale(**settings))
    rows = job.source(rs.DataGenSource(ROWS, rows_per_second=1), name="read")
    counted = rows.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS).named("count")
    counted.print()
    return Replan(job._draft.plan())


def model(room: int = 100, **settings: Any) -> Model:
    """One subtask counts 1,000 rows a second, and 3,500 come from the third minute on."""
    stages = {"read": Stage(50_000), "count": Stage(1_000)}

    def arrives(now_s: float) -> float:
        return 500 if now_s < 120 else 3_500

    return Model(counting(**settings), stages, arrives, room=room)


def report(it: Model) -> JobReport:
    operators = tuple(
        OperatorStatus(node.name, chain.parallelism, 0, 0, chain=chain.name)
        for chain in it.plan.chains
        for node in chain.nodes
    )
    status = JobStatus("sized", "running", 1.0, operators)
    return JobReport("sized", 0, status, sizing=it.scaler.sizing)


def told(it: Model) -> dict[str, float]:
    """Metrics by name: those of the job, and those of the chain that counts."""
    found = samples(report(it))
    return {
        one.metric.name: one.value for one in found if "print" in one.labels.get("chain", "print")
    }


def test_decisions_are_counted_and_each_chain_says_what_it_wants():
    it = model().run(100)
    assert told(it)["autoscaler_scalings"] == 0
    it.run(200)
    found = told(it)
    assert found["autoscaler_scalings"] == len(it.told) > 0
    assert found["autoscaler_errors"] == 0
    assert found["parallelism"] == found["recommended_parallelism"] == it.size("count")
    assert found["true_processing_rate"] == pytest.approx(1_000, rel=0.1)
    assert found["target_data_rate"] == pytest.approx(3_500, rel=0.1)


def test_a_size_that_cannot_be_had_stays_wanted_and_counts_as_an_error():
    it = model(room=1)
    while not it.told:
        it.run(10)
    found = told(it)
    assert found["autoscaler_scalings"] == found["autoscaler_errors"] == 1
    assert found["recommended_parallelism"] > found["parallelism"] == 1


def test_an_operator_has_what_its_chain_wants_among_its_plain_values():
    it = model().run(400)
    values = by_operator(report(it))["count"]
    assert values["recommended_parallelism"] == it.size("count") == values["parallelism"]


def test_a_running_job_tells_it_and_one_that_keeps_its_size_does_not():
    replan = counting(cooldown="1s")
    local = LocalJob(replan.plan({}), ManualClock(), None, replan=replan)
    sizing = local.report().sizing
    assert sizing is not None
    assert sizing.decided == 0
    job = rs.Job("keeps")
    job.from_items([1]).print()
    kept = Watched(job, ManualClock()).run(1)
    assert kept.sizing is None
    assert not [one for one in samples(kept) if one.metric.name.startswith("autoscaler_")]
