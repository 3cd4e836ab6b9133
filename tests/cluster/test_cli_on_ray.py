"""Every command on one running job, and on a cluster that is not there."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

import raystream as rs
from raystream.ops.cli import commands

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OUTER_S = 60


def invoke(*args):
    done = CliRunner().invoke(commands, [*map(str, args)])
    assert done.exit_code == 0, done.output
    return done.stdout


def documents(*args):
    return [json.loads(line) for line in invoke(*args, "--json").splitlines()]


def wait_until(condition, what: str):
    deadline = time.monotonic() + OUTER_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still waiting until {what}"
        threading.Event().wait(0.1)
    return value


def seen(row):
    if row["n"] % 500 == 0:
        print("seen", row["n"])
        logging.getLogger("mine").info("noted %d", row["n"])
    return row


@pytest.fixture
def running(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    job = rs.Job("watched", checkpoint=rs.Checkpointing(tmp_path / "kept", every="300ms"))
    numbers = job.source(rs.DataGenSource(lambda n: {"n": n}, rows_per_second=2_000))
    told = numbers.map(seen).named("told")
    kept = told.key_by(lambda row: row["n"] % 3).reduce(lambda a, b: b).named("kept")
    kept.filter(lambda row: row["n"] == 7).print()
    handle = job.submit()
    yield handle
    handle.end()


def test_each_command_looks_at_a_running_job(running, tmp_path):
    assert invoke("list").splitlines()[0].split() == ["id", "name", "status"]
    wait_until(lambda: documents("status", "watched")[0]["status"] == "running", "it runs")
    (listed,) = documents("list")[0]
    assert (listed["id"], listed["name"]) == (running.id, "watched")
    made = wait_until(lambda: documents("checkpoints", "watched")[0], "a checkpoint is made")
    assert made[0]["checkpoint_id"] >= 1

    looked = documents("top", running.id, "--once", "--interval", "1.5")
    assert [one["job"] for one in looked] == ["watched", "watched"]
    rates = {one["name"]: one["in_per_s"] for one in looked[-1]["operators"]}
    assert rates["told"] > 500
    shown = invoke("top", "watched", "--once")
    assert "backpressured" in shown
    assert "checkpoint" in shown.splitlines()[-1]

    def printed():
        return [one for one in documents("logs", "watched") if one["text"].startswith("seen")]

    lines = wait_until(printed, "a line that a function printed is told")
    assert lines[0]["level"] == "print"
    ours = documents("logs", "watched", "--operator", "told", "--subtask", "0")
    assert {"noted 0", "seen 0"} <= {one["text"] for one in ours}
    assert [one["at_us"] for one in ours] == sorted(one["at_us"] for one in ours)
    assert invoke("logs", "watched", "-n", "1").count("\n") == 1

    place = tmp_path / "mine"
    assert documents("savepoint", "watched", place)[0]["savepoint"].startswith(str(place))
    ended = documents("stop", "watched")[0]["savepoint"]
    assert documents("state", "ls", ended)[0]
    assert running.status() == "stopped"
    assert documents("top", "watched", "--once")[0]["state"] == "stopped"
    # What subtasks said stays with the coordinator while it is there.
    assert "seen 0" in invoke("logs", "watched", "-f")


def test_a_new_project_runs_on_ray(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.chdir(tmp_path)
    invoke("init", "demo")
    *rows, end = invoke("run", "demo/job.py", "--runtime", "ray", "--json", "-q").splitlines()
    assert "00:01  sensor-0  1500 readings  21.00 C" in rows
    assert json.loads(end)["records_in"] == 20_000


def command(address: str) -> subprocess.CompletedProcess[str]:
    """List the jobs from a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "raystream.ops.cli", "list", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=OUTER_S,
        env={**os.environ, "RAY_ADDRESS": address},
    )


def test_another_process_finds_the_job(running, ray_cluster):
    done = command(ray_cluster)
    assert done.returncode == 0, done.stderr
    assert [one["id"] for one in json.loads(done.stdout)] == [running.id]


@pytest.fixture
def mute():
    """Listen, and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"127.0.0.1:{door.getsockname()[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "mute"])
def test_a_cluster_that_is_not_there_is_told_in_seconds(address, mute):
    address = mute if address == "mute" else address
    began = time.monotonic()
    done = command(address)
    assert done.returncode == 3, done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (error["kind"], error["exit"]) == ("ClusterError", 3)
    assert "RAY_ADDRESS" in error["hint"]
    assert time.monotonic() - began < 45
