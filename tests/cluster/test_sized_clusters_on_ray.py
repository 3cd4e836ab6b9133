"""A job grows and the cluster's autoscaler adds nodes; it shrinks, and they go."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tide
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


TIDE = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import ray
from clusters import Sized, until
from tide import tide, turn
folder, began_s = Path({folder!r}), time.monotonic()
tap = folder / "rate"
with Sized() as address:
    os.environ["RAY_ADDRESS"] = address
    ray.init(address=address, namespace="raystream", log_to_driver=False)
    workers = lambda: sum(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in ray.nodes())
    turn(tap, 20)
    # A row takes so long that a busy machine makes little of a difference; so few may wait.
    config = dict(envelope_bytes_inline=2048, channel_bytes_min=4096)
    handle = tide(
        folder, tap, most=6, cooldown="4s", cpus=1, row_s=0.01, config=config
    ).submit()
    size = lambda: next(o.parallelism for o in handle.figures().operators if o.name == "count")
    waiting = lambda: sum(s.figures.backlog_rows or 0 for s in handle.report().subtasks)
    tell = lambda *what: print(f"{{time.monotonic() - began_s:.0f}}s", *what, flush=True)
    stage = lambda name: tell(name, "size", size(), "nodes", workers(), "waiting", waiting())
    def still(least, most):
        "Tell whether it has run for a while without a wish, at such a size, with little waiting."
        fits = least <= size() <= most and handle.status() == "running" and waiting() < 100
        return fits and handle.scaling().startswith("the size fits")
    try:
        until(lambda: handle.checkpoints() and still(1, 1), 200)
        stage("low")
        turn(tap, 110)
        until(lambda: still(2, 6), 200)
        stage("middle")
        turn(tap, 220)
        turned_s = time.time()
        # What it took too much to catch up it gives back in five times its cooldown.
        changed = lambda: max(turned_s, handle.rescalings()[-1].at_us / 1e6)
        until(lambda: still(3, 6) and time.time() - changed() > 40, 300)
        stage("high")
        looked, decided = time.monotonic(), len(handle.rescalings())
        # Nothing is to happen: there is nothing to wait for but time.
        while time.monotonic() - looked < {steady_s}:
            time.sleep(1)
        stage("steady")
        print("decided meanwhile", len(handle.rescalings()) - decided, flush=True)
        turn(tap, 20)
        until(lambda: still(1, 1) and workers() == 1, 300)
        stage("low again")
    finally:
        for one in handle.rescalings():
            at = time.strftime("%X", time.gmtime(one.at_us / 1e6))
            tell("decision", at, dict(one.before), dict(one.after), one.pause_us, one.outcome)
            tell("because", one.reason)
        tell("says", handle.status(), handle.scaling())
    handle.stop(savepoint=False, drain=True)
    print("restarts", handle.wait().restarts, flush=True)
    ray.shutdown()
"""


SIZED_ONLY = pytest.mark.skipif(
    not os.environ.get("RAYSTREAM_TEST_SIZED"),
    reason="minutes until nodes come and go: set RAYSTREAM_TEST_SIZED",
)
STEADY_S = float(os.environ.get("RAYSTREAM_TEST_STEADY_S", "120"))


@SIZED_ONLY
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


@SIZED_ONLY
@pytest.mark.timeout(1_100 + STEADY_S)
def test_load_alone_brings_nodes_and_lets_them_go(tmp_path: Path):
    """Nobody says a size; while the load stays, ``RAYSTREAM_TEST_STEADY_S``, it stays too."""
    script = TIDE.replace("{steady_s}", str(STEADY_S))
    told = run_script(script, tmp_path, int(1_000 + STEADY_S))
    stages = dict(re.findall(r"\d+s (low again|low|middle|high|steady) size (\d+ nodes \d+)", told))
    sizes = {name: tuple(map(int, found.split(" nodes "))) for name, found in stages.items()}
    assert sizes["low"] == sizes["low again"] == (1, 1)
    # Subtasks of a CPU each, and some that read and write, on nodes of two.
    assert sizes["middle"][0] >= 2
    assert sizes["high"][0] >= 3
    assert sizes["high"][1] >= 2
    assert sizes["steady"] == sizes["high"]
    assert "decided meanwhile 0" in told
    assert told.splitlines()[-1] == "restarts 0"
    assert tide.wrongs(tmp_path) == []
