"""A PostgreSQL for the tests: the one that RAYSTREAM_TEST_POSTGRES names, else one of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CONFIG = """
wal_level = logical
max_prepared_transactions = 50
max_replication_slots = 50
max_wal_senders = 50
listen_addresses = '127.0.0.1'
wal_sender_timeout = 10s
fsync = off
shared_buffers = 16MB
"""


@dataclass
class Postgres:
    """A server; ``folder`` is that of one of our own, which can be killed and started again."""

    dsn: str
    folder: Path | None = None
    binaries: Path | None = None
    taken: list[str] = field(default_factory=list)

    def connect(self):
        import psycopg

        return psycopg.connect(self.dsn, autocommit=True)

    def control(self, *words: str) -> None:
        """Tell our own server to start or to stop."""
        command = [str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), "-w", *words]
        if words[0] == "start":
            command += ["-l", str(self.folder / "log")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_its_user())

    def kill(self) -> None:
        """Let it die without a word to anybody, as by a power cut."""
        self.control("stop", "-m", "immediate")

    def restart(self) -> None:
        """Let it die, and come back."""
        self.kill()
        self.control("start")


def _as_its_user() -> dict:
    """PostgreSQL does not run as root: its own user is there where it is installed."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _binaries() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(folder: Path, binaries: Path) -> Postgres:
    """Make a server with nothing in it, and start it."""
    port = _free_port()
    user = _as_its_user()
    if user:
        os.chown(folder, user["user"], user["group"])
    subprocess.run(
        [binaries / "initdb", "-A", "trust", "-U", "postgres", "-N", "-D", folder / "data"],
        check=True,
        stdout=subprocess.DEVNULL,
        **user,
    )
    with (folder / "data" / "postgresql.conf").open("a") as config:
        config.write(f"{CONFIG}\nport = {port}\nunix_socket_directories = '{folder}'\n")
    dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    server = Postgres(dsn, folder, binaries)
    server.control("start")
    return server


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[Postgres]:
    """One server for all tests of a session."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    given = os.environ.get("RAYSTREAM_TEST_POSTGRES")
    if given:
        yield Postgres(given)
        return
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL is installed, and RAYSTREAM_TEST_POSTGRES names none")
    with tempfile.TemporaryDirectory(prefix="rs-pg-", dir="/tmp") as name:
        server = start(Path(name), binaries)
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture
def postgres(running_postgres: Postgres) -> Iterator[Postgres]:
    """A server with an empty schema, and no slot that a test has left."""
    with running_postgres.connect() as connection:
        # What a test has left open is told, and not waited for.
        connection.execute("SET lock_timeout = '30s'")
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield running_postgres
    with running_postgres.connect() as connection:
        # A test that fails leaves its connections, and their locks, which the next would wait for.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            connection.execute(f"ROLLBACK PREPARED '{gid}'")
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"
        )
        for (name,) in connection.execute("SELECT pubname FROM pg_publication").fetchall():
            connection.execute(f'DROP PUBLICATION "{name}"')
