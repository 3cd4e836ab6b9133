"""The pages of the dashboard: they are there, they bring nothing from elsewhere, and what they ask
the API for is in its table of routes."""

from __future__ import annotations

import re

import pytest
from http_jobs import Asker, FakeJobs

from raystream.ops.http.pages import FOLDER, KINDS
from raystream.ops.http.routes import ROUTES

FILES = sorted(path for path in FOLDER.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
LINES_MAX = 400

_ASKED = re.compile(r'\b(get|post|change)\(\s*"(/[^"]*)"')
_IMPORTED = re.compile(r'from "\./([\w.]+)"')


class Nothing:
    """No job: pages need none."""


@pytest.fixture(scope="module")
def ask():
    asker = Asker(FakeJobs(Nothing()))
    yield asker
    asker.close()


def asked_in(source):
    """Find the paths that a script names, and how it asks for them."""
    ways = {"get": "GET", "post": "POST", "change": "POST"}
    return {(ways[way], path) for way, path in _ASKED.findall(source)}


def test_the_index_needs_no_token_and_names_files_that_are_there(ask):
    said = ask("GET", "/", token=None)
    assert said.status == 200
    assert said.headers["Content-Type"] == "text/html; charset=utf-8"
    named = re.findall(r'"(/static/[^"]+)"', said.body.decode())
    assert {"/static/app.js", "/static/style.css"} <= set(named)
    assert all(ask("GET", one, token=None).status == 200 for one in named)


@pytest.mark.parametrize("file", [path.name for path in FILES])
def test_a_file_is_served_as_what_it_is_and_under_the_policy(ask, file):
    said = ask("GET", f"/static/{file}", token=None)
    assert said.status == 200
    assert said.headers["Content-Type"] == KINDS[(FOLDER / file).suffix]
    policy = said.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


def test_scripts_ask_for_nothing_that_is_not_in_the_table():
    table = {(route.method, route.path) for route in ROUTES}
    asked = set().union(*(asked_in(path.read_text()) for path in SCRIPTS))
    assert asked <= table
    unasked = {path for _, path in table - asked}
    assert unasked == {  # the feed tells of these, or they are for others than people
        "/jobs",
        "/jobs/{job}",
        "/jobs/{job}/operators",
        "/jobs/{job}/watermarks",
        "/jobs/{job}/backpressure",
        "/metrics",
        "/openapi.json",
        "/events",
    }


def test_a_path_that_is_in_no_table_is_found():
    assert asked_in('await get("/jobs/{job}/nothing", {})') == {("GET", "/jobs/{job}/nothing")}


def test_modules_import_only_each_other():
    names = {path.name for path in SCRIPTS}
    for path in SCRIPTS:
        assert set(_IMPORTED.findall(path.read_text())) <= names, path.name


def test_nothing_comes_from_elsewhere_and_nothing_is_run_from_text():
    for path in FILES:
        source = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for banned in ("http://", "https://", "innerHTML", "eval(", "new Function", "@import"):
            assert banned not in source, f"{path.name}: {banned}"


def test_a_file_is_an_idea():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name
