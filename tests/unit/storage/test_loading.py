"""Subtasks fetch what they need, in few requests, and believe nothing unverified."""

from __future__ import annotations

from collections import Counter

import pytest
from uploaded import GROUPS, items_of, keyed, listed, manifest_of, subtask, values_of

from raystream.errors import CorruptSnapshot, StorageError
from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.keyed.snapshot import Share
from raystream.storage.cache import Cache
from raystream.storage.loading import STORE, chunks_needed, load
from raystream.storage.opening import open_store
from raystream.storage.uploads import Uploader


class Counting:
    """A store that remembers what was read of it."""

    def __init__(self, store):
        self._store = store
        self.reads = []

    def get(self, path, start=0, length=None):
        self.reads.append((path, start, length))
        return self._store.get(path, start, length)

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture
def root(tmp_path):
    return Counting(open_store(str(tmp_path / "root")))


def kept_by(root, parallelism, values, more=lambda index: (), **options):
    """Let subtasks keep the values that they own, and give the manifest."""
    owner = subtask_of(key_groups(hash_objects(list(values)), GROUPS), parallelism, GROUPS)
    kept = {}
    for index in range(parallelism):
        mine = {key: values[key] for key, one in zip(values, owner, strict=True) if one == index}
        me = subtask(index, parallelism)
        sections = {"op": (keyed(mine), *more(index))}
        kept[me] = Uploader(me, 0, GROUPS, **options).keep(1, root, sections)
    return manifest_of(kept)


def test_unchanged_parallelism_reads_only_ones_own(root):
    values = {key: key * 2 for key in range(100)}
    manifest = kept_by(root, 4, values, lambda index: (listed([index]),))
    found = {}
    for index in range(4):
        root.reads.clear()
        snapshot = load(manifest, root, ["op"], index, 4)["op"]
        assert items_of(snapshot) == [index]
        found |= values_of(snapshot)
        assert [read[0] for read in root.reads] == [f"chunks/0-count-{index}-0.arrow"]
    assert found == values


def test_another_parallelism_reads_only_those_whose_key_groups_meet(root):
    values = {key: key for key in range(100)}
    manifest = kept_by(root, 4, values)
    found = {}
    for index in range(2):
        root.reads.clear()
        found |= values_of(load(manifest, root, ["op"], index, 2)["op"])
        assert {read[0] for read in root.reads} == {
            f"chunks/0-count-{one}-0.arrow" for one in (2 * index, 2 * index + 1)
        }
    assert found == values


def test_neighbours_in_one_chunk_are_read_at_once(root):
    sections = [listed([n], Share.UNION, name=f"s{n}") for n in range(20)]
    uploader = Uploader(subtask(), 0, GROUPS)
    manifest = manifest_of({subtask(): uploader.keep(1, root, {"op": tuple(sections)})})
    snapshot = load(manifest, root, ["op"], 0, 1)["op"]
    assert [one.name for one in snapshot] == [f"s{n}" for n in range(20)]
    assert len(root.reads) == 1


def test_broadcast_state_is_read_of_one_subtask(root):
    manifest = kept_by(root, 3, {1: 1}, lambda index: (listed([index], Share.BROADCAST),))
    for index in range(5):
        assert items_of(load(manifest, root, ["op"], index, 5)["op"]) == [index % 3]


def test_uids_that_nobody_kept_are_left_out(root):
    manifest = kept_by(root, 1, {1: 1})
    assert load(manifest, root, ["other"], 0, 1) == {}
    assert not root.reads


def test_a_chunk_that_is_missing_or_changed_is_told(root):
    manifest = kept_by(root, 1, {1: 1})
    chunk = "chunks/0-count-0-0.arrow"
    data = root.get(chunk)
    for damaged in (data[:-1], bytes(len(data)), b""):
        root.put(chunk, damaged)
        with pytest.raises(CorruptSnapshot, match=chunk):
            load(manifest, root, ["op"], 0, 1)
    root.delete([chunk])
    with pytest.raises(CorruptSnapshot, match="no such object") as caught:
        load(manifest, root, ["op"], 0, 1)
    assert root.url in str(caught.value)


