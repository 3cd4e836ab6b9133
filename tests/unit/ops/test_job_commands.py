"""Commands on jobs that run, and on what others left behind."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner
from told_jobs import Cluster

import raystream as rs
from raystream.api import running
from raystream.errors import ClusterError, NotFound
from raystream.ops.cli import commands
from raystream.ops.failures import exit_code


def invoke(*args):
    return CliRunner().invoke(commands, [*map(str, args)])


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setenv("RAY_ADDRESS", "none")
    monkeypatch.setattr(running, "driver", lambda: made)
    return made


def test_jobs_are_listed(cluster):
    assert invoke("list").stdout.splitlines()[1].split() == ["hot-1", "hot", "running"]
    assert json.loads(invoke("list", "--json").stdout) == [
        {"id": "hot-1", "name": "hot", "status": "running"}
    ]


def test_the_status_shows_each_operator(cluster):
    shown = invoke("status", "hot").stdout
    assert "hot (hot-1): running" in shown
    assert ["count", "10", "5", "0", "0"] in [line.split() for line in shown.splitlines()]
    assert shown.splitlines()[-1] == "nothing holds this job up"
    found = json.loads(invoke("status", "hot-1", "--json").stdout)
    assert (found["operators"]["count"]["rows_in"], found["status"]) == (20, "running")
    assert found["diagnosis"] == ["nothing holds this job up"]


def test_the_status_says_why_a_job_has_its_size_and_how_it_came_to_it(cluster):
    assert "scaling: the size fits" in invoke("status", "hot").stdout
    (change,) = json.loads(invoke("status", "hot", "--json").stdout)["rescalings"]
    assert (change["before"], change["after"], change["outcome"]) == (
        {"count": 2},
        {"count": 4},
        "done",
    )


def test_checkpoints_are_shown(cluster):
    assert "completed" in invoke("checkpoints", "hot").stdout
    (made,) = json.loads(invoke("checkpoints", "hot", "--json").stdout)
    assert (made["checkpoint_id"], made["bytes"]) == (3, 1_000)


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (["savepoint", "hot"], ("savepoint", None), "s3://kept/1\n"),
        (["savepoint", "hot", "s3://mine"], ("savepoint", "s3://mine"), "s3://mine\n"),
        (["stop", "hot"], ("stop", True, False), "s3://kept/2\n"),
        (["stop", "hot", "--drain"], ("stop", True, True), "s3://kept/2\n"),
        (["stop", "hot", "--savepoint", "s3://x"], ("stop", "s3://x", False), "s3://kept/2\n"),
        (["stop", "hot", "--no-savepoint"], ("stop", False, False), "\n"),
        (["cancel", "hot"], ("cancel",), "hot\n"),
        (["rescale", "hot", "4"], ("rescale", 4), "hot\n"),
        (["rescale", "hot", "a=b=4", "c#1=2"], ("rescale", {"a=b": 4, "c#1": 2}), "hot\n"),
    ],
    ids=lambda value: " ".join(map(str, value)).strip(),
)
def test_a_job_is_asked_what_the_command_says(cluster, words, asked, said):
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (0, said)
    assert cluster.job.asked == [asked]
    assert json.loads(invoke(*words, "--json").stdout)


def test_a_savepoint_and_none_exclude_each_other(cluster):
    assert invoke("stop", "hot", "--no-savepoint", "--savepoint", "s3://x").exit_code == 2


@pytest.mark.parametrize("sizes", [[], ["0"], ["many"], ["a=0"], ["=2"], ["2", "a=2"], ["a=1"] * 2])
def test_a_size_that_is_none_is_wrong_use(cluster, sizes):
    assert invoke("rescale", "hot", *sizes).exit_code == 2
    assert cluster.job.asked == []


def test_a_job_that_is_not_there_has_an_exit_code_of_its_own(cluster):
    result = invoke("status", "cold")
    assert result.exit_code == 4
    assert 'no job "cold"' in result.stderr


def test_exit_codes_say_what_a_script_may_react_to():
    assert exit_code(rs.RestoreRefused("no")) == 5
    failed = rs.JobFailed("it failed")
    failed.__cause__ = rs.RestoreRefused("no")
    assert exit_code(failed) == 5
    assert exit_code(NotFound("no")) == 4
    assert exit_code(ClusterError("no")) == 3


# Snapshots -----------------------------------------------------------------------------------


@pytest.fixture
def snapshot(tmp_path):
    job = rs.Job("kept")
    counted = job.from_items([{"k": 1}]).key_by("k").map_with_state(lambda s, row: (s, row), 0)
    counted.uid("count").sink(rs.MemorySink())
    table = pa.table({"key": [1, 2], "value": [10, 20]})
    return rs.state.write(str(tmp_path / "s"), {"count": {"state": table}}, job=job)


def test_a_snapshot_is_listed(snapshot):
    shown = invoke("state", "ls", snapshot).stdout.splitlines()
    assert shown[0].split() == ["uid", "verb", "name", "key", "type", "rows", "bytes"]
    assert shown[1].split()[:3] == ["count", "map_with_state", "state"]
    (one,) = json.loads(invoke("state", "ls", snapshot, "--json").stdout)
    assert (one["uid"], one["rows"], one["type"]) == ("count", 2, "int64")


def test_a_state_is_dumped(snapshot):
    shown = invoke("state", "dump", snapshot, "count").stdout.splitlines()
    assert [line.split() for line in shown] == [["key", "value"], ["1", "10"], ["2", "20"]]
    found = json.loads(invoke("state", "dump", snapshot, "count", "state", "--json").stdout)
    assert found == [{"key": 1, "value": 10}, {"key": 2, "value": 20}]


def test_what_is_not_there_is_told(snapshot, tmp_path):
    assert invoke("state", "ls", tmp_path / "nowhere").exit_code == 4
    result = invoke("state", "dump", snapshot, "nobody")
    assert result.exit_code == 4
    assert "count" in result.stderr


@pytest.mark.parametrize("words", ["4", "0..4", "4..2", "a..b", "..", "1..2..3", ""])
def test_bounds_that_are_none_are_wrong_use(tmp_path, words):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(uid="count"))
    result = invoke("run", script, "--autoscale", words)
    assert result.exit_code == 2
    assert "MIN..MAX is expected, as 1..8" in result.stderr


def test_a_script_sizes_itself_where_flags_say_so(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(uid="count"))
    alone = invoke("run", script, "--autoscale", "1..4")
    assert "no checkpoints to go on from" in alone.stderr
    assert invoke("run", script, "--autoscale", "1..", "--checkpoint", tmp_path).exit_code == 0
    many = invoke("run", script, "--autoscale", "1..400", "--checkpoint", tmp_path)
    assert "up to 400 subtasks" in many.stderr


SCRIPT = """
import raystream as rs

def counted(seen, row):
    return seen + 1, (row, seen + 1)

job = rs.Job("counted", runtime="local")
items = job.from_items(["a", "b", "a"])
items.key_by(lambda row: row).map_with_state(counted, 0).uid({uid!r}).print()

if __name__ == "__main__":
    job.run()
"""


def test_a_script_starts_from_a_snapshot_and_keeps_checkpoints_where_flags_say(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(uid="count"))
    namespace: dict = {"__name__": "script"}
    exec(script.read_text(), namespace)  # noqa: S102  our own script
    states = {"count": {"state": {"key": ["a"], "value": [10]}}}
    path = rs.state.write(str(tmp_path / "s"), states, job=namespace["job"])
    kept = tmp_path / "kept"
    result = invoke("run", script, "--from", path, "--checkpoint", kept)
    assert result.exit_code == 0, result.stderr
    assert "('a', 12)" in result.stdout
    assert (kept / "counted").is_dir()
    script.write_text(SCRIPT.format(uid="other"))
    refused = invoke("run", script, "--from", path)
    assert refused.exit_code == 5
    assert '"count"' in refused.stderr
    again = invoke("run", script, "--from", path, "--allow-dropped-state")
    assert again.exit_code == 0
    assert "('a', 2)" in again.stdout
