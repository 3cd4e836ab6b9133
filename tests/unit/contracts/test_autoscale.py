"""What a job may be told about its own size, and where it is said."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

import raystream as rs
from raystream.api.overrides import Overrides, overriding

ROWS = pa.schema([("k", pa.int64())])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"min_parallelism": 0}, "min_parallelism is an int of at least 1, got 0"),
        ({"min_parallelism": True}, "min_parallelism is an int"),
        ({"max_parallelism": "8"}, "max_parallelism is an int of at least 1, got '8'"),
        ({"min_parallelism": 4, "max_parallelism": 2}, "max_parallelism 2 is below .* 4"),
        ({"target_utilisation": 0}, "target_utilisation is between 0.1 and 0.95, got 0"),
        ({"target_utilisation": 1.0}, "between 0.1 and 0.95"),
        ({"target_utilisation": float("nan")}, "between 0.1 and 0.95, got nan"),
        ({"target_utilisation": "70%"}, "got '70%'"),
        ({"cooldown": "0s"}, "cooldown"),
        ({"cooldown": "soon"}, "soon"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings, why):
    with pytest.raises((rs.PlanError, rs.ConfigError), match=why):
        rs.Autoscale(**settings)


def test_what_is_not_said_is_as_documented():
    it = rs.Autoscale()
    assert (it.min_parallelism, it.max_parallelism) == (1, None)
    assert (it.target_utilisation, it.cooldown_us) == (0.7, 60_000_000)


def made(**settings):
    job = rs.Job("sized", **settings)
    job.from_items([{"k": 1}], schema=ROWS).print()
    return job


def test_a_job_starts_within_its_bounds():
    sizes = [
        made(parallelism=given, autoscale=rs.Autoscale(2, 4))._draft.plan().parallelism
        for given in (1, 3, 9)
    ]
    assert sizes == [2, 3, 4]


def test_the_plan_says_that_the_job_sizes_itself():
    job = made(autoscale=rs.Autoscale(1, 8, cooldown="30s"))
    said = "autoscale: 1..8 subtasks an operator, busy 0.7 of the time, 30 s between changes"
    assert said in job.explain()
    assert json.loads(job.explain(format="json"))["logical"]["autoscale"]["max_parallelism"] == 8
    assert "autoscale: " not in made().explain()


def test_a_job_that_keeps_nothing_cannot_size_itself():
    with pytest.raises(rs.PlanError, match="no checkpoints to go on from") as error:
        made(autoscale=rs.Autoscale(), runtime="local").run()
    assert "Job(checkpoint=…) beside autoscale=" in error.value.hint


def test_in_one_process_a_job_that_sizes_itself_runs_as_any_other(tmp_path):
    job = made(autoscale=rs.Autoscale(), checkpoint=tmp_path, runtime="local")
    assert job.run().records_out == 1


def test_flags_give_bounds_and_leave_the_rest_as_the_script_says():
    job = made(autoscale=rs.Autoscale(target_utilisation=0.5))
    with overriding(Overrides(autoscale="2..6")):
        found = job._draft.plan().autoscale
        other = made()._draft.plan().autoscale
    assert (found.min_parallelism, found.max_parallelism, found.target_utilisation) == (2, 6, 0.5)
    assert (other.min_parallelism, other.max_parallelism, other.target_utilisation) == (2, 6, 0.7)


def test_flags_that_the_job_cannot_have_are_refused():
    with (
        overriding(Overrides(autoscale="1..500")),
        pytest.raises(rs.PlanError, match="up to 500 subtasks"),
    ):
        made()._draft.plan()
