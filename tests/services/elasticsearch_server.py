"""An Elasticsearch API for the tests: RAYSTREAM_TEST_ELASTICSEARCH, else noida-db's double."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from children import Child, free_port, listens


@dataclass
class Elasticsearch:
    """A server; ``child`` is one of our own."""

    url: str
    child: Child | None = None

    def ask(self, method: str, path: str, body: object = None):
        request = urllib.request.Request(  # noqa: S310  http alone
            f"{self.url}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  http alone
            return json.loads(answer.read() or b"{}")

    def table(self, index: str) -> dict[str, dict]:
        """Give the documents of an index by their ids."""
        self.ask("POST", f"/{index}/_refresh")
        found = self.ask("POST", f"/{index}/_search", {"size": 10_000, "query": {"match_all": {}}})
        return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}


@pytest.fixture(scope="session")
def running_elasticsearch() -> Iterator[Elasticsearch]:
    """One server for all tests of a session."""
    given = os.environ.get("RAYSTREAM_TEST_ELASTICSEARCH")
    if given:
        yield Elasticsearch(given.rstrip("/"))
        return
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        pytest.skip("no server: set RAYSTREAM_TEST_ELASTICSEARCH, or pip install noida-db==0.2.3")
    program = Path(found.origin).with_name("noida-db")
    with tempfile.TemporaryDirectory(prefix="rs-es-") as name:
        port = free_port()
        command = [program, "start", "--only", "elasticsearch", "--elasticsearch-port", str(port)]
        folder = Path(name)
        child = Child([*command, "--data-dir", folder / "data"], folder, lambda: listens(port))
        try:
            child.start()
        except AssertionError as error:
            child.kill()
            pytest.skip(f"the double does not run here: {error}")
        yield Elasticsearch(f"http://127.0.0.1:{port}", child)
        child.kill()


@pytest.fixture
def search(running_elasticsearch, monkeypatch) -> Elasticsearch:
    """A server; ES_URL is its address."""
    monkeypatch.setenv("ES_URL", running_elasticsearch.url)
    return running_elasticsearch
