"""The dashboard's command: who may read its token, and where it refuses to start."""

# ruff: noqa: S104, S310  nothing is bound to these, and a server of this test's is asked
from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request

import pytest
from click.testing import CliRunner
from http_jobs import FakeJobs, ran

from raystream.api import running
from raystream.errors import ConfigError
from raystream.ops.cli import commands
from raystream.ops.dashboard import token_of
from raystream.ops.http.security import door
from raystream.ops.http.server import Api
from raystream.ops.http.serving import serve_until_told
from raystream.runtime.native_profile import read_stacks
from raystream.runtime.profiler import Cost, Frame, Profile


def invoke(*args):
    return CliRunner().invoke(commands, [*map(str, args)])


def test_a_token_is_written_once_for_its_owner_alone(tmp_path):
    file = tmp_path / "token"
    token = token_of(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert token_of(file) == token
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        token_of(file)
    with pytest.raises(ConfigError, match="cannot write"):
        token_of(tmp_path / "none" / "token")
    assert token_of(None) != token_of(None)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--host", "0.0.0.0", "--no-token"], "needs a token"),
        (["--no-token", "--token-file", "x"], "exclude each other"),
        (["--port", "70000"], "70000"),
    ],
)
def test_a_dashboard_that_would_be_open_does_not_start(args, says):
    result = invoke("dashboard", *args)
    assert result.exit_code == 2
    assert says in result.output


def test_it_serves_until_a_signal_comes(tmp_path):
    api = Api(FakeJobs(ran(tmp_path)), door("127.0.0.1", None))
    said = []

    def listening(url):
        said.append(url)
        asyncio.get_running_loop().run_in_executor(None, look)

    def look():
        with urllib.request.urlopen(f"{said[0]}/api/v1/jobs", timeout=30) as answer:
            said.append(json.loads(answer.read()))
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(serve_until_told(api, "127.0.0.1", 0, listening))
    assert said[1]["jobs"]


class Driver:
    """A cluster with a job that can be profiled."""

    def attach(self, _):
        return self

    def profile(self, operator, subtask, *, seconds, native=False):
        self.asked = (operator, subtask, seconds)
        if native:
            return read_stacks(
                f"hot {operator}", 1.0, "t;f (f.py:1);g (libg.so) 75\nt;f (f.py:1) 25"
            )
        stacks = {("t", (Frame("f", "f.py", 1), Frame("g", "g.py", 2))): Cost(3, 3_000_000)}
        return Profile(f"hot {operator}", 1.0, 3, True, stacks)


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    found = Driver()
    monkeypatch.setattr(running, "driver", lambda: found)
    return found


def test_a_profile_is_shown_and_written(driver, tmp_path):
    out, text = tmp_path / "x.speedscope.json", tmp_path / "x.txt"
    result = invoke("profile", "hot", "window#1:2", "--seconds", "1", "-o", out)
    assert driver.asked == ("window#1", 2, 1.0)
    assert "g.py:2" in result.output
    assert "100.0%" in result.output
    assert json.loads(out.read_text())["profiles"]
    assert json.loads(invoke("profile", "hot", "a:b", "--json", "-o", text).output)["top"]
    assert driver.asked == ("a:b", 0, 5.0)
    assert text.read_text() == "t;f (f.py:1);g (g.py:2) 3000"


def test_a_native_profile_says_how_much_was_compiled_code(driver):
    shown = invoke("profile", "hot", "window#1", "--native").output
    assert "75.0% of it in compiled code" in shown
    told = json.loads(invoke("profile", "hot", "window#1", "--native", "--json").output)
    assert told["native_share"] == 0.75