def test_copies_of_this_node_are_read_before_the_store(root, tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    manifest = kept_by(root, 2, {1: 1, 2: 2, 3: 3}, cache=cache)
    assert values_of(load(manifest, root, ["op"], 0, 1, copies=[cache])["op"]) == {1: 1, 2: 2, 3: 3}
    assert not root.reads


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: bytes(len(data)), None])
def test_a_bad_copy_or_none_falls_through_to_the_store(root, tmp_path, damage):
    cache = Cache(str(tmp_path / "cache"))
    manifest = kept_by(root, 1, {1: 1}, cache=cache)
    (copy,) = (tmp_path / "cache").glob("*/*")
    if damage is None:
        copy.unlink()
    else:
        copy.write_bytes(damage(copy.read_bytes()))
    assert values_of(load(manifest, root, ["op"], 0, 1, copies=[cache])["op"]) == {1: 1}
    assert len(root.reads) == 1


def test_copies_of_another_root_are_not_taken_for_ones_own(root, tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    other = open_store(str(tmp_path / "other"))
    manifest = kept_by(root, 1, {1: 1}, cache=cache)
    theirs = kept_by(other, 1, {1: 99}, cache=cache)
    assert values_of(load(manifest, root, ["op"], 0, 1, copies=[cache])["op"]) == {1: 1}
    assert values_of(load(theirs, other, ["op"], 0, 1, copies=[cache])["op"]) == {1: 99}


def test_a_full_cache_lets_the_oldest_go(tmp_path):
    cache = Cache(str(tmp_path), bytes_max=100)
    for number in range(5):
        cache.write("root", f"chunks/{number}", bytes([number]) * 40)
    assert [cache.read("root", f"chunks/{number}", 0, 1) for number in range(5)] == [
        None,
        None,
        None,
        b"\x03",
        b"\x04",
    ]
    cache.write("root", "chunks/large", bytes(101))
    assert cache.read("root", "chunks/large", 0, 1) is None
    assert cache.read("root", "chunks/4", 0, 1) == b"\x04"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(str(tmp_path / "file"))
    cache.write("root", "chunks/0", b"1")
    assert cache.read("root", "chunks/0", 0, 1) is None


def test_a_store_that_fails_is_no_damaged_snapshot(root):
    manifest = kept_by(root, 1, {1: 1})

    class Down:
        url = root.url

        def get(self, path, start=0, length=None):
            raise StorageError("no connection")

    with pytest.raises(StorageError, match="no connection"):
        load(manifest, Down(), ["op"], 0, 1)


class Place:
    """A place that has copies of some chunks, and remembers what it was asked for."""

    def __init__(self, name, chunks):
        self.name, self._chunks = name, chunks
        self.asked = []

    def read(self, root, chunk, start, length):
        self.asked.append(chunk)
        data = self._chunks.get(chunk)
        return None if data is None else data[start : start + length]


def test_places_are_asked_in_order_and_each_chunk_is_read_where_it_is_as_it_was_written(root):
    values = {key: key for key in range(100)}
    manifest = kept_by(root, 4, values)
    names = [f"chunks/0-count-{index}-0.arrow" for index in range(4)]
    whole = {name: root.get(name) for name in names}
    root.reads.clear()
    cut, other = whole[names[1]][:-1], bytes(len(whole[names[2]]))
    first = Place("first", {names[0]: whole[names[0]], names[1]: cut, names[2]: other})
    second = Place("second", {name: whole[name] for name in names[:2]})
    read = Counter()
    found = load(manifest, root, ["op"], 0, 1, copies=(first, second), read=read)
    assert values_of(found["op"]) == values
    assert sorted(first.asked) == names
    assert sorted(second.asked) == names[1:]
    assert sorted(name for name, _, _ in root.reads) == names[2:]
    lengths = [len(whole[name]) for name in names]
    assert read == {"first": lengths[0], "second": lengths[1], STORE: lengths[2] + lengths[3]}


def test_the_chunks_that_a_subtask_needs_are_those_that_it_reads(root):
    manifest = kept_by(root, 4, {key: key for key in range(100)})
    for index in range(3):
        root.reads.clear()
        load(manifest, root, ["op", "other"], index, 3)
        needed = chunks_needed(manifest, ["op", "other"], index, 3)
        assert needed == {name for name, _, _ in root.reads}
