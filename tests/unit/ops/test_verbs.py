"""Every command, in every way that it may go: a new one without its cases fails here."""

from __future__ import annotations

import json
from dataclasses import dataclass

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from told_jobs import Cluster, Gone

import raystream as rs
from raystream.api import running
from raystream.ops import dashboard
from raystream.ops.cli import commands
from raystream.ops.failures import EXITS, Commands

SCRIPT = """
import raystream as rs
job = rs.Job("told")
job.from_items([1, 2]).print()
if __name__ == "__main__":
    job.run()
"""


@dataclass(frozen=True)
class Verb:
    """What to say to a command; ``wrong`` is wrong use, ``lost`` names what is not there.

    ``far``: what must reach a cluster. SCRIPT, STATE and NEW stand for paths.
    """

    right: str
    wrong: str
    lost: str = ""
    far: str = ""


def of_a_job(more: str = "", wrong: str = "hot --no-such-flag") -> Verb:
    return Verb(f"hot {more}".strip(), wrong, f"cold {more}".strip(), f"hot {more}".strip())


VERBS = {
    "run": Verb("SCRIPT --runtime local -q", "nowhere.py", far="SCRIPT -q"),
    "explain": Verb("SCRIPT", "SCRIPT --format pdf"),
    "nexmark": Verb(
        "q0 --events 2000 --runtime local -q", "q0 --events 0", far="q0 --events 9 --runtime ray"
    ),
    "list": Verb("", "more", far=" "),
    "status": of_a_job(),
    "top": of_a_job("--once --interval 0", "hot --interval never"),
    "logs": of_a_job("", "hot --subtask one"),
    "checkpoints": of_a_job(),
    "savepoint": of_a_job(),
    "stop": of_a_job("", "hot --no-savepoint --savepoint s3://x"),
    "cancel": of_a_job("", ""),
    "rescale": of_a_job("count=2", "hot count=none"),
    "state ls": Verb("STATE", "", lost="NEW"),
    "state dump": Verb("STATE count", "STATE", lost="STATE nobody"),
    "dashboard": Verb("", "--no-token --token-file NEW", far=" "),
    "profile": of_a_job("count:1 --seconds 0.1", "hot"),
    "init": Verb("NEW", "STATE"),
    "config": Verb("", "--set paralelism=2"),
    "doctor": Verb("--no-ray", "--timeout soon", far=" "),
    "completion": Verb("bash", "tcsh"),
}


