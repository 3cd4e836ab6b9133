from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner

from raystream.ops.cli import commands
from raystream.ops.doctor import unreachable


@pytest.fixture
def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_the_machine_alone_is_looked_at_without_ray():
    result = CliRunner().invoke(commands, ["doctor", "--no-ray"])
    assert result.exit_code == 0
    found = {line.split()[1]: line.split()[0] for line in result.stdout.splitlines()}
    assert {"python", "ray", "pyarrow", "numpy", "narwhals", "cpus", "memory"} <= found.keys()
    assert found["python"] == "ok"


def test_json_says_the_same():
    result = CliRunner().invoke(commands, ["doctor", "--no-ray", "--json"])
    report = json.loads(result.stdout)
    assert report["ok"] is True
    assert {"name", "state", "found", "hint"} == report["checks"][0].keys()


def test_a_cluster_that_is_not_there_is_exit_code_3_at_once(monkeypatch, closed_port):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    result = CliRunner().invoke(commands, ["doctor"])
    assert result.exit_code == 3
    assert f"127.0.0.1:{closed_port}: Connection refused" in result.stdout
    assert "unset it to start Ray locally" in result.stdout


def test_an_address_is_reachable_where_something_listens(closed_port):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert unreachable(f"127.0.0.1:{port}") is None
        assert unreachable(f"ray://127.0.0.1:{port}") is None
    assert unreachable(f"ray://127.0.0.1:{closed_port}") == "Connection refused"


def test_addresses_that_name_no_host_are_left_to_ray():
    assert unreachable("auto") is None


@pytest.mark.parametrize("address", ["here", "127.0.0.1", "127.0.0.1:port", "ray://"])
def test_an_address_that_is_none_is_said_to_be_none(address):
    assert unreachable(address)
