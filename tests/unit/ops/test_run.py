"""``raystream run``: settings over the script, how its end is told, a job that is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from told_jobs import Cluster

from raystream.api import running
from raystream.ops.cli import commands

SCRIPT = """
import raystream as rs
job = rs.Job("told", runtime="local")
job.from_items([1, 2]).print()
if __name__ == "__main__":
    job.run()
    print("behind it")
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text(SCRIPT)
    return "job.py"


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setenv("RAY_ADDRESS", "none")
    monkeypatch.setattr(running, "driver", lambda: made)
    return made


def invoke(*args):
    return CliRunner().invoke(commands, args)


def test_how_a_job_ended_is_a_document_behind_its_own_output(script):
    done = invoke("run", script, "--json")
    one, two, end, behind = done.stdout.splitlines()
    assert (one, two, behind) == ("1", "2", "behind it")
    ended = json.loads(end)
    assert (ended["name"], ended["status"], ended["records_in"]) == ("told", "finished", 2)


def test_a_job_is_left_to_the_cluster_and_the_script_ends(script, cluster):
    done = invoke("run", script, "--detach", "--runtime", "ray")
    assert (done.exit_code, done.stdout) == (0, "hot-1\n")
    assert cluster.job.asked == [("submit", "told")]
    as_json = invoke("run", script, "--detach", "--runtime", "ray", "--json")
    assert json.loads(as_json.stdout) == {"name": "told", "id": "hot-1"}


def test_a_local_job_cannot_be_left_behind(script, cluster):
    done = invoke("run", script, "--detach")
    assert done.exit_code == 2
    assert "needs a cluster" in done.stderr


def test_settings_by_name_hold_for_the_script(script):
    assert "p=3" in invoke("explain", script, "--set", "parallelism=3").stdout
    refused = invoke("explain", script, "--set", "paralelism=3")
    assert refused.exit_code == 2
    assert 'did you mean "parallelism"?' in refused.stderr


def test_the_file_beside_a_script_holds_under_both_ways_to_run_it(script, tmp_path, monkeypatch):
    (tmp_path / "raystream.toml").write_text("parallelism = 3\n")
    assert "p=3" in invoke("explain", script).stdout
    assert "p=2" in invoke("explain", script, "-p", "2").stdout


@pytest.mark.slow
def test_python_alone_heeds_the_file_and_the_environment(script, tmp_path):
    (tmp_path / "raystream.toml").write_text("parallelism = 3\n")
    found = os.pathsep.join(path for path in sys.path if path)

    def plan(**environment):
        done = subprocess.run(
            [sys.executable, str(tmp_path / script)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd="/",
            env={"PYTHONPATH": found, "RAYSTREAM_EXPLAIN": "1", **environment},
        )
        return done.stdout

    assert "p=3" in plan()
    assert "p=4" in plan(RAYSTREAM_PARALLELISM="4")


def test_the_address_of_a_flag_is_where_ray_looks(cluster, monkeypatch):
    seen = []

    def attach(name):
        from raystream.api import overrides

        seen.append(overrides.current().address)
        return cluster.job

    cluster.attach = attach
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    assert invoke("status", "hot", "--address", "here:1").exit_code == 0
    assert invoke("status", "hot").exit_code == 0
    assert seen == ["here:1", "elsewhere:1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_to_complete(shell):
    done = invoke("completion", shell)
    assert "_RAYSTREAM_COMPLETE" in done.stdout
    assert "raystream" in done.stdout


def test_commands_are_completed():
    asked = {
        "_RAYSTREAM_COMPLETE": "bash_complete",
        "COMP_WORDS": "raystream sta",
        "COMP_CWORD": "1",
    }
    done = CliRunner().invoke(
        commands, [], env=asked, prog_name="raystream", complete_var="_RAYSTREAM_COMPLETE"
    )
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == {"state", "status"}
