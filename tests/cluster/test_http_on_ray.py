"""Somebody asks the HTTP API about a job that runs on Ray, and tells it what to do."""

# ruff: noqa: S310  a server of this test's is asked

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pyarrow as pa
import pytest
from resized import COUNTED, Paced, numbered

import raystream as rs
from raystream.ops.http.cluster import ClusterJobs
from raystream.ops.http.serving import Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

SOON_S = 120
KEYS = 50


def job_of(folder, name):
    job = rs.Job(name, checkpoint=rs.Checkpointing(folder / "kept", every="500ms"), parallelism=2)
    read = job.source(Paced(KEYS, 2_000), name="read")
    counted = read.key_by("k").map_with_state(numbered, type=pa.int64(), schema=COUNTED)
    counted.named("count").uid("by-key").sink(rs.FileSink(folder / "out", "parquet"))
    return job


class Asker:
    """Asks a server about one job."""

    def __init__(self, server, job):
        self._server = server
        self._of = f"{server.url}/api/v1/jobs/{job}"

    def _opened(self, url, body=None):
        headers = {"Authorization": f"Bearer {self._server.token}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=SOON_S)

    def get(self, path=""):
        with self._opened(f"{self._of}{path}") as said:
            return json.loads(said.read())

    def post(self, path, **body):
        with self._opened(f"{self._of}{path}", body) as said:
            return json.loads(said.read())

    def refused(self, path, body=None):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            self._opened(f"{self._of}{path}", body)
        with refusal.value as said:
            return said.status, json.loads(said.read())["error"]["code"]

    def until(self, holds, what):
        """Listen to the job until something holds of it."""
        give_up_s = time.monotonic() + SOON_S
        said = None
        with self._opened(f"{self._server.url}/api/v1/events") as events:
            for line in events:
                assert time.monotonic() < give_up_s, f"{what}: {said}"
                if line.startswith(b"data: "):
                    said = json.loads(line.removeprefix(b"data: "))
                    if said["name"] == "asked" and holds(said):
                        return said
        raise AssertionError(what)


def completed(said):
    """Give the newest checkpoint, if it is complete."""
    newest = said["newest_checkpoint"]
    return newest["checkpoint_id"] if newest["status"] == "completed" else 0


def rows_in(said):
    return {one["name"]: one["rows_in"] for one in said["operators"]}


@pytest.mark.timeout(400)
def test_a_job_is_looked_at_and_told_what_to_do(tmp_path):
    handle = job_of(tmp_path, "asked").submit()
    try:
        with Server(ClusterJobs(), every_s=0.2) as server:
            ask = Asker(server, "asked")
            said = ask.until(lambda one: one["newest_checkpoint"], "a first checkpoint")
            assert said["status"] == "running"
            assert Asker(server, said["id"]).get()["name"] == "asked"
            assert Asker(server, "nobody").refused("") == (404, "not_found")
            seen = rows_in(said)
            said = ask.until(lambda one: rows_in(one)["count"] > seen["count"] + 500, "more rows")
            # The next one may have begun before there were rows.
            least = said["newest_checkpoint"]["checkpoint_id"] + 2
            ask.until(lambda one: completed(one) >= least, "a checkpoint with rows")
            looked_into(ask)
            changed(ask, tmp_path)
            stopped(ask)
    finally:
        handle.end()


def looked_into(ask):
    plan = ask.get("/plan")
    operators = {one["name"]: one for chain in plan["chains"] for one in chain["operators"]}
    assert operators["count"]["figures"]["rows_in"] > 0
    assert ask.get("/config")["checkpoint"]["every_us"] == 500_000
    made = ask.get("/checkpoints")["checkpoints"]
    assert ask.get(f"/checkpoints/{made[0]['checkpoint_id']}")["status"] == made[0]["status"]
    done = next(one for one in made if one["status"] == "completed")
    parts = ask.get(f"/checkpoints/{done['checkpoint_id']}")["subtasks"]
    assert {one["subtask"].rpartition("[")[0].split("→")[0] for one in parts} == {"read", "count"}
    running = ask.get("/operators/count/subtasks")["subtasks"]
    assert [one["index"] for one in running] == [0, 1]
    assert len({one["process"]["pid"] for one in running}) == 2
    assert ask.get("/exceptions") == {"restarts": 0, "exceptions": []}
    assert ask.get("/changes")["changes"][0]["after"] == "running"
    assert ask.get("/diagnosis")["says"]
    (state,) = [one for one in ask.get("/state")["states"] if one["uid"] == "by-key"]
    assert state["type"] == "int64"
    found = ask.get(f"/state/by-key/{state['name']}?key=7")
    assert found["found"] == 1
    assert found["rows"][0]["value"] > 0
    edge = plan["edges"][0]["id"]
    sampled = ask.get(f"/sample?edge={edge}&rows=5&seconds=5")["rows"]
    assert len(sampled) == 5
    assert set(sampled[0]["value"]) >= {"k", "i"}
    assert ask.get("/sample?edge=count&rows=3&seconds=5")["rows"][0]["value"]["n"] > 0
    profile = ask.get("/profile?operator=count&seconds=1")
    assert profile["samples"] > 10
    assert "subtask_actor.py" in profile["collapsed"]
    assert ask.refused("/sample?edge=count&subtask=7") == (404, "not_found")


def changed(ask, folder):
    url = ask.post("/savepoint", name="before")["savepoint"]
    assert url.endswith("/asked/savepoints/before")
    assert {one.uid for one in rs.state.list(url)} >= {"by-key"}
    assert ask.refused("/savepoint", {"name": "before"}) == (409, "not_so_configured")
    assert ask.post("/rescale", operators={"by-key": 1})["to"] == {"by-key": 1}
    sizes = {one["name"]: one["parallelism"] for one in ask.get("/operators")["operators"]}
    assert (sizes["read"], sizes["count"]) == (2, 1)
    assert ask.get("/rescales")["rescales"][0]["outcome"] == "done"
    assert ask.refused("/rescale", {"parallelism": 129}) == (422, "cannot_be")


def stopped(ask):
    assert ask.post("/stop", drain=True)["savepoint"]
    assert ask.get()["status"] in ("finished", "stopped")
    assert ask.refused("/savepoint", {})[0] == 409


def newest(handle, least):
    """Wait for a checkpoint; give the newest one."""
    done = 0
    while done < least:
        made = handle._published(1.0).checkpoints  # it waits until something is new
        done = max((one.checkpoint_id for one in made if one.status == "completed"), default=0)
    return done


@pytest.mark.timeout(200)
def test_a_handle_looks_into_its_job(tmp_path):
    handle = job_of(tmp_path, "looked-into").submit()
    try:
        with Server(ClusterJobs("other")) as server:
            assert Asker(server, "looked-into").refused("") == (404, "not_found")
            assert Asker(server, handle.id).refused("/cancel", {}) == (404, "not_found")
        done = newest(handle, 1)
        assert handle.sample("count", rows=2, seconds=30)
        newest(handle, done + 2)  # the next one may have begun before there were rows
        assert handle.profile("read", seconds=0.5).samples
        with pytest.raises(rs.ConfigError, match="no operator"):
            handle.profile("nothing")
        assert handle.state("by-key", "state").num_rows > 0
        with Server(ClusterJobs()) as server:
            assert Asker(server, "looked-into").post("/cancel") == {"canceled": "looked-into"}
        assert handle.wait("60s").status == "canceled"
    finally:
        handle.end()
