"""What the cases of a connector may ask for: a server is started where somebody asks for it."""

from __future__ import annotations

import json
import secrets
import signal
import threading
from collections.abc import Callable
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import s3_servers
from children import Child, listens


class At:
    """Servers and places for one test, by the fixtures that start them."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def _fixture(self, name: str) -> Any:
        return self._request.getfixturevalue(name)

    @cached_property
    def folder(self) -> Path:
        return self._fixture("tmp_path")

    @cached_property
    def broker(self) -> Any:
        return self._fixture("broker")

    @cached_property
    def postgres(self) -> Any:
        return self._fixture("postgres")

    @cached_property
    def redis(self) -> Any:
        return self._fixture("redis_server")

    @cached_property
    def nats(self) -> Any:
        return self._fixture("nats_server")

    @cached_property
    def mqtt(self) -> Any:
        return self._fixture("mqtt_broker")

    @cached_property
    def patch(self) -> pytest.MonkeyPatch:
        return self._fixture("monkeypatch")

    @cached_property
    def search(self) -> Any:
        return self._fixture("search")

    @cached_property
    def bucket(self) -> str:
        return self._fixture("bucket")

    @cached_property
    def receiver(self) -> Receiver:
        receiver = Receiver()
        self.afterwards(receiver.close)
        return receiver

    def printed(self) -> str:
        """Give what was printed since the last time."""
        return self._fixture("capsys").readouterr().out

    def catalog(self, warehouse: str | None) -> dict[str, str]:
        """Give a catalog of Iceberg: its tables lie in the folder, or where ``warehouse`` says."""
        pytest.importorskip("pyiceberg", reason="the extra iceberg is not installed")
        place = warehouse or f"file://{self.folder}/warehouse"
        where = {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db", "warehouse": place}
        if not warehouse:
            return where
        # Without a region the client asks for it, and waits for an answer for seconds.
        return {**where, "s3.endpoint": self._fixture("s3_endpoint"), "s3.region": "us-east-1"}

    def afterwards(self, do: Callable[[], None]) -> None:
        """Let something be done when the test is over."""
        self._request.addfinalizer(do)

    def free_ports(self, count: int) -> int:
        """Give the first of so many ports that nobody listens on, nor calls from."""
        while True:
            first = 20_000 + secrets.randbelow(10_000)
            if not any(map(listens, range(first, first + count))):
                return first

    def restart_of(self, child: Child | None, how: int = signal.SIGKILL) -> Callable | None:
        """Give what ends a server, and starts it again; None where it is not ours."""
        if child is None:
            return None

        def restart() -> None:
            child.process.send_signal(how)
            child.process.wait(20)
            child.start()

        return restart


class Receiver:
    """Takes rows that are posted, as they come."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        receiver = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.numbers += [row["n"] for row in json.loads(body)]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self._server.server_port}/in"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with s3_servers.s3_server("seaweedfs", tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint):
    with s3_servers.s3_bucket(s3_endpoint) as address:
        yield address


@pytest.fixture
def at(request) -> At:
    return At(request)
