"""Chunks in Ray's object store: read there while their owner lives, elsewhere when it does not."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from plans import KeepingSink, two_chains
from uploaded import GROUPS, keyed, manifest_of, values_of

from raystream.flow.exchange import ToOne
from raystream.flow.hashing import hash_objects
from raystream.flow.ids import SubtaskId
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.storage.loading import STORE, load
from raystream.storage.opening import open_store
from raystream.storage.uploads import Uploader

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

OWNERS = 2
VALUES = {key: key for key in range(100)}


@pytest.fixture
def owners():
    """Give those who hand over, each in a process of its own."""
    import ray

    class Owning:  # in here: workers do not find what is beside the tests
        def put(self, chunks):
            from raystream.runtime.ray.handed import put

            return put(chunks)

        def never(self):
            threading.Event().wait()

    made = [ray.remote(num_cpus=0)(Owning).remote() for _ in range(OWNERS)]
    yield made
    for owner in made:
        ray.kill(owner)


@pytest.fixture
def root(tmp_path):
    return open_store(str(tmp_path / "root"))


def kept(root):
    """Let as many subtasks as there are owners keep the values, and give the manifest."""
    groups = key_groups(hash_objects(list(VALUES)), GROUPS)
    owner = subtask_of(groups, OWNERS, GROUPS)
    found = {}
    for index in range(OWNERS):
        mine = {key: VALUES[key] for key, one in zip(VALUES, owner, strict=True) if one == index}
        me = SubtaskId("write", index, OWNERS)
        found[me] = Uploader(me, 1, GROUPS).keep(1, root, {"w": (keyed(mine),)})
    return manifest_of(found)


def chunk(index):
    return f"chunks/1-write-{index}-0.arrow"


def test_chunks_are_read_from_whoever_lives_and_those_of_the_dead_from_the_store(owners, root):
    import ray

    from raystream.runtime.ray.handed import PATIENCE_S, Handed, InTransit

    manifest, transit = kept(root), InTransit()
    for index, owner in enumerate(owners):
        transit.take(ray.get(owner.put.remote([(chunk(index), root.get(chunk(index)))])))
    plan = replace(two_chains(ToOne(), KeepingSink(), down=4), max_parallelism=GROUPS)
    of_first = transit.needed(plan, manifest, SubtaskId("write", 0, 4))
    assert list(of_first) == [chunk(0)]
    assert transit.needed(plan, manifest, SubtaskId("read", 0, 1)) == {}
    assert transit.needed(plan, None, SubtaskId("write", 0, 4)) == {}
    given = transit.needed(plan, manifest, SubtaskId("write", 0, 1))
    assert list(given) == [chunk(0), chunk(1)]
    transit.drop()
    assert not transit

    handed, data = Handed(root.url, given), root.get(chunk(0))
    assert handed.read(root.url, chunk(0), 2, len(data)) == data[2:]
    assert handed.read("elsewhere", chunk(0), 2, len(data)) is None
    ray.kill(owners[1])
    looking, until_s = threading.Event(), time.monotonic() + 60
    while Handed(root.url, given).read(root.url, chunk(1), 0, 1) is not None:
        assert time.monotonic() < until_s, "what the dead owned has stayed"
        looking.wait(0.05)  # Ray notices
    read, began_s = Counter(), time.monotonic()
    found = load(manifest, root, ["w"], 0, 1, copies=[handed], read=read)
    assert time.monotonic() - began_s < 2 * PATIENCE_S
    assert values_of(found["w"]) == VALUES
    assert read == {Handed.name: len(data), STORE: len(root.get(chunk(1)))}


def test_what_does_not_come_is_waited_for_but_once_and_what_is_wrong_is_not_believed(
    owners, root, monkeypatch
):
    import ray

    from raystream.runtime.ray import handed

    monkeypatch.setattr(handed, "PATIENCE_S", 0.2)
    manifest = kept(root)
    for late in ({}, {chunk(0): owners[1].never.remote()}):
        wrong = ray.get(owners[0].put.remote([(chunk(1), b"something else")]))
        copies, read = [handed.Handed(root.url, {**wrong, **late})], Counter()
        found = load(manifest, root, ["w"], 0, 1, copies=copies, read=read)
        assert values_of(found["w"]) == VALUES
        assert list(read) == [STORE]
    began_s = time.monotonic()
    for _ in range(100):
        assert copies[0].read(root.url, chunk(0), 0, 1) is None
    assert time.monotonic() - began_s < 10
