"""A script that fails says one clear thing, whatever went wrong, and ends with 1."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import raystream as rs
def halve(row):
    return {{"x": 1 // row}}
job = rs.Job("told", runtime="local")
{body}
job.run()
"""


def run(tmp_path, body, **environment):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(body=body))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.slow
def test_a_mistake_in_the_plan_is_told_with_the_line_and_without_our_frames(tmp_path):
    body = 'job.source(rs.NexmarkSource(9, rate=1, seed=1, kind="bid")).select("prcie").print()'
    told = run(tmp_path, body)
    assert told.startswith('error: column "prcie" not found in stream "source#1"')
    assert 'Did you mean "price"?' in told
    assert "job.py:6" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_function_that_raises_is_told_by_its_own_traceback(tmp_path):
    told = run(tmp_path, "job.from_items([1, 0]).map(halve).print()")
    assert told.startswith("Traceback")
    assert "ZeroDivisionError" in told
    assert "in halve" in told
    assert 'error: job "told" failed: map#1 failed' in told
    assert "raystream/" not in told


@pytest.mark.slow
def test_a_missing_file_is_named(tmp_path):
    told = run(tmp_path, f"job.source(rs.FileSource({str(tmp_path / 'no.csv')!r})).print()")
    assert told.startswith("error: no such file or folder")
    assert "no.csv" in told


@pytest.mark.slow
def test_our_frames_are_shown_when_asked_for_and_other_errors_stay_as_they_are(tmp_path):
    told = run(tmp_path, "job.from_items([0]).map(halve).print()", RAYSTREAM_TRACEBACK="1")
    assert "raystream/" in told
    assert run(tmp_path, "raise KeyError('mine')").rstrip().endswith("KeyError: 'mine'")
