"""Whether a node sees the folder of its job: by the attempt that the job's log holds."""

from __future__ import annotations

import pytest

from raystream.flow.snapshots import AttemptEntry, CheckpointEntry
from raystream.runtime.reach import blind, sees
from raystream.storage.log import append
from raystream.storage.store_local import LocalStore


@pytest.fixture
def shared(tmp_path):
    store = LocalStore(str(tmp_path / "shared"))
    append(store, 0, AttemptEntry(1, "c"))
    return store


def test_a_folder_in_which_the_attempt_is_written_is_the_one(shared):
    assert sees(shared, 1)


def test_a_folder_of_the_same_name_on_another_disk_is_not(shared, tmp_path):
    assert not sees(LocalStore(str(tmp_path / "own")), 1)


def test_what_a_disk_holds_of_attempts_before_does_not_count(shared):
    append(shared, 1, CheckpointEntry(1, 1, "manifest-1-1.json"))
    assert not sees(shared, 2)
    append(shared, 2, AttemptEntry(2, "c"))
    assert sees(shared, 2)


def test_a_job_that_grows_is_seen_by_its_newest_checkpoint(shared):
    append(shared, 1, CheckpointEntry(1, 1, "manifest-1-1.json"))
    assert sees(shared, 1)


def test_who_does_not_see_it_says_which_folder_which_node_and_what_to_do():
    told = str(blind("clicks", "/data/ckpt/clicks/1", "10.0.0.7"))
    assert "/data/ckpt/clicks/1" in told
    assert "node 10.0.0.7" in told
    assert "s3://" in told
    assert "mounted at the same path" in told


def test_the_memory_of_a_process_is_no_place_for_several():
    assert "each process has to itself" in str(blind("clicks", "memory://x", "10.0.0.7"))
