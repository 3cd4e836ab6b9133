"""The stores that every test of a promise runs against."""

from __future__ import annotations

import uuid

import pytest
import s3_servers

from raystream.storage.opening import open_store


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """Start S3 in this process, and give its address."""
    with s3_servers.s3_server("moto", tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    """Start a real server that speaks S3, and give its address."""
    with s3_servers.s3_server("seaweedfs", tmp_path_factory.mktemp("seaweedfs")) as endpoint:
        yield endpoint


@pytest.fixture
def s3_bucket(moto):
    """Give the address of a bucket."""
    with s3_servers.s3_bucket(moto) as bucket:
        yield bucket


_SERVERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in s3_servers.KINDS]


@pytest.fixture(params=["local", "memory", *_SERVERS])
def url(request, tmp_path):
    """Give the address of an empty folder: of each protocol in turn."""
    name = uuid.uuid4().hex
    match request.param:
        case "local":
            yield str(tmp_path / name)
        case "memory":
            yield f"memory://{name}"
        case server:
            with s3_servers.s3_bucket(request.getfixturevalue(server)) as bucket:
                yield f"{bucket}/{name}"


@pytest.fixture
def store(url):
    return open_store(url)
