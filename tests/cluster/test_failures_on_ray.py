"""Whatever breaks on real Ray ends the job with a clear error; nothing waits for ever."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

LONG = "60s"


class Forget(rs.Sink):
    def open(self, ctx):
        return ForgetWriter()


class ForgetWriter(rs.Writer):
    def write(self, batch):
        pass


class Leaving(rs.Source):
    """Calls ``sys.exit`` where splits are listed, or where one is read."""

    schema = pa.schema({"n": pa.int64()})

    def __init__(self, place):
        self.place = place

    def splits(self):
        if self.place == "splits":
            sys.exit("left early")
        return [rs.Split("a")]

    def open(self, split, position):
        return LeavingReader()


class LeavingReader(rs.Reader):
    def poll(self, max_rows):
        sys.exit("left early")

    def position(self):
        return 0


def leave(row):
    sys.exit("left early")


class Nested(rs.MemorySink):
    """Fails as a sink does that uses Ray itself."""

    def receive(self, batch):
        import ray  # not where this file is only collected, without Ray

        raise ray.exceptions.RayError("of its own")


def reading(place):
    return lambda job: job.source(Leaving(place)).sink(Forget())


@pytest.mark.parametrize(
    "build",
    [
        lambda job: job.from_items([1]).map(leave).sink(Forget()),
        lambda job: job.from_items([1]).sink(rs.CallbackSink(leave)),
        reading("splits"),
        reading("poll"),
    ],
    ids=["function", "callback", "splits", "poll"],
)
def test_sys_exit_in_code_of_the_user_fails_the_job_and_shows_the_line(build):
    job = rs.Job("leaves")
    build(job)
    with pytest.raises(rs.JobFailed) as caught:
        job.run(timeout=LONG)
    text = str(caught.value)
    assert text.endswith('job "leaves" failed: SystemExit: left early')
    assert 'sys.exit("left early")' in text
    assert "subtask_actor.py" not in text


def test_a_sink_in_the_driver_may_fail_with_an_error_of_ray():
    job = rs.Job("nested")
    job.from_items([1]).sink(Nested())
    with pytest.raises(rs.JobFailed, match="RayError: of its own") as caught:
        job.run(timeout=LONG)
    assert str(caught.value).count("failed: ") == 1


def test_resources_that_no_node_has_are_a_clear_error():
    job = rs.Job("wants-more")
    job.from_items([1]).map(lambda row: row).with_resources(num_gpus=1).sink(Forget())
    with pytest.raises(rs.JobFailed, match=r"no node of the cluster has what .*GPU: 1") as caught:
        job.run(timeout=LONG)
    assert isinstance(caught.value.__cause__, rs.RaystreamError)


def test_a_place_is_one_node_that_has_all_that_a_subtask_asks():
    from raystream.runtime.ray.placement import no_place

    nodes = [{"CPU": 4.0}, {"CPU": 1.0, "GPU": 1.0, "accelerator_type:T4": 1.0}]
    assert no_place({"a": {"num_cpus": 4}, "b": {"num_cpus": 1, "num_gpus": 1}}, nodes) is None
    assert no_place({"a": {"num_cpus": 0.5, "accelerator_type": "T4"}}, nodes) is None
    assert no_place({"a": {"num_cpus": 5}}, nodes) == "a asks for CPU: 5 a subtask"
    apart = no_place({"a": {"num_cpus": 2, "num_gpus": 1}}, nodes)
    assert apart == "a asks for CPU: 2, GPU: 1 a subtask"
    custom = no_place({"a": {"num_cpus": 1, "resources": {"disk": 2.0}}}, nodes)
    assert custom == "a asks for CPU: 1, disk: 2 a subtask"


def test_a_callback_cannot_be_submitted():
    job = rs.Job("calls-nobody")
    job.from_items([1]).sink(rs.CallbackSink(print))
    with pytest.raises(rs.PlanError, match="which a submitted job outlives"):
        job.submit()


def test_a_submitted_job_prints_in_its_worker_and_its_name_is_free_again():
    for _ in range(2):
        job = rs.Job("prints")
        job.from_items([1, 2, 3]).print()
        handle = job.submit()
        assert handle.wait(timeout="60s").records_out == 3
    handle.end()
    assert "prints" not in {one.name for one in rs.list_jobs()}


def test_a_subtask_lets_go_though_the_word_for_it_comes_before_its_deployment():
    import cloudpickle
    import ray

    from raystream.flow.messages import Finish
    from raystream.graph.planner import physical_plan
    from raystream.runtime.ray.deployment import Deployment
    from raystream.runtime.ray.subtask_actor import SubtaskActor

    @ray.remote(num_cpus=0, concurrency_groups={"report": 1})
    class Coordinator:
        def report(self, packed):
            pass

        def report_taken(self):
            pass

    job = rs.Job("overtaken")
    job.from_items([1, 2]).sink(Forget())
    plan = physical_plan(job._draft.plan())
    deployment = Deployment(
        cloudpickle.dumps(plan),
        plan.chains[0].subtasks[0],
        attempt=2,
        peers={},
        coordinator=Coordinator.remote(),
        attached=False,
        home=None,
        manifest=None,
        path="",
    )
    actor = SubtaskActor.remote()
    control = actor.control.options(concurrency_group="ctl")
    ray.get(control.remote(Finish(), 2), timeout=60)
    ray.get(actor.deploy.remote(deployment), timeout=60)
    ray.get(actor.wait_exit.options(concurrency_group="exit").remote(2), timeout=60)