def every_verb(group: click.Group = commands, before: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= every_verb(command, f"{before}{name} ")
        else:
            found[before + name] = command
    return found


def cases(field: str):
    named = [verb for verb in VERBS if getattr(VERBS[verb], field)]
    return pytest.mark.parametrize("verb", named if field != "right" else list(VERBS))


async def listens(_api, host, port, listening):
    """Serve nobody: a server that nobody ends would never end."""
    listening(f"http://{host}:{port}")


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Say words to a command, with SCRIPT, STATE and NEW where they belong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(running, "driver", Cluster)
    monkeypatch.setattr(dashboard, "serve_until_told", listens)
    (tmp_path / "job.py").write_text(SCRIPT)
    job = rs.Job("kept")
    counted = job.from_items([{"k": 1}]).key_by("k").map_with_state(lambda s, row: (s, row), 0)
    counted.uid("count").sink(rs.MemorySink())
    table = pa.table({"key": [1, 2], "value": [10, 20]})
    state = rs.state.write(str(tmp_path / "kept"), {"count": {"state": table}}, job=job)
    places = {"SCRIPT": "job.py", "STATE": str(state), "NEW": str(tmp_path / "new")}

    def invoke(verb, words, *more):
        said = [places.get(word, word) for word in f"{verb} {words}".split()]
        return CliRunner().invoke(commands, [*said, *more])

    return invoke


def json_of(text: str) -> list:
    """Read one document, or one a line; what a script has printed stands before."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if not line.isdecimal()]


def error_of(done) -> dict:
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_every_verb_has_its_cases():
    assert set(every_verb()) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_does_and_prints_json_where_asked(verb):
    command = every_verb()[verb]
    assert command.get_short_help_str()
    assert command.help
    flags = {name for param in command.params for name in param.opts}
    assert "--json" in flags


@cases("right")
def test_a_verb_does_it(say, verb):
    done = say(verb, VERBS[verb].right)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()
    assert not done.stderr


@cases("right")
def test_a_verb_prints_json(say, verb):
    done = say(verb, VERBS[verb].right, "--json")
    assert done.exit_code == 0, done.output
    assert json_of(done.stdout)
    assert not done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_use_is_told_with_the_way_to_write_it(say, verb):
    done = say(verb, VERBS[verb].wrong)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert "\n  hint: " in done.stderr
    assert not done.stdout
    as_json = say(verb, VERBS[verb].wrong, "--json")
    assert as_json.exit_code == 2
    assert error_of(as_json)["exit"] == 2
    assert error_of(as_json)["hint"]


@cases("lost")
def test_what_is_not_there_is_told(say, verb):
    done = say(verb, VERBS[verb].lost)
    assert done.exit_code == 4, done.output
    assert done.stderr.startswith("error: ")
    as_json = say(verb, VERBS[verb].lost, "--json")
    assert (as_json.exit_code, as_json.stdout) == (4, "")
    assert error_of(as_json)["kind"] == "NotFound"


@cases("far")
def test_a_cluster_out_of_reach_is_told(say, monkeypatch, verb):
    monkeypatch.setattr(running, "driver", Gone)
    done = say(verb, VERBS[verb].far)
    assert done.exit_code == 3, done.output
    assert "RAY_ADDRESS" in done.output
    as_json = say(verb, VERBS[verb].far, "--json")
    assert as_json.exit_code == 3
    if verb != "doctor":  # what it finds is its result, whatever it is
        assert error_of(as_json)["exit"] == 3


# What all have in common -----------------------------------------------------------------------


def test_a_verb_that_is_none_is_told_with_the_close_one():
    done = CliRunner().invoke(commands, ["staus", "hot"])
    assert done.exit_code == 2
    assert 'there is no command "staus"; did you mean "status"?' in done.stderr


def broken(kind: BaseException) -> Commands:
    group = Commands("raystream")

    @group.command()
    @click.option("--json", "as_json", is_flag=True)
    def breaks(as_json):
        raise kind

    return group


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (KeyError("lost"), 70, "InternalError"),
        (rs.JobFailed("it failed"), 1, "JobFailed"),
        (rs.RestoreRefused("it does not fit"), 5, "RestoreRefused"),
        (TimeoutError("too long"), 6, "RaystreamError"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (click.UsageError("no"), 2, "WrongUse"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_each_failure_has_an_exit_code_that_is_documented(error, code, kind):
    done = CliRunner().invoke(broken(error), ["breaks"])
    assert done.exit_code == code
    assert code in EXITS
    as_json = CliRunner().invoke(broken(error), ["breaks", "--json"])
    assert (as_json.exit_code, as_json.stdout) == (code, "")
    assert error_of(as_json)["kind"] == kind
    assert error_of(as_json)["exit"] == code


def test_a_bug_of_ours_shows_our_frames_and_asks_for_a_report():
    done = CliRunner().invoke(broken(KeyError("lost")), ["breaks"])
    assert "Traceback" in done.stderr
    assert "error: KeyError: 'lost'" in done.stderr
    assert "Please report" in done.stderr


def test_json_behind_the_dashes_is_the_scripts(say, tmp_path):
    (tmp_path / "job.py").write_text("raise KeyboardInterrupt")
    done = say("run", "SCRIPT", "--", "--json")
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_colours_are_left_out_where_nobody_wants_them(say, monkeypatch):
    def logs():
        return CliRunner().invoke(commands, ["logs", "hot"], color=True).stdout

    assert "\x1b[33m" in logs()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in logs()
