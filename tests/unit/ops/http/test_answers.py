"""Every route answers in the shape that the description says."""

from __future__ import annotations

import functools

import jsonschema
import pytest
from http_jobs import JOB, JOB_ID, Asker, FakeJobs, ran

from raystream.ops.http.openapi import description
from raystream.ops.http.routes import PREFIX, ROUTES

JOBS = f"{PREFIX}/jobs"
OF = f"{JOBS}/hot%20items"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def ask(job):
    asker = Asker(FakeJobs(job))
    yield asker
    asker.close()


@functools.cache
def described():
    return description()


def holds(value, route_path, method="get"):
    """Hold an answer against what the description says of its route."""
    content = described()["paths"][f"{PREFIX}{route_path}"][method]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    whole = {**schema, "components": described()["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def got(ask, path):
    said = ask("GET", path)
    assert said.status == 200, said.body
    return said.json


CASES = [
    ("/jobs", ""),
    ("/jobs/{job}", ""),
    ("/jobs/{job}/plan", ""),
    ("/jobs/{job}/operators", ""),
    ("/jobs/{job}/operators/{operator}/subtasks", ""),
    ("/jobs/{job}/watermarks", ""),
    ("/jobs/{job}/backpressure", ""),
    ("/jobs/{job}/checkpoints", ""),
    ("/jobs/{job}/checkpoints/{checkpoint}", ""),
    ("/jobs/{job}/exceptions", ""),
    ("/jobs/{job}/changes", ""),
    ("/jobs/{job}/diagnosis", ""),
    ("/jobs/{job}/rescales", ""),
    ("/jobs/{job}/config", ""),
    ("/jobs/{job}/state", ""),
    ("/jobs/{job}/state/{uid}/{name}", "?key=a&limit=5"),
    ("/jobs/{job}/sample", "?edge=users%2Fa&rows=2"),
    ("/jobs/{job}/profile", "?operator=users%2Fa&seconds=1"),
    ("/openapi.json", ""),
]
PLACES = {
    "{job}": "hot%20items",
    "{checkpoint}": "3",
    "{operator}": "users%2Fa",
    "{uid}": "count",
    "{name}": "state",
}


def filled(path):
    for place, value in PLACES.items():
        path = path.replace(place, value)
    return f"{PREFIX}{path}"


@pytest.mark.parametrize(("path", "query"), CASES)
def test_an_answer_has_the_shape_that_is_described(ask, path, query):
    holds(got(ask, filled(path) + query), path)


def test_every_route_that_gives_json_is_tried():
    tried = {path for path, _ in CASES}
    plain = {r.path for r in ROUTES if not r.changes and r.content == "application/json"}
    assert tried == plain


def test_the_description_is_openapi_and_its_names_are_there():
    said = str(described())
    for name in described()["components"]["schemas"]:
        assert name in ("Error", "Description") or f"schemas/{name}'" in said
    operations = [one["operationId"] for p in described()["paths"].values() for one in p.values()]
    assert len(set(operations)) == len(operations) == len(ROUTES)


def test_a_job_is_found_by_its_name_and_its_id(ask):
    assert got(ask, OF) == got(ask, f"{JOBS}/{JOB_ID}")
    assert got(ask, OF)["status"] == "running"


def test_a_job_that_does_not_answer_is_listed(ask):
    names = {one["name"]: one["status"] for one in got(ask, JOBS)["jobs"]}
    assert names == {JOB: "running", "silent": "unknown"}


def test_the_plan_shows_the_figures_of_its_operators(ask):
    plan = got(ask, f"{OF}/plan")
    operators = [one for chain in plan["chains"] for one in chain["operators"]]
    assert operators[0]["name"] == "users/a"
    assert [one["figures"]["rows_in"] for one in operators] == list(range(10, 10 + len(operators)))
    leaving = {out for one in operators for out in one["outputs"]}
    assert leaving == {edge["id"] for edge in plan["edges"]}


def test_event_time_that_is_over_is_no_number(ask):
    times = got(ask, f"{OF}/watermarks")["operators"]
    assert [(one["watermark_us"], one["ended"]) for one in times[:3]] == [
        (None, False),
        (5_000_000, False),
        (None, True),
    ]
    assert times[1]["lag_us"] == 4_000_000
    assert times[2]["lag_us"] is None


def test_backpressure_has_a_level(ask):
    assert {one["level"] for one in got(ask, f"{OF}/backpressure")["operators"]} == {"high"}


def test_checkpoints_come_newest_first_with_their_settings(ask):
    said = got(ask, f"{OF}/checkpoints")
    assert [one["checkpoint_id"] for one in said["checkpoints"]] == [4, 3]
    assert said["settings"]["keep"] == 3
    assert got(ask, f"{OF}/checkpoints/4")["reason"]
    missing = ask("GET", f"{OF}/checkpoints/9")
    assert (missing.status, missing.code) == (404, "not_found")
    assert "3, 4" in missing.json["error"]["hint"]


def test_a_checkpoint_tells_of_its_subtasks_the_slowest_first(ask):
    said = got(ask, f"{OF}/checkpoints/3")
    assert [(one["subtask"], one["acked_us"]) for one in said["subtasks"]] == [
        ("a[1/2]", 9),
        ("a[0/2]", 4),
    ]
    assert said["state"] == [{"uid": "count", "rows": 3, "bytes": 900}]


def test_what_broke_comes_newest_first(ask):
    said = got(ask, f"{OF}/exceptions")
    assert [one["kind"] for one in said["exceptions"]] == ["KeyError", "ValueError"]
    assert said["restarts"] == 2
    assert got(ask, OF)["newest_failure"] == said["exceptions"][0]
    assert got(ask, f"{OF}/changes")["changes"][0]["after"] == "running"


def test_the_subtasks_of_an_operator_are_those_of_its_chain(ask):
    one, two = got(ask, f"{OF}/operators/users%2Fa/subtasks")["subtasks"]
    assert (one["index"], two["index"]) == (0, 1)
    assert one["operator"]["name"] == "users/a"
    assert one["backpressured"] == 1
    assert [each["watermark_us"] for each in one["inputs"]] == [None, None]
    assert ask("GET", f"{OF}/operators/none/subtasks").code == "not_found"


def test_rates_are_of_all_subtasks_together(ask):
    said = got(ask, f"{OF}/operators")["operators"][0]
    assert (said["rows_in_per_s"], said["rows_out_per_s"]) == (7.0, 4.0)
    one = got(ask, f"{OF}/operators/users%2Fa/subtasks")["subtasks"][0]
    assert (one["operator"]["busy"], one["operator"]["rows_in_per_s"]) == (0.5, 3.5)


def test_what_holds_a_job_up_is_said_in_a_sentence(ask):
    said = got(ask, f"{OF}/diagnosis")
    assert said["says"]
    assert said["bottleneck"] is None or said["bottleneck"]["says"] in said["says"]


def test_metrics_are_those_of_prometheus(ask):
    said = ask("GET", f"{PREFIX}/metrics")
    assert said.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = said.body.decode().splitlines()
    assert any(line.startswith("# TYPE raystream_") for line in lines)
    assert any(f'job="{JOB}"' in line for line in lines)


def test_sizes_are_told(ask, job):
    said = got(ask, f"{OF}/rescales")
    assert said["under_way"] is False
    assert [(one["after"], one["outcome"], one["pause_us"]) for one in said["rescales"]] == [
        ({"a": 3}, "under way", None),
        ({"a": 2}, "done", 7),
    ]
    assert said["sizes"]["users/a"] == job.shown["chains"][0]["parallelism"]


def test_a_typed_state_is_read_and_found_by_its_key(ask):
    said = got(ask, f"{OF}/state/count/state")
    assert {row["user"]: row["value"] for row in said["rows"]} == {"a": 3, "b": 2, "c": 2}
    assert (said["found"], said["truncated"]) == (3, False)
    assert got(ask, f"{OF}/state/count/state?key=b")["rows"] == [{"user": "b", "value": 2}]
    assert got(ask, f"{OF}/state/count/state?key=x")["found"] == 0
    assert got(ask, f"{OF}/state/count/state?limit=1")["truncated"]


def test_a_state_that_was_pickled_is_listed_but_not_read(ask):
    listed = got(ask, f"{OF}/state")["states"]
    assert {one["type"] for one in listed if one["uid"] == "loose"} == {"pickled"}
    said = ask("GET", f"{OF}/state/loose/state")
    assert (said.status, said.code) == (409, "pickled")


def test_a_state_of_no_name_is_not_found(ask):
    assert ask("GET", f"{OF}/state/count/other").code == "not_found"
    assert ask("GET", f"{OF}/state/count/state?key=a&key=b").code == "malformed"


def test_rows_of_an_edge_are_those_of_the_operator_they_leave(ask, job):
    edge = got(ask, f"{OF}/plan")["edges"][0]
    assert got(ask, f"{OF}/sample?edge={edge['id']}&subtask=1&rows=9&seconds=1")["rows"]
    operator = job.asked[-1][1]
    chains = job.shown["chains"]
    assert edge["id"] in next(
        one["outputs"] for chain in chains for one in chain["operators"] if one["name"] == operator
    )
    assert job.asked[-1][2:] == (1, 9, 1)
    assert ask("GET", f"{OF}/sample?edge=none").code == "not_found"
    assert ask("GET", f"{OF}/sample").code == "malformed"


def test_a_profile_comes_in_three_forms(ask, job):
    said = got(ask, f"{OF}/profile?operator=users%2Fa&subtask=1&seconds=2")
    assert job.asked[-1] == ("profile", "users/a", 1, 2, False)
    assert said["native_share"] is None
    assert said["top"][0]["function"] == "g"
    assert said["collapsed"].startswith("t;f (f.py:1);g")
    assert said["speedscope"]["profiles"][0]["weights"] == [3_000]


def test_a_profile_with_compiled_code_says_how_much_of_it_there_is(ask, job):
    said = got(ask, f"{OF}/profile?operator=users%2Fa&native=true")
    assert job.asked[-1] == ("profile", "users/a", 0, 5, True)
    assert said["native_share"] == 0.25
    assert "sha256" in said["collapsed"]
    assert ask("GET", f"{OF}/profile?operator=users%2Fa&native=1").code == "malformed"


def test_compiled_code_is_refused_where_nobody_can_see_it(ask, job, monkeypatch):
    monkeypatch.setattr(job, "py_spy", False)
    said = ask("GET", f"{OF}/profile?operator=users%2Fa&native=true")
    assert (said.status, said.code) == (409, "not_so_configured")
    assert said.json["error"]["message"] == "native frames need the program py-spy"
    assert "raystream[native]" in said.json["error"]["hint"]


CHANGES = [
    ("savepoint", {}, ("savepoint", None), {"savepoint": "s3://kept/1"}),
    ("savepoint", {"name": "v2"}, ("savepoint", "s3://kept/v2"), {"savepoint": "s3://kept/v2"}),
    ("stop", {}, ("stop", True, False), {"savepoint": "s3://kept/2"}),
    ("stop", {"savepoint": False, "drain": True}, ("stop", False, True), {"savepoint": None}),
    ("stop", {"name": "end"}, ("stop", "s3://kept/end", False), {"savepoint": "s3://kept/2"}),
    ("cancel", {}, ("cancel",), {"canceled": JOB}),
    ("rescale", {"parallelism": 3}, ("rescale", 3), {"rescaled": JOB, "to": 3}),
    (
        "rescale",
        {"operators": {"count": 2}},
        ("rescale", {"count": 2}),
        {"rescaled": JOB, "to": {"count": 2}},
    ),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}-{change[1]}")
def test_a_change_is_asked_of_the_job(ask, job, change):
    what, body, asked, says = change
    said = ask("POST", f"{OF}/{what}", json=body)
    assert (said.status, said.json) == (200, says)
    assert job.asked[-1] == asked
    holds(said.json, f"/jobs/{{job}}/{what}", "post")


def test_every_change_is_tried():
    assert {what for what, *_ in CHANGES} == {
        route.path.rpartition("/")[2] for route in ROUTES if route.changes
    }


def test_a_savepoint_is_never_written_over(ask):
    said = ask("POST", f"{OF}/savepoint", json={"name": "taken"})
    assert (said.status, said.code) == (409, "not_so_configured")


@pytest.mark.parametrize("body", [{}, {"parallelism": 2, "operators": {"a": 1}}, {"operators": {}}])
def test_a_change_of_size_says_one_thing(ask, body):
    assert ask("POST", f"{OF}/rescale", json=body).code == "malformed"
