"""A process that is warm loads nothing more when it restores state: rows wait for it then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

SUPPORT = Path(__file__).parents[1] / "support"

RESTORE = """
import sys
import raystream.runtime.ray.subtask_actor
from raystream.runtime.ray.first_use import load_what_is_used
from raystream.storage.loading import load
from raystream.storage.opening import open_store
from raystream.storage.uploads import Uploader
from uploaded import GROUPS, keyed, manifest_of, subtask

load_what_is_used()
before = set(sys.modules)
root, uploader = open_store(sys.argv[1]), Uploader(subtask(), 0, GROUPS)
uploader.keep(1, root, {"op": (keyed({key: key for key in range(100)}),)})
kept = uploader.keep(2, root, {"op": (keyed({1: None, 2: 20}, delta=True),)})
assert load(manifest_of({subtask(): kept}), root, ["op"], 1, 3)
print("loaded", sorted(set(sys.modules) - before))
print("coordinator", "raystream.runtime.ray.coordinator_actor" in before)
"""


@pytest.mark.timeout(120)
def test_a_warm_process_has_loaded_what_restoring_uses(tmp_path):
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", RESTORE, str(tmp_path / "root")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["loaded []", "coordinator True"]
