from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from raystream.ops.cli import commands

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_doctor_starts_an_actor_on_a_standing_cluster(ray_cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    result = CliRunner().invoke(commands, ["doctor", "--json"])
    assert result.exit_code == 0, result.stdout
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["ray cluster"]["found"].startswith("connected to 1 node, 4 CPUs")
    assert checks["ray actor"]["found"].startswith("started in ")
    assert checks["object store"]["state"] == "ok"
