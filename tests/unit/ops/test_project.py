"""A new project runs as it is, and its tests pass; nothing of others is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from raystream.ops.cli import commands
from raystream.ops.templates import FILES


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = CliRunner().invoke(commands, ["init", "warm-rooms"])
    assert done.exit_code == 0, done.output
    assert "raystream run job.py" in done.stdout
    return tmp_path / "warm-rooms"


def ran(folder, *command):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_files_are_there_and_named(made):
    assert {name for name in FILES if (made / name).is_file()} == set(FILES)
    assert 'rs.Job("warm-rooms")' in (made / "job.py").read_text()
    assert 'name = "warm-rooms"' in (made / "pyproject.toml").read_text()


@pytest.mark.slow
def test_the_made_job_runs_and_prints_its_result(made):
    lines = ran(made, "raystream.ops.cli", "run", "job.py").splitlines()
    assert len(lines) == 4 * 4
    assert lines[0] == "00:01  sensor-0  1500 readings  21.00 C"
    ended = ran(made, "raystream.ops.cli", "run", "job.py", "-p", "2", "--json").splitlines()
    assert sorted(ended[:-1]) == sorted(lines)
    assert json.loads(ended[-1])["records_in"] == 20_000


@pytest.mark.slow
def test_the_made_test_passes(made):
    assert "2 passed" in ran(made, "pytest", "-q", "-p", "no:cacheprovider")


def test_the_settings_of_the_project_are_found(made, monkeypatch):
    monkeypatch.chdir(made / "tests")
    done = CliRunner().invoke(commands, ["config", "--said", "--json"])
    (one,) = json.loads(done.stdout)
    assert (one["name"], one["value"]) == ("runtime", "local")
    assert one["from"] == f"{made}/raystream.toml:4"
    beside = CliRunner().invoke(commands, ["config", "--said", "--set", "runtime=ray"])
    assert beside.stdout.splitlines()[1].split() == ["runtime", "ray", "flag", "--set", "runtime"]


def test_the_settings_of_a_script_are_those_of_its_folder(made, monkeypatch):
    monkeypatch.chdir(made.parent)
    assert "local" not in CliRunner().invoke(commands, ["config", "--said"]).stdout
    assert "local" in CliRunner().invoke(commands, ["config", "--said", "warm-rooms/job.py"]).stdout


@pytest.mark.parametrize("name", ["1st", "a b", ".", "-", "a.b", "a-"])
def test_a_name_that_no_project_may_have_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(commands, ["init", "--", name]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(made):
    (made / "job.py").write_text("mine")
    done = CliRunner().invoke(commands, ["init", "warm-rooms"])
    assert done.exit_code == 2
    assert "warm-rooms is there already" in done.stderr
    assert (made / "job.py").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "mine").mkdir(parents=True)
    done = CliRunner().invoke(commands, ["init", "deep/mine", "--json"])
    assert json.loads(done.stdout)["files"] == list(FILES)
    assert (tmp_path / "deep" / "mine" / "tests" / "test_job.py").is_file()
