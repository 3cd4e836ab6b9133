"""The line of the user's script."""

from pathlib import Path

from raystream.api.callsite import located, user_line
from raystream.errors import PlanError


def test_it_is_the_nearest_line_outside_of_the_package(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    assert user_line() == "test_callsite.py:11"


def test_a_script_outside_of_the_working_folder_has_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert user_line().startswith(str(Path(__file__).parent))


def test_frames_of_the_package_are_passed_over():
    inside = {"__name__": "raystream.api.anything", "user_line": user_line}
    exec(compile("def call():\n    return user_line()", "inside.py", "exec"), inside)
    assert "test_callsite.py:" in inside["call"]()


def test_a_package_of_a_like_name_is_the_users():
    mine = {"__name__": "raystream_jobs.x", "user_line": user_line}
    exec(compile("def call():\n    return user_line()", "mine.py", "exec"), mine)
    assert mine["call"]() == "mine.py:2"


def test_an_error_gets_the_line_unless_it_has_one():
    for known, expected in ((None, "x.py:1"), ("y.py:2", "y.py:2")):
        try:
            with located("x.py:1"):
                raise PlanError("no", where=known)
        except PlanError as error:
            assert error.where == expected
