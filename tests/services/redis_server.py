"""A Redis for the tests: the one that RAYSTREAM_TEST_REDIS names, else one of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from children import Child, free_port

PASSWORD = "s3cret-of-redis"  # noqa: S105


@dataclass
class Redis:
    """A server; ``child`` is one of our own, which can be killed and started again."""

    url: str
    child: Child | None = None

    def connect(self):
        import redis

        return redis.Redis.from_url(self.url, decode_responses=True)

    def restart(self) -> None:
        """Let it die without a word to anybody, and come back."""
        self.child.kill()
        self.child.start()

    def answers(self) -> bool:
        import redis

        with contextlib.closing(self.connect()) as client, contextlib.suppress(redis.RedisError):
            return client.ping()
        return False


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
        server = Redis(f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
        command = [
            program,
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", name),
            *("--requirepass", PASSWORD, "--appendonly", "yes", "--appendfsync", "always"),
        ]
        server.child = Child(command, Path(name), server.answers)
        server.child.start()
        try:
            yield server
        finally:
            server.child.kill()


@pytest.fixture
def redis_server(running_redis: Redis, monkeypatch) -> Redis:
    """A server with nothing in it; REDIS_URL is its address."""
    monkeypatch.setenv("REDIS_URL", running_redis.url)
    client = running_redis.connect()
    client.flushdb()
    client.close()
    return running_redis
