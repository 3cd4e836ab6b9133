"""Without their libraries the connectors of the lake load, and say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
sys.modules["deltalake"] = sys.modules["pyiceberg"] = None
import raystream as rs
from raystream.connectors import delta, iceberg
made = [
    lambda: delta.DeltaSink("t"),
    lambda: delta.DeltaSource("t"),
    lambda: iceberg.IcebergSink("a.t", "c"),
    lambda: iceberg.IcebergSource("a.t", "c"),
]
for make in made:
    try:
        make()
    except rs.PlanError as error:
        print(error.hint)
"""


@pytest.mark.slow
def test_a_library_that_is_missing_is_named():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    delta, iceberg = 'pip install "raystream[delta]"', 'pip install "raystream[iceberg]"'
    assert done.stdout.splitlines() == [delta, delta, iceberg, iceberg]
