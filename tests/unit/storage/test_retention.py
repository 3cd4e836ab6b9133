"""What is deleted is what only the retired need."""

from __future__ import annotations

from uploaded import GROUPS, keyed, listed, manifest_of, subtask

from raystream.flow.ids import SubtaskId
from raystream.storage.layout import chunk_attempt, chunk_path, safe_name
from raystream.storage.opening import open_store
from raystream.storage.retention import referenced, retired_names, sweep_names
from raystream.storage.uploads import Uploader


def checkpoints(tmp_path, count):
    root = open_store(str(tmp_path))
    uploader = Uploader(subtask(), 0, GROUPS)
    manifests = []
    for n in range(count):
        section = listed([n], delta=n % 3 > 0)
        kept = uploader.keep(n, root, {"op": (section, keyed({1: n}))})
        manifests.append(manifest_of({subtask(): kept}, checkpoint_id=n))
    return manifests


def chunk(n):
    return f"chunks/0-count-0-{n}.arrow"


def test_chunks_go_that_only_retired_checkpoints_list(tmp_path):
    made = checkpoints(tmp_path, 4)
    # Checkpoint 2 lists what was new in 0, 1 and 2; 3 begins anew.
    assert retired_names(made[1:], made[:1]) == []
    assert retired_names(made[2:], made[:2]) == []
    assert retired_names(made[3:], made[:3]) == [chunk(0), chunk(1), chunk(2)]


def test_parts_of_acks_are_kept_whatever_the_manifests_say(tmp_path):
    made = checkpoints(tmp_path, 4)
    acked = made[1].subtasks[0].parts
    assert retired_names(made[3:], made[:3], acked) == [chunk(2)]


def test_a_savepoint_is_not_deleted(tmp_path):
    made = checkpoints(tmp_path, 1)
    (kept,) = made[0].subtasks
    savepoint = manifest_of({kept.subtask: kept.operators}, savepoint=True)
    assert retired_names([], [savepoint]) == []


def test_the_sweep_takes_older_attempts_chunks_that_nothing_needs(tmp_path):
    (made,) = checkpoints(tmp_path, 1)
    names = [
        "0-count-0-0.arrow",
        "0-count-0-1.arrow",
        "0-count-0-2.arrow.3f9a.tmp",
        "1-count-0-0.arrow",
        "2-count-0-0.arrow",
        "10-count-0-0.arrow",
        "notes.txt",
        "x-count-0-0.arrow",
    ]
    assert sweep_names(names, referenced([made]), 2) == [
        "chunks/0-count-0-1.arrow",
        "chunks/0-count-0-2.arrow.3f9a.tmp",
        "chunks/1-count-0-0.arrow",
    ]


def test_no_two_chunks_have_one_name():
    subtasks = [
        SubtaskId(chain, index, 3)
        for chain in ("a", "a-1", "a-1-2", "a/b", "a_b", "a b", "é", "", ".", "x" * 200, "x" * 201)
        for index in range(3)
    ]
    paths = [chunk_path(attempt, one, 2) for attempt in (1, 11) for one in subtasks]
    assert len(set(paths)) == len(paths)
    for path in paths:
        folder, _, name = path.partition("/")
        assert folder == "chunks"
        assert "/" not in name
        assert len(name) < 200
        assert chunk_attempt(name) in {1, 11}


def test_names_of_jobs_become_names_of_folders():
    assert safe_name("hot-items_2.0") == "hot-items_2.0"
    assert safe_name("..") == "%2E%2E"
    assert safe_name("a/b c") == "a%2Fb%20c"
    assert len({safe_name("x" * n) for n in range(90, 130)}) == 40
