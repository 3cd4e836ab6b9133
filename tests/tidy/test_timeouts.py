"""A test that hangs ends, whatever catches what the timeout raises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timeouts

pytestmark = pytest.mark.slow

HANGS = """
import threading, hypothesis, timeouts
from hypothesis import strategies as st

timeouts.AGAIN_S = 1
NEVER = threading.Event()

@hypothesis.settings(deadline=None, database=None)
@hypothesis.given(st.integers())
def test_whose_examples_hang(n):
    NEVER.wait()

def test_whose_clean_up_hangs():
    try:
        NEVER.wait()
    finally:
        NEVER.wait()

def test_behind_them():
    pass
"""


def test_tests_that_hang_end_and_those_behind_them_run(tmp_path):
    (tmp_path / "test_hangs.py").write_text(HANGS)
    support = Path(timeouts.__file__).parent
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "timeouts", "-p", "no:cacheprovider"),
            *("--timeout", "1", "-q", "test_hangs.py"),
        ],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(support)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.splitlines()[-1].startswith("2 failed, 1 passed"), ended.stdout
    assert "TimedOut" in ended.stdout
