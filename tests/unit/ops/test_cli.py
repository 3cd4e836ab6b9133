from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner, Result

from raystream.api.reporting import report
from raystream.errors import (
    ClusterError,
    ConfigError,
    InternalError,
    JobTimeout,
    PlanError,
    RaystreamError,
    SinkError,
    UserFunctionError,
    job_failed,
)
from raystream.ops.cli import commands
from raystream.ops.failures import exit_code
from raystream.ops.run import show_from_script


@pytest.fixture
def script(tmp_path):
    """Write a job script."""

    def write(text: str):
        path = tmp_path / "job.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def invoke(*args: str) -> Result:
    return CliRunner().invoke(commands, [*args])


def raised(error: RaystreamError) -> RaystreamError:
    """Give an error a traceback."""
    with pytest.raises(RaystreamError) as caught:
        raise error
    return caught.value


COUNTING = """
    import sys
    import raystream as rs

    job = rs.Job("counting", parallelism=1, runtime="local")
    sink = rs.MemorySink()
    job.from_items([{"n": n} for n in range(int(sys.argv[1]))]).sink(sink)

    if __name__ == "__main__":
        result = job.run()
        print("rows", len(sink.rows), "of", sys.argv)
    """


def test_help_lists_the_commands():
    result = invoke("--help")
    assert result.exit_code == 0
    for name in ("run", "explain", "nexmark", "doctor"):
        assert name in result.stdout


def test_a_missing_script_is_wrong_use():
    result = invoke("run", "nowhere.py")
    assert result.exit_code == 2
    assert "nowhere.py" in result.stderr


def test_a_runtime_that_is_none_is_wrong_use(script):
    result = invoke("run", script(COUNTING), "--runtime", "flink")
    assert result.exit_code == 2
    assert "local" in result.stderr


def test_a_script_runs_as_main_with_its_arguments(script):
    path = script(COUNTING)
    result = invoke("run", path, "--", "12")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"rows 12 of {[path, '12']}\n"


def test_a_script_finds_its_neighbours_and_leaves_no_trace(script, tmp_path):
    (tmp_path / "neighbour_of_job.py").write_text("ROWS = 3\n")
    text = textwrap.dedent(COUNTING).replace("int(sys.argv[1])", "neighbour_of_job.ROWS")
    argv, path = sys.argv, sys.path[:]
    result = invoke("run", script("import neighbour_of_job\n" + text))
    assert result.exit_code == 0, result.stderr
    assert (sys.argv, sys.path) == (argv, path)
    del sys.modules["neighbour_of_job"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "explain"])
def test_a_script_that_runs_no_job_is_wrong_use(script, command):
    path = script("import raystream as rs\njob = rs.Job('idle')\nprint('built')\n")
    done = subprocess.run(
        [sys.executable, "-m", "raystream.ops.cli", command, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "built\n"
    assert done.returncode == 2
    assert "the script ran no job" in done.stderr
    assert "job.run()" in done.stderr


@pytest.mark.parametrize("form", ["text", "mermaid", "json"])
def test_explain_prints_the_plan_and_ends_the_script(script, form):
    result = invoke("explain", script(COUNTING), "--format", form, "--", "1")
    assert result.exit_code == 0, result.stderr
    assert "rows 1" not in result.stdout
    assert "from_items" in result.stdout or "source" in result.stdout
    if form == "json":
        assert json.loads(result.stdout)


def test_explain_takes_json_as_a_flag(script):
    result = invoke("explain", script(COUNTING), "--json", "--", "1")
    assert json.loads(result.stdout)


def test_flags_beat_the_script(script):
    plan = invoke("explain", script(COUNTING), "-p", "3", "--", "1").stdout
    assert "p=3" in plan


def test_a_plan_error_is_one_message_and_exit_code_2(script):
    text = COUNTING.replace(".sink(sink)", ".select('m').sink(sink)")
    result = invoke("run", script(text.replace("range(", "[1] * (")), "--", "1")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_failing_function_shows_its_own_traceback_first_and_no_frame_of_ours(script):
    text = COUNTING.replace(".sink(sink)", ".map(lambda row: row['n'] / 0).sink(sink)")
    result = invoke("run", script(text), "--", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    before, _, after = result.stderr.partition("error: ")
    assert "ZeroDivisionError" in before
    assert "job.py" in before
    assert "raystream" not in before
    assert 'job "counting" failed' in after


def test_an_interrupt_is_exit_code_130(script):
    result = invoke("run", script("raise KeyboardInterrupt"))
    assert result.exit_code == 130


def test_a_script_ends_with_the_code_it_chose(script):
    assert invoke("run", script("raise SystemExit(7)")).exit_code == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlanError("no"), 2),
        (ConfigError("no"), 2),
        (SinkError("no"), 1),
        (ClusterError("no"), 3),
        (InternalError("no"), 70),
        (JobTimeout("no"), 6),
        (job_failed("j", UserFunctionError("no")), 1),
        (job_failed("j", ValueError("no")), 1),
        (job_failed("j", ClusterError("no")), 3),
        (job_failed("j", InternalError("no")), 70),
    ],
)
def test_each_failure_has_its_exit_code(error, code):
    assert exit_code(error) == code


def test_a_bug_of_ours_shows_our_frames(capsys):
    report(raised(InternalError("credit went below zero")))
    shown = capsys.readouterr().err
    assert "test_cli.py" in shown
    assert "Please report" in shown


def test_our_frames_are_shown_on_request(capsys, monkeypatch):
    monkeypatch.setenv("RAYSTREAM_TRACEBACK", "1")
    report(raised(PlanError("no such column", hint='did you mean "price"?')))
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith('error: no such column\n  hint: did you mean "price"?\n')


def test_what_a_script_raises_is_shown_from_its_first_line(script, capsys):
    path = script("def f():\n    return {}['key']\nf()\n")
    result = invoke("run", path)
    kind, error, trace = result.exc_info
    assert kind is KeyError
    show_from_script(kind, error, trace)
    first = capsys.readouterr().err.splitlines()[1]
    assert first == f'  File "{path}", line 3, in <module>'


def test_a_script_that_is_no_python_is_shown_without_frames(script, capsys):
    result = invoke("run", script("def f(:\n"))
    show_from_script(*result.exc_info)
    shown = capsys.readouterr().err
    assert "SyntaxError" in shown
    assert "runpy" not in shown
