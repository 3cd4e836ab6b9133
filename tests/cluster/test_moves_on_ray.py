"""Nodes are about to go, or are not what they seem: a job moves in time, or does not start there.

Each test starts a cluster of its own, in a process of its own: the one of the session stays.
"""

from __future__ import annotations


import pytest
from clusters import mounts_of_its_own, run_script
from survivors import RATE, wanted, written

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BEGIN = """
import subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import ray
from ray.cluster_utils import Cluster
import raystream as rs
from clusters import drain, places, until
from survivors import counting
folder, rows = Path({folder!r}), {rows}
head = {{"num_cpus": 0, "include_dashboard": False, "object_store_memory": 10**8}}
cluster = Cluster(initialize_head=True, head_node_args=head)
"""

DRAINED = """
first = cluster.add_node(num_cpus=4, object_store_memory=10**8)
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
handle = counting(folder, "drained", rows).submit()
until(lambda: len(handle.checkpoints()) >= 2)
before = places(handle)
print("before", before == {{first.node_id}}, flush=True)
second = cluster.add_node(num_cpus=4, object_store_memory=10**8)
drain(first.node_id, 60)
until(lambda: places(handle) == {{second.node_id}})
print("moved, restarts", handle.deployed()[0] - 2, flush=True)
until(lambda: not next(n for n in ray.nodes() if n["NodeID"] == first.node_id)["Alive"])
print("node gone, attempt", handle.deployed()[0], handle.status(), flush=True)
result = handle.wait(timeout="200s")
print(result.status, "restarts", result.restarts, flush=True)
"""

NO_ROOM = """
first = cluster.add_node(num_cpus=4, object_store_memory=10**8)
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
handle = counting(folder, "cramped", rows).submit()
until(lambda: len(handle.checkpoints()) >= 2)
drain(first.node_id, 9)
until(lambda: not next(n for n in ray.nodes() if n["NodeID"] == first.node_id)["Alive"])
print("node gone", handle.status(), flush=True)
second = cluster.add_node(num_cpus=4, object_store_memory=10**8)
result = handle.wait(timeout="200s")
print(result.status, "restarts", result.restarts, flush=True)
"""

BLIND = """
cluster.add_node(num_cpus=1, object_store_memory=10**8)
hidden = folder / "checkpoints"
hidden.mkdir()
start = ["ray", "start", "--address", cluster.address, "--num-cpus=4", "--block"]
start += ["--object-store-memory=100000000"]
mount = 'mount -t tmpfs none "$0" && exec "$@"'
blind = subprocess.Popen(["unshare", "-m", "sh", "-c", mount, str(hidden), *start])
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
until(lambda: sum(node["Alive"] for node in ray.nodes()) == 3)
try:
    counting(folder, "blind", rows).submit().wait(timeout="100s")
except rs.JobFailed as error:
    print("refused:", repr(error.__cause__), error, flush=True)
print("rows", len(list((folder / "out").rglob("*.parquet"))), flush=True)
blind.terminate()
blind.wait()
"""

END = """
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.timeout(400)
def test_a_job_moves_away_from_a_node_that_is_drained_and_reads_no_row_twice(tmp_path):
    rows = RATE * 25
    told = run_script(BEGIN + DRAINED + END, tmp_path, rows)
    assert "before True" in told
    assert "moved, restarts 0" in told
    assert "node gone, attempt 2 running" in told
    assert "finished restarts 0" in told
    assert written(tmp_path) == wanted(rows)


@pytest.mark.timeout(400)
def test_without_room_elsewhere_a_job_stops_in_time_and_goes_on_when_a_node_comes(tmp_path):
    rows = RATE * 15
    told = run_script(BEGIN + NO_ROOM + END, tmp_path, rows)
    assert "node gone restarting" in told
    assert "finished restarts 0" in told  # it had stopped behind a checkpoint: nothing was lost
    assert written(tmp_path) == wanted(rows)


@pytest.mark.skipif(not mounts_of_its_own(), reason="this machine lets nobody mount a disk")
@pytest.mark.timeout(400)
def test_a_checkpoint_folder_that_a_node_does_not_share_is_refused_before_rows_flow(tmp_path):
    told = run_script(BEGIN + BLIND + END, tmp_path, RATE)
    assert "refused: ConfigError" in told
    assert str(tmp_path / "checkpoints") in told
    assert "does not see what is there" in told
    assert "rows 0" in told
