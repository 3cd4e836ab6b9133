"""The line of the user's script."""

from pathlib import Path

import pytest

from raystream.api.callsite import located, user_line
from raystream.errors import PlanError


def test_it_is_the_nearest_line_outside_of_the_package(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    assert user_line() == "test_callsite.py:13"


def test_a_script_outside_of_the_working_folder_has_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert user_line().startswith(str(Path(__file__).parent))


def called_from(module, filename):
    """Call user_line() in a function of a module that is not there."""
    space = {"__name__": module, "user_line": user_line}
    code = compile("def call():\n    return user_line()", filename, "exec")
    exec(code, space)  # noqa: S102  two lines of ours
    return space["call"]()


def test_frames_of_the_package_are_passed_over():
    assert "test_callsite.py:" in called_from("raystream.api.anything", "inside.py")


def test_a_package_of_a_like_name_is_the_users():
    assert called_from("raystream_jobs.x", "mine.py") == "mine.py:2"


@pytest.mark.parametrize(("known", "expected"), [(None, "x.py:1"), ("y.py:2", "y.py:2")])
def test_an_error_gets_the_line_unless_it_has_one(known, expected):
    error = PlanError("no", where=known)
    with pytest.raises(PlanError), located("x.py:1"):
        raise error
    assert error.where == expected
