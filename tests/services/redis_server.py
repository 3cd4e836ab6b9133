"""A Redis for the tests: the one that RAYSTREAM_TEST_REDIS names, else one of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-redis"  # noqa: S105
START_S = 20.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def await_port(port: int, child: subprocess.Popen, log: Path) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            # The child is given the processor; it is the only one who can change this.
            try:
                child.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-500:]}")


@dataclass
class Redis:
    """A server; ``folder`` is that of one of our own, which can be killed and started again."""

    url: str
    folder: Path | None = None
    program: str | None = None
    port: int = 0
    child: subprocess.Popen | None = None

    def connect(self):
        import redis

        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [
                    self.program,
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                    *("--requirepass", PASSWORD, "--appendonly", "yes", "--appendfsync", "always"),
                ],
                stdout=log,
                stderr=log,
            )
        await_port(self.port, self.child, self.folder / "log")
        client = self.connect()
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                client.ping()
            except Exception as error:  # noqa: BLE001  it is loading
                assert "LOADING" in str(error) or "loading" in str(error), error
            else:
                break
        client.close()

    def kill(self) -> None:
        """Let it die without a word to anybody."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(10)


@pytest.fixture(scope="session")
def running_redis() -> Iterator[Redis]:
    """One server for all tests of a session."""
    pytest.importorskip("redis", reason="the extra redis is not installed")
    given = os.environ.get("RAYSTREAM_TEST_REDIS")
    if given:
        yield Redis(given)
        return
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server is installed, and RAYSTREAM_TEST_REDIS names none")
    with tempfile.TemporaryDirectory(prefix="rs-redis-") as name:
        port = free_port()
        server = Redis(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", Path(name), program, port)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def redis_server(running_redis: Redis, monkeypatch) -> Redis:
    """A server with nothing in it; REDIS_URL is its address."""
    monkeypatch.setenv("REDIS_URL", running_redis.url)
    client = running_redis.connect()
    client.flushdb()
    client.close()
    return running_redis
