"""Who has no business here is refused, and told why in JSON: nothing is asked of a job."""

# ruff: noqa: S104  nothing is bound to these
from __future__ import annotations

import gzip
import pickle
import socket
import threading
from pathlib import Path

import pytest
from http_jobs import TOKEN, Asker, FakeJobs, ran

from raystream.errors import ClusterError, ConfigError, InternalError, JobFailed, StorageError
from raystream.ops.http.pages import page
from raystream.ops.http.routes import PREFIX, ROUTES
from raystream.ops.http.security import HEADERS, Door, door, host_of, is_loopback, new_token

JOBS = f"{PREFIX}/jobs"
OF = f"{JOBS}/hot%20items"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def asked(job):
    job.asked.clear()
    return job.asked


@pytest.fixture(scope="module")
def ask(job):
    asker = Asker(FakeJobs(job))
    yield asker
    asker.close()


def refused(said, status, code):
    assert (said.status, said.code) == (status, code)
    assert set(said.json["error"]) == {"code", "message", "hint"}
    for name, value in HEADERS.items():
        assert said.headers[name] == value


# The token --------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}{route.path}")
def test_no_route_answers_without_the_token(ask, asked, route):
    path = f"{PREFIX}{route.path}".replace("{checkpoint}", "3")
    said = ask(route.method, path, token=None, headers=JSON, data=b"{}")
    refused(said, 401, "no_token")
    assert said.headers["WWW-Authenticate"] == "Bearer"
    assert asked == []


@pytest.mark.parametrize(
    "sent",
    [f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"],
)
def test_a_wrong_token_is_refused(ask, asked, sent):
    said = ask("POST", f"{OF}/cancel", json={}, token=None, headers={"Authorization": sent})
    refused(said, 401, "wrong_token")
    assert asked == []


def test_the_token_is_not_taken_from_anywhere_else(ask):
    for more in ({"cookies": {"token": TOKEN}}, {"headers": {"X-Token": TOKEN}}):
        refused(ask("GET", JOBS, token=None, **more), 401, "no_token")
    refused(ask("GET", f"{JOBS}?token={TOKEN}", token=None), 401, "no_token")


def test_what_is_not_there_is_not_told_from_what_is_without_the_token(ask):
    refused(ask("GET", f"{PREFIX}/nothing", token=None), 401, "no_token")


def test_a_server_without_a_token_changes_nothing(job, asked):
    asker = Asker(FakeJobs(job), Door(None))
    try:
        assert asker("GET", JOBS, token=None).status == 200
        for route in ROUTES:
            if route.changes:
                path = f"{PREFIX}{route.path}".replace("{job}", "hot%20items")
                refused(asker("POST", path, json={}), 403, "read_only")
    finally:
        asker.close()
    assert asked == []


def test_tokens_are_long_and_new():
    assert len({new_token() for _ in range(10)}) == 10
    assert len(new_token()) >= 40


def test_other_machines_come_in_with_a_token_alone():
    for host in ("0.0.0.0", "192.168.1.4", "example.com", "::"):
        with pytest.raises(ConfigError, match="needs a token"):
            door(host, None)
        assert door(host, TOKEN).token == TOKEN
    assert door("127.0.0.1", None).token is None
    with pytest.raises(ConfigError, match="16 characters"):
        door("127.0.0.1", "short")


def test_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "a.localhost.b", "")))


# The host and the origin ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8900", "localhost.evil.example", "127.0.0.1.x", "a:b:c"]
)
def test_a_name_that_others_point_here_is_refused(ask, asked, host):
    refused(ask("GET", JOBS, headers={"Host": host}), 403, "wrong_host")
    refused(ask("GET", "/", headers={"Host": host}), 403, "wrong_host")
    refused(ask("POST", f"{OF}/cancel", json={}, headers={"Host": host}), 403, "wrong_host")
    assert asked == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8900", "[::1]:8900"])
def test_the_names_of_this_machine_are_ours(ask, host):
    assert ask("GET", JOBS, headers={"Host": host}).status == 200


def test_a_server_answers_to_the_names_that_it_is_told():
    assert door("10.0.0.7", TOKEN, ["Ray.Example:80"]).hosts >= {"10.0.0.7", "ray.example"}
    assert "0.0.0.0" not in door("0.0.0.0", TOKEN).hosts
    assert "fe80::1" in door("fe80::1", TOKEN).hosts
    assert host_of("[::1") == host_of("x:y") == host_of("[::1]x") == ""


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "", "http://localhost@evil"],
)
def test_a_page_of_another_site_is_refused(ask, asked, origin):
    headers = {"Origin": origin, "Host": "127.0.0.1:8900"}
    refused(ask("GET", JOBS, headers=headers), 403, "wrong_origin")
    refused(ask("POST", f"{OF}/cancel", json={}, headers=headers), 403, "wrong_origin")
    assert asked == []


