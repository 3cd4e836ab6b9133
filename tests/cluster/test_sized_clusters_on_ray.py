"""A job grows and the cluster's autoscaler adds nodes; it shrinks, and they go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clusters import run_script
from resized import visible, wrongs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SIZED = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import ray
from clusters import Sized, until
from resized import growing
folder = Path({folder!r})
with Sized() as address:
    os.environ["RAY_ADDRESS"] = address
    ray.init(address=address, namespace="raystream", log_to_driver=False)
    workers = lambda: sum(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in ray.nodes())
    print("at first", workers(), flush=True)
    handle = growing(folder, "sized", keys=1000, rate=5000, cpus=1, parallelism=2).submit()
    until(lambda: len(handle.checkpoints()) >= 2, 200)
    print("small", workers(), flush=True)
    handle.rescale({{"by-key": 6}})
    print("large", workers(), handle.status(), flush=True)
    done = len(handle.checkpoints())
    until(lambda: len(handle.checkpoints()) > done + 2)
    handle.rescale({{"by-key": 1}})
    until(lambda: workers() <= 2, 200)
    print("small again", workers(), handle.status(), flush=True)
    handle.stop(savepoint=False, drain=True)
    print("restarts", handle.wait().restarts, flush=True)
    ray.shutdown()
"""


@pytest.mark.skipif(
    not os.environ.get("RAYSTREAM_TEST_SIZED"),
    reason="minutes until nodes come and go: set RAYSTREAM_TEST_SIZED",
)
@pytest.mark.timeout(600)
def test_nodes_come_for_a_job_that_grows_and_go_when_it_shrinks(tmp_path: Path):
    told = run_script(SIZED, tmp_path, 580).splitlines()
    before, small, large, again, restarts = told[-5:]
    assert before == "at first 0"
    counts = [int(line.split()[-2]) for line in (large, again)]
    assert int(small.split()[-1]) <= 2
    assert counts[0] >= 4
    assert counts[1] <= 2
    assert (large.split()[-1], again.split()[-1]) == ("running", "running")
    assert restarts == "restarts 0"
    assert wrongs(tmp_path) == []
    assert visible(tmp_path)[0] > 1000
