"""Ctrl-C while a job runs in this process: it ends at once, says so, and shows no half result."""

from __future__ import annotations

import json
import signal

import pytest
from interrupted import interrupt

pytestmark = pytest.mark.slow

OUTER_S = 200


def test_a_run_from_the_command_line_says_that_it_was_interrupted(tmp_path):
    before = ("-m", "raystream.ops.cli", "run", "--runtime", "local", "--quiet")
    ended = interrupt(tmp_path, *before, environment={}, timeout_s=OUTER_S)
    assert ended.code == 130, ended.errors
    assert ended.errors == "interrupted\n"
    assert ended.visible == []


def test_as_json_it_is_a_document(tmp_path):
    before = ("-m", "raystream.ops.cli", "run", "--runtime", "local", "--quiet", "--json")
    ended = interrupt(tmp_path, *before, environment={}, timeout_s=OUTER_S)
    assert ended.code == 130, ended.errors
    assert json.loads(ended.errors)["error"]["kind"] == "Interrupted"


def test_a_script_by_itself_ends_as_any_python_program_does(tmp_path):
    ended = interrupt(tmp_path, run='runtime="local"', environment={}, timeout_s=OUTER_S)
    assert ended.code == -signal.SIGINT, ended.errors  # 130 where a shell says it
    assert ended.errors.rstrip().endswith("KeyboardInterrupt")
    assert ended.visible == []
