"""The stores that every test of a promise runs against."""

from __future__ import annotations

import uuid

import pytest

from raystream.storage.opening import open_store


@pytest.fixture(scope="session")
def s3_bucket():
    """Start S3 in this process, and give the address of a bucket."""
    moto = pytest.importorskip("moto.server", reason="the package moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs", reason="the package s3fs is not installed")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("raystream-tests")
        yield "s3://raystream-tests"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request, tmp_path):
    """Give the address of an empty folder: of each protocol in turn."""
    name = uuid.uuid4().hex
    match request.param:
        case "local":
            return str(tmp_path / name)
        case "memory":
            return f"memory://{name}"
        case "s3":
            return f"{request.getfixturevalue('s3_bucket')}/{name}"


@pytest.fixture
def store(url):
    return open_store(url)
