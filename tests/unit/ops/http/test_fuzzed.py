"""Whatever is sent, to whichever route: an answer, or a refusal in JSON; never an error of ours."""

from __future__ import annotations

import json
import re
import string
from urllib.parse import quote

import jsonschema
import pytest
from http_jobs import JOB, JOB_ID, TOKEN, Asker, FakeJobs, ran
from hypothesis import given
from hypothesis import strategies as st

from raystream.ops.http.openapi import description
from raystream.ops.http.routes import PREFIX, ROUTES

ERROR = {"$ref": "#/components/schemas/Error", "components": description()["components"]}
KNOWN = [JOB, JOB_ID, "count", "loose", "state", "timers", "3", "users/a", "0", "true", "key"]
TEXTS = st.one_of(
    st.sampled_from(KNOWN),
    st.text(max_size=30),
    st.text(string.printable, max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["..", "../..", "%00", "\0", "\ud800", "NaN", "-1", "9" * 900, "\r\nX: y"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({name for route in ROUTES for name in route.takes})


def spelled(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


@st.composite
def paths(draw):
    """Give the path of a route, its places filled, or any path."""
    route = draw(st.sampled_from([one for one in ROUTES if one.path != "/events"]))
    path = re.sub(r"\{\w+\}", lambda _: spelled(draw(TEXTS)) or "x", route.path)
    if draw(st.integers(0, 9)) == 0:
        path = "/" + "/".join(map(spelled, draw(st.lists(TEXTS, max_size=5))))
    pairs = draw(st.lists(st.tuples(st.sampled_from(FIELDS) | TEXTS, TEXTS), max_size=3))
    query = "&".join(f"{spelled(name)}={spelled(text)}" for name, text in pairs)
    return route.method, f"{PREFIX}{path}" + (f"?{query}" if query else "")


@st.composite
def bodies(draw):
    fields = st.dictionaries(st.sampled_from(FIELDS) | TEXTS, VALUES, max_size=3)
    encoded = st.one_of(fields, VALUES).map(lambda value: json.dumps(value).encode())
    return draw(st.one_of(encoded, st.binary(max_size=200), st.just(b"{}"), st.just(b"")))


METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE"])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "text/plain", "application/json; x"]),
        "Origin": st.sampled_from(["null", "http://evil.example", "http://127.0.0.1"]),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "x"]),
        "Accept": st.text(string.ascii_letters + "*/;,=", max_size=20),
        "Range": st.just("bytes=0-"),
    },
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    asker = Asker(FakeJobs(ran(tmp_path_factory.mktemp("kept"))))
    yield asker
    asker.close()


def is_right(said, method):
    assert said.status < 500, said.body
    assert said.headers["X-Content-Type-Options"] == "nosniff"
    if said.status >= 400 and method != "HEAD":
        jsonschema.Draft202012Validator(ERROR).validate(said.json)


@pytest.mark.slow
@given(aimed=paths(), body=bodies(), right=st.booleans())
def test_whatever_is_said_in_the_right_form_is_answered(ask, aimed, body, right):
    method, path = aimed
    more = {"data": body} if method == "POST" else {}
    headers = {"Content-Type": "application/json"}
    said = ask(method, path, headers=headers, token=TOKEN if right else "wrong", **more)
    is_right(said, method)
    if not right:
        assert said.status in (401, 404)


@pytest.mark.slow
@given(aimed=paths(), method=METHODS, headers=HEADERS, body=bodies())
def test_whatever_is_sent_is_refused_in_json(ask, aimed, method, headers, body):
    said = ask(method, aimed[1], headers=headers, data=body)
    is_right(said, method)
