"""Settings from flags, environment and files: which counts, and what is refused."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.api import project
from raystream.api.overrides import Overrides, all_said, current, overriding
from raystream.api.setting_table import BY_NAME, SETTINGS, in_environment, in_flags
from raystream.config import Limits


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty project, whose script lies two folders below."""
    (tmp_path / "jobs" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    script = tmp_path / "jobs" / "deep" / "job.py"
    monkeypatch.setattr(project, "running_script", lambda: script)
    from raystream.api import overrides

    monkeypatch.setattr(overrides, "running_script", lambda: script)
    return tmp_path


def write(folder, text, name="raystream.toml"):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)


def said(environment=None, *sets):
    return {name: one.value for name, one in all_said(environment or {}, sets).items()}


# Who counts --------------------------------------------------------------------------------------


def test_nothing_is_said_in_an_empty_project(folder):
    assert said() == {}


def test_flags_beat_environment_beats_toml_beats_pyproject_beats_the_script(folder):
    job = rs.Job("t", parallelism=1)
    job.from_items([1]).print()

    def parallelism(environment=None, flags=None):
        with overriding(flags or Overrides()), pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            return job._draft.plan().parallelism

    assert parallelism() == 1
    write(folder / "jobs", "[tool.raystream]\nparallelism = 2\n", "pyproject.toml")
    assert parallelism() == 2
    write(folder / "jobs", "parallelism = 3\n")
    assert parallelism() == 3
    environment = {"RAYSTREAM_PARALLELISM": "4"}
    assert parallelism(environment) == 4
    assert parallelism(environment, Overrides(sets=("parallelism=5",))) == 5
    assert parallelism(environment, Overrides(sets=("parallelism=5",), parallelism=6)) == 6


def test_the_nearest_file_of_the_script_counts_before_those_of_the_folder(folder):
    write(folder / "elsewhere", "parallelism = 2\n")
    assert said() == {"parallelism": 2}
    write(folder, "parallelism = 3\n")
    assert said() == {"parallelism": 3}
    write(folder / "jobs" / "deep", "parallelism = 4\n")
    assert said() == {"parallelism": 4}


def test_a_pyproject_of_something_else_says_nothing(folder):
    write(folder / "jobs" / "deep", "[tool.ruff]\nline-length = 9\n", "pyproject.toml")
    write(folder / "jobs", "[tool.raystream]\nkeep = 1\n".replace("keep", "max_parallelism"))
    (folder / "jobs" / "raystream.toml").rename(folder / "jobs" / "pyproject.toml")
    assert said() == {"max_parallelism": 1}


def test_a_file_that_changes_is_read_again(folder):
    write(folder, "parallelism = 2\n")
    assert said() == {"parallelism": 2}
    write(folder, "parallelism = 2222\n")
    assert said() == {"parallelism": 2222}


def test_each_value_knows_where_it_was_said(folder):
    write(folder, '# mine\nruntime = "local"\n\n[checkpoint]\n# often\nevery = "1s"\n')
    write(
        folder, "[tool.other]\nkeep = 1\n[tool.raystream.checkpoint]\nkeep = 2\n", "pyproject.toml"
    )
    found = all_said({"RAY_ADDRESS": "auto"}, ("batch_rows_max=7",))
    assert {name: one.where for name, one in found.items()} == {
        "runtime": f"{folder}/raystream.toml:2",
        "checkpoint_every": f"{folder}/raystream.toml:6",
        "checkpoint_keep": f"{folder}/pyproject.toml:4",
        "address": "environment RAY_ADDRESS",
        "batch_rows_max": "flag --set batch_rows_max",
    }


def test_our_own_variable_counts_before_rays():
    env = {"RAY_ADDRESS": "theirs:1", "RAYSTREAM_ADDRESS": "ours:1"}
    assert in_environment(env)["address"].value == "ours:1"
    assert in_environment({"RAY_ADDRESS": "theirs:1", "RAYSTREAM_ADDRESS": ""})[
        "address"
    ].value == ("theirs:1")


# What holds for a job ----------------------------------------------------------------------------


def plan_of(folder, text, **settings):
    write(folder, text)
    job = rs.Job("t", **settings)
    job.from_items([1]).print()
    return job._draft.plan()


def test_checkpoints_are_as_the_file_says(folder):
    kept = '[checkpoint]\ndirectory = "memory://there"\nevery = "3s"\nkeep = 9\n'
    plan = plan_of(folder, kept)
    assert plan.checkpoint == rs.Checkpointing("memory://there", "3s", keep=9)
    own = rs.Checkpointing("memory://here", "7s", keep=2, timeout="1m", mode="at_least_once")
    plan = plan_of(folder, 'checkpoint_every = "1s"\n', checkpoint=own)
    assert plan.checkpoint == rs.Checkpointing(
        "memory://here", "1s", keep=2, timeout="1m", mode="at_least_once"
    )
    assert plan_of(folder, 'checkpoint_every = "1s"\n').checkpoint is None
    assert plan_of(folder, 'checkpoint = "memory://x"\n').checkpoint.directory == "memory://x"


