"""``top`` and ``logs``: what they show of a job that runs."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console
from told_jobs import Cluster

from raystream.api import running
from raystream.ops import logs as logs_module
from raystream.ops import top as top_module
from raystream.ops.cli import commands
from raystream.runtime.json_lines import FIELDS


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setenv("RAY_ADDRESS", "none")
    monkeypatch.setattr(running, "driver", lambda: made)
    return made


def invoke(*args):
    done = CliRunner().invoke(commands, args)
    assert done.exit_code == 0, done.output
    return done.stdout


def documents(*args):
    return [json.loads(line) for line in invoke(*args, "--json").splitlines()]


def test_top_shows_rates_and_what_else_is_known(cluster):
    shown = invoke("top", "hot", "--interval", "0").splitlines()
    assert shown[0].startswith("hot · running · 2 s")
    assert shown[2].split()[:5] == ["count", "2", "10", "5", "-"]
    assert "75%" in shown[2]
    assert [line.strip() for line in shown[3:]] == [
        "checkpoint 3 completed in 0.000 s, 1000 B, begun 5 s ago",
        "attempt 2, restarts 1",
        "last failure in count[0/2]: ValueError: no such price",
    ]


def test_top_gives_a_document_a_look(cluster):
    first, second = documents("top", "hot", "--once", "--interval", "0")
    assert (first["state"], second["uptime_s"]) == ("running", 2.0)
    (operator,) = second["operators"]
    assert (operator["in_per_s"], operator["out_per_s"], operator["busy"]) == (10.0, 5.0, 0.75)
    assert second["notes"][1] == "attempt 2, restarts 1"


def test_top_ends_with_the_job(cluster):
    cluster.job.state = "finished"
    (only,) = documents("top", "hot")
    assert only["state"] == "finished"


def test_top_draws_anew_on_a_terminal_until_the_job_ends(cluster, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        cluster.job.state = "running" if len(waits) < 3 else "stopped"

    def console(**_):
        return Console(file=out, force_terminal=True, width=120)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(top_module.time, "sleep", wait)
    monkeypatch.setattr(top_module, "Console", console)
    invoke("top", "hot", "--interval", "0.5")
    assert waits == [0.5] * 3
    drawn = out.getvalue()
    for title in ("running · 1 s", "running · 2 s", "running · 3 s", "stopped · 4 s"):
        assert f"hot · {title}" in drawn
    assert drawn.count("restarts 1") >= 4


def test_logs_are_in_order_of_time_and_say_who(cluster):
    assert invoke("logs", "hot").splitlines() == [
        "1970-01-01T00:00:01.000Z  info     coordinator  running",
        "1970-01-01T00:00:02.000Z  print    source#1[0]  seen 1",
        "1970-01-01T00:00:03.000Z  warning  count[1]  slow",
    ]
    first = documents("logs", "hot")[0]
    assert (first["at"], first["level"]) == ("1970-01-01T00:00:01.000+00:00", "info")


def test_logs_as_json_have_the_fields_of_a_transition_and_of_whoever_speaks(cluster):
    running, printed, slow = documents("logs", "hot")
    assert all(set(FIELDS) < set(one) for one in (running, printed, slow))
    assert (running["from"], running["to"], running["attempt"]) == ("starting", "running", 1)
    assert {one["job"] for one in (running, printed, slow)} == {"hot"}
    assert [one["operator"] for one in (running, printed, slow)] == ["", "source#1", "count"]
    assert (slow["to"], slow["checkpoint"], slow["index"]) == ("", 0, 1)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--operator", "count"], ["slow"]),
        (["--operator", "count-uid"], ["slow"]),
        (["--subtask", "0"], ["seen 1"]),
        (["--operator", "count", "--subtask", "0"], []),
        (["--level", "warning"], ["slow"]),
        (["--level", "info"], ["running", "seen 1", "slow"]),
        (["-n", "1"], ["slow"]),
        (["-n", "0"], []),
        (["-n", "9"], ["running", "seen 1", "slow"]),
    ],
    ids=" ".join,
)
def test_some_lines_are_asked_for(cluster, words, texts):
    assert [one["text"] for one in documents("logs", "hot", *words)] == texts


def test_logs_follow_until_the_job_ends(cluster, monkeypatch):
    monkeypatch.setattr(logs_module.time, "sleep", lambda _: None)
    found = documents("logs", "hot", "-f", "-n", "1")
    assert [one["text"] for one in found] == ["slow", "late"]


def test_an_operator_that_is_none_is_told_with_those_that_are(cluster):
    done = CliRunner().invoke(commands, ["logs", "hot", "--operator", "cuont"])
    assert done.exit_code == 4
    assert 'job "hot" has no operator "cuont"' in done.stderr
    assert "count, count-uid, source#1" in done.stderr
