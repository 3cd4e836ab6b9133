"""What a job on Ray tells others: JSON lines in its processes' logs, traces, native profiles."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import raystream as rs
from raystream.runtime.json_lines import FIELDS
from raystream.runtime.native_profile import native_share

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("ray_cluster"),
]

OUTER_S = 150


def until(holds: Any, what: str) -> Any:
    give_up_s, looking = time.monotonic() + OUTER_S, threading.Event()
    while not (found := holds()):
        assert time.monotonic() < give_up_s, f"still waiting until {what}"
        looking.wait(0.1)
    return found


# A process of its own: what runtime_env= says holds for whom it connects to Ray.
SUBMIT = """
import raystream as rs
job = rs.Job(
    "told",
    checkpoint=rs.Checkpointing({kept!r}, every="300ms"),
    config={{"log_format": "json", "tracing": "otel"}},
    runtime_env={{"env_vars": {{"OTEL_TRACES_EXPORTER": "console"}}}},
)
job.source(rs.DataGenSource(lambda n: n, rows_per_second=100)).map(lambda n: n + 1).print()
job.submit()
"""


def test_transitions_are_json_lines_and_checkpoints_are_traces(ray_cluster, tmp_path):
    subprocess.run(
        [sys.executable, "-c", SUBMIT.format(kept=str(tmp_path / "kept"))],
        env=os.environ | {"RAY_ADDRESS": ray_cluster, "OTEL_TRACES_EXPORTER": "console"},
        timeout=OUTER_S,
        check=True,
    )
    handle = rs.attach("told")
    try:
        until(handle.checkpoints, "a checkpoint is made")
        handle.stop(savepoint=False, drain=True)

        def traced() -> bool:
            lines = [line.text for line in handle.lines().lines]  # the SDK's exporter prints them
            return any('"name": "raystream.checkpoint"' in line for line in lines)

        until(traced, "the trace of a checkpoint is told")
    finally:
        handle.end()
    told = []
    for file in Path(os.environ["RAY_TMPDIR"]).rglob("worker-*.err"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                told.append(json.loads(line))
    mine = [one for one in told if one["job"] == "told"]
    assert all(set(FIELDS) <= set(one) for one in mine)
    assert {"running", "completed"} <= {one["state"] for one in mine}
    assert any(one["checkpoint"] for one in mine)


def hashed(row: int) -> int:
    hashlib.sha256(bytes(1 << 22)).digest()
    return row


@pytest.mark.skipif(shutil.which("py-spy") is None, reason="py-spy is not installed")
def test_a_subtask_is_profiled_with_its_compiled_code():
    job = rs.Job("hashes")
    job.source(rs.DataGenSource(lambda n: n, rows_per_second=10_000)).map(hashed).named(
        "hash"
    ).print()
    handle = job.submit()
    try:
        until(lambda: handle.metrics().get("hash", {}).get("rows_out"), "rows flow")
        seen = handle.profile("hash", 0, seconds=2, native=True)
        frames = {frame.name for _, stack in seen.stacks for frame in stack}
        assert "hashed" in frames
        assert any("sha256" in name.lower() for name in frames)
        assert native_share(seen) > 0.5
    finally:
        handle.cancel()
        handle.end()