def test_limits_are_as_the_file_says(folder):
    text = 'batch_rows_max = 7\n[config]\nstate_backend = "disk"\n'
    plan = plan_of(folder, text, config={"batch_rows_max": 8, "heartbeat_us": 9})
    assert plan.limits == Limits(batch_rows_max=7, state_backend="disk", heartbeat_us=9)


def test_the_number_of_key_groups_is_the_files(folder):
    assert plan_of(folder, "max_parallelism = 256\n").max_parallelism == 256


def test_a_runtime_and_a_start_are_the_files(folder):
    write(folder, 'runtime = "local"\nfrom = "latest"\nallow_dropped_state = true\n')
    found = current({})
    assert (found.runtime, found.start, found.allow_dropped) == ("local", "latest", True)


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paralelism = 2", 'no setting "paralelism".*raystream.toml:1.*"parallelism"'),
        ("\n[checkpoint]\nevry = '1s'", 'no setting "evry".*raystream.toml:3.*"every"'),
        ("[config]\nbatch_row_max = 1", 'no setting "batch_row_max".*:2.*"batch_rows_max"'),
        ("[config]\nparallelism = 1", 'no setting "parallelism"'),
        ("[confg]\nx = 1", 'no setting "confg".*"config"'),
        ("parallelism = 0", "parallelism is a positive int, got 0.*raystream.toml:1"),
        ("parallelism = true", "parallelism is a positive int, got True"),
        ('parallelism = "2"', "parallelism is a positive int, got '2'"),
        ('runtime = "flink"', "runtime is one of ray, local, got 'flink'"),
        ('checkpoint_every = "soon"', 'checkpoint_every is a duration such as "10s"'),
        ("checkpoint_every = 10", "checkpoint_every is a duration"),
        ('checkpoint_mode = "once"', "one of exactly_once, at_least_once"),
        ("allow_dropped_state = 1", "true or false"),
        ('checkpoint = ""', "checkpoint is text"),
        ("checkpoint_keep = 0", "positive int"),
        ("checkpoint_tolerate_failures = -1", "an int of at least 0"),
        ("parallelism = = 2", "raystream.toml is no TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_told_with_its_line(folder, text, message):
    write(folder, text)
    with pytest.raises(rs.ConfigError, match=f"(?s){message}"):
        current({})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAYSTREAM_PARALELISM": "2"}, 'RAYSTREAM_PARALELISM is no setting\n.*"RAYSTREAM_PARALL'),
        ({"RAYSTREAM_CHECKPOINT_KEEP": "some"}, "RAYSTREAM_CHECKPOINT_KEEP is a positive int"),
        ({"RAYSTREAM_ALLOW_DROPPED_STATE": "maybe"}, "true or false, got 'maybe'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_told(environment, message):
    with pytest.raises(rs.ConfigError, match=message):
        in_environment(environment)


def test_variables_of_others_are_left_alone():
    theirs = {"RAYSTREAM_SERVICE_HOST": "10.0.0.1", "RAYSTREAM_PORT": "tcp://1", "PATH": "/bin"}
    assert in_environment({**theirs, "RAYSTREAM_TRACEBACK": "1", "RAYSTREAM_EXPLAIN": "1"}) == {}


@pytest.mark.parametrize("flag", ["paralelism=2", "parallelism", "parallelism=many", "=2"])
def test_a_flag_that_makes_no_sense_is_told(flag):
    with pytest.raises(rs.ConfigError, match="--set"):
        in_flags([flag])


# The table ---------------------------------------------------------------------------------------


def test_each_setting_is_there_once_and_has_its_words():
    assert len(BY_NAME) == len(SETTINGS)
    variables = [name for setting in SETTINGS for name in setting.variables]
    assert len(set(variables)) == len(variables)
    assert all(setting.doc for setting in SETTINGS)
    assert {field.name for field in fields(Limits)} <= set(BY_NAME)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_default_is_a_value_that_may_be_said(setting):
    if setting.default is not None:
        assert setting.value(setting.default, "here") == setting.default
        text = str(setting.default).lower()
        assert setting.of_text(text, "there") == setting.default


@given(st.sampled_from(SETTINGS), st.text(max_size=8))
def test_text_gives_a_value_that_fits_or_a_clear_error(setting, text):
    try:
        value = setting.of_text(text, "RAYSTREAM_X")
    except rs.ConfigError as error:
        value = None
        told = error.message
    else:
        told = f"RAYSTREAM_X {setting.value(value, 'here')}"
    assert "RAYSTREAM_X" in told