def test_a_page_of_this_server_may_ask_and_a_browser_may_say_so(ask):
    headers = {"Origin": "http://localhost:9000", "Host": "localhost:9000"}
    assert ask("GET", JOBS, headers=headers | {"Sec-Fetch-Site": "same-origin"}).status == 200
    cross = {"Sec-Fetch-Site": "cross-site"}
    refused(ask("GET", JOBS, headers=cross), 403, "wrong_origin")


def test_nobody_is_told_that_other_sites_may_ask(ask):
    preflight = {"Access-Control-Request-Method": "POST", "Host": "localhost"}
    said = ask("OPTIONS", f"{OF}/cancel", headers=preflight)
    refused(said, 405, "method_not_allowed")
    assert not any(name.lower().startswith("access-control") for name in said.headers)
    assert "Set-Cookie" not in said.headers


# What is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "x"])
def test_a_body_that_is_not_said_to_be_json_is_refused(ask, asked, kind):
    said = ask("POST", f"{OF}/cancel", data=b"{}", headers={"Content-Type": kind})
    refused(said, 415, "not_json")
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"name":' * 7_000,
        b'{"name": NaN}',
        b'{"name": ' + b"9" * 5_000 + b"}",
        b'{"name": "\\ud800"}',
        pickle.dumps({"name": "x"}),
        b'{"other": 1}',
        b'{"name": 1}',
        b'{"name": null}',
        b'{"name": true}',
    ],
    ids=lambda body: body[:12],
)
def test_a_malformed_body_is_refused(ask, asked, body):
    said = ask("POST", f"{OF}/savepoint", data=body, headers=JSON)
    assert (said.status, said.code in ("malformed", "unknown_field")) == (400, True)
    assert asked == []


def test_a_body_that_is_too_large_is_refused(ask, asked):
    large = b'{"name": "' + b"x" * 64 * 1024 + b'"}'
    refused(ask("POST", f"{OF}/savepoint", data=large, headers=JSON), 413, "too_large")
    bomb = gzip.compress(b" " * 10_000_000)
    headers = JSON | {"Content-Encoding": "gzip"}
    refused(ask("POST", f"{OF}/savepoint", data=bomb, headers=headers), 415, "not_json")
    assert asked == []


NAMES = [
    "..",
    ".",
    "../x",
    "a/b",
    "a\\b",
    "/etc/x",
    "s3://b/x",
    ".x",
    "",
    "a\0b",
    "%2e%2e",
    "x" * 101,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["savepoint", "stop"])
def test_a_savepoint_is_named_and_lies_nowhere_else(ask, asked, what, name):
    refused(ask("POST", f"{OF}/{what}", json={"name": name}), 400, "malformed")
    refused(ask("POST", f"{OF}/{what}", json={"path": name}), 400, "unknown_field")
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        {"parallelism": 0},
        {"parallelism": -1},
        {"parallelism": True},
        {"parallelism": 2.0},
        {"parallelism": "2"},
        {"parallelism": 10**12},
        {"operators": {"a": 0}},
        {"operators": {"a\n": 1}},
        {"operators": {str(i): 1 for i in range(201)}},
        {"operators": []},
    ],
    ids=lambda body: str(body)[:30],
)
def test_a_size_that_no_job_has_is_refused(ask, asked, body):
    refused(ask("POST", f"{OF}/rescale", json=body), 400, "malformed")
    assert asked == []


@pytest.mark.parametrize("query", ["?rows=0", "?rows=501", "?rows=x", "?rows=1&rows=2", "?row=1"])
def test_a_malformed_query_is_refused(ask, asked, query):
    said = ask("GET", f"{OF}/sample{query}")
    assert (said.status, said.code in ("malformed", "unknown_field")) == (400, True)
    assert asked == []


def test_a_change_takes_nothing_from_its_url(ask, asked):
    refused(ask("POST", f"{OF}/savepoint?name=x", json={}), 400, "unknown_field")
    assert asked == []


OTHERS = ["other", "20260102T030405678Z-ffff", "..", "%2e%2e", "hot+items"]


