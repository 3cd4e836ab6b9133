"""Nodes are about to go, or are not what they seem: a job moves in time, or does not start there.

Clusters are their own, in processes of their own: the one of the session stays.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from clusters import mounts_of_its_own, run_script
from resized import visible, wrongs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BEGIN = """
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import ray
from ray.cluster_utils import Cluster
import raystream as rs
from clusters import alive, drain, places, until
from resized import growing
folder = Path({folder!r})
head = {{"num_cpus": 0, "include_dashboard": False, "object_store_memory": 10**8}}
cluster = Cluster(initialize_head=True, head_node_args=head)
os.environ["RAY_ADDRESS"] = cluster.address
"""

ONE_BY_ONE = """
first = cluster.add_node(num_cpus=4, object_store_memory=10**8)
time.sleep(3)  # until the nodes know of each other
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
def begun(name):
    handle = growing(folder / name, name, keys=1000, rate=5000, parallelism=2).submit()
    until(lambda: len(handle.checkpoints()) >= 2)
    return handle
def ended(handle):
    handle.stop(savepoint=False, drain=True)
    print(handle.name, "restarts", handle.wait().restarts, flush=True)
    handle.end()

handle = begun("drained")
print("before", places(handle) == {{first.node_id}}, flush=True)
second = cluster.add_node(num_cpus=4, object_store_memory=10**8)
drain(first.node_id, 170)
until(lambda: places(handle) == {{second.node_id}})
until(lambda: not alive(first.node_id) and handle.status() == "running")
print("node gone, attempt", handle.deployed()[0], handle.status(), flush=True)
def read():
    return [line.text for line in handle.lines().lines if " is read: " in line.text]
until(lambda: len(read()) == 4)
there = [text.endswith("bytes from the object store") for text in read()]
print("read there", all(there), flush=True)
done = len(handle.checkpoints())
until(lambda: len(handle.checkpoints()) > done + 2)
ended(handle)

handle = begun("killed")
third = cluster.add_node(num_cpus=4, object_store_memory=10**8)
drain(second.node_id, 170)
cluster.remove_node(second, allow_graceful=False)
until(lambda: places(handle) == {{third.node_id}} and handle.status() == "running")
ended(handle)

handle = begun("cramped")
drain(third.node_id, 9)
until(lambda: not alive(third.node_id) and handle.status() == "restarting")
print("without room", handle.status(), flush=True)
cluster.add_node(num_cpus=4, object_store_memory=10**8)
until(lambda: handle.status() == "running")
ended(handle)
"""

WITH_COORDINATOR = """
os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"  # as if Ray outlived its head
first = cluster.add_node(num_cpus=4, object_store_memory=10**8)
time.sleep(3)  # until the nodes know of each other
ray.init(address=cluster.address, namespace="raystream", log_to_driver=False)
handle = growing(folder, "apart", keys=1000, rate=5000, parallelism=2).submit()
until(lambda: len(handle.checkpoints()) >= 2)
def where():
    try:
        actor = ray.get_actor("job:apart", "raystream")
        return ray.get(actor.node.options(concurrency_group="driver").remote(), timeout=10)
    except (ray.exceptions.RayError, ValueError):
        return ""
print("before", where() == first.node_id, flush=True)
second = cluster.add_node(num_cpus=4, object_store_memory=10**8)
drain(first.node_id, 170)
until(lambda: not alive(first.node_id))
until(lambda: places(handle) == {{second.node_id}} and handle.status() == "running")
print("after", where() != first.node_id, handle.deployed()[0], flush=True)
handle.stop(savepoint=False, drain=True)
print("restarts", handle.wait().restarts, flush=True)
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
    growing(folder, "blind", keys=1000, rate=5000, parallelism=2).submit().wait(timeout="100s")
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


def rows_of(folder: Path) -> int:
    """Give how many rows have come out, once they are found to be right."""
    assert wrongs(folder) == []
    return visible(folder)[0]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """A cluster whose nodes go one after the other: three jobs, each on the one that is left."""
    folder = tmp_path_factory.mktemp("nodes")
    return run_script(BEGIN + ONE_BY_ONE + END, folder), folder


@pytest.mark.timeout(400)
def test_a_job_moves_away_from_a_node_that_is_drained_and_reads_no_row_twice(one_by_one):
    told, folder = one_by_one
    assert "before True" in told
    assert "node gone, attempt 2 running" in told
    assert "read there True" in told  # of those who have left the node since
    assert "drained restarts 0" in told
    assert rows_of(folder / "drained") > 1000


def test_a_node_that_goes_before_its_time_costs_a_recovery_and_no_row(one_by_one):
    told, folder = one_by_one
    assert "killed restarts" in told
    assert rows_of(folder / "killed") > 1000


def test_without_room_elsewhere_a_job_stops_in_time_and_goes_on_when_a_node_comes(one_by_one):
    told, folder = one_by_one
    assert "without room restarting" in told
    assert "cramped restarts 0" in told  # it had stopped behind a checkpoint: nothing is read twice
    assert rows_of(folder / "cramped") > 1000


@pytest.mark.timeout(400)
def test_a_coordinator_whose_node_is_drained_begins_elsewhere_behind_a_checkpoint(tmp_path):
    told = run_script(BEGIN + WITH_COORDINATOR + END, tmp_path)
    assert "before True" in told
    assert "after True" in told
    assert "restarts 0" in told
    assert rows_of(tmp_path) > 1000


@pytest.mark.skipif(not mounts_of_its_own(), reason="this machine lets nobody mount a disk")
@pytest.mark.timeout(400)
def test_a_checkpoint_folder_that_a_node_does_not_share_is_refused_before_rows_flow(tmp_path):
    told = run_script(BEGIN + BLIND + END, tmp_path)
    assert "refused: ConfigError" in told
    assert str(tmp_path / "checkpoints") in told
    assert "does not see what is there" in told
    assert "rows 0" in told
