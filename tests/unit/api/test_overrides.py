"""Flags beat the environment, and that beats the script."""

import pytest

import raystream as rs
from raystream.api.overrides import Overrides, current, overriding


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("PARALLELISM", "RUNTIME", "EXPLAIN"):
        monkeypatch.delenv(f"RAYSTREAM_{name}", raising=False)


def simple(**settings):
    job = rs.Job("t", **settings)
    sink = rs.MemorySink()
    job.from_items([1, 2]).sink(sink)
    return job, sink


def test_nothing_is_said_by_default():
    assert current({}) == Overrides()


def test_the_environment_says_parallelism_and_runtime():
    said = current({"RAYSTREAM_PARALLELISM": "3", "RAYSTREAM_RUNTIME": "local"})
    assert (said.parallelism, said.runtime, said.explain) == (3, "local", None)


def test_flags_beat_the_environment():
    with overriding(Overrides(parallelism=5)):
        said = current({"RAYSTREAM_PARALLELISM": "3", "RAYSTREAM_RUNTIME": "local"})
    assert (said.parallelism, said.runtime) == (5, "local")


def test_flags_hold_for_the_script_alone():
    with overriding(Overrides(parallelism=5)):
        pass
    assert current({}) == Overrides()


@pytest.mark.parametrize(
    "environment",
    [{"RAYSTREAM_PARALLELISM": "0"}, {"RAYSTREAM_PARALLELISM": "two"}, {"RAYSTREAM_RUNTIME": "k"}],
)
def test_a_variable_that_makes_no_sense_is_named(environment):
    (name,) = environment
    with pytest.raises(rs.ConfigError, match=name):
        current(environment)


def test_the_parallelism_of_a_flag_is_the_jobs_but_not_of_pinned_operators():
    job = rs.Job("t", parallelism=2)
    pinned = job.from_items([1]).with_parallelism(1)
    free = pinned.map(repr)
    with overriding(Overrides(parallelism=7)):
        plan = job._draft.plan()
    assert (plan.subtasks(pinned._tip.node), plan.subtasks(free._tip.node)) == (1, 7)


def test_a_flag_above_the_maximum_is_refused():
    job, _ = simple(max_parallelism=4)
    with (
        overriding(Overrides(parallelism=5)),
        pytest.raises(rs.PlanError, match="max_parallelism is 4"),
    ):
        job.run(runtime="local")


def test_the_runtime_of_a_flag_beats_the_script():
    job, sink = simple(runtime="ray")
    with overriding(Overrides(runtime="local")):
        job.run(runtime="ray")
    assert sink.rows == [1, 2]


def test_under_explain_the_plan_is_printed_and_the_script_ends(monkeypatch, capsys):
    monkeypatch.setenv("RAYSTREAM_EXPLAIN", "1")
    job, sink = simple(runtime="local")
    with pytest.raises(SystemExit) as ended:
        job.run()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "logical plan" in printed
    assert "physical plan" in printed
    assert sink.rows == []


def test_explain_can_ask_for_another_format(monkeypatch, capsys):
    monkeypatch.setenv("RAYSTREAM_EXPLAIN", "mermaid")
    job, _ = simple()
    with pytest.raises(SystemExit):
        job.run()
    assert capsys.readouterr().out.startswith("flowchart")
