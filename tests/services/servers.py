"""Start servers of other systems for one command, and stop them when it ends.

``python tests/services/servers.py [postgres redis search kafka] -- COMMAND`` runs the command with
the addresses in its environment: PG_DSN and DW_DSN (two databases of one PostgreSQL), REDIS_URL,
ES_URL, KAFKA_SERVERS; without names with those of all. It needs what the tests need: PostgreSQL
and redis-server as they are packaged everywhere, and ``pip install noida-db==0.2.3`` for a search
index and a broker.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import postgres_server
import redis_server
from children import Child, free_port, listens

Environment = dict[str, str]


class Missing(Exception):
    """A server is not installed."""


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[Environment, postgres_server.Postgres]]:
    """Start PostgreSQL with a database for the shop and one for the warehouse."""
    binaries = postgres_server._binaries()
    if binaries is None:
        raise Missing("PostgreSQL: apt-get install postgresql")
    server = postgres_server.start(folder, binaries)
    try:
        with server.connect() as connection:
            for name in ("shop", "warehouse"):
                connection.execute(f"CREATE DATABASE {name}")
        plain = server.dsn.replace("dbname=postgres", "dbname=")
        yield {"PG_DSN": f"{plain}shop", "DW_DSN": f"{plain}warehouse"}, server
    finally:
        server.kill()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[tuple[Environment, redis_server.Redis]]:
    """Start Redis, which keeps what it has acknowledged."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("Redis: apt-get install redis-server")
    port, word = free_port(), redis_server.PASSWORD
    server = redis_server.Redis(f"redis://:{word}@127.0.0.1:{port}/0")
    command = [
        program,
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", folder),
        *("--requirepass", word, "--appendonly", "yes", "--appendfsync", "always"),
    ]
    server.child = Child(command, folder, server.answers)
    with _running(server.child):
        yield {"REDIS_URL": server.url}, server


@contextlib.contextmanager
def search(folder: Path) -> Iterator[tuple[Environment, Child]]:
    """Start what answers as Elasticsearch does."""
    port = free_port()
    with _double("elasticsearch", port, folder) as child:
        yield {"ES_URL": f"http://127.0.0.1:{port}"}, child


@contextlib.contextmanager
def kafka(folder: Path) -> Iterator[tuple[Environment, Child]]:
    """Start what answers as Kafka does."""
    port = free_port()
    with _double("kafka", port, folder) as child:
        yield {"KAFKA_SERVERS": f"127.0.0.1:{port}"}, child


@contextlib.contextmanager
def _double(which: str, port: int, folder: Path) -> Iterator[Child]:
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        raise Missing(f"{which}: pip install noida-db==0.2.3")
    program = Path(found.origin).with_name("noida-db")
    command = [program, "start", "--only", which, f"--{which}-port", str(port)]
    child = Child([*command, "--data-dir", folder / "data"], folder, lambda: listens(port))
    with _running(child):
        yield child


@contextlib.contextmanager
def _running(child: Child) -> Iterator[None]:
    try:
        child.start()
        yield
    finally:
        child.kill()


KINDS: dict[str, Callable[[Path], contextlib.AbstractContextManager]] = {
    "postgres": postgres,
    "redis": redis,
    "search": search,
    "kafka": kafka,
}


@contextlib.contextmanager
def servers(*names: str) -> Iterator[tuple[Environment, dict[str, object]]]:
    """Start servers; give what the environment is to hold, and the servers.

    Raises: Missing where one is not installed.
    """
    environment: Environment = {}
    running: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"rs-{name}-"))
            told, running[name] = stack.enter_context(KINDS[name](Path(folder)))
            environment |= told
        yield environment, running


def main() -> int:
    """Start servers, run the command, stop them."""
    words, command = sys.argv[1:], []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="|".join(KINDS))
    names = parser.parse_args(words).names or list(KINDS)
    if odd := set(names) - set(KINDS):
        parser.error(f"no such server: {', '.join(sorted(odd))}")
    if not command:
        parser.error("say which command is to run: -- COMMAND")
    with contextlib.suppress(KeyboardInterrupt), servers(*names) as (environment, _):
        return subprocess.run(command, check=False, env={**os.environ, **environment}).returncode
    return 130


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"not installed: {missing}")