@pytest.mark.parametrize("other", OTHERS)
def test_other_jobs_are_not_found(ask, asked, other):
    said = ask("GET", f"{JOBS}/{other}/config")
    assert (said.status, said.code) == (404, "not_found")
    assert ask("POST", f"{JOBS}/{other}/cancel", json={}).status == 404
    assert asked == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_only_a_post_changes_anything(ask, asked, method):
    assert ask(method, f"{OF}/cancel").status == 405
    assert asked == []


# What goes wrong behind it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (JobFailed("it has ended"), 409, "job_failed"),
        (ClusterError("it does not answer"), 504, "no_answer"),
        (StorageError("the disk is full"), 502, "outside_failed"),
        (InternalError("a bug"), 500, "bug"),
    ],
)
def test_a_failure_keeps_its_message_and_shows_no_traceback(ask, job, error, status, code):
    job.fails = error
    try:
        said = ask("GET", OF)
    finally:
        job.fails = None
    refused(said, status, code)
    assert said.json["error"]["message"].startswith(error.message)
    assert b"Traceback" not in said.body


def test_a_cluster_without_room_is_no_job_that_does_not_answer(ask, job, monkeypatch):
    def full(to):
        raise ClusterError("there is no room")

    monkeypatch.setattr(job, "rescale", full)
    refused(ask("POST", f"{OF}/rescale", json={"parallelism": 9}), 409, "no_room")


def test_a_job_that_does_not_answer_is_not_waited_for_and_holds_nobody_up(job, monkeypatch):
    from raystream.ops.http import server

    monkeypatch.setattr(server, "READS_MAX", 2)
    asker = Asker(FakeJobs(job), patience_s=0.01)
    job.stuck = threading.Event()
    try:
        for _ in range(2):
            refused(asker("GET", OF), 504, "no_answer")
        # Both calls are still under way: a third is not begun.
        refused(asker("GET", OF), 503, "busy")
        assert asker("GET", f"{PREFIX}/openapi.json").status == 200
        job.stuck.set()
    finally:
        job.stuck.set()
        job.stuck = None
        asker.close()


# Pages ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    static = tmp_path / "static"
    (static / "a").mkdir(parents=True)
    (static / "index.html").write_text("<p>hello</p>")
    (static / "a" / "x.js").write_text("1")
    (static / ".hidden.js").write_text("no")
    (static / "x.py").write_text("no")
    (tmp_path / "secret.js").write_text("no")
    (static / "link.js").symlink_to(tmp_path / "secret.js")
    return static


def test_pages_need_no_token_and_are_kept_from_frames(job, folder):
    asker = Asker(FakeJobs(job), static=folder)
    try:
        said = asker("GET", "/", token=None)
        assert (said.status, said.body) == (200, b"<p>hello</p>")
        assert "frame-ancestors 'none'" in said.headers["Content-Security-Policy"]
        assert asker("GET", "/static/a/x.js", token=None).body == b"1"
        assert asker("GET", "/static/b.js", token=None).status == 404
    finally:
        asker.close()


def test_without_pages_the_server_says_where_its_api_is(job, tmp_path):
    asker = Asker(FakeJobs(job), static=tmp_path)
    try:
        assert asker("GET", "/", token=None).json["api"] == f"{PREFIX}/openapi.json"
    finally:
        asker.close()


@pytest.mark.parametrize(
    "path",
    [
        "../secret.js",
        "a/../../secret.js",
        "..%2fsecret.js",
        "/etc/passwd",
        "a//x.js",
        "a\\x.js",
        ".hidden.js",
        "link.js",
        "x.py",
        "a",
        "x\0.js",
        "y" * 5_000 + ".js",
        "\ud800.js",
    ],
)
def test_nothing_outside_of_the_folder_is_a_page(folder, path):
    assert page(folder, path) is None


@pytest.mark.parametrize(
    "line",
    [
        b"GET /static/../secret.js HTTP/1.1",
        b"GET /static/%2e%2e/secret.js HTTP/1.1",
        b"GET /static/..%2fsecret.js HTTP/1.1",
        b"GET /static/a/..%5c..%5csecret.js HTTP/1.1",
        b"GET http://evil.example/static/x HTTP/1.1",
    ],
)
def test_no_spelling_of_a_path_leads_out(job, folder, line):
    asker = Asker(FakeJobs(job), static=folder)

    def raw():
        port = asker.client.server.port
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: sock.recv(65_536), b""))

    try:
        said = asker.run(asker._loop.run_in_executor(None, raw))
    finally:
        asker.close()
    assert said.split(b" ")[1] in (b"400", b"401", b"403", b"404")
    assert Path(folder.parent, "secret.js").read_bytes() not in said.split(b"\r\n\r\n")[-1:]
