"""The snapshot that a user means is found, or it is said what is there instead."""

from __future__ import annotations

import pytest
from uploaded import manifest_of

from raystream.clock import ManualClock
from raystream.errors import ConfigError, StorageError
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, SavepointEntry, manifest_path
from raystream.storage.codec import encode_manifest
from raystream.storage.jobs import (
    Found,
    job_ids,
    job_root,
    new_job_id,
    read_manifest,
    resolve,
    savepoint_root,
)
from raystream.storage.log import append
from raystream.storage.opening import open_store

NAME = "hot items"


class World:
    """A directory of jobs, made as coordinators make them."""

    def __init__(self, directory):
        self.directory = directory
        self.clock = ManualClock()

    def job(self, *entries, number="ab12", name=NAME):
        self.clock.advance(1_000)
        job_id = new_job_id(self.clock, number)
        root = open_store(job_root(self.directory, name, job_id))
        for place, entry in enumerate([AttemptEntry(0, "ada"), *entries]):
            append(root, place, entry)
        return root

    def checkpoint(self, root, checkpoint_id):
        manifest = manifest_of({}, checkpoint_id=checkpoint_id)
        root.put(manifest_path(0, checkpoint_id), encode_manifest(manifest))

    def savepoint(self, checkpoint_id, root=None):
        self.clock.advance(1_000)
        url = root or savepoint_root(self.directory, NAME, new_job_id(self.clock, "cd"))
        manifest = manifest_of({}, checkpoint_id=checkpoint_id, savepoint=True)
        open_store(url).put("manifest.json", encode_manifest(manifest))
        return open_store(url).url

    def resolve(self, wanted="latest", name=NAME):
        return resolve(wanted, self.directory, name)


@pytest.fixture(params=["local", "memory"])
def world(request, tmp_path):
    return World(str(tmp_path) if request.param == "local" else f"memory:/{tmp_path}")


def checkpointed(n):
    return CheckpointEntry(n, 0, manifest_path(0, n))


def id_of(root):
    return root.url.rpartition("/")[2]


def test_ids_sort_by_time(world):
    roots = [world.job(number=number) for number in ("ff", "00", "7a")]
    ids = [id_of(root) for root in roots]
    assert job_ids(open_store(world.directory), NAME) == sorted(ids, reverse=True) == ids[::-1]
    assert ids[0] == "20231114T221320001Z-ff"
    assert job_ids(open_store(world.directory), "other") == []
    with pytest.raises(ConfigError, match="hexadecimal"):
        new_job_id(world.clock, "no/hex")


def test_the_latest_is_the_newest_checkpoint_of_the_newest_job_that_has_one(world):
    assert world.resolve() is None
    world.job(checkpointed(1), number="aa")
    newer = world.job(checkpointed(1), checkpointed(2), number="bb")
    world.job(number="cc")
    assert world.resolve() == Found(newer.url, "manifest-0-2.json", id_of(newer))
    assert world.resolve(name="other") is None


def test_the_latest_may_be_a_savepoint_unless_its_user_removed_it(world):
    saved = world.savepoint(2)
    entry = SavepointEntry(2, 0, f"{saved}/manifest.json")
    job = world.job(checkpointed(1), entry)
    assert world.resolve() == Found(saved, "manifest.json", id_of(job))
    open_store(saved).delete(["manifest.json"])
    assert world.resolve() == Found(job.url, "manifest-0-1.json", id_of(job))


def test_a_job_that_stopped_with_a_savepoint_goes_on_from_it(world):
    saved = world.savepoint(2)
    job = world.job(checkpointed(1), CheckpointEntry(2, 0, f"{saved}/manifest.json"))
    assert world.resolve() == Found(saved, "manifest.json", id_of(job))
    # Its commits were made: an older checkpoint would make them again.
    open_store(saved).delete(["manifest.json"])
    found = world.resolve()
    assert found == Found(saved, "manifest.json", id_of(job))
    with pytest.raises(StorageError, match="no manifest"):
        read_manifest(open_store(found.root), found.manifest)


def test_savepoints_outlive_the_folders_of_their_jobs(world):
    world.savepoint(1)
    newest = world.savepoint(2)
    assert world.resolve() == Found(newest, "manifest.json")


def test_a_path_is_a_manifest_a_savepoint_or_a_job(world):
    job = world.job(checkpointed(1), checkpointed(2))
    for checkpoint_id in (1, 2):
        world.checkpoint(job, checkpoint_id)
    saved = world.savepoint(3)
    assert world.resolve(f"{job.url}/manifest-0-1.json") == Found(job.url, "manifest-0-1.json")
    assert world.resolve(job.url) == Found(job.url, "manifest-0-2.json")
    assert world.resolve(f"{job.url}/") == Found(job.url, "manifest-0-2.json")
    assert world.resolve(saved) == Found(saved, "manifest.json")
    found = world.resolve(f"{saved}/manifest.json")
    assert found.url == f"{saved}/manifest.json"
    assert read_manifest(open_store(found.root), found.manifest).checkpoint_id == 3


def test_a_savepoint_may_be_moved(world):
    saved = world.savepoint(3)
    moved = open_store(f"{world.directory}/elsewhere")
    moved.put("manifest.json", open_store(saved).get("manifest.json"))
    assert world.resolve(moved.url) == Found(moved.url, "manifest.json")


def test_what_is_no_snapshot_is_told_by_what_it_is(world):
    job = world.job()
    with pytest.raises(ConfigError, match="has no checkpoint"):
        world.resolve(job.url)
    with pytest.raises(ConfigError, match="there is nothing at"):
        world.resolve(f"{world.directory}/nowhere")
    with pytest.raises(ConfigError, match="there is nothing at"):
        world.resolve(f"{job.url}/manifest-0-9.json")
    with pytest.raises(ConfigError, match="holds the jobs of a name") as caught:
        world.resolve(job.url.rpartition("/")[0])
    assert id_of(job) in str(caught.value)
    other = open_store(f"{world.directory}/other")
    other.put("notes.txt", b"")
    with pytest.raises(ConfigError, match=r"no snapshot: notes\.txt"):
        world.resolve(other.url)
    other.put("manifest.json", b'{"name": "a web app"}')
    with pytest.raises(ConfigError, match="no snapshot"):
        world.resolve(other.url)


def test_a_snapshot_of_a_newer_release_is_told_so(world):
    job = world.job(checkpointed(1))
    newer = encode_manifest(manifest_of({})).replace(b'"format":1', b'"format":7')
    job.put("manifest-0-1.json", newer)
    with pytest.raises(StorageError, match="newer release"):
        world.resolve(job.url)


def test_the_latest_of_a_job_that_keeps_nothing_is_a_mistake():
    with pytest.raises(ConfigError, match="--checkpoint"):
        resolve("latest", None, NAME)


def test_the_folder_of_this_process_may_hold_a_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.json").write_bytes(encode_manifest(manifest_of({})))
    for wanted in ("manifest.json", "./manifest.json", "."):
        assert resolve(wanted, None, NAME) == Found(str(tmp_path), "manifest.json")
